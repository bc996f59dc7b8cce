"""`GuidancePanel`: from a slider to a picture."""

from __future__ import annotations

import html
import threading
from functools import reduce
from typing import TYPE_CHECKING, Any

from widgets.frame import FrameView  # first: without anywidget it says how to install what is missing
from widgets.leaf import free

import ipywidgets  # isort: skip

import ctrl
from widgets.knobs import knobs

if TYPE_CHECKING:
    from ctrl.live import Frame, State

BESIDE = {"display": "flex", "flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "12px"}
HALF = {"flex": "1 1 320px", "min_width": "280px", "max_width": "560px"}


class GuidancePanel(ipywidgets.Box):  # type: ignore[misc]  # ipywidgets has no types
    """A recipe's numbers under sliders, beside the picture that follows them.

    Args:
        model: what makes the pictures.
        recipe: where to begin. Its guidance, the weights of its controls, styles, regions and LoRAs, its steps and its
            seed can be moved; a weight that is a `Schedule` is a curve. A switch turns a part off and keeps its weight.
        live: further arguments of `ctrl.Live`, such as `settings` and `tiny_vae`.

    Previews are marked as drafts; the picture at rest is exact, bit-equal to `ctrl.sample(model, panel.recipe).image`.
    Sliders act while a cell runs. `live` is the session, `view` the frame. `close()` ends both, and the thread.

    >>> panel = GuidancePanel(ctrl.load(), ctrl.Recipe("a figure waving"))    # doctest: +SKIP
    >>> panel.live.wait().image                                               # doctest: +SKIP
    """

    _open = False

    def __init__(self, model: ctrl.Model, recipe: ctrl.Recipe, **live: Any) -> None:
        self.view, self.status = FrameView(alt=getattr(recipe, "prompt", "")), ipywidgets.HTML()
        self.live = ctrl.Live(model, recipe, self._show_frame, self._show_state, **live)
        self._given, self._knobs, self._lock = recipe, tuple(knobs(recipe)), threading.Lock()
        self._values = [knob.value() for knob in self._knobs]
        stop = ipywidgets.Button(description="stop", tooltip="Stop and keep the last frame", layout={"width": "7em"})
        stop.on_click(lambda _button: self.live.cancel())
        for knob in self._knobs:
            knob.observe(self._moved)
        hands = ipywidgets.VBox([*(knob.row for knob in self._knobs), stop, self.status], layout=HALF)
        self.view.layout = HALF
        super().__init__([self.view, hands], layout=BESIDE)
        for widget in (self.status, stop, *(one for knob in self._knobs for one in knob.widgets)):
            free(widget)
        self._open = True

    @property
    def recipe(self) -> ctrl.Recipe:
        """The recipe as it stands under the sliders."""
        return self.live.recipe

    def close(self) -> None:
        """End the live session and its thread, and close every widget of the panel."""
        if self._open:
            self._open = False
            self.live.close()
            for widget in _inside(self):
                widget.close()
        super().close()

    def _moved(self, _change: object) -> None:
        """A slider was moved, in whatever thread: ask for the recipe that they all stand for."""
        with self._lock:
            values = [knob.value() for knob in self._knobs]
            if values == self._values:
                return  # a curve tells of each of its traits
            try:
                recipe = reduce(
                    lambda made, pair: pair[0].apply(made, pair[1]), zip(self._knobs, values, strict=True), self._given
                )
                self.live.update(recipe)
            except (ValueError, RuntimeError) as error:
                self._say(str(error), role="alert")
            else:
                self._values = values

    def _show_frame(self, frame: Frame) -> None:
        words = f"step {frame.step} of {frame.count}" if not frame.exact else f"{frame.age:.1f} s after the move"
        self.view.show(
            frame.image, draft=not frame.exact, caption="; ".join([words, *frame.notes]), alt=frame.recipe.prompt
        )

    def _show_state(self, state: State) -> None:
        if state.phase == "failed":
            self.view.mark_stale("The settings have changed since.")
            self._say(state.message, role="alert")
        elif state.phase in ("drafting", "running"):
            speed = f", {state.evaluations:.1f} it/s, {state.seconds_left:.1f} s left" if state.evaluations else ""
            self._say(f"{state.phase}: step {state.step} of {state.count}{speed}")
        else:
            self._say(state.message or state.phase, role="status")

    def _say(self, text: str, role: str = "") -> None:
        """Show a line of plain text; with a role, a screen reader reads it out."""
        marked = f' role="{role}"' if role else ""
        self.status.value = f"<div{marked}>{html.escape(text)}</div>"


def _inside(box: Any) -> list[Any]:
    """Every widget inside a box, with its layout and style."""
    children = [inner for child in getattr(box, "children", ()) for inner in (*_inside(child), child)]
    return [*children, *(getattr(box, name) for name in ("layout", "style") if hasattr(box, name))]
