"""What the owner of a picture should know: everything that was cut, ignored, reduced or stretched, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctrl.images import Picture
from ctrl.recipe import Control, Guidance, Recipe, Schedule, Style

if TYPE_CHECKING:
    from ctrl.model import Model, Text


def notes(model: Model, recipe: Recipe, said: tuple[Text, Text], size: tuple[int, int]) -> tuple[str, ...]:
    """The notes on a run of this recipe; `said` are its prompt and negative prompt as they were read."""
    found = []
    for name, text in zip(("prompt", "negative"), said, strict=True):
        if text.cut:
            found.append(f"the {name} was too long for the text encoder; it did not see: {text.cut!r}")
    found += _guidance(recipe, said[1])
    parts: list[Control | Style] = [*recipe.controls, *recipe.styles]
    for part in parts:
        found += _part(part, recipe.steps, size)
    for style in recipe.styles:
        found += model.style_notes(style.pictures, style.adapter)
    if recipe.image is not None:
        found += _picture("image", recipe.image, size, resize="stretch")
    return tuple(found)


def _guidance(recipe: Recipe, negative: Text) -> list[str]:
    guidance = Guidance.of(recipe.guidance)
    weight = guidance.weight.highest if isinstance(guidance.weight, Schedule) else guidance.weight
    if weight > 1:
        return []
    said = [f"guidance {weight:g} is off, so the negative prompt has no effect"] if recipe.negative else []
    if guidance.apg or guidance.zero or guidance.map is not None:
        said.append(f"guidance {weight:g} is off, so what refines it has no effect")
    return said


def _part(part: Control | Style, steps: int, size: tuple[int, int]) -> list[str]:
    name = type(part).__name__
    found = []
    if isinstance(part.weight, Schedule) and part.weight.by == "steps" and not part.weight.steps(steps):
        found.append(f"{name} acts in 0 of {steps} steps: its window is narrower than a step")
    if isinstance(part, Style):
        return found + [_reduced(name, picture) for picture in part.pictures if picture.came_as != picture.size]
    if isinstance(part.picture, Picture):
        found += _picture(name, part.picture, size, part.resize)
    return found


def _picture(name: str, picture: Picture, size: tuple[int, int], resize: str) -> list[str]:
    width, height = picture.size
    found = [_reduced(name, picture)] if picture.came_as != picture.size else []
    if abs(width * size[1] - height * size[0]) > max(size):
        how = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}[resize]
        found.append(f"{name}: the picture of {width}×{height} was {how} to {size[0]}×{size[1]}")
    if size[0] >= 4 * width:
        found.append(f"{name}: the picture of {width}×{height} was enlarged to {size[0]}×{size[1]}")
    return found


def _reduced(name: str, picture: Picture) -> str:
    came, now = picture.came_as, picture.size
    return f"{name}: the picture was reduced from {came[0]}×{came[1]} to {now[0]}×{now[1]}"
