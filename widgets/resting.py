"""What a panel finds out while its picture is at rest: the attention behind it, and how far it follows its controls.

One thread, one question at a time; a newer one, or a panel that moves again, ends the older between two steps.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import ctrl
from ctrl import Shot, Watch, threads

if TYPE_CHECKING:
    from ctrl import Model

WATCH = Watch(history=True, influence=True)
PAUSE = 0.25  # seconds of rest before anything is begun


class Resting:
    """Calls `work(shot, still)` in its own thread for each finished shot; `still()` says whether it is the last."""

    def __init__(self, work: Callable[[Shot, Callable[[], bool]], None], name: str) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._wanted: Shot | None = None
        self._number = 0
        self._closed = False
        self._thread = threads.start(self._run, name=name, stop=self._end)

    def at(self, shot: Shot | None) -> None:
        """A picture is finished; None: the next one has begun."""
        with self._changed:
            self._number += 1
            self._wanted = shot
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        self._end()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            self._number += 1
            self._changed.notify()

    def _run(self) -> None:
        while (found := self._next()) is not None:
            shot, number = found
            self._work(shot, partial(self._is_last, number))

    def _is_last(self, number: int) -> bool:
        """Whether no shot came after this number."""
        return number == self._number

    def _next(self) -> tuple[Shot, int] | None:
        with self._changed:
            while not self._closed:
                if self._wanted is None:
                    self._changed.wait()
                elif not self._changed.wait(PAUSE):  # nothing came meanwhile
                    shot, self._wanted = self._wanted, None
                    return shot, self._number
            return None


def watched(model: Model, shot: Shot, still: Callable[[], bool]) -> Shot | None:
    """The shot with its attention, which may need the run again; None if that was superseded."""
    if shot.attention is not None:
        return shot
    last = None
    for step in ctrl.steps(model, shot.recipe, watch=WATCH):
        if not still():
            return None
        last = step
    look = None if last is None else last.look
    return None if look is None else replace(shot, attention=look(shot.image))


def measured(shot: Shot) -> list[dict[str, object]]:
    """How far a shot follows each part, for the browser. Warnings are left to `obeys` called by hand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = shot.obeys()
    return [{"name": one.name, "measure": one.measure, "value": one.value, "reason": one.reason} for one in found]
