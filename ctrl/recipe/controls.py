"""Controls: maps that the picture follows, each through the ControlNet of its kind (arXiv 2302.05543)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ctrl.images import BLACK, Picture, PictureLike
from ctrl.recipe.checks import PICTURE, name, number, one_of, rebuilt, set_field, suggest_arguments, switch
from ctrl.recipe.masks import MaskLike, mask, partial_mask
from ctrl.recipe.schedule import Schedule, Weigh, weight
from ctrl.skeleton import People, Skeleton, pose_of

Resize = Literal["stretch", "crop", "pad"]
Mode = Literal["balanced", "prompt first", "control first"]
RESIZES: tuple[Resize, ...] = get_args(Resize)
MODES: tuple[Mode, ...] = get_args(Mode)
MAX_BLOCKS = 64
Pixels = np.ndarray[Any, np.dtype[np.float32]]
PoseLike: TypeAlias = (
    Skeleton | People | Sequence[str | Skeleton | People] | Sequence[Sequence[float]] | Mapping[str, Any]
)


@suggest_arguments
@dataclass(frozen=True)
class Control:
    """A map that the picture follows, through the ControlNet of its `kind`: "scribble", "line art", "normal", …

    - `picture` is the map: a file, a PIL image, an array, a tensor, or a `Picture`.
    - `weight` multiplies the ControlNet's residuals, 0 to 10, a number or a schedule; a schedule's window is when
      the control acts.
    - `mask` is a soft mask, white where the control acts, or `Words`.
    - `mode`: "balanced"; "prompt first" weakens the shallow blocks (weights from 0.1 to 1, geometric, the
      deepest full); "control first" does so and acts on the conditional branch only, which is diffusers'
      guess mode.
    - `uncond`, 0 to 1, multiplies the residuals of the unconditional branch; None is the mode's default: 1, 1 and 0.
      Below 1, guidance strengthens the control: the two branches then differ by it as well.
    - `blocks` are further weights, one for each residual from the shallowest to the middle (13 in Stable
      Diffusion 1 and 2, 10 in SDXL).
    - `resize` is how the map is fitted to the picture's size: "stretch", "crop" (fill and cut), "pad" (fit, black).
    - `on=False` switches it off and keeps its settings.

    `Pose`, `Depth` and `Edges` are the kinds every model here has.
    """

    kind: str
    picture: PictureLike | PoseLike = field(metadata=PICTURE)
    weight: float | Schedule = 1.0
    mask: MaskLike | None = field(default=None, metadata=PICTURE)
    mode: Mode = "balanced"
    uncond: float | None = None
    blocks: Sequence[float] | None = None
    resize: Resize = "stretch"
    on: bool = True

    def __post_init__(self) -> None:
        name("kind", self.kind, "a ControlNet's kind")
        set_field(self, "picture", self._read(self.picture))
        set_field(self, "weight", weight("weight", self.weight))
        set_field(self, "mask", mask(self.mask))
        one_of("mode", self.mode, MODES)
        one_of("resize", self.resize, RESIZES)
        if self.uncond is not None:
            set_field(self, "uncond", number("uncond", self.uncond, 0, 1))
        if self.blocks is not None:
            set_field(self, "blocks", _blocks(self.blocks))
        switch("on", self.on)

    @property
    def sort_key(self) -> tuple[str, ...]:
        """The sort key: by content, so that the order in the recipe does not matter."""
        picture: Any = self.picture
        mask: Any = self.mask
        rest = (self.resize, *self.branch_weights, self.shallow_weaker, self.blocks)
        return (self.kind, picture.sha256, "" if mask is None else mask.sha256, repr(rest), repr(self.weight))

    @property
    def branch_weights(self) -> tuple[float, float]:
        """The weights of its residuals for uncond and for cond."""
        default = 0.0 if self.mode == "control first" else 1.0
        return (default if self.uncond is None else self.uncond, 1.0)

    @property
    def shallow_weaker(self) -> bool:
        """Whether the shallow blocks are weakened, geometrically from 0.1."""
        return self.mode != "balanced"

    def effective(self, weigh: Weigh, *, guided: bool) -> Control:
        """The control with `weigh` applied to its weight, in one spelling for the same effect; see `Recipe.canonical`.

        `mode` is then "balanced" or "prompt first", and `uncond` a number, 1 without guidance. A kind with a
        subclass, such as "pose", becomes that subclass.
        """
        subclasses = [cls for cls in Control.__subclasses__() if getattr(cls, "kind", None) == self.kind]
        return rebuilt(
            self,
            subclasses[0] if subclasses and type(self) is Control else type(self),
            weight=weigh(self.weight),
            mask=partial_mask(self.mask),
            mode="prompt first" if self.shallow_weaker else "balanced",
            uncond=self.branch_weights[0] if guided else 1.0,
            resize=self.resize if isinstance(self.picture, Picture) else "stretch",
        )

    @property
    def drawn_from(self) -> tuple[Any, ...]:
        """All that `hint` depends on, to be a key."""
        return (type(self).__name__, self.picture, self.resize)

    def around(self, mask: PictureLike | None) -> Control:
        """The control in a recipe with this mask: itself, but for kinds that take the mask as their hole."""
        return self

    def hint(self, width: int, height: int) -> Pixels:
        """The network's input, (height, width, 3) float32 in [0, 1]."""
        pixels: Pixels = Picture.of(self.picture).fit(width, height, self.resize)
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)

    def _read(self, picture: Any) -> Any:
        owner = type(self).__name__ if type(self) is not Control else f"Control {self.kind!r}"
        read = Picture.of(picture, name=f"{owner}'s picture", background=BLACK)
        if self.kind == "inpaint" and any("transparent" in remark for remark in read.remarks):
            raise ValueError("a picture that is transparent where its hole is must be given as ctrl.Inpaint(picture).")
        return read


@suggest_arguments
@dataclass(frozen=True)
class Pose(Control):
    """The pose of one figure or of several.

    `picture` may be a `Skeleton`, the name of one ("waving"), a list of either, keypoints (18, 2) as fractions of
    width and height, OpenPose's JSON (its text, or a file that ends in .json), or a picture in OpenPose's colours.
    """

    kind: str = field(default="pose", init=False, repr=False)

    def hint(self, width: int, height: int) -> Pixels:
        """The ControlNet's input, (height, width, 3) float32 in [0, 1]: a skeleton is drawn at this size."""
        if isinstance(self.picture, Skeleton | People):
            return self.picture.draw(width, height).astype(np.float32) / 255.0
        return super().hint(width, height)

    def _read(self, picture: Any) -> Any:
        figures = pose_of(picture)
        return super()._read(picture) if figures is None else figures


@suggest_arguments
@dataclass(frozen=True)
class Depth(Control):
    """The depth of a scene: a grey picture, white near and black far."""

    kind: str = field(default="depth", init=False, repr=False)


@suggest_arguments
@dataclass(frozen=True)
class Edges(Control):
    """The outlines of a scene: white lines on black."""

    kind: str = field(default="edges", init=False, repr=False)


def _blocks(blocks: object) -> tuple[float, ...]:
    if not isinstance(blocks, list | tuple) or not 0 < len(blocks) <= MAX_BLOCKS:
        raise TypeError(f"blocks must be a list of weights, one for each residual, got {blocks!r:.60}.")
    return tuple(number(f"blocks[{at}]", value, 0, 10) for at, value in enumerate(blocks))
