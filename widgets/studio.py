"""`Studio`: one panel to steer a model by hand, which follows every move."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from widgets.leaf import Message  # first: it says what is missing

import ctrl  # isort: skip
from ctrl import Recipe, Shot
from widgets import settings
from widgets.attention import heat_of
from widgets.cells import retire_older
from widgets.finished import HISTORY, file_of, finished, shot_of, snapshot
from widgets.foreground import front_end, notice
from widgets.grids import Grid, choices, sheet_message
from widgets.offers import ON_REQUEST, REQUESTED, advice, offers, reasons
from widgets.pads import Pads
from widgets.past import Past
from widgets.progress import FAILED, REFUSED, progress_of, reason_of, runs
from widgets.resting import WATCH, Resting, measured, watched
from widgets.shell import HANDS, KNOBS, LEAVES, WORDS, Shell
from widgets.switches import Switches, knob_values, moved_rows

if TYPE_CHECKING:
    from ctrl.live import Frame, State
    from widgets.export import Snapshot


class Studio(Shell):
    """Pose a figure, paint depth, drop a style, drag guidance: the picture follows, and so does its attention.

    Args:
        model: the model that makes the pictures.
        recipe: the first recipe.
        live: further arguments of `ctrl.Live`, such as `settings` and `tiny_vae`.

    `recipe` is the recipe that the panel shows; `update` shows another. The picture at rest is exact, bit-equal to
    `ctrl.sample(model, studio.recipe).image`; every picture before it is marked as a draft. The panel also works while
    a cell runs. `live` is the session. A cell that runs again closes the panel it made before; `close()` ends it all.

    Raises:
        TypeError: the model is no Model, or the recipe no Recipe.

    >>> studio = Studio(ctrl.load(), ctrl.Recipe("a figure waving"))    # doctest: +SKIP
    >>> studio.shot.image                                               # doctest: +SKIP
    """

    _open = False

    def __init__(self, model: ctrl.Model, recipe: Recipe, **live: Any) -> None:
        if not isinstance(model, ctrl.Model):
            raise TypeError(f"model must be a Model, got {type(model).__name__}; ctrl.load() makes one.")
        if not isinstance(recipe, Recipe):
            raise TypeError(f"recipe must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")
        self._lock = threading.RLock()
        self._model, self._switches = model, Switches(recipe)
        self._shown: Shot | None = None
        self._sheet: ctrl.Sweep | None = None
        self._stopping = False
        self._watch = live.get("watch")  # given; else the words' tab decides
        self._past = Past(recipe)
        self._pads = Pads(model, recipe, self._take)
        self._resting = Resting(self._look, "ctrl.Studio")
        self._grid = Grid(model, self._show_progress, self._show_sheet, self._fail)
        super().__init__(offers=offers(model), notice=notice(), **dict(zip(LEAVES, self._pads.all, strict=True)))
        self._front = front_end()
        relay = self._front.relay
        try:
            self.live = ctrl.Live(model, recipe, relay(self._show_frame), relay(self._show_state), **live)
        except BaseException:
            self._end()
            raise
        self._open = True
        self._pads.gallery.observe(lambda change: self._use_recipe(change["new"].recipe), names="used")
        self._show(recipe)
        self.observe(self._moved, names=HANDS)
        self.observe(self._turned, names=["tab", "curve_of"])
        retire_older(self)
        self._front.follow(self.live)

    @property
    def model(self) -> ctrl.Model:
        """The model that makes the pictures."""
        return self._model

    @property
    def recipe(self) -> Recipe:
        """The recipe that the panel shows."""
        return self._past.now

    @property
    def shot(self) -> Shot:
        """The finished picture of `recipe`; waits until it is made. A RuntimeError if it was stopped."""
        return finished(self.live)

    def snapshot(self, *, interactive: bool = False) -> Snapshot:
        """The finished picture, as the value of a cell that stays in the notebook for a reader without a kernel.

        `interactive` gives a page with the heat maps of its words, and the marked and the latest pictures of the
        history to compare. The page works without a kernel. While the words' tab is closed, the run is made again.
        """
        shot = self.shot
        if interactive:
            shot = watched(self.model, shot, lambda: True) or shot
        return snapshot(shot, self._pads.history(HISTORY), interactive=interactive)

    def update(self, recipe: Recipe, by: str = "") -> None:
        """Show another recipe and make its picture. Changes `by` one knob without a pause are undone together."""
        with self._lock:
            self.live.update(recipe)
            self._past.push(recipe, by)
            self._show(recipe)
            self._front.follow(self.live)

    def cancel(self) -> None:
        """Stop the current run, and keep the last preview, marked as one."""
        self._stopping = runs(self.progress)
        self.live.cancel()

    def close(self) -> None:
        """End the session and its threads, and close every leaf."""
        if self._open:
            self._open = False
            self.unobserve_all()
            self.live.close()
            self._end()
        super().close()

    def _end(self) -> None:
        self._grid.close()
        self._resting.close()
        self._pads.close()

    # ---- from the browser

    def opening(self) -> Iterable[Message]:
        """The message with the sheet of the last sweep; everything else is in traits and leaves."""
        return () if self._sheet is None else (sheet_message(self._sheet),)

    def receive(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Handle a button. The panel shows what went wrong."""
        if kind in ("undo", "redo"):
            with self._lock:
                self._step(kind)
        elif kind == "cancel":
            self.cancel()
        elif kind == "dice":
            self.seed = random.randrange(2**32)
        elif kind == "add":
            self._take("add", lambda recipe: self._pads.with_new(recipe, str(content["what"])))
        elif kind == "remove":
            self._take("remove", lambda recipe: settings.without(recipe, str(content["name"])))
        elif kind == "measure":
            self.offers = {**self.offers, "obedience": REQUESTED}
            self._resting.at(self._shown)
        elif kind == "code":
            self.post("code", {"text": self.recipe.code(inline=True)})
        elif kind == "save":
            self.say(file_of(self._shown))
        elif kind == "grid":
            self.clear_problem()
            self._grid.begin(self.recipe, [(str(path), str(text)) for path, text in content["axes"]])
        elif kind == "stop grid":
            self._grid.stop()
        elif kind == "use cell" and self._sheet is not None:
            self._use_recipe(self._sheet[int(content["at"])].recipe)

    def _step(self, way: str) -> None:
        recipe = self._past.undo() if way == "undo" else self._past.redo()
        self.live.update(recipe)
        self._show(recipe)
        self._front.follow(self.live)

    def _use_recipe(self, recipe: Recipe | None) -> None:
        if recipe is not None:
            self._take("", lambda now: recipe.replace(seed=now.seed) if self.locked else recipe)

    def _turned(self, change: Any) -> None:
        """Another tab or curve was opened: make what it shows, which is not made before."""
        if change["name"] == "curve_of":
            self._pads.show_curve(self.recipe, self.curve_of)
            return
        words = self.tab == "words"
        self.live.watch = self._watch or (WATCH if words else None)
        if words and self._shown is not None:
            self._resting.at(self._shown)

    def _moved(self, change: Any) -> None:
        """A knob was moved; called in any thread."""
        name, new = change["name"], change["new"]
        if name == "rows":
            self._take(moved_rows(change), lambda recipe: self._switches.rows(recipe, new))
        elif name in ("width", "height"):
            self._take("size", lambda recipe: settings.with_size(recipe, self.width, self.height))
        elif name == "fast":
            self._take("fast", lambda recipe: self._switches.fast(recipe, on=new))
        else:
            self._take(name, lambda recipe: settings.with_scalar(recipe, name, new))

    def _take(self, hand: str, take: Callable[[Recipe], Recipe]) -> None:
        """Change the recipe as a knob or pad says, and make its picture; an error is shown in the panel."""
        with self._lock:
            if not self._open:
                return
            try:
                recipe = take(self.recipe)
                if not settings.same(recipe, self.recipe):
                    self.clear_problem()  # first: the new recipe may have a problem of its own
                    self.update(recipe, hand)
                    return
                if hand in WORDS and self.problem.get("what") == REFUSED:
                    self.clear_problem()  # they are as they were
            except Exception as error:
                self._show_knobs(self.recipe, KNOBS)  # otherwise it would be sent, and refused, with the next one
                self.show_error(REFUSED, error, "Choose another value; the picture is of the settings before.")
            self.post("settled")

    # ---- to the browser

    def _show(self, recipe: Recipe) -> None:
        """Set knobs and pads to a recipe."""
        self._show_knobs(recipe, HANDS)
        self.axes = choices(recipe)
        self.reasons = reasons(self.live, recipe)
        self.can = {"undo": self._past.can_undo, "redo": self._past.can_redo}
        self._pads.show(recipe)
        self.curve_of = self._pads.curve_of
        self._pads.gallery.current = recipe

    def _show_knobs(self, recipe: Recipe, names: Iterable[str]) -> None:
        """Set these knobs to a recipe."""
        values = knob_values(recipe)
        with self.hold_sync(), self.hold_trait_notifications():  # width and height go together
            for name in names:
                setattr(self, name, values[name])

    def _show_frame(self, frame: Frame) -> None:
        """Show a frame of the session; called in the thread of its callbacks."""
        picture = self._pads.picture
        caption = "" if frame.exact else f"step {frame.step} of {frame.count}"
        picture.show(frame.image, draft=not frame.exact, caption=caption, alt=str(frame.recipe.prompt))
        if frame.exact:
            shot = shot_of(frame, self.model)
            made = frame.count - frame.reused
            self.notes = list(frame.notes)
            self.cost = {"evaluations": made, "reused": frame.reused, "seconds": frame.age}
            self._shown = shot
            self._pads.keep(shot)
            self._resting.at(shot)

    def _show_state(self, state: State) -> None:
        """Show a state of the session; called in the thread of its callbacks."""
        before, self.progress = self.progress, progress_of(state, self.progress)
        if runs(self.progress) and not runs(before):
            self._resting.at(None)
        if state.phase == "failed":
            self._pads.picture.mark_stale("the settings have changed since")
            why = reason_of(state)
            self.show_problem(FAILED, why=why, next_step=advice(why))
        elif state.phase == "cancelled" and self._stopping:
            self._stopping = False
            self._pads.picture.mark_stale(f"cancelled at {self.progress['step']} of {self.progress['count']}")
        elif state.phase == "idle":
            self.clear_problem()

    def _look(self, shot: Shot, still: Callable[[], bool]) -> None:
        """What a picture at rest is used for, in the thread of `Resting`: the next move waits for none of it."""
        try:
            self._pads.lay_under(shot.image)
            if self.offers["obedience"] != ON_REQUEST:
                self._measure(shot)
            if self.tab == "words" and (seen := watched(self.model, shot, still)) is not None:
                self._pads.heat.show(heat_of(seen))
        except Exception as error:
            self._pads.heat.show_error("This picture cannot be looked into.", error)

    def _measure(self, shot: Shot) -> None:
        try:
            self.obedience = measured(shot)
        except Exception as error:  # a detector that is not there
            self.obedience = []  # of an earlier picture
            self.offers = {**self.offers, "obedience": ON_REQUEST}
            self.show_error("How far the picture obeys was not measured.", error, "Everything else works without.")

    def _show_progress(self, done: int, count: int) -> None:
        self.grid = {"done": done, "count": count}

    def _show_sheet(self, sweep: ctrl.Sweep) -> None:
        self._sheet = sweep
        self.say(sheet_message(sweep))
        self.grid = {"done": 0, "count": 0, "evaluations": sweep.evaluations, "saved": sweep.saved}

    def _fail(self, error: Exception) -> None:
        self.grid = {"done": 0, "count": 0}
        self.show_error("The grid was not made.", error, "Change its values, and make it again.")
