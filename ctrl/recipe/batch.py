"""Which recipes can run in one batch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Sequence
from typing import Any

from ctrl.images import Picture
from ctrl.recipe.recipe import Recipe
from ctrl.skeleton import People, Skeleton


def batch_shape(recipe: Recipe) -> Hashable:
    """What recipes must share to run in one batch: all of `canonical` but prompts, seed and what pictures show.

    Pictures count by being there. Of controls and styles that differ in nothing but their weight the key says so
    too: their order may change from step to step, which must be the same change in every recipe of the batch.
    """
    effective = recipe.canonical
    twins = [_twins(parts) for parts in (effective.controls, effective.styles)]
    return (_shape(effective), *twins)


def _shape(value: Any) -> Hashable:
    if isinstance(value, Picture | Skeleton | People):
        return "picture"
    if isinstance(value, tuple):
        return tuple(map(_shape, value))
    if dataclasses.is_dataclass(value):
        shared = [field.name for field in dataclasses.fields(value) if "per picture" not in field.metadata]
        return (type(value).__name__, *(_shape(getattr(value, name)) for name in shared))
    return value  # type: ignore[no-any-return]  # a number, a word or None


def _twins(parts: Sequence[Any]) -> tuple[bool, ...]:
    """For each of these sorted parts whether it may be at a step as the one before is, but for its weight."""
    bare = [part.effective(lambda weight: 1.0, guided=False) for part in parts]
    return tuple(one == other for one, other in itertools.pairwise(bare))
