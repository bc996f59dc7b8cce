"""The recipes near the value that was moved last, which a slider may ask for next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from ctrl.recipe import Recipe

Path = tuple[str | int, ...]


def neighbours(before: Recipe, now: Recipe, count: int) -> Iterator[Recipe]:
    """Up to `count` recipes with further values of the number that was moved, in steps of the last move, nearest first.

    None if anything else changed, or more than one number.
    """
    moved = [(path, old, new) for path, old, new in _differences(before, now, ())]
    if len(moved) != 1:
        return
    ((path, old, new),) = moved
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in (old, new)):
        return
    made = 0
    for distance in range(1, 2 * count + 2):
        for sign in (1, -1):  # first the way it was going
            if made == count:
                return
            try:
                recipe = _with(now, path, _stepped(old, new, sign * distance))
            except (ValueError, TypeError):
                continue  # past an end of what the number may be
            if recipe != before:
                made += 1
                yield recipe


def _stepped(old: float, new: float, steps: int) -> float:
    """`new` and so many steps of the last move, in decimals: a slider goes from 0.75 and 0.8 to 0.85, and on to 0.9."""
    before, now = (Decimal(str(one)) for one in (old, new))
    value = now + steps * (now - before)
    return int(value) if isinstance(old, int) and isinstance(new, int) else float(value)


def _differences(old: Any, new: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if type(old) is type(new) and dataclasses.is_dataclass(old) and _is_plain(old):
        for field in dataclasses.fields(old):
            if field.init:
                yield from _differences(getattr(old, field.name), getattr(new, field.name), (*path, field.name))
    elif isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for at, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, (*path, at))
    elif type(old) is not type(new) or old != new:
        yield path, old, new


def _is_plain(value: Any) -> bool:
    """Whether it is a value of the recipe's own, not a picture or a skeleton."""
    return type(value).__module__.startswith("ctrl.recipe")


def _with(value: Any, path: Path, number: float) -> Any:
    """The value with another number at a path."""
    if not path:
        return number
    name, *rest = path
    if isinstance(name, int):
        return (*value[:name], _with(value[name], tuple(rest), number), *value[name + 1 :])
    return dataclasses.replace(value, **{name: _with(getattr(value, name), tuple(rest), number)})
