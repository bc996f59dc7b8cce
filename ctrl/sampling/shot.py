"""The results of a run: a `Step` after each step, a `Shot` at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ctrl.caller import ends_at_caller
from ctrl.images import encode, save
from ctrl.recipe import Recipe
from ctrl.rows import Branches
from ctrl.sampling.checkpoint import Checkpoint
from ctrl.sampling.saving import file_of, shown
from ctrl.sampling.show import shot_html

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.maps import Attention
    from ctrl.model import Model
    from ctrl.obedience import Course, Obedience


PAGE = "ctrl.page"  # the entry-point group of what writes pages, since the engine imports no front end


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

    def _repr_png_(self) -> bytes:
        return encode(self.preview())

    @property
    def attention(self) -> Attention | None:
        """The attention recorded so far, over a preview; None without `watch`."""
        return None if self.look is None else self.look(self.preview())


@dataclass(frozen=True)
class Shot:
    """The result of a recipe: the picture, the recipe, notes (warnings) on the run, and the recorded attention.

    `attention` is None without `watch`; `family` is the model's, None for one of its own kind, as the atelier is;
    `seconds` is how long its run took, of the whole batch if it ran in one, None where that was not measured.
    """

    image: Image
    recipe: Recipe
    notes: tuple[str, ...] = ()
    attention: Attention | None = field(default=None, repr=False, compare=False)
    family: str | None = field(default=None, repr=False, compare=False)
    seconds: float | None = field(default=None, repr=False, compare=False)

    @ends_at_caller
    def obeys(self, **detectors: Any) -> tuple[Obedience, ...]:
        """How far the picture follows each control and style of its recipe, measured by a detector; see `Obedience`.

        `detectors` name those of `ctrl.detect`, or are functions of yours: `shot.obeys(pose="openpose")`. Without
        them pictures by Stable Diffusion models are read by "openpose", "midas" and "canny", all others by the
        atelier's eyes, with a warning where they are of another world than its own.
        """
        from ctrl.obedience import obedience

        return obedience(self.image, self.recipe, self.family, detectors)

    def obeys_over_steps(self, steps: Iterable[Step], **detectors: Any) -> tuple[Course, ...]:
        """The same of the previews of x0 after each step: when a control takes hold, and whether it lets go.

            shot.obeys_over_steps(ctrl.steps(model, shot.recipe))

        Every preview is decoded and measured once.
        """
        from ctrl.obedience import over_steps

        return over_steps((step.preview() for step in steps), self.recipe, self.family, detectors)

    @ends_at_caller
    def save(self, path: str | Path, *, marked: bool = True) -> None:
        """Write the picture. If writing fails, no file is left and an old one is unchanged.

        A .png carries the recipe, which `Recipe.load` reads back. A .png, .jpg and .webp carry AUTOMATIC1111's
        `parameters`, which galleries read, and, unless `marked` is False, the XMP mark that the picture was generated
        (https://cv.iptc.org/newscodes/digitalsourcetype/). Any other ending is a ValueError.
        """
        save(path, file_of(self.image, self.recipe, path, marked=marked))

    def page(self, path: str | Path, *earlier: Shot) -> Path:
        """Write one HTML file that shows the shot and works offline; returns where it is.

        It holds the picture, its recipe and Python, the maps of words if the shot was watched, and `earlier` shots, the
        newest first, to compare. The panels' package writes it, and registers itself in the entry-point group
        "ctrl.page"; where that is not installed, this is an ImportError. A path that does not end in .html is a
        ValueError.
        """
        writers = list(entry_points(group=PAGE))
        if not writers:
            raise ImportError(
                "a page needs the notebook panels: run "
                '`pip install "ctrl-diffusion[widgets]"`, in a checkout `pip install ".[widgets]"` '
                f"(nothing installed here registers the entry point {PAGE!r})."
            )
        written: Path = writers[0].load()(path, self, *earlier)
        return written

    def _repr_png_(self) -> bytes:
        return shown(self.image, self.recipe)

    def _repr_html_(self) -> str:
        return shot_html(self.image, self.recipe, self.notes, self.seconds)
