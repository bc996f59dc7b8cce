"""`Sweep`: the pictures of a sweep, as a sequence, a sheet and a table."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from ctrl.recipe import Recipe
from ctrl.sampling import Shot
from ctrl.sweeps.axes import Axis
from ctrl.sweeps.sheet import Box, sheet

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Sweep:
    """The `shots` of a sweep in the order of its `axes`, the last one fastest.

    `sweep[0, 2]` is the shot at these places of its axes, `sweep[5]` by its number, `sweep[2:4]` two of them.
    `evaluations` of the model were made for them, `saved` more would have been without sharing; what came out of a
    folder counts in neither. In a notebook it shows itself as a labelled sheet.
    """

    axes: tuple[Axis, ...]
    shots: tuple[Shot, ...] = field(repr=False)
    evaluations: int
    saved: int

    def __len__(self) -> int:
        return len(self.shots)

    def __iter__(self) -> Iterator[Shot]:
        return iter(self.shots)

    @overload
    def __getitem__(self, place: SupportsIndex | tuple[int, ...]) -> Shot: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Shot, ...]: ...

    def __getitem__(self, place: SupportsIndex | slice | tuple[int, ...]) -> Shot | tuple[Shot, ...]:
        if not isinstance(place, tuple):
            return self.shots[place]
        if len(place) != len(self.axes):
            raise IndexError(f"a place has {len(self.axes)} numbers, one an axis, got {place!r:.60}.")
        number = 0
        for axis, at in zip(self.axes, place, strict=True):
            number = number * len(axis) + range(len(axis))[at]
        return self.shots[number]

    @property
    def sheet(self) -> Image:
        """All pictures with their labels, as one."""
        return self._sheet[0]

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Where each picture lies on the sheet, in pixels: left, top, right and lower edge."""
        return self._sheet[1]

    def under(self, x: int, y: int) -> Recipe | None:
        """The recipe of the picture at a pixel of the sheet; None between pictures."""
        hit = (at for at, (left, top, right, low) in enumerate(self.boxes) if left <= x < right and top <= y < low)
        at = next(hit, None)
        return None if at is None else self.shots[at].recipe

    def sort_by(self, measure: Callable[[Shot], float | None]) -> tuple[Shot, ...]:
        """The shots from the highest measure to the lowest; of equals, the earlier first, and None and NaN last.

        sweep.sort_by(lambda shot: shot.obeys()[0].value)  # the best first, by obedience
        """

        def key(shot: Shot) -> float:
            value = measure(shot)
            return -math.inf if value is None or math.isnan(value) else value

        return tuple(sorted(self.shots, key=key, reverse=True))

    def rows(self, **measures: Callable[[Shot], Any]) -> list[dict[str, Any]]:
        """A row a shot: the value of every path, the recipe's hash, and what each measure says."""
        places = itertools.product(*(axis.values for axis in self.axes))
        rows = []
        for place, shot in zip(places, self.shots, strict=True):
            pairs = (zip(axis.paths, values, strict=True) for axis, values in zip(self.axes, place, strict=True))
            row = {path: value for pair in pairs for path, value in pair}
            rows.append(row | {"hash": shot.recipe.hash} | {name: of(shot) for name, of in measures.items()})
        return rows

    def table(self, **measures: Callable[[Shot], Any]) -> Any:
        """The rows as a pandas DataFrame; without pandas, the list of `rows`."""
        rows = self.rows(**measures)
        try:
            pandas = import_module("pandas")
        except ImportError:
            return rows
        return pandas.DataFrame(rows)

    @cached_property
    def _sheet(self) -> tuple[Image, tuple[Box, ...]]:
        *down, across = self.axes
        places = itertools.product(*(range(len(axis)) for axis in down))
        rows = [", ".join(axis.label(at) for axis, at in zip(down, place, strict=True)) for place in places]
        return sheet([shot.image for shot in self.shots], rows, [across.label(at) for at in range(len(across))])

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.sheet.save(buffer, "PNG")
        return buffer.getvalue()
