"""The steps of earlier runs, and how far they serve a changed recipe."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from ctrl.recipe import Guidance, Recipe
from ctrl.rows import Branches
from ctrl.sampling import Step
from ctrl.sampling.checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The steps of a run of `recipe`, as far as it came, on weights of this `revision`; `times` are its noise times."""

    recipe: Recipe
    revision: Hashable
    times: Sequence[float]
    steps: list[Step] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return len(self.steps) == len(self.times)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """To go on from after the last step; None before the first."""
        return self.steps[-1].checkpoint if self.steps else None

    def shared(self, other: Trajectory) -> int:
        """How many of these steps are steps of the other run too, to the bit."""
        if self.revision != other.revision or list(self.times) != list(other.times):
            return 0
        for index in range(len(self.steps)):
            if self.recipe.at(index, self.times) != other.recipe.at(index, self.times):
                return index
        return len(self.steps)

    def predictions(self, index: int, other: Trajectory) -> Branches | None:
        """The predictions at step `index`, if the other run, which shares all before it, asks the model the same."""
        if index >= len(self.steps) or self.revision != other.revision or list(self.times) != list(other.times):
            return None
        mine, theirs = (asked(one.recipe.at(index, self.times)) for one in (self, other))
        return self.steps[index].branches if mine == theirs else None


def asked(now: Recipe) -> Recipe:
    """What of a step's recipe the model is asked: not how strongly guidance leads its predictions apart."""
    guidance = Guidance.of(now.guidance)
    perturb = [replace(one, weight=1.0) for one in guidance.perturb]
    zero = guidance.zero if guidance.zero_init else None
    return now.replace(guidance=Guidance(2.0 if guidance.guided else 1.0, zero=zero, perturb=perturb))


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The last few runs, the latest last."""

    most: int = 4
    runs: list[Trajectory] = field(default_factory=list)

    def begin(self, run: Trajectory) -> Branches | None:
        """Give a new run the steps an earlier one shares with it; the predictions of the next step, if known."""
        count, best = max(((one.shared(run), one) for one in self.runs), key=lambda pair: pair[0], default=(0, None))
        known = None
        if best is not None:
            run.steps.extend(best.steps[:count])
            known = best.predictions(count, run)
        self.runs.append(run)
        del self.runs[: -self.most]
        return known
