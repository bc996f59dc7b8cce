"""The steps of earlier runs, and which of them a changed recipe can reuse."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from ctrl.maps import Seen
from ctrl.memory import Memory
from ctrl.recipe import Guidance, Recipe, words_of
from ctrl.rows import Branches
from ctrl.sampling.checkpoint import Checkpoint, settled

if TYPE_CHECKING:
    from ctrl.model import Model

Asked: TypeAlias = Callable[[Recipe], Recipe]


@dataclass(frozen=True, eq=False)
class Kept:
    """A step as other runs reuse it: its checkpoint, its predictions, and its attention so far, if watched."""

    checkpoint: Checkpoint
    branches: Branches
    seen: Seen | None = None


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The steps done so far of a run of `recipe`, on weights of this `revision`; `times` are its noise times.

    `steps` holds the recipe of every step (`Recipe.at`). `numbers` holds a key for each step done, equal in every run
    that shares the step; the tensors are in a memory. `reads` is what its attention maps depend on apart from the
    steps; None for a run that was not watched.
    """

    recipe: Recipe
    revision: Hashable
    times: Sequence[float]
    steps: Sequence[Recipe]
    reads: Hashable = None
    numbers: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def complete(self) -> bool:
        """Whether all steps are done."""
        return len(self) == len(self.times)

    @cached_property
    def start(self) -> Hashable:
        """What is fixed before the first step: settled fields and noise times.

        Runs whose steps are all equal can differ here, for example by a reference that goes along.
        """
        return settled(self.recipe), tuple(self.times)

    @property
    def origin(self) -> Hashable:
        """Where the next step begins: runs of one origin have the same latents there, to the bit."""
        return ("origin", self.revision, self.numbers[-1] if self.numbers else self.start)

    def shared(self, other: Trajectory) -> int:
        """How many of these steps the other run can reuse, bit-equal."""
        if not self._serves(other):
            return 0
        for index in range(len(self)):
            if self.steps[index] != other.steps[index]:
                return index
        return len(self)

    def leads_to(self, recipe: Recipe) -> bool:
        """Whether a run of another recipe shares all steps done so far, and the next one."""
        if settled(recipe) != settled(self.recipe):
            return False
        return all(recipe.at(at, self.times) == self.steps[at] for at in range(min(len(self) + 1, len(self.times))))

    def predicts(self, index: int, other: Trajectory, asked: Asked) -> bool:
        """Whether the other run, which shares all steps before `index`, gives the model the same inputs there."""
        if index >= len(self) or not self._serves(other):
            return False
        mine, theirs = (asked(one.steps[index]) for one in (self, other))
        return mine == theirs

    def _serves(self, other: Trajectory) -> bool:
        """Whether the other run can reuse steps of this one: same weights, same start, and the attention it needs."""
        watched = other.reads is None or self.reads == other.reads
        return watched and self.revision == other.revision and self.start == other.start


def asked(now: Recipe) -> Recipe:
    """The part of a step's recipe that the model's inputs depend on: without the strength of guidance."""
    guidance = Guidance.of(now.guidance)
    perturb = [replace(one, weight=1.0) for one in guidance.perturb]
    zero = guidance.zero if guidance.zero_init else None
    words = words_of(guidance.map)  # their maps are made of this step's attention
    weight = 2.0 if guidance.guided else 1.0
    return now.replace(guidance=Guidance(weight, map=words, zero=zero, perturb=perturb, nag=guidance.nag))


def asked_of(model: Model) -> Asked:
    """`asked`, or the whole recipe of a step for a distilled model, which takes guidance as an input."""
    return (lambda now: now) if model.denoiser.reads_guidance else asked


class Trajectories:
    """The last few runs, the latest last; `asks` gives the part of a step's recipe that the model's inputs depend on.

    Their steps are in `memory`. A step that the memory has dropped is computed again, with all steps after it.
    """

    def __init__(self, memory: Memory, asks: Asked = asked, most: int = 8) -> None:
        self._memory, self._asks, self._most = memory, asks, most
        self._runs: list[Trajectory] = []

    def reach(self, run: Trajectory) -> int:
        """How many steps of a run earlier ones have made."""
        return max((self._reach(one, run)[0] for one in self._runs), default=0)

    def recall(self, recipe: Recipe) -> None:
        """Make the runs of this recipe the latest, so that their steps are kept."""
        self._runs.sort(key=lambda run: run.recipe == recipe)

    def begin(self, run: Trajectory) -> tuple[Kept | None, Kept | None]:
        """Give a new run the steps that it shares with an earlier one.

        Returns the last of them, and a step with the next step's predictions; None where there is none.
        """
        found = [(*self._reach(one, run), one) for one in reversed(self._runs)]
        count, known, best = max(found, key=lambda one: one[:2], default=(0, False, run))
        last, following = (self._kept(best, at) for at in (count - 1, count if known else -1))
        if count and last is None:  # the memory was cleared just now
            count, following = 0, None
        run.numbers.extend(best.numbers[:count])
        self._runs.append(run)
        self._forget(self._runs[: -self._most])
        del self._runs[: -self._most]
        return last, following

    def add(self, run: Trajectory, kept: Kept) -> None:
        """Add the next step of a run."""
        number = self._memory.new_number()
        self._memory(("step", number), lambda: kept)
        run.numbers.append(number)

    def _reach(self, old: Trajectory, new: Trajectory) -> tuple[int, bool]:
        """How many steps of an earlier run a new one can reuse, and whether the next step's predictions too."""
        there = [("step", number) in self._memory for number in old.numbers]
        count = next((count for count in range(old.shared(new), 0, -1) if there[count - 1]), 0)
        return count, count < len(there) and there[count] and old.predicts(count, new, self._asks)

    def _kept(self, run: Trajectory, index: int) -> Kept | None:
        kept: Kept | None = None if index < 0 else self._memory.get(("step", run.numbers[index]))
        return kept

    def _forget(self, runs: Sequence[Trajectory]) -> None:
        """Drop the steps that only these runs have."""
        held = {number for run in self._runs if run not in runs for number in run.numbers}
        for number in {number for run in runs for number in run.numbers} - held:
            self._memory.drop(("step", number))
