"""Indices of a step's controls, styles and regions in the recipe as written, for observers and maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctrl.recipe import Control, Region, Style


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


def _bare(part: Control | Style | Region) -> Any:
    """The part in one spelling, without its weight, which changes from step to step."""
    if isinstance(part, Region):
        return (part.prompt, part.mask)
    return (type(part), part.effective(lambda _: 1.0, guided=False), None)
