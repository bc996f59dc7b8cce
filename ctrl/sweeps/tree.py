"""Recipes as a tree of steps: what several share to the bit is made once, by going on from checkpoints."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctrl.live.trajectory import asked
from ctrl.memory import Memory
from ctrl.recipe import Recipe
from ctrl.sampling import Shot, Step
from ctrl.sampling.loop import finish, prepare, walk

if TYPE_CHECKING:
    from ctrl.model import Model


@dataclass(frozen=True, eq=False)
class Leaf:
    """A recipe, its place `at` among those given, and its `path`: for each step its evaluation and the step itself."""

    at: int
    recipe: Recipe
    path: tuple[tuple[int, int], ...]

    def shared(self, other: Leaf) -> int:
        """How many first steps are steps of the other too."""
        pairs = zip(self.path, other.path, strict=False)
        return next(
            (at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(self.path), len(other.path))
        )


def leaves(model: Model, recipes: Sequence[Recipe]) -> list[Leaf]:
    """The recipes in an order in which those that share the most stand side by side.

    Steps that differ in the strength of guidance alone share an evaluation.
    """
    numbers: dict[Hashable, int] = {}
    found = []
    for at, recipe in enumerate(recipes):
        strength = 1.0 if recipe.image is None else recipe.strength
        times = model.times(recipe.sampler, recipe.spacing, recipe.steps, strength=strength)
        path, parent = [], -1
        for index in range(len(times)):
            now = recipe.at(index, times)
            question = numbers.setdefault((parent, "asked", asked(now)), len(numbers))
            parent = numbers.setdefault((parent, "step", now), len(numbers))
            path.append((question, parent))
        found.append(Leaf(at, recipe, tuple(path)))
    return sorted(found, key=lambda leaf: leaf.path)


@dataclass(frozen=True, eq=False)
class Made:
    """A finished `shot`, its place `at`, the evaluations it took, and those it takes `alone`."""

    at: int
    shot: Shot
    evaluations: int
    alone: int


def shots(model: Model, found: Sequence[Leaf]) -> Iterator[Made]:
    """The shot of every leaf, bit-equal to `ctrl.sample`; the steps of one run are kept at a time."""
    memory, steps, before = Memory(), list[Step](), Leaf(-1, Recipe(""), ())
    for leaf in found:
        count = leaf.shared(before)
        known = None
        if count < min(len(leaf.path), len(before.path)) and leaf.path[count][0] == before.path[count][0]:
            known = steps[count].branches
        run = prepare(model, [leaf.recipe], memory)
        kept = steps[:count]
        kept.extend(walk(run, model, kept[-1].checkpoint if kept else None, known))
        steps, before = kept, leaf
        (shot,) = finish(run, model, steps[-1].latents)
        yield Made(leaf.at, shot, len(leaf.path) - count - (known is not None), len(leaf.path))
