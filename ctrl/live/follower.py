"""Following a changing recipe, one picture after another: what is recomputed, what is shown, and when it stops.

It knows no thread: `Live` runs it in one, tests run it by hand with a clock of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ctrl.attention import Call, Term
from ctrl.live.frame import Frame, Kind, Phase, State
from ctrl.live.mailbox import Mailbox, Wish
from ctrl.live.neighbours import neighbours
from ctrl.live.preview import Previewer
from ctrl.live.rate import Rate
from ctrl.live.settings import Settings
from ctrl.live.trajectory import Trajectories, Trajectory
from ctrl.memory import Memory
from ctrl.recipe import Recipe
from ctrl.sampling.loop import finish, prepare, walk
from ctrl.sampling.run import Run

if TYPE_CHECKING:
    from ctrl.model import Model


class Superseded(Exception):  # no error: it ends a run between two layers
    """A newer recipe is wanted, or none at all."""


@dataclass(frozen=True, eq=False)
class Result:
    """A finished picture, (H, W, 3) uint8, and the notes on it."""

    pixels: Tensor
    notes: tuple[str, ...]

    @property
    def image(self) -> Image.Image:
        """As PIL has it."""
        return Image.fromarray(self.pixels.numpy())


class Follower:
    """Makes the pictures of the recipes in a mailbox: `follow` yields frames and states as they come."""

    def __init__(
        self, model: Model, mailbox: Mailbox, settings: Settings, clock: Callable[[], float], previewer: Previewer
    ) -> None:
        self.model, self.mailbox, self.settings, self.clock = model, mailbox, settings, clock
        self.memory, self.previewer = Memory(settings.memory), previewer
        self.evaluations, self.frames = Rate(clock), Rate(clock)
        self._runs = Trajectories()
        self._current: Trajectory | None = None
        self._asked: list[Recipe] = []

    def follow(self, wish: Wish) -> Iterator[Frame | State]:
        """Make the picture of a wish, until it is done or a newer one makes that pointless."""
        before, self._asked = self._asked[-1:], [*self._asked[-1:], wish.recipe]
        same = "the change has no effect on the picture" if [wish.recipe] == before else ""
        try:
            if self._drafts(wish.recipe):
                yield from self._make(wish, wish.recipe.fast(), "draft", "drafting")
            yield from self._make(wish, wish.recipe, "exact", "running")
        except Superseded:
            yield self._state("cancelled", wish.recipe)
        else:
            yield self._state("idle", wish.recipe, message=same)

    def fill(self) -> Iterator[State]:
        """While idle: make the neighbours of the value last moved, nearest first, until something is wanted."""
        if len(self._asked) < 2 or not self.settings.fill:
            return
        for recipe in neighbours(self._asked[0], self._asked[1], self.settings.fill):
            wish = Wish(recipe, 0, self.clock())
            try:
                yield from (told for told in self._make(wish, recipe, "exact", "filling") if isinstance(told, State))
            except Superseded:
                break
        yield self._state("idle", self._asked[-1])

    def _make(self, wish: Wish, recipe: Recipe, kind: Kind, phase: Phase) -> Iterator[Frame | State]:
        run = prepare(self.model, [recipe], self.memory, [self._between_layers])
        revision = self._revision(run)
        key = ("result", revision, recipe.hash)
        if key not in self.memory:
            yield from self._run(run, Trajectory(recipe, revision, run.solver.times), wish, phase)
        result = self.memory(key, lambda: self._finished(run))
        yield self._frame(result.image, kind, wish, recipe, run.count, run.count, result.notes)

    def _run(self, run: Run, trajectory: Trajectory, wish: Wish, phase: Phase) -> Iterator[Frame | State]:
        known = self._runs.begin(trajectory)
        self._current, shown = trajectory, -float("inf")
        yield self._state(phase, trajectory.recipe, len(trajectory.steps), run.count)
        self.evaluations.begin()
        for step in walk(run, self.model, trajectory.checkpoint, known):
            trajectory.steps.append(step)
            self.evaluations.tick()
            self._stop_if(self.mailbox.interrupts)
            rhythm = self.settings.previews
            if rhythm is not None and not trajectory.complete and self.clock() - shown >= rhythm:
                shown = self.clock()
                preview = self.previewer(step.denoised[0], run.given.size, step.preview)
                yield self._frame(preview, "preview", wish, trajectory.recipe, step.index + 1, run.count)
                yield self._state(phase, trajectory.recipe, step.index + 1, run.count)
            self.evaluations.begin()
        self._stop_if(self.mailbox.interrupts)  # no picture is decoded for nobody

    def _finished(self, run: Run) -> Result:
        assert self._current is not None
        latents = self._current.steps[-1].latents
        (shot,) = finish(run, self.model, latents)
        self.previewer.learn(latents[0], shot.image)
        return Result(torch.from_numpy(np.asarray(shot.image).copy()), shot.notes)

    def _between_layers(self, call: Call, terms: Sequence[Term]) -> None:
        """An observer of attention: ends an evaluation that nobody wants any more."""
        self._stop_if(self.mailbox.interrupts and not self._still_wanted())

    def _still_wanted(self) -> bool:
        """Whether the recipe that is wanted now needs the step that is being made."""
        wish, current = self.mailbox.peek(), self._current
        if wish is None or current is None:
            return False
        index = len(current.steps)
        pairs = ((one.at(at, current.times) for one in (current.recipe, wish.recipe)) for at in range(index + 1))
        try:
            return all(old == new for old, new in pairs)
        except IndexError:
            return False

    def _stop_if(self, pointless: bool) -> None:  # noqa: FBT001  # the condition itself
        if pointless:
            raise Superseded

    def _revision(self, run: Run) -> Hashable:
        """Which weights the picture depends on."""
        return run.model.revision

    def _drafts(self, recipe: Recipe) -> bool:
        limit, lcm = self.settings.draft_after, [lora for lora in recipe.loras if lora.name == "lcm"]
        if limit is None or lcm or "lcm" not in self.model.loras:
            return False
        return self.evaluations.seconds * recipe.steps > limit

    def _frame(
        self,
        image: Image.Image,
        kind: Kind,
        wish: Wish,
        recipe: Recipe,
        step: int,
        count: int,
        notes: tuple[str, ...] = (),
    ) -> Frame:
        self.frames.tick()
        return Frame(image, kind, recipe, step, count, self.clock() - wish.at, notes)

    def _state(self, phase: Phase, recipe: Recipe, step: int = 0, count: int = 0, message: str = "") -> State:
        left = self.evaluations.seconds * (count - step)
        rates = self.evaluations.per_second, self.frames.per_second
        return State(phase, recipe.hash, step, count, *rates, left, message)
