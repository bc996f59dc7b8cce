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
    """A key that recipes share if they can run in one batch: `canonical` without prompts, directions, seed and pixels.

    Of pictures, only their presence counts. The key also marks controls and styles that differ only in their weight:
    their order may change from step to step, and must change in the same way in every recipe of the batch.
    """
    effective = recipe.canonical
    twins = [_twins(parts) for parts in (effective.controls, effective.styles)]
    references = [] if effective.aligned is None else [batch_shape(effective.aligned.reference)]
    return (_shape(effective), *twins, *references)


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
    """For each pair of neighbours among these sorted parts, whether they differ only in their weight."""
    bare = [part.effective(lambda weight: 1.0, guided=False) for part in parts]
    return tuple(left == right for left, right in itertools.pairwise(bare))
