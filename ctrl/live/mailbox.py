"""One slot for the requested recipe: the latest wins, and `put` never blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ctrl.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Wish:
    """A requested recipe, the `number` of the request, counted from 1, and its time in the clock's seconds.

    `threads` is the number of torch threads to compute it in; None for the worker's own.
    """

    recipe: Recipe
    number: int
    at: float
    threads: int | None = None


class Mailbox:
    """Holds the latest wish until it is taken."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._wish: Wish | None = None
        self._dropped: Wish | None = None
        self._count, self._closed, self._stopped = 0, False, False

    def put(self, recipe: Recipe, threads: int | None = None) -> Wish | None:
        """Request a recipe; the one that was still waiting is dropped, and returned."""
        with self._changed:
            replaced, self._count, self._stopped, self._dropped = self._wish, self._count + 1, False, None
            self._wish = Wish(recipe, self._count, self._clock(), threads)
            self._changed.notify_all()
            return replaced

    def peek(self) -> Wish | None:
        """The waiting wish, if any."""
        return self._wish

    def take(self) -> Wish | None:
        """Remove the waiting wish and return it."""
        with self._changed:
            wish, self._wish = self._wish, None
            return wish

    def take_dropped(self) -> Wish | None:
        """Remove the wish that was waiting when `stop` was called and return it; None after a newer wish."""
        with self._changed:
            dropped, self._dropped = self._dropped, None
            return dropped

    @property
    def interrupts(self) -> bool:
        """Whether the current run may stop: a newer wish is waiting, or `stop` or `close` was called."""
        return self._wish is not None or self._stopped or self._closed

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def wait(self) -> bool:
        """Wait until a wish is waiting or was dropped; False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._wish is not None or self._dropped is not None or self._closed)
            return not self._closed

    @property
    def count(self) -> int:
        """The number of wishes so far, which is the `number` of the newest."""
        return self._count

    def stop(self, wish: Wish | None = None) -> None:
        """Drop the waiting wish, and interrupt the current run; given a `wish`, only if it is the newest."""
        with self._changed:
            if wish is not None and wish.number != self._count:
                return
            if self._wish is not None:
                self._dropped = self._wish
            self._wish, self._stopped = None, True
            self._changed.notify_all()

    def close(self) -> None:
        """Drop the waiting wish and end the mailbox: `wait` returns False from now on."""
        with self._changed:
            self._wish, self._closed = None, True
            self._changed.notify_all()
