"""The bench, and the pictures that several rows of the table share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

import ctrl
from ctrl.atelier.bench import Bench, Seen


@dataclass(frozen=True)
class Work:
    """The bench with a model's pictures of recipes, as the eyes see them."""

    bench: Bench

    def made(self, recipes: Sequence[ctrl.Recipe]) -> Seen:
        """The model's pictures for recipes."""
        shots = ctrl.sample_many(self.bench.model, recipes)
        made = np.stack([np.asarray(shot.image.convert("RGB")) for shot in shots])
        return Seen.of(self.bench.eyes, torch.from_numpy(made).permute(0, 3, 1, 2).float() / 255)

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
