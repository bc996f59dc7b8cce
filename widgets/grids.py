"""A sweep made by a panel: its axes are typed, a thread makes the pictures, and they become one sheet to click on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import ctrl
from ctrl import Guidance, Recipe, Sweep, threads
from widgets import settings
from widgets.encode import png
from widgets.leaf import Message

if TYPE_CHECKING:
    from ctrl import Model

TEXTS = ("prompt", "negative")  # axes whose values hold commas, so that they are separated by |
WHOLE = ("seed", "steps")
Axes = dict[str | tuple[str, ...], list[Any]]
MOST = 64  # pictures of one grid
WEIGHTS = "0, 0.5, 1"


def choices(recipe: Recipe) -> list[Any]:
    """What a grid can change in a recipe: a path, its name in the panel, and values to begin with."""
    guidance = "guidance.weight" if isinstance(recipe.guidance, Guidance) else "guidance"  # its other fields stay
    weights = [(f"{row['name']}.weight", f"{row['label']} weight", WEIGHTS) for row in settings.rows(recipe)[1:]]
    styles = [(f"styles[{at}].weight", f"style {at + 1} weight", WEIGHTS) for at in range(len(recipe.styles))]
    return [
        (guidance, "guidance", "3, 6, 9"),
        ("seed", "seed", "0-2"),
        ("steps", "steps", "10, 20, 40"),
        *((name, name, settings.scalar(recipe, name)) for name in ("sampler", "spacing", *TEXTS)),
        *([] if recipe.image is None else [("strength", "change", "0.3, 0.6, 0.9")]),
        *weights,
        *styles,
    ]


def axis(path: str, text: str) -> list[Any]:
    """The values of an axis: numbers and names by commas, prompts by |, whole numbers also as 1-4."""
    parts = [part.strip() for part in text.split("|" if path in TEXTS else ",") if part.strip()]
    if not parts:
        raise ValueError(
            f"the axis {path} has no values; write some, such as {'3, 6, 9' if path != 'seed' else '0-3'}."
        )
    if path in (*TEXTS, "sampler", "spacing"):
        return parts
    return [value for part in parts for value in _numbers(path, part)]


def _numbers(path: str, part: str) -> Sequence[float | int]:
    first, dash, last = part.partition("-")
    try:
        if path in WHOLE and dash and first:
            return range(int(first), int(last) + 1)
        return [int(part) if path in WHOLE else float(part)]
    except ValueError:
        raise ValueError(f"the axis {path} takes numbers, and {part!r:.40} is none; write 3, 6, 9.") from None


class Stopped(Exception):  # no error: it ends a sweep between two steps
    """The sweep was stopped."""


class Grid:
    """Makes one sweep at a time. Its thread calls `progress(done, count)`, then `show(sweep)` or `fail(error)`."""

    def __init__(
        self,
        model: Model,
        progress: Callable[[int, int], None],
        show: Callable[[Sweep], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._model, self._progress, self._show, self._fail = model, progress, show, fail
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def begin(self, recipe: Recipe, typed: Iterable[tuple[str, str]]) -> None:
        """Start a sweep along paths, with their values as typed, and stop the one before; an error is shown."""
        try:
            self._begin(recipe, {path: axis(path, text) for path, text in typed})
        except ValueError as error:
            self._fail(error)

    def _begin(self, recipe: Recipe, axes: Axes) -> None:
        count = 1
        for values in axes.values():
            count *= len(values)
        if count > MOST:
            raise ValueError(f"these axes make {count} pictures; a panel makes {MOST} at most, ctrl.sweep any number.")
        self.stop()
        before, self._stop = self._thread, threading.Event()
        arguments = (recipe, axes, self._stop, count, before)
        self._thread = threads.start(self._make, *arguments, name="ctrl.Studio grid", stop=self.stop)

    def stop(self) -> None:
        """End the sweep after the step that is being made."""
        self._stop.set()

    def close(self) -> None:
        """End the sweep, and return when its thread has ended."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _make(
        self,
        recipe: Recipe,
        axes: Axes,
        stop: threading.Event,
        count: int,
        before: threading.Thread | None,
    ) -> None:
        def count_shot(_shot: ctrl.Shot | None, done: int, of: int) -> None:
            go_on()
            self._progress(done, of)

        def go_on(_step: ctrl.Step | None = None) -> None:
            if stop.is_set():
                raise Stopped

        if before is not None:
            before.join()
        try:
            count_shot(None, 0, count)
            sweep = ctrl.sweep(self._model, recipe, axes, on_shot=count_shot, on_step=go_on, progress=False)
            self._show(sweep)
        except Exception as error:
            if stop.is_set():  # `Stopped`, or `Unfinished` because of it
                self._progress(0, 0)
            else:
                self._fail(error)


def sheet_message(sweep: Sweep) -> Message:
    """The sheet of a sweep, for the browser, with the values and the place of each picture in it."""
    sheet, places = sweep.sheet, itertools.product(*(range(len(axis)) for axis in sweep.axes))
    names = [", ".join(axis.label(at) for axis, at in zip(sweep.axes, place, strict=True)) for place in places]
    cells = [{"name": name, "box": box} for name, box in zip(names, sweep.boxes, strict=True)]
    return Message("sheet", {"width": sheet.width, "height": sheet.height, "cells": cells}, (png(sheet),))
