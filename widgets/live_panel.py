"""`LivePanel`: the base of panels whose knobs change one recipe, beside the picture that follows it."""

from __future__ import annotations

import html
import threading
from abc import ABCMeta, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from widgets.frame import FrameView  # first: without anywidget it says how to install what is missing
from widgets.leaf import Leaf, free, traitlets

import ipywidgets  # isort: skip

import ctrl
from widgets.cells import retire_older
from widgets.finished import HISTORY, finished, shot_of, snapshot
from widgets.foreground import front_end, notice
from widgets.knobs import Knob, size
from widgets.offers import advice
from widgets.progress import FAILED, REFUSED, reason_of

if TYPE_CHECKING:
    from ctrl.live import Frame, State
    from widgets.export import Snapshot

BESIDE = {"display": "flex", "flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "12px"}
PART = {"flex": "1 1 320px", "min_width": "280px", "max_width": "560px"}


class _Abstract(traitlets.MetaHasTraits, ABCMeta):
    """The type of widgets with abstract methods: a class that lacks one of them cannot be made into a widget."""


class LivePanel(ipywidgets.Box, metaclass=_Abstract):  # type: ignore[misc]  # ipywidgets has no types
    """Knobs of one recipe, beside the picture that follows them. A subclass says which knobs, in `knobs`.

    Previews are marked as drafts; the picture at rest is exact, bit-equal to `ctrl.sample(model, panel.recipe).image`.
    Knobs act while a cell runs. `live` is the session, `view` the frame; each is usable alone, and the panel is a box
    to put into others. `close()` ends the session, its thread and every widget; a cell that is run again closes the
    panels it made before.

    Args:
        model: makes the pictures.
        recipe: where to begin.
        live: further arguments of `ctrl.Live`, such as `settings` and `tiny_vae`.
    """

    live: ctrl.Live
    children: tuple[Any, ...]
    _open = False

    def __init__(self, model: ctrl.Model, recipe: ctrl.Recipe, **live: Any) -> None:
        if not isinstance(model, ctrl.Model):
            raise TypeError(f"model must be a Model, got {type(model).__name__}; ctrl.load() makes one.")
        super().__init__(layout=BESIDE)
        self.model, self.view, self.status = model, FrameView(alt=str(getattr(recipe, "prompt", ""))), ipywidgets.HTML()
        self._lock, self._shots, self._note = threading.Lock(), deque[ctrl.Shot](maxlen=HISTORY), ""
        self._knobs: tuple[Knob, ...] = ()
        self._notice = ipywidgets.HTML(html.escape(notice()))  # what this front end cannot do
        self._stop = ipywidgets.Button(
            description="stop", tooltip="Stop and keep the last frame", layout={"width": "7em"}
        )
        self._stop.on_click(lambda _button: self.live.cancel())
        for widget in (self.status, self._stop):
            free(widget)
        self._front = front_end()
        relay = self._front.relay
        try:
            self.live = ctrl.Live(model, self._take(recipe), relay(self._show_frame), relay(self._show_state), **live)
        except BaseException:
            self._close_widgets()
            super().close()
            raise
        self._open = True
        retire_older(self)
        self._front.follow(self.live)

    @abstractmethod
    def knobs(self, recipe: ctrl.Recipe) -> Iterable[Knob]:
        """The knobs of a recipe, in their order; a row that is a leaf gets a column of its own."""

    def prepare(self, recipe: ctrl.Recipe) -> ctrl.Recipe:
        """The recipe with the parts that the knobs need."""
        return recipe

    @property
    def recipe(self) -> ctrl.Recipe:
        """The recipe that the knobs show."""
        return self.live.recipe

    @property
    def shot(self) -> ctrl.Shot:
        """The finished picture of `recipe`; waits until it is made. A RuntimeError if it was stopped."""
        return finished(self.live)

    @property
    def history(self) -> tuple[ctrl.Shot, ...]:
        """The last finished pictures, the newest last."""
        return tuple(self._shots)

    def update(self, recipe: ctrl.Recipe) -> None:
        """Show another recipe, such as `panel.recipe.replace(prompt="a fox")`. The knobs are made again."""
        self.live.update(self._take(recipe))
        self._front.follow(self.live)

    def snapshot(self, *, interactive: bool = False) -> Snapshot:
        """The finished picture, as the value of a cell that stays in the notebook for a reader without a kernel.

        `interactive` is a page with the pictures so far, their recipes and comparison, which works without a kernel.
        """
        return snapshot(self.shot, reversed(self.history), interactive=interactive)

    def close(self) -> None:
        """End the live session and its thread, and close every widget of the panel."""
        if self._open:
            self._open = False
            self.live.close()
            self._close_widgets()
        super().close()

    def _close_widgets(self) -> None:
        for widget in (*_inside(self), self.view, self.status, self._stop, *_inside(self._notice), self._notice):
            widget.close()

    def _take(self, recipe: ctrl.Recipe) -> ctrl.Recipe:
        """Make the knobs of a recipe; returns the recipe that they show."""
        if not isinstance(recipe, ctrl.Recipe):
            raise TypeError(f"recipe must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")
        given = self.prepare(recipe)
        knobs = tuple(self.knobs(given))
        with self._lock:
            old, self._given, self._knobs = self._knobs, given, knobs
            self._values = [knob.value() for knob in knobs]
            wanted = self._meant(self._values)
        self._show_knobs(knobs, old)
        return wanted

    def _show_knobs(self, new: Sequence[Knob], old: Sequence[Knob]) -> None:
        """Show all knobs, some of which are new, and close those of the old ones that are gone."""
        for knob in new:
            knob.observe(self._moved)
            for widget in knob.widgets:
                free(widget)
        boxes = self._lay_out([knob.row for knob in self._knobs]) if new else []
        gone = [knob.row for knob in old if knob not in self._knobs]
        for widget in (*(one for row in gone for one in (*_inside(row), row)), *boxes):
            widget.close()

    def _lay_out(self, rows: list[Any]) -> list[Any]:
        """Show the knobs beside the picture, or below it where a leaf has a column; returns those shown before."""
        for row in rows:
            if isinstance(row, Leaf):
                size(row, PART)
        leaves = [row for row in rows if isinstance(row, Leaf)]
        hands = [row for row in rows if not isinstance(row, Leaf)]
        old = [box for box in self.children if isinstance(box, ipywidgets.VBox)]
        below = [*hands, self._stop, self.status, *([self._notice] if self._notice.value else [])]
        if leaves:
            self.children = (*leaves, ipywidgets.VBox([self.view, *below], layout=PART))
        else:
            size(self.view, PART)
            self.children = (self.view, ipywidgets.VBox(below, layout=PART))
        return [widget for box in old for widget in (box.layout, box)]

    def _moved(self, _change: object) -> None:
        """A knob was moved, in any thread: request the recipe that all knobs show."""
        with self._lock:
            try:
                values = [knob.value() for knob in self._knobs]
                if values != self._values:  # a curve tells of each of its traits
                    self.live.update(self._meant(values))
                    self._values = values
                    self._front.follow(self.live)
            except (ValueError, TypeError, RuntimeError) as error:
                self.view.show_error(REFUSED, error, "Choose another value; the picture is of the settings before.")
                return
            if self._refused:
                self.view.clear_problem()
            old, self._knobs = self._knobs, tuple(knob.another() or knob for knob in self._knobs)
            for knob in self._knobs:
                knob.follow(self.live.recipe)
            self._show_knobs([knob for knob in self._knobs if knob not in old], old)

    def _meant(self, values: list[Any]) -> ctrl.Recipe:
        """The recipe that the knobs show at these values."""
        pairs = list(zip(self._knobs, values, strict=True))
        self._note = " ".join(filter(None, (knob.note(value) for knob, value in pairs)))
        return reduce(lambda made, pair: pair[0].apply(made, pair[1]), pairs, self._given)

    def _show_frame(self, frame: Frame) -> None:
        words = f"step {frame.step} of {frame.count}" if not frame.exact else f"{frame.age:.1f} s after the move"
        self.view.show(
            frame.image, draft=not frame.exact, caption="; ".join([words, *frame.notes]), alt=str(frame.recipe.prompt)
        )
        if frame.exact:
            self._shots.append(shot_of(frame, self.model))

    def _show_state(self, state: State) -> None:
        if state.phase == "failed":
            why = reason_of(state)
            self.view.mark_stale("the settings have changed since")
            self.view.show_problem(FAILED, why=why, next_step=advice(why))
            self._say("failed")
        elif state.phase in ("drafting", "running"):
            speed = f", {state.evaluations:.1f} it/s, {state.seconds_left:.1f} s left" if state.evaluations else ""
            self._say(f"{state.phase}: step {state.step} of {state.count}{speed}")
        else:
            if not self._refused:  # that stays until the knobs show what can be made
                self.view.clear_problem()
            self._say(" ".join(filter(None, [state.message or state.phase, self._note])), role="status")

    @property
    def _refused(self) -> bool:
        return bool(self.view.problem.get("what") == REFUSED)

    def _say(self, text: str, role: str = "") -> None:
        """Show a line of plain text; with a role, a screen reader reads it out."""
        marked = f' role="{role}"' if role else ""
        self.status.value = f"<div{marked}>{html.escape(text)}</div>"


def _inside(box: Any) -> list[Any]:
    """Every widget inside a box, with its layout and style."""
    children = [inner for child in getattr(box, "children", ()) for inner in (*_inside(child), child)]
    return [*children, *(getattr(box, name) for name in ("layout", "style") if hasattr(box, name))]
