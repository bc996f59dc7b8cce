"""`sweep`: a picture for every combination of values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ctrl.caller import ends_at_caller
from ctrl.recipe import Recipe
from ctrl.recipe.checks import check_callback, integer, switch
from ctrl.sampling import Shot, Step
from ctrl.sampling.progress import bar
from ctrl.sweeps.axes import MAX_CELLS, Axes, Axis, axes_of
from ctrl.sweeps.folder import Folder, Needs
from ctrl.sweeps.made import Sweep
from ctrl.sweeps.pool import Here, Pool
from ctrl.sweeps.tree import Made, ordered
from ctrl.sweeps.work import Work

if TYPE_CHECKING:
    from ctrl.model import Model


class Unfinished(RuntimeError):
    """A sweep ended early. `shots` are the pictures that were finished; the error that ended it is the `__cause__`."""

    def __init__(self, message: str, shots: tuple[Shot, ...]) -> None:
        super().__init__(message)
        self.shots = shots


@ends_at_caller
def sweep(
    model: Model | Callable[[], Model],
    recipe: Recipe,
    axes: Axes,
    *,
    executor: Executor | Callable[[], Executor] | None = None,
    retries: int = 2,
    folder: str | Path | None = None,
    progress: bool = True,
    on_shot: Callable[[Shot, int, int], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Sweep:
    """The pictures of `recipe` with every combination of the values of `axes`, each bit-equal to `ctrl.sample`'s.

        ctrl.sweep(model, recipe, {"guidance": [3, 6, 9], "controls[1].weight": [0, 1], "seed": range(4)})
        ctrl.sweep(model, recipe, {("steps", "sampler"): [(20, "dpm++ 2m"), (50, "ddim")], "seed": range(4)})

    - `axes` maps paths into the recipe to values, crossed with each other. A tuple of paths is linked: its values are
      tuples, one value a path. The last axis goes across.
    - steps that recipes share are made once, and recipes of one hash are one picture; see `Sweep.evaluations`. Each
      worker of an executor shares the steps of the pictures it makes itself.
    - `executor`: any `concurrent.futures.Executor`, `ctrl.RayExecutor` among them, or a function that makes one: then
      a new one takes its place when it breaks. For workers in other processes `model` is a function that loads it,
      once in each: `ctrl.load`, or `functools.partial(ctrl.load, "a folder")`; let a pool of processes start them by
      `mp_context=multiprocessing.get_context("spawn")`, since torch does not survive a fork in all cases.
    - `retries`: how often a picture is tried again when its worker fails. Errors of a wrong recipe or model (TypeError,
      ValueError, ArithmeticError) end the sweep at once.
    - `folder` keeps every picture as soon as it is finished, as a PNG named by its recipe's hash; what is there
      already, by the same model, is not made again.
    - `progress` shows one bar for all pictures on stderr, in a log one line at the end.
    - `on_shot(shot, done, count)` is called after every picture, in the order in which they finish; what it raises
      ends the sweep.
    - `on_step(step)` is called after every step that is made, and what it raises ends the sweep. It cannot be given
      with an executor, whose workers make the steps.

    Raises a ValueError where a path is not in the recipe or a value does not fit it, and a TypeError where a callback
    cannot be called with its arguments, before anything is made. An error after the first picture is
    `ctrl.Unfinished`, which holds those that were finished.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")
    found, retries = axes_of(axes), integer("retries", retries, 0, 1000)
    if (count := math.prod(map(len, found))) > MAX_CELLS:
        raise ValueError(f"axes make {count} recipes; {MAX_CELLS} are the most.")
    progress = switch("progress", progress)
    cells = [_cell(recipe, found, place) for place in itertools.product(*(range(len(axis)) for axis in found))]
    check_callback("on_shot", on_shot, "a Shot", "the number done", "the number in all")
    check_callback("on_step", on_step, "a Step")
    if executor is not None and on_step is not None:
        raise ValueError(
            "on_step must be left out with an executor, whose workers make the steps; on_shot is called with both."
        )
    work = Work(model)
    make = work.make if on_step is None else partial(work.make, on_step=on_step)
    if isinstance(executor, ProcessPoolExecutor):
        work.check_travels()
    kept = None if folder is None else Folder(Path(folder).expanduser())
    with Here() if executor is None else Pool(executor, retries) as workers:
        known, made = _made(workers, work, make, list(dict.fromkeys(cells)), kept, on_shot, progress=progress)
    images = known | {one: result.shot for one, result in made.items()}
    shots = tuple(replace(images[cell], recipe=cell) for cell in cells)
    evaluations = sum(one.evaluations for one in made.values())
    return Sweep(found, shots, evaluations, sum(made[cell].alone for cell in cells if cell in made) - evaluations)


def _cell(recipe: Recipe, axes: tuple[Axis, ...], place: tuple[int, ...]) -> Recipe:
    for axis, at in zip(axes, place, strict=True):
        recipe = axis.put(recipe, at)
    return recipe


def _made(
    workers: Pool | Here,
    work: Work,
    make: Callable[[Recipe], Made],
    wanted: Sequence[Recipe],
    folder: Folder | None,
    on_shot: Callable[[Shot, int, int], None] | None,
    *,
    progress: bool,
) -> tuple[dict[Recipe, Shot], dict[Recipe, Made]]:
    """The shots that the folder has, and those made now."""
    known = {} if folder is None else _known(folder, wanted, workers, work)
    made: dict[Recipe, Made] = {}
    missing = ordered([one for one in wanted if one not in known], work.times)
    results = closing(_or_unfinished(workers.each(make, missing), known, made, len(wanted)))
    with bar(len(wanted), "picture", shown=progress, done=len(known), title="sweep") as advance, results as finished:
        for recipe, result in finished:
            made[recipe] = result
            if folder is not None:
                folder.save(result.shot)
            advance()
            if on_shot is not None:
                on_shot(result.shot, len(known) + len(made), len(wanted))
    return known, made


def _known(folder: Folder, wanted: Sequence[Recipe], workers: Pool | Here, work: Work) -> dict[Recipe, Shot]:
    """The shots that a folder has, after the model has claimed it."""
    ((_, owner),) = workers.each(work.owner, [Needs.of(wanted)])
    folder.claim(owner)
    return {one: shot for one in wanted if (shot := folder.load(one, owner)) is not None}


def _or_unfinished(
    results: Iterator[tuple[Recipe, Made]], known: Mapping[Recipe, Shot], made: Mapping[Recipe, Made], count: int
) -> Generator[tuple[Recipe, Made]]:
    """The results; an error after the first of them becomes `Unfinished`."""
    try:
        yield from results
    except Exception as error:
        if not made:
            raise
        shots = (*known.values(), *(one.shot for one in made.values()))
        raise Unfinished(
            f"{len(shots)} of {count} pictures are finished and in this error's `shots`, then: {error}", shots
        ) from error
