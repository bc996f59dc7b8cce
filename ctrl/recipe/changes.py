"""The arguments of `Recipe.replace`, for type checkers and editors: the fields of a recipe, all optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from ctrl.images import PictureLike
from ctrl.recipe.aligned import StyleAligned
from ctrl.recipe.begins import Unmasked
from ctrl.recipe.blends import Blend
from ctrl.recipe.controls import Control
from ctrl.recipe.directions import Direction
from ctrl.recipe.edits import Edit
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.loras import Lora
from ctrl.recipe.regions import Region
from ctrl.recipe.samplers import Sampler, Spacing
from ctrl.recipe.schedule import Schedule
from ctrl.recipe.seeds import SeedBlend
from ctrl.recipe.styles import Style


class Changes(TypedDict, total=False):
    """The fields that may be replaced; a test keeps these fields equal to those of `Recipe`."""

    prompt: str | Blend
    negative: str | Blend
    regions: Sequence[Region]
    controls: Sequence[Control]
    styles: Sequence[Style]
    guidance: float | Schedule | Guidance
    steps: int
    sampler: Sampler | Literal["dpm++"]
    spacing: Spacing
    seed: int | SeedBlend
    image: PictureLike | None
    strength: float
    mask: PictureLike | None
    unmasked: Unmasked
    loras: Sequence[Lora]
    directions: Sequence[Direction]
    edit: Edit | None
    aligned: StyleAligned | None
    width: int | None
    height: int | None
