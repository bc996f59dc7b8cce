"""Which recipes can run as one batch."""

from __future__ import annotations

import dataclasses
from typing import Any

from ctrl.images import Picture
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.recipe import Recipe
from ctrl.skeleton import Skeleton

PER_PICTURE = ("prompt", "negative", "seed")  # fields in which recipes of one batch may differ


def batch_key(recipe: Recipe) -> tuple[Any, ...]:
    """What recipes must share to run in one batch: everything but prompts, seeds and pixels."""
    parts = {name: sorted(getattr(recipe, name), key=lambda part: part.sort_key) for name in ("controls", "styles")}
    regions = [region for region in recipe.regions if region.weight != 0]
    strength = Recipe.strength if recipe.image is None else recipe.strength
    plain = dataclasses.replace(recipe, controls=(), styles=(), regions=(), strength=strength, guidance=6.0)
    lists = {**parts, "regions": sorted(regions, key=lambda part: part.sort_key)}
    own = tuple(tuple(_plain(part) for part in found) for found in lists.values())
    return (_plain(plain), _plain(Guidance.of(recipe.guidance)), *own)


def _plain(value: Any) -> Any:
    """A value without its pixels: of a picture only that it is there."""
    if isinstance(value, Picture | Skeleton):
        return True
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name not in PER_PICTURE]
        return (type(value).__name__, *(_plain(getattr(value, name)) for name in names))
    return value
