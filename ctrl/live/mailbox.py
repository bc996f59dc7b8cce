"""One slot for the recipe that is wanted: the latest wins, and nobody waits to put one in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ctrl.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Wish:
    """A recipe that was asked for, the `number` of the request, counted from 1, and when, in the clock's seconds."""

    recipe: Recipe
    number: int
    at: float


class Mailbox:
    """Holds the latest wish until it is taken."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._wish: Wish | None = None
        self._count, self._closed, self._stopped = 0, False, False

    def put(self, recipe: Recipe) -> Wish:
        """Ask for a recipe; one that still waited is forgotten."""
        with self._changed:
            self._count, self._stopped = self._count + 1, False
            self._wish = Wish(recipe, self._count, self._clock())
            self._changed.notify_all()
            return self._wish

    def peek(self) -> Wish | None:
        """The wish that waits, if any."""
        return self._wish

    def take(self) -> Wish | None:
        """The wish that waits, which is then gone."""
        with self._changed:
            wish, self._wish = self._wish, None
            return wish

    @property
    def interrupts(self) -> bool:
        """Whether what is being made may stop: something newer is wanted, or nothing."""
        return self._wish is not None or self._stopped or self._closed

    @property
    def closed(self) -> bool:
        """Whether nothing more will be taken."""
        return self._closed

    def wait(self) -> bool:
        """Wait until there is a wish; False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._wish is not None or self._closed)
            return not self._closed

    def stop(self) -> None:
        """Want nothing until the next wish."""
        with self._changed:
            self._wish, self._stopped = None, True

    def close(self) -> None:
        """Wake whoever waits, for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
