"""What a run gives: its steps while it goes, a shot when it is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ctrl.images import png_with_text, save
from ctrl.recipe import KEYWORD, Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.model import Model


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a run: `latents` after it and the clean ones it believes in, both (N, C, h, w), to keep.

    `index` counts from 0 to `count` - 1, `progress` goes up to 1. Samplers of second order evaluate the model, and
    count, more than once for a step of the recipe.
    """

    index: int
    count: int
    latents: Tensor
    denoised: Tensor
    model: Model = field(repr=False)

    @property
    def progress(self) -> float:
        """The part of the run that is done, in (0, 1]."""
        return (self.index + 1) / self.count

    def preview(self) -> Image:
        """What the picture would be if the run stopped believing here: one decoding."""
        return self.model.decode(self.denoised[:1])[0]


@dataclass(frozen=True)
class Shot:
    """What came of a recipe: the picture, the recipe, and what its owner should know."""

    image: Image
    recipe: Recipe
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write a PNG that carries the recipe, whole or not at all; `Recipe.load` reads it back."""
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"path must end in .png, since the recipe travels in a PNG; got {str(path)!r}.")
        save(path, png_with_text(self.image, KEYWORD, self.recipe.to_json()))

    def _repr_png_(self) -> bytes:
        return png_with_text(self.image, KEYWORD, self.recipe.to_json())
