"""What the measures stand on: evaluation scenes, their truth, and pictures as the eyes see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.atelier import render, world
from ctrl.atelier.captions import Caption, describe
from ctrl.atelier.eyes import DENSE, SIZE, Eyes, Reading
from ctrl.atelier.latents import round_trip
from ctrl.atelier.metrics import Array, pck, spearman
from ctrl.atelier.poses import ANGLES, POSES
from ctrl.atelier.reading import Answer, Facts, compare, parse
from ctrl.atelier.scene import EVALUATION_SEEDS, STYLES, Scene, sample


@dataclass(frozen=True)
class Seen:
    """N pictures and what the eyes read in them."""

    pictures: Tensor  # (N, 3, S, S) in [0, 1]
    points: Array  # (N, 18, 2)
    near: Array  # (N, 64, 64)
    words: tuple[Facts[str | None], ...]

    @classmethod
    def of(cls, eyes: Eyes, pictures: Tensor) -> Seen:
        """Let the eyes read pictures."""
        readings: list[Reading] = [eyes.read(part) for part in pictures.split(32)]
        return cls(
            pictures,
            np.concatenate([reading.keypoints.cpu().numpy() for reading in readings]),
            np.concatenate([reading.near.cpu().numpy() for reading in readings]),
            tuple(words for reading in readings for words in reading.words()),
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def rolled(self) -> Seen:
        """The same with each picture in the place of another scene's."""
        order = [other(i, len(self)) for i in range(len(self))]
        words = tuple(self.words[i] for i in order)
        return Seen(self.pictures[order], self.points[order], self.near[order], words)

    def accuracy(self, asked: Sequence[Facts[str | None]], what: str | None = None) -> Array:
        """The part of what was asked (or of `what` alone) that each picture shows (N,); NaN for nothing."""
        answers = [compare(*pair) for pair in zip(asked, self.words, strict=True)]
        return np.array([share([a for a in one if what in (None, a.what)]) for one in answers])

    def all_right(self, asked: Sequence[Facts[str | None]]) -> Array:
        """1 where a picture shows all that was asked, else 0; NaN for nothing (N,)."""
        return np.floor(self.accuracy(asked))


class Bench:
    """Scenes of seeds never trained on, with captions that say all a picture shows, in varied words."""

    def __init__(self, model: Any, eyes: Eyes, count: int, first_seed: int = EVALUATION_SEEDS) -> None:
        if first_seed < EVALUATION_SEEDS:
            raise ValueError(f"first_seed must be at least {EVALUATION_SEEDS}, got {first_seed}: trained on.")
        if count < 2:
            raise ValueError(f"a shuffled control takes at least 2 scenes, got {count}.")
        self.model, self.eyes, self.count, self.first_seed = model, eyes, count, first_seed
        self.size = int(model.size[0])
        self.scenes = [sample(first_seed + i) for i in range(count)]
        self.captions: list[Caption] = [describe(scene, seed=scene.seed) for scene in self.scenes]
        self.asked = [parse(caption.text) for caption in self.captions]

    @cached_property
    def view(self) -> world.View:
        """The true renders and all that is known of them."""
        return look(self.scenes, self.size)

    @cached_property
    def near(self) -> Tensor:
        """The true disparity (N, S, S)."""
        return render.disparity(self.view.depth)

    @cached_property
    def rebuilt(self) -> Seen:
        """The true renders after the codec: the best a picture of this model could look."""
        return self.after_codec(self.view.picture)

    def after_codec(self, pictures: Tensor) -> Seen:
        """Pictures (N, 3, S, S) in [0, 1] encoded and decoded again, as the eyes see them."""
        return Seen.of(self.eyes, round_trip(self.model, pictures))

    def pck(self, seen: Seen) -> Array:
        """PCK at 10 % of the figure's height over visible keypoints, one value a scene (N,)."""
        true, visible = self.view.keypoints.numpy(), self.view.visible.numpy()
        return np.array([pck(*row) for row in zip(seen.points, true, visible, strict=True)])

    @cached_property
    def coarse(self) -> Array:
        """The true disparity at the eyes' size (N, 64, 64)."""
        near = F.interpolate(self.near[:, None], size=(DENSE, DENSE), mode="area")
        return np.asarray(near[:, 0].numpy())

    def depth(self, seen: Seen) -> Array:
        """Rank correlation of what the eyes see with the true disparity, one value a scene (N,)."""
        return np.array([*map(spearman, seen.near, self.coarse)])

    def depth_beyond(self, seen: Seen) -> Array:
        """The same after the mean true disparity of all scenes is taken off both.

        Every picture of the world has near ground below and far sky above, so a picture of any scene at all
        correlates with the truth; what is left here is this scene's own.
        """
        mean = self.coarse.mean(0)
        return np.array([*map(spearman, seen.near - mean, self.coarse - mean)])


def pixels(pictures: Tensor) -> Array:
    """Pictures (N, 3, S, S) in [0, 1] as (N, S, S, 3) uint8."""
    return np.asarray(pictures.permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy())


def sighted(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, S, S) at the size the eyes read, reduced by area if they are larger."""
    return pictures if pictures.shape[-1] <= SIZE else F.interpolate(pictures, size=(SIZE, SIZE), mode="area")


def other(index: int, count: int) -> int:
    """Whose control a shuffled picture is made under: never its own."""
    return (index + max(1, count // 2)) % count


def share(answers: Sequence[Answer]) -> float:
    """The part of the answers that is right; NaN if there are none."""
    return float(np.mean([answer.right for answer in answers])) if answers else float("nan")


def look(scenes: Sequence[Scene], size: int) -> world.View:
    """Render scenes two at a time, which is quickest on a CPU."""
    views = [world.look(scenes[i : i + 2], size) for i in range(0, len(scenes), 2)]
    names = ("picture", "depth", "part", "normal", "keypoints", "visible")
    return world.View(*(torch.cat([getattr(view, name) for view in views]) for name in names))


def restyled(scenes: Sequence[Scene]) -> list[Scene]:
    """The scenes in all styles by turns."""
    return [replace(scene, style=STYLES[i % len(STYLES)]) for i, scene in enumerate(scenes)]


def alike(scene: Scene, seed: int) -> Scene:
    """Another scene that every caption of `scene` is true of: all that captions do not state is drawn again."""
    new = sample(seed)
    rng = np.random.Generator(np.random.Philox(seed))
    pose = POSES[scene.pose]
    angles = np.asarray(pose.angles) + rng.uniform(-1.0, 1.0, len(ANGLES)) * pose.jitter
    heading = pose.heading * rng.choice([-1.0, 1.0]) + rng.uniform(-14.0, 14.0)
    props = tuple(
        replace(prop, x=prop.x + float(rng.uniform(-0.1, 0.1)), z=float(rng.uniform(-0.45, 0.35)))
        for prop in scene.props
    )
    return replace(
        new,
        pose=scene.pose,
        angles=tuple(float(angle) for angle in angles),
        heading=float(heading),
        props=props,
        shirt=scene.shirt,
        trousers=scene.trousers,
        ground=scene.ground,
        time=scene.time,
        style=scene.style,
    )
