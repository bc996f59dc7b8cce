"""Axes of a sweep: which values a recipe takes along each, by paths such as "controls[1].weight"."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ctrl.images import Picture
from ctrl.recipe import Recipe
from ctrl.recipe.wording import words_for

MAX_CELLS = 10_000
STEP = re.compile(r"(\w+)((?:\[\d+\])*)")
Axes = Mapping[str | tuple[str, ...], Iterable[Any]]


@dataclass(frozen=True)
class Axis:
    """The values that one path takes, or several linked ones: `values` has a tuple for each place, a value a path."""

    paths: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.values)

    def put(self, recipe: Recipe, at: int) -> Recipe:
        """The recipe with the values of place `at`."""
        for path, value in zip(self.paths, self.values[at], strict=True):
            recipe = put(recipe, path, value)
        return recipe

    def label(self, at: int) -> str:
        """The values of place `at` in words."""
        return ", ".join(f"{path} {brief(value)}" for path, value in zip(self.paths, self.values[at], strict=True))


def axes_of(given: Axes) -> tuple[Axis, ...]:
    """The axes of a mapping from a path, or a tuple of linked paths, to values; a ValueError says what is wrong."""
    whole: object = given
    if not isinstance(whole, Mapping) or not whole:
        raise TypeError(f'axes must map paths to values, {{"guidance": [3, 6, 9]}}; got {given!r:.60}.')
    axes = tuple(_axis(paths, values) for paths, values in given.items())
    paths = [path for axis in axes for path in axis.paths]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"axes name {twice!r} twice; give each path one axis.")
    return axes


def put(recipe: Recipe, path: str, value: Any) -> Recipe:
    """The recipe with another value at a path; a ValueError where the recipe has no such place."""
    names: list[str | int] = []
    for part in path.split("."):
        match = STEP.fullmatch(part)
        if match is None:
            raise ValueError(f"axis {path!r} is no path; write 'guidance', 'controls[1].weight' or 'styles[0].on'.")
        names += [match[1], *(int(number) for number in re.findall(r"\d+", match[2]))]
    changed: Recipe = _put(recipe, names, value, path)
    return changed


def brief(value: Any) -> str:
    """A value in a few words, for a label; of a picture, the first digits of its hash."""
    if isinstance(value, Image.Image | np.ndarray):
        value = Picture.of(value)
    text = value if isinstance(value, str) else " ".join(words_for(value).split())
    return text if len(text) <= 32 else f"{text[:31]}…"


def _axis(paths: str | tuple[str, ...], values: Iterable[Any]) -> Axis:
    linked = paths if isinstance(paths, tuple) else (paths,)
    given: tuple[object, ...] = linked
    if not linked or not all(isinstance(path, str) for path in given):
        raise TypeError(f"an axis must be a path or a tuple of linked paths, got {paths!r:.60}.")
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"axis {paths!r} must have a list of values, got {values!r:.60}.")
    found = tuple(_row(linked, value) if isinstance(paths, tuple) else (value,) for value in values)
    if not 0 < len(found) <= MAX_CELLS:
        raise ValueError(f"axis {paths!r} must have 1 to {MAX_CELLS} values, got {len(found)}.")
    return Axis(linked, found)


def _row(paths: tuple[str, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(paths):
        raise ValueError(
            f"linked axis {paths!r} takes a tuple of {len(paths)} values at each place, got {value!r:.60}; "
            "zip the lists: list(zip(a, b))."
        )
    return tuple(value)


def _put(whole: Any, names: Sequence[str | int], value: Any, path: str) -> Any:
    if not names:
        return value
    name, rest = names[0], names[1:]
    if isinstance(name, int):
        if not isinstance(whole, tuple) or name >= len(whole):
            count = len(whole) if isinstance(whole, tuple) else 0
            raise ValueError(f"axis {path!r} asks for number {name} of {count}; count from 0, or give the recipe more.")
        return (*whole[:name], _put(whole[name], rest, value, path), *whole[name + 1 :])
    fields = [one.name for one in dataclasses.fields(whole) if one.init] if dataclasses.is_dataclass(whole) else []
    if name not in fields:
        there = (
            f"there is {', '.join(fields)}" if fields else f"{whole!r:.40} has no parts; give the recipe one that has"
        )
        raise ValueError(f"axis {path!r} names {name!r}, which is not there; {there}.")
    return dataclasses.replace(whole, **{name: _put(getattr(whole, name), rest, value, path)})
