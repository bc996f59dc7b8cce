"""Indices of a step's controls, styles and regions in the recipe as written, for observers and maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ctrl.recipe import Control, Recipe, Region, Style, words_of


def numbers(now: Sequence[Any], whole: Sequence[Any]) -> list[int]:
    """The indices in `whole`, a recipe's controls, styles or regions, of the parts of a step (`Recipe.at`).

    A step has them sorted, without those that are off, so the third style may be its first. Parts that differ only in
    their weight are matched in their order.
    """
    unmatched: list[Any] = [_bare(part) for part in whole]
    indices = []
    for part in now:
        index = unmatched.index(_bare(part))
        indices.append(index)
        unmatched[index] = None
    return indices


def unweighted(recipe: Recipe) -> tuple[Any, ...]:
    """The controls, styles and regions of a recipe without their weights: where these are equal, so are `numbers`."""
    return tuple(tuple(map(_bare, parts)) for parts in (recipe.controls, recipe.styles, recipe.regions))


def _bare(part: Control | Style | Region) -> Any:
    """The part in one spelling, without its weight, which changes from step to step."""
    bare = replace(part.effective, weight=1.0) if isinstance(part, Region) else part.effective(_one, guided=False)
    words = words_of(bare.mask)  # their start changes from step to step too
    return (type(part), bare if words is None else replace(bare, mask=replace(words, start=0.0)))


def _one(_: object) -> float:
    return 1.0
