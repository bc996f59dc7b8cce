"""`sweep`: a picture for every combination of values, and the `Sweep` that holds them."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrl.recipe import Recipe
from ctrl.sampling import Shot
from ctrl.sweeps.axes import MAX_CELLS, Axes, Axis, axes_of
from ctrl.sweeps.folder import Folder
from ctrl.sweeps.sheet import sheet
from ctrl.sweeps.tree import Made
from ctrl.sweeps.work import by, serially

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.model import Model


def sweep(
    model: Model | Callable[[], Model],
    recipe: Recipe,
    axes: Axes,
    *,
    executor: Executor | None = None,
    folder: str | Path | None = None,
    on_shot: Callable[[int, int], None] | None = None,
) -> Sweep:
    """The pictures of `recipe` with every combination of the values of `axes`, each bit-equal to `ctrl.sample`'s.

        ctrl.sweep(model, recipe, {"guidance": [3, 6, 9], "controls[1].weight": [0, 1], "seed": range(4)})
        ctrl.sweep(model, recipe, {("steps", "sampler"): [(20, "dpm++ 2m"), (50, "ddim")], "seed": range(4)})

    - `axes` maps paths into the recipe to values, crossed with each other. A tuple of paths is linked: its values are
      tuples, one value a path. The last axis goes across.
    - steps that recipes share are made once, and recipes of one hash are one picture; see `Sweep.evaluations`.
    - `executor`: any `concurrent.futures.Executor`. For one whose workers are other processes, `model` is a function
      they can load it by, once each: `ctrl.load`, or `functools.partial(ctrl.load, "a folder")`.
    - `folder` keeps every picture as soon as it is finished, as a PNG named by its recipe's hash; what is there
      already, by the same model, is not made again.
    - `on_shot(done, count)` is called after every picture; what it raises ends the sweep.

    Raises a ValueError where a path is not in the recipe or a value does not fit it, before anything is made.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")
    found = axes_of(axes)
    if (count := math.prod(map(len, found))) > MAX_CELLS:
        raise ValueError(f"axes make {count} recipes; {MAX_CELLS} are the most.")
    cells = [_cell(recipe, found, place) for place in itertools.product(*(range(len(axis)) for axis in found))]
    kept = None if folder is None else Folder(Path(folder).expanduser())
    known, made = _made(model, cells, executor, kept, on_shot)
    images = known | {recipe: one.shot for recipe, one in made.items()}
    shots = tuple(replace(images[cell], recipe=cell) for cell in cells)
    evaluations = sum(one.evaluations for one in made.values())
    return Sweep(found, shots, evaluations, sum(made[cell].alone for cell in cells if cell in made) - evaluations)


def _cell(recipe: Recipe, axes: tuple[Axis, ...], place: tuple[int, ...]) -> Recipe:
    for axis, at in zip(axes, place, strict=True):
        recipe = axis.put(recipe, at)
    return recipe


def _made(
    model: Model | Callable[[], Model],
    cells: list[Recipe],
    executor: Executor | None,
    folder: Folder | None,
    on_shot: Callable[[int, int], None] | None,
) -> tuple[dict[Recipe, Shot], dict[Recipe, Made]]:
    """The shots that the folder knows, and those made now."""
    wanted = list(dict.fromkeys(cells))
    found = [] if folder is None else [shot for one in wanted if (shot := folder.load(one)) is not None]
    known = {shot.recipe: shot for shot in found}
    missing, made = [one for one in wanted if one not in known], {}
    work = serially(model, missing, folder) if executor is None else by(executor, model, missing, folder)
    for one in work:
        made[one.shot.recipe] = one
        if on_shot is not None:
            on_shot(len(known) + len(made), len(wanted))
    return known, made


@dataclass(frozen=True, eq=False)
class Sweep:
    """The `shots` of a sweep in the order of its `axes`, the last one fastest.

    `sweep[0, 2]` is the shot at these places of its axes, `sweep[5]` by its number. `evaluations` of the model were
    made for them, `saved` more would have been without sharing; what came out of a folder counts in neither.
    In a notebook it shows itself as a labelled sheet.
    """

    axes: tuple[Axis, ...]
    shots: tuple[Shot, ...] = field(repr=False)
    evaluations: int
    saved: int

    def __len__(self) -> int:
        return len(self.shots)

    def __iter__(self) -> Iterator[Shot]:
        return iter(self.shots)

    def __getitem__(self, place: int | tuple[int, ...]) -> Shot:
        if isinstance(place, int):
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
        return self._sheet()[0]

    def under(self, x: int, y: int) -> Recipe | None:
        """The recipe of the picture at a pixel of the sheet; None between pictures."""
        boxes = self._sheet()[1]
        hit = (at for at, (left, top, right, low) in enumerate(boxes) if left <= x < right and top <= y < low)
        at = next(hit, None)
        return None if at is None else self.shots[at].recipe

    def sort_by(self, measure: Callable[[Shot], float]) -> tuple[Shot, ...]:
        """The shots from the highest measure to the lowest; of equals, the earlier first."""
        return tuple(sorted(self.shots, key=measure, reverse=True))

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

    def _sheet(self) -> tuple[Image, tuple[tuple[int, int, int, int], ...]]:
        *down, across = self.axes
        places = itertools.product(*(range(len(axis)) for axis in down))
        rows = [", ".join(axis.label(at) for axis, at in zip(down, place, strict=True)) for place in places]
        return sheet([shot.image for shot in self.shots], rows, [across.label(at) for at in range(len(across))])

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.sheet.save(buffer, "PNG")
        return buffer.getvalue()
