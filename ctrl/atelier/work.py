"""The bench, and the pictures that several rows of the table share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import ctrl
from ctrl.atelier.bench import Bench, Seen, look, pixels, restyled
from ctrl.atelier.eyes import Reading
from ctrl.atelier.scene import Scene, sample
from ctrl.skeleton import Skeleton


@dataclass(frozen=True)
class Work:
    """The bench with a model's pictures of recipes, as the eyes see them."""

    bench: Bench

    def made(self, recipes: Sequence[ctrl.Recipe]) -> Seen:
        """The model's pictures for recipes."""
        shots = ctrl.sample_many(self.bench.model, recipes, progress=False)
        made = np.stack([np.asarray(shot.image.convert("RGB")) for shot in shots])
        return Seen.of(self.bench.eyes, torch.from_numpy(made).permute(0, 3, 1, 2).float() / 255)

    def read(self, picture: Image.Image) -> Reading:
        """What the eyes see of one picture."""
        pixel = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        return self.bench.eyes.read(pixel)

    @cached_property
    def others(self) -> list[Scene]:
        """As many other scenes, in all styles by turns."""
        return restyled([sample(self.bench.first_seed + 10**6 + i) for i in range(self.bench.count)])

    @cached_property
    def renders(self) -> Tensor:
        """True renders of the other scenes, (N, 3, S, S) in [0, 1]."""
        return look(self.others, self.bench.size).picture

    @cached_property
    def references(self) -> list[ctrl.Style]:
        """Those renders, as references of their style."""
        return [ctrl.Style(Image.fromarray(picture)) for picture in pixels(self.renders)]

    @cached_property
    def poses(self) -> list[ctrl.Pose]:
        """Each scene's true skeleton."""
        view = self.bench.view
        pairs = zip(view.keypoints.numpy(), view.visible.numpy(), strict=True)
        return [ctrl.Pose(Skeleton(*pair)) for pair in pairs]

    @cached_property
    def depths(self) -> list[ctrl.Depth]:
        """Each scene's true depth."""
        return [ctrl.Depth(Image.fromarray(near)) for near in self.bench.near.mul(255).round().byte().numpy()]

    @cached_property
    def recipes(self) -> list[ctrl.Recipe]:
        """Each scene's caption alone."""
        return [ctrl.Recipe(caption.text, seed=i) for i, caption in enumerate(self.bench.captions)]

    @cached_property
    def plain(self) -> Seen:
        """The pictures of the captions alone."""
        return self.made(self.recipes)

    @cached_property
    def silent(self) -> Seen:
        """The pictures of an empty prompt."""
        return self.made([recipe.replace(prompt="") for recipe in self.recipes])
