"""The places of a step's parts in the recipe as it was written: what observers and maps call them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctrl.recipe import Control, Region, Style


def numbers(now: Sequence[Any], whole: Sequence[Any]) -> list[int]:
    """The places in `whole`, a recipe's controls, styles or regions, of those at a step (`Recipe.at`).

    A step has them sorted, without those that are off, so that the third style may be the first there. Of parts that
    differ in nothing but their weight the first comes first.
    """
    free: list[Any] = [_bare(part) for part in whole]
    found = []
    for part in now:
        place = free.index(_bare(part))
        found.append(place)
        free[place] = None
    return found


def _bare(part: Control | Style | Region) -> Any:
    """The part in one spelling, without what changes from step to step."""
    if isinstance(part, Region):
        return (part.prompt, part.mask)
    return (type(part), part.effective(lambda _: 1.0, guided=False), None)
