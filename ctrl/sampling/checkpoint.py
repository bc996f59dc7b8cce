"""Checkpoints: everything a run needs to resume after a step, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ctrl.guidance import GuidanceState
from ctrl.recipe import Recipe

if TYPE_CHECKING:
    from ctrl.model import Solver
    from ctrl.model.solver import SolverState

# Fields that a run uses before its first step, so that they cannot change after it.
SETTLED = ("sampler", "spacing", "steps", "seed", "width", "height", "image", "strength", "mask")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after step `index`: its latents (N, C, h, w), its solver, its random numbers, its guidance.

    It can be pickled and resumed from any number of times, in another process too.
    """

    index: int
    latents: Tensor
    solver: SolverState
    guidance: GuidanceState
    settled: tuple[Any, ...]

    @staticmethod
    def of(recipe: Recipe, index: int, latents: Tensor, solver: SolverState, guidance: GuidanceState) -> Checkpoint:
        """The checkpoint after a step; of a batch, `recipe` is the first."""
        return Checkpoint(index, latents, solver, guidance, _settled(recipe))

    def check(self, recipe: Recipe) -> None:
        """Raise a ValueError for a recipe that cannot resume from here."""
        for name, ours, theirs in zip(SETTLED, self.settled, _settled(recipe), strict=True):
            if ours != theirs:
                got = "another one" if name in ("image", "mask") else f"{theirs!r} instead of {ours!r}"
                raise ValueError(
                    f"after is a step of a run with another {name}, which is settled before the first step: the recipe "
                    f"has {got}; give the same, or start without after=."
                )

    def resume(self, solver: Solver) -> tuple[int, Tensor, GuidanceState]:
        """Put a new solver into this state; returns the index of the next step, its latents and the guidance state."""
        solver.resume(self.solver)
        return self.index + 1, self.latents.clone(), self.guidance


def _settled(recipe: Recipe) -> tuple[Any, ...]:
    strength = Recipe.strength if recipe.image is None else recipe.strength
    values = {name: getattr(recipe, name) for name in SETTLED} | {"strength": strength}
    pictures = {name: None if values[name] is None else values[name].sha256 for name in ("image", "mask")}
    return tuple((values | pictures)[name] for name in SETTLED)
