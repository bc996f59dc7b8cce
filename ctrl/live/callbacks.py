"""A thread that calls the callbacks of a live session, so that a slow one holds up no run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ctrl import threads
from ctrl.live.frame import Frame, State
from ctrl.live.mailbox import Wish


@dataclass(frozen=True, eq=False)
class Event:
    """A frame or a state of a wish, and the error that it failed with."""

    what: Frame | State
    wish: Wish
    error: Exception | None = None


class Callbacks:
    """Calls `handle` with one event after another, from its own thread, and `ended` after the last one.

    Few events wait while `handle` is busy, however many are made: the newest exact frame, the newest other frame
    after it, and the newest state of each phase.
    """

    def __init__(self, handle: Callable[[Event], None], ended: Callable[[], None]) -> None:
        self._handle, self._ended = handle, ended
        self._changed = threading.Condition()
        self._waiting: list[Event] = []
        self._last = False
        self.thread = threads.start(self._work, name="ctrl.Live callbacks")  # it ends after the session's other thread

    def put(self, event: Event) -> None:
        """Append an event; returns at once."""
        with self._changed:
            self._waiting = [one for one in self._waiting if not _outdates(event.what, one.what)] + [event]
            self._changed.notify()

    def end(self) -> None:
        """Accept no more events; those that wait are still handled. Returns at once."""
        with self._changed:
            self._last = True
            self._changed.notify()

    def _work(self) -> None:
        try:
            while (event := self._next()) is not None:
                self._handle(event)
        finally:  # even after a SystemExit from a callback
            self._ended()

    def _next(self) -> Event | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._last)
            return self._waiting.pop(0) if self._waiting else None


def _outdates(new: Frame | State, old: Frame | State) -> bool:
    """Whether the new one makes the old one useless."""
    if isinstance(new, State):
        return isinstance(old, State) and old.phase == new.phase
    return isinstance(old, Frame) and (new.exact or not old.exact)
