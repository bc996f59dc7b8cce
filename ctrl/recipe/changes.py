"""The arguments of `Recipe.replace`, for type checkers and editors: the fields of a recipe, all optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from ctrl.images import PictureLike
from ctrl.recipe.controls import Control
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.loras import Lora
from ctrl.recipe.regions import Region
from ctrl.recipe.samplers import Sampler, Spacing
from ctrl.recipe.schedule import Schedule
from ctrl.recipe.styles import Style


class Changes(TypedDict, total=False):
    """The fields that may be replaced; a test keeps these fields equal to those of `Recipe`."""

    prompt: str
    negative: str
    regions: Sequence[Region]
    controls: Sequence[Control]
    styles: Sequence[Style]
    guidance: float | Schedule | Guidance
    steps: int
    sampler: Sampler | Literal["dpm++"]
    spacing: Spacing
    seed: int
    image: PictureLike | None
    strength: float
    mask: PictureLike | None
    unmasked: Literal["pixels", "latents"]
    loras: Sequence[Lora]
    width: int | None
    height: int | None
