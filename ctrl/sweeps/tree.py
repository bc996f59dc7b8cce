"""Recipes as a tree of steps: what two share to the bit is made once, by going on from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctrl.live.trajectory import asked, asked_of
from ctrl.memory import Memory
from ctrl.recipe import Recipe
from ctrl.sampling import Shot, Step
from ctrl.sampling.checkpoint import settled
from ctrl.sampling.walk import finish, prepare, walk

if TYPE_CHECKING:
    from ctrl.model import Model

Times = Callable[[Recipe], Sequence[float]]


def times_of(model: Model) -> Times:
    """The noise times of a recipe's run, one an evaluation, as the model's sampler places them."""

    def times(recipe: Recipe) -> Sequence[float]:
        strength = 1.0 if recipe.image is None else recipe.strength
        return model.times(recipe.sampler, recipe.spacing, recipe.steps, strength=strength)

    return times


def about(recipe: Recipe) -> Sequence[float]:
    """Noise times near enough to sort by, where no model is at hand to ask."""
    return [1 - index / recipe.steps for index in range(recipe.steps)]


def ordered(recipes: Sequence[Recipe], times: Times) -> list[Recipe]:
    """The recipes in an order in which those that share the most steps stand side by side."""
    numbers: dict[Hashable, int] = {}

    def path(recipe: Recipe) -> list[int]:
        parent = numbers.setdefault(settled(recipe), len(numbers))
        found = [parent]
        for now in _nows(recipe, times):
            for part in (asked(now), now):  # steps that differ in the strength of guidance alone share an evaluation
                parent = numbers.setdefault((parent, part), len(numbers))
                found.append(parent)
        return found

    paths = {recipe: path(recipe) for recipe in recipes}
    return sorted(recipes, key=paths.__getitem__)


@dataclass(frozen=True, eq=False)
class Made:
    """A finished `shot`, the evaluations it took, and those it takes `alone`."""

    shot: Shot
    evaluations: int
    alone: int


class Maker:
    """Makes one recipe after another, each from the last step that it shares with the one before.

    Every shot is bit-equal to that of `ctrl.sample`. The steps of one run are kept.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._memory = model, Memory()
        self._settled: tuple[Any, ...] = ()
        self._before: tuple[Recipe, ...] = ()
        self._steps: list[Step] = []

    def __call__(self, recipe: Recipe, on_step: Callable[[Step], None] | None = None) -> Made:
        """The shot of a recipe; `on_step` is called after each step made. An error leaves the maker as it was."""
        nows, begun = _nows(recipe, times_of(self._model)), settled(recipe)
        before = self._before if begun == self._settled else ()
        count = _shared(nows, before)
        known, asked = None, asked_of(self._model)
        if count < min(len(nows), len(before)) and asked(nows[count]) == asked(before[count]):
            known = self._steps[count]
        run = prepare(self._model, [recipe], self._memory)
        steps = self._steps[:count]
        for step in walk(run, self._model, steps[-1].checkpoint if steps else None, known):
            steps.append(step)
            if on_step is not None:
                on_step(step)
        (shot,) = finish(run, self._model, steps[-1].latents)
        self._settled, self._before, self._steps = begun, nows, steps
        return Made(shot, len(nows) - count - (known is not None), len(nows))


def _nows(recipe: Recipe, times: Times) -> tuple[Recipe, ...]:
    """The recipe at each step of its run."""
    found = times(recipe)
    return tuple(recipe.at(index, found) for index in range(len(found)))


def _shared(mine: Sequence[Recipe], theirs: Sequence[Recipe]) -> int:
    """How many first steps are the same."""
    pairs = zip(mine, theirs, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(mine), len(theirs)))
