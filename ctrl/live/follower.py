"""Following a changing recipe, one picture after another: what is recomputed, what is shown, and when a run stops.

It starts no thread: `Live` runs it in one, tests run it by hand with a clock of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctrl.attention import Pause
from ctrl.live.frame import Frame, Kind, Phase, State
from ctrl.live.mailbox import Mailbox, Wish
from ctrl.live.neighbours import neighbours
from ctrl.live.preview import Previewer
from ctrl.live.rate import Rate
from ctrl.live.settings import Settings
from ctrl.live.trajectory import Kept, Trajectories, Trajectory, asked_of
from ctrl.live.watched import reads_of, watched
from ctrl.maps import Attention, Collector, Watch
from ctrl.memory import Keep, Memory
from ctrl.recipe import Recipe
from ctrl.recipe.checks import field_values
from ctrl.recipe.loras import of_model
from ctrl.sampling import Step
from ctrl.sampling.run import Run
from ctrl.sampling.walk import finish, notes_of, prepare, walk

if TYPE_CHECKING:
    from ctrl.model import Model


class Superseded(Exception):  # no error: it ends a run between two layers
    """A newer recipe was requested, or the run was cancelled."""


@dataclass(frozen=True, eq=False)
class Result:
    """A finished picture, (H, W, 3) uint8, its evaluations, and its attention, if watched."""

    pixels: NDArray[np.uint8]
    count: int
    attention: Attention | None

    @property
    def image(self) -> Image.Image:
        """As PIL has it."""
        return Image.fromarray(self.pixels)


@dataclass(frozen=True, eq=False)
class Plan:
    """A run that may be made: its steps, the `key` of its result in a memory, and why it is not watched, if so."""

    run: Run
    trajectory: Trajectory
    key: Hashable
    unwatched: tuple[str, ...]


class Follower:
    """Makes the pictures of the recipes in a mailbox, and yields frames and states meanwhile."""

    def __init__(
        self,
        model: Model,
        mailbox: Mailbox,
        settings: Settings,
        clock: Callable[[], float],
        previewer: Previewer,
        watch: Watch | None = None,
    ) -> None:
        self.model, self.mailbox, self.settings, self.clock = model, mailbox, settings, clock
        self.memory, self.previewer, self.watch = Memory(settings.memory), previewer, watch
        self.evaluations, self.frames = Rate(clock), Rate(clock)
        self._runs = Trajectories(self.memory, asked_of(model))
        self._current: Trajectory | None = None
        self._last: Kept | None = None  # of the current run's steps
        self._judged: tuple[tuple[int, int], bool] = (0, 0), False  # whether a wish (its number) needs a step
        self._asked: list[Recipe] = []
        self._shown: Result | None = None  # the exact picture that is seen
        self._ended = clock()  # when work on the last wish did

    def follow(self, wish: Wish) -> Iterator[Frame | State]:
        """Make the picture of a wish, unless a newer one supersedes it."""
        self._asked = [*self._asked[-1:], wish.recipe]
        if wish.at > self._ended:
            self.frames.begin()  # a pause is no part of a frame
        shown, self._shown = self._shown, None  # previews may hide it
        try:
            if self._drafts(wish.recipe):
                yield from self._make(wish, wish.recipe.fast(), "draft", "drafting")
            result = yield from self._make(wish, wish.recipe, "exact", "running")
        except Superseded:
            yield self._state("cancelled", wish.recipe)
        else:
            same = shown is not None and np.array_equal(shown.pixels, result.pixels)
            self._shown = result
            yield self._state("idle", wish.recipe, message="the change has no effect on the picture" if same else "")
        finally:
            self._ended = self.clock()

    def fill(self) -> Iterator[State]:
        """While idle: make the neighbours of the value moved last, nearest first, until a new wish arrives."""
        if len(self._asked) < 2 or not self.settings.fill:
            return
        for recipe in neighbours(self._asked[0], self._asked[1], self.settings.fill):
            self._runs.recall(self._asked[1])
            wish = Wish(recipe, 0, self.clock())
            try:
                events = self._make(wish, recipe, "exact", "filling")
                yield from (event for event in events if isinstance(event, State))
            except Superseded:
                break
            except (ValueError, ArithmeticError):
                continue  # this model cannot make it, and no user requested it
        self._runs.recall(self._asked[1])
        yield self._state("idle", self._asked[-1])

    def _make(self, wish: Wish, recipe: Recipe, kind: Kind, phase: Phase) -> Generator[Frame | State, None, Result]:
        if (seen := self._seen(recipe)) is not None:
            result, notes = seen
            self._runs.recall(recipe)
            yield self._frame(result.image, kind, wish, recipe, result.count, result.count, notes, reused=result.count)
            return result
        plan = self._plan(recipe)
        run, reused = plan.run, plan.run.count
        if plan.key not in self.memory:
            reused = yield from self._run(run, plan.trajectory, wish, phase)
        result = self.memory(plan.key, lambda: self._finished(run))
        (notes,) = self.memory(self._notes_key(run.model, recipe), lambda: notes_of(run, self.model))
        notes = (*notes, *plan.unwatched)
        yield self._frame(result.image, kind, wish, recipe, run.count, run.count, notes, result.attention, reused)
        return result

    def _plan(self, recipe: Recipe) -> Plan:
        compiled = self.model.denoiser.compiled  # a compiled graph cannot be stopped between layers
        plain = prepare(self.model, [recipe], self.memory, [] if compiled else [Pause(self._between_layers)])
        run, unwatched = watched(plain, self.watch)
        revision, reads = run.model.revision, reads_of(run)
        steps = [moment.now for moment in run.moments]
        trajectory = Trajectory(recipe, revision, run.solver.times, steps, reads)
        return Plan(run, trajectory, ("result", revision, recipe.hash, reads), unwatched)

    def _seen(self, recipe: Recipe) -> tuple[Result, tuple[str, ...]] | None:
        """The picture and the notes of a recipe that was made before, without preparing a run; a watched picture needs
        its run."""
        if self.watch is not None:
            return None
        self.memory.begin_run()
        adapted = self.model.with_loras(of_model(recipe.canonical.loras, self.model.loras))
        result = self.memory.get(("result", adapted.revision, recipe.hash, None))
        notes = self.memory.get(self._notes_key(adapted, recipe))
        return None if result is None or notes is None else (result, notes[0])

    def _notes_key(self, adapted: Model, recipe: Recipe) -> Hashable:
        """The key of a recipe's notes: equal recipes can have different ones, such as on a part without effect."""
        return "notes", adapted.revision, self.watch, field_values(recipe)

    def _run(self, run: Run, trajectory: Trajectory, wish: Wish, phase: Phase) -> Generator[Frame | State, None, int]:
        """Make the steps of a run; returns how many it took over from earlier ones."""
        after, known = self._runs.begin(trajectory)
        self._current, self._last, shown, reused = trajectory, after, -float("inf"), len(trajectory)
        seen = next((kept.seen for kept in (known, after) if kept is not None), None)
        if run.collector is not None and seen is not None:
            run.collector.resume(seen)
        yield self._state(phase, trajectory.recipe, reused, run.count)
        self.evaluations.begin()
        for step in walk(
            run, self.model, None if after is None else after.checkpoint, known, keep=self._keep(run, trajectory)
        ):
            self._add(step, run.collector, trajectory)
            self.evaluations.tick()
            self._stop_if(self.mailbox.interrupts)
            rhythm = self.settings.previews
            if rhythm is not None and not trajectory.complete and self.clock() - shown >= rhythm:
                shown = self.clock()
                preview = self.previewer(step.denoised[0], run.given.size, step.preview)
                yield self._frame(preview, "preview", wish, trajectory.recipe, step.index + 1, run.count)
                yield self._state(phase, trajectory.recipe, step.index + 1, run.count)
            self.evaluations.begin()
        self._stop_if(self.mailbox.interrupts)  # a superseded run is not decoded
        return reused

    def _keep(self, run: Run, trajectory: Trajectory) -> Keep | None:
        """The memory of the networks' outputs at the next step; None for a watched run, whose networks must run."""
        return self.memory.part(trajectory.origin) if run.collector is None else None

    def _add(self, step: Step, collector: Collector | None, trajectory: Trajectory) -> None:
        self._last = Kept(step.checkpoint, step.branches, None if collector is None else collector.seen())
        self._runs.add(trajectory, self._last)

    def _finished(self, run: Run) -> Result:
        assert self._last is not None
        latents = self._last.checkpoint.latents
        (shot,) = finish(run, self.model, latents)
        self.previewer.learn(latents[0], shot.image)
        return Result(np.array(shot.image), run.count, shot.attention)

    def _between_layers(self) -> None:
        """End an evaluation that no recipe needs any more."""
        self._stop_if(self.mailbox.interrupts and not self._still_wanted())

    def _still_wanted(self) -> bool:
        """Whether the newest recipe needs the step that is running."""
        wish, current = self.mailbox.peek(), self._current
        if wish is None or current is None:
            return False
        asked = wish.number, len(current)
        if self._judged[0] != asked:
            self._judged = asked, current.leads_to(wish.recipe)
        return self._judged[1]

    def _stop_if(self, pointless: bool) -> None:  # noqa: FBT001  # the condition itself
        if pointless:
            raise Superseded

    def _drafts(self, recipe: Recipe) -> bool:
        limit, lcm = self.settings.draft_after, [lora for lora in recipe.loras if lora.name == "lcm"]
        if limit is None or lcm or "lcm" not in self.model.loras or self._seen(recipe) is not None:
            return False
        plan = self._plan(recipe)
        left = 0 if plan.key in self.memory else plan.run.count - self._runs.reach(plan.trajectory)
        return self.evaluations.seconds * left > limit

    def _frame(
        self,
        image: Image.Image,
        kind: Kind,
        wish: Wish,
        recipe: Recipe,
        step: int,
        count: int,
        notes: tuple[str, ...] = (),
        attention: Attention | None = None,
        reused: int = 0,
    ) -> Frame:
        return Frame(image, kind, recipe, step, count, self.clock() - wish.at, notes, attention, reused)

    def _state(self, phase: Phase, recipe: Recipe, step: int = 0, count: int = 0, message: str = "") -> State:
        left = self.evaluations.seconds * (count - step)
        rates = self.evaluations.per_second, self.frames.per_second
        return State(phase, recipe.hash, step, count, *rates, left, message)
