"""The work of a sweep: here, or in the workers of an executor, each of which loads the model once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ctrl.recipe import Recipe
from ctrl.sweeps.folder import Folder
from ctrl.sweeps.tree import Made, leaves, shots

if TYPE_CHECKING:
    from ctrl.model import Model


def serially(source: Model | Callable[[], Model], recipes: Sequence[Recipe], folder: Folder | None) -> Iterator[Made]:
    """Make the pictures in this process."""
    model = model_of(source)
    if folder is not None:
        folder.claim(repr(model))
    for made in shots(model, leaves(model, recipes)):
        if folder is not None:
            folder.save(made.shot)
        yield made


def by(
    executor: Executor, source: Model | Callable[[], Model], recipes: Sequence[Recipe], folder: Folder | None
) -> Iterator[Made]:
    """As `serially`, by an executor: recipes that begin alike go to one worker."""
    groups: dict[Recipe, list[int]] = {}
    for at, recipe in enumerate(recipes):
        about = [1 - index / recipe.steps for index in range(recipe.steps)]  # no model is here to ask
        groups.setdefault(recipe.at(0, about), []).append(at)
    waiting = {
        executor.submit(_work, source, [recipes[at] for at in members], folder): members for members in groups.values()
    }
    try:
        for done in as_completed(waiting):
            yield from (replace(made, at=waiting[done][made.at]) for made in done.result())
    finally:
        for future in waiting:
            future.cancel()


def model_of(source: Model | Callable[[], Model]) -> Model:
    """The model itself, or the one a function loads, once a process."""
    from ctrl.model import Model

    if isinstance(source, Model):
        return source
    if not callable(source):
        raise TypeError(
            f"model must be a Model or a function that loads one, such as ctrl.load; got {type(source).__name__}."
        )
    return _loaded(pickle.dumps(source))


@lru_cache(maxsize=1)
def _loaded(source: bytes) -> Model:
    from ctrl.model import Model

    model = pickle.loads(source)()  # pickled in this process or by the executor, never read from a file
    if not isinstance(model, Model):
        raise TypeError(f"model must be a function that returns a Model, and it returned {type(model).__name__}.")
    return model


def _work(source: Model | Callable[[], Model], recipes: Sequence[Recipe], folder: Folder | None) -> list[Made]:
    return list(serially(source, recipes, folder))
