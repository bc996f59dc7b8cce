"""The results of a run: a `Step` after each step, a `Shot` at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ctrl.images import save
from ctrl.recipe import Recipe
from ctrl.rows import Branches
from ctrl.sampling.checkpoint import Checkpoint
from ctrl.sampling.saving import file_of, shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.maps import Attention
    from ctrl.model import Model
    from ctrl.obedience import Obedience


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a run: the `latents` after it and the model's current estimate of x0, both (N, C, h, w), to keep.

    `index` counts from 0 to `count` - 1, `progress` goes up to 1. Samplers of second order evaluate the model, and
    count, more than once for a step of the recipe. `branches` are the model's predictions before guidance. A run can
    resume from `checkpoint`, see `ctrl.steps`.
    """

    index: int
    count: int
    latents: Tensor
    denoised: Tensor
    branches: Branches = field(repr=False)
    checkpoint: Checkpoint = field(repr=False)
    model: Model = field(repr=False)
    look: Callable[[Image], Attention] | None = field(default=None, repr=False)

    @property
    def progress(self) -> float:
        """The part of the run that is done, in (0, 1]."""
        return (self.index + 1) / self.count

    def preview(self) -> Image:
        """The picture of the current estimate of x0: one decoding."""
        return self.model.decode(self.denoised[:1])[0]

    @property
    def attention(self) -> Attention | None:
        """The attention recorded so far, over a preview; None without `watch`."""
        return None if self.look is None else self.look(self.preview())


@dataclass(frozen=True)
class Shot:
    """The result of a recipe: the picture, the recipe, notes (warnings) on the run, and the recorded attention.

    `attention` is None without `watch`; `family` is the model's, None
    for one of its own kind, as the atelier is.
    """

    image: Image
    recipe: Recipe
    notes: tuple[str, ...] = ()
    attention: Attention | None = field(default=None, repr=False, compare=False)
    family: str | None = field(default=None, repr=False, compare=False)

    def obeys(self, **detectors: Any) -> tuple[Obedience, ...]:
        """How far the picture follows each control and style of its recipe, measured by a detector; see `Obedience`.

        `detectors` name those of `ctrl.detect`, or are functions of yours: `shot.obeys(pose="openpose")`. Without
        them pictures by Stable Diffusion models are read by "openpose", "midas" and "canny", all others by the
        atelier's eyes, with a warning where they are of another world than its own.
        """
        from ctrl.obedience import obedience

        return obedience(self.image, self.recipe, self.family, detectors)

    def save(self, path: str | Path, *, marked: bool = True) -> None:
        """Write the picture. If writing fails, no file is left and an old one is unchanged.

        A .png carries the recipe, which `Recipe.load` reads back. A .png, .jpg and .webp carry AUTOMATIC1111's
        `parameters`, which galleries read, and, unless `marked` is False, the XMP mark that the picture was generated
        (https://cv.iptc.org/newscodes/digitalsourcetype/). Any other ending is a ValueError.
        """
        save(path, file_of(self.image, self.recipe, path, marked=marked))

    def _repr_png_(self) -> bytes:
        return shown(self.image, self.recipe)
