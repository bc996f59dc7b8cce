"""Controls: maps a picture should follow, each through the ControlNet of its kind (arXiv 2302.05543)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ctrl.images import BLACK, Picture
from ctrl.recipe.checks import Shown, keep, mask, name, number, one_of, rebuilt, spelt
from ctrl.recipe.schedule import Schedule, weight, weight_at
from ctrl.skeleton import Skeleton

RESIZES = ("stretch", "crop", "pad")
MODES = ("balanced", "prompt first", "control first")
MAX_BLOCKS = 64
Pixels = np.ndarray[Any, np.dtype[np.float32]]


@spelt
@dataclass(frozen=True)
class Control:
    """A map the picture should follow, through the ControlNet of its `kind`: "scribble", "line art", "normal", …

    - `weight` multiplies what the ControlNet adds, 0 to 10, a number or a schedule; a schedule's window is when
      the control acts.
    - `mask` is a soft picture, white where the control acts.
    - `mode`: "balanced"; "prompt first" weakens the shallow blocks (weights from 0.1 to 1, geometric, the
      deepest full); "control first" does so and acts on the prompt's prediction alone, which is diffusers'
      guess mode.
    - `uncond` multiplies what it adds to the prediction without the prompt, 0 to 1; None is the mode's own: 1,
      1 and 0.
    - `blocks` are further weights, one for each residual from the shallowest to the middle (13 in Stable
      Diffusion 1 and 2, 10 in SDXL).
    - `resize` is how the map comes to the picture's size: "stretch", "crop" (fill and cut), "pad" (fit, black).

    `Pose`, `Depth` and `Edges` are the kinds every model here has.
    """

    kind: str
    picture: Shown
    weight: float | Schedule = 1.0
    mask: Shown = None
    mode: str = "balanced"
    uncond: float | None = None
    blocks: tuple[float, ...] | None = None
    resize: str = "stretch"

    def __post_init__(self) -> None:
        name("kind", self.kind, "a ControlNet's kind")
        keep(self, "picture", self._read(self.picture))
        keep(self, "weight", weight("weight", self.weight))
        keep(self, "mask", mask(self.mask))
        one_of("mode", self.mode, MODES)
        one_of("resize", self.resize, RESIZES)
        if self.uncond is not None:
            keep(self, "uncond", number("uncond", self.uncond, 0, 1))
        if self.blocks is not None:
            keep(self, "blocks", _blocks(self.blocks))

    @property
    def sort_key(self) -> tuple[str, ...]:
        """Its place among other controls: by content, so that the order in the recipe does not matter."""
        masked = "" if self.mask is None else self.mask.sha256
        rest = (self.resize, *self.branch_weights, self.shallow_weaker, self.blocks, self.weight)
        return (self.kind, self.picture.sha256, masked, repr(rest))

    @property
    def branch_weights(self) -> tuple[float, float]:
        """How strongly it acts on the prediction without the prompt and on the one with it."""
        own = 0.0 if self.mode == "control first" else 1.0
        return (own if self.uncond is None else self.uncond, 1.0)

    @property
    def shallow_weaker(self) -> bool:
        """Whether the shallow blocks are weakened, geometrically from 0.1."""
        return self.mode != "balanced"

    # The engine still uses these names.
    rank, multipliers, soft = sort_key, branch_weights, shallow_weaker

    def at(self, index: int, times: Sequence[float], *, guided: bool) -> Self:
        """The control at one step; see `Recipe.at`.

        `mode` is then "balanced" or "prompt first" and `uncond` a number, 1 in a step without guidance.
        """
        return rebuilt(
            self,
            weight=weight_at(self.weight, index, len(times), times),
            mode="prompt first" if self.shallow_weaker else "balanced",
            uncond=self.branch_weights[0] if guided else 1.0,
        )

    def hint(self, width: int, height: int) -> Pixels:
        """(height, width, 3) float32 in [0, 1]: what the ControlNet is shown."""
        pixels: Pixels = self.picture.fit(width, height, self.resize)
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)

    def _read(self, picture: Any) -> Any:
        whose = type(self).__name__ if type(self) is not Control else f"Control {self.kind!r}"
        return Picture.of(picture, name=f"{whose}'s picture", background=BLACK)


@spelt
@dataclass(frozen=True)
class Pose(Control):
    """The pose of a figure: a `Skeleton`, or a picture of one drawn in OpenPose's colours."""

    kind: str = field(default="pose", init=False, repr=False)

    def hint(self, width: int, height: int) -> Pixels:
        """(height, width, 3) float32 in [0, 1]: a skeleton is drawn at the size asked for."""
        if isinstance(self.picture, Skeleton):
            return self.picture.draw(width, height).astype(np.float32) / 255.0
        return super().hint(width, height)

    def _read(self, picture: Any) -> Any:
        return picture if isinstance(picture, Skeleton) else super()._read(picture)


@spelt
@dataclass(frozen=True)
class Depth(Control):
    """The depth of a scene: a grey picture, white near and black far."""

    kind: str = field(default="depth", init=False, repr=False)


@spelt
@dataclass(frozen=True)
class Edges(Control):
    """The outlines of a scene: white lines on black."""

    kind: str = field(default="edges", init=False, repr=False)


def _blocks(blocks: object) -> tuple[float, ...]:
    if not isinstance(blocks, list | tuple) or not 0 < len(blocks) <= MAX_BLOCKS:
        raise TypeError(f"blocks must be a list of weights, one for each residual, got {blocks!r:.60}.")
    return tuple(number(f"blocks[{at}]", value, 0, 10) for at, value in enumerate(blocks))
