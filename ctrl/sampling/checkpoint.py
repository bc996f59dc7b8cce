"""Checkpoints: everything a run needs to resume after a step, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ctrl.guidance import GuidanceState
from ctrl.maps import WordMaps
from ctrl.recipe import Recipe

if TYPE_CHECKING:
    from ctrl.model import Solver
    from ctrl.model.solver import SolverState

# Fields that a run uses before its first step, so that they cannot change after it.
SETTLED = ("sampler", "spacing", "steps", "seed", "width", "height", "image", "strength", "mask", "edit", "aligned")

RUNS = ("edit", "aligned")  # of these it only counts that a run goes along


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after step `index`: its latents (N, C, h, w), its solver, its random numbers, its guidance,
    and the maps of the words of its masks.

    `beside` holds the checkpoints of the runs beside it, and what they have added up.
    It can be pickled and resumed from any number of times, in another process too.
    """

    index: int
    latents: Tensor
    solver: SolverState
    guidance: GuidanceState
    words: WordMaps
    settled: tuple[Any, ...]
    beside: tuple[tuple[Checkpoint, Any], ...] = ()

    @staticmethod
    def of(
        recipe: Recipe,
        index: int,
        latents: Tensor,
        solver: SolverState,
        guidance: GuidanceState,
        words: WordMaps,
        beside: Sequence[tuple[Checkpoint, Any]] = (),
    ) -> Checkpoint:
        """The checkpoint after a step; of a batch, `recipe` is the first."""
        return Checkpoint(index, latents, solver, guidance, words, settled(recipe), tuple(beside))

    def check(self, recipe: Recipe) -> None:
        """Raise a ValueError for a recipe that cannot resume from here."""
        for name, ours, theirs in zip(SETTLED, self.settled, settled(recipe), strict=True):
            if ours != theirs:
                got = "another one" if name in ("image", "mask") else f"{theirs!r} instead of {ours!r}"
                if name in RUNS:
                    got = f"{'an' if theirs else 'no'} {name}{' picture' if name == 'aligned' else ''}"
                raise ValueError(
                    f"after is a step of a run with another {name}, which is settled before the first step: the recipe "
                    f"has {got}; give the same, or start without after=."
                )

    def resume(self, solver: Solver) -> tuple[int, Tensor, GuidanceState, WordMaps]:
        """Put a new solver into this state; returns the next step's index, latents, guidance state and maps."""
        solver.resume(self.solver)
        return self.index + 1, self.latents.clone(), self.guidance, self.words


def settled(recipe: Recipe) -> tuple[Any, ...]:
    """What a run settles before its first step: the values of `SETTLED`, pictures by their sha256."""
    strength = Recipe.strength if recipe.image is None else recipe.strength
    values = {name: getattr(recipe, name) for name in SETTLED} | {"strength": strength, "seed": recipe.canonical.seed}
    pictures = {name: None if values[name] is None else values[name].sha256 for name in ("image", "mask")}
    runs = {name: getattr(recipe.canonical, name) is not None for name in RUNS}
    return tuple((values | pictures | runs)[name] for name in SETTLED)
