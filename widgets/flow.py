"""Back-pressure: send frames no faster than the browser shows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

IN_FLIGHT = 2
PATIENCE = 0.4  # seconds without an acknowledgement, after which a frame no longer counts as on its way


class Numbered(Protocol):
    """An item with a unique number, which the browser sends back to acknowledge it."""

    @property
    def number(self) -> int:
        """A number that rises with every item."""
        ...


Item = TypeVar("Item", bound=Numbered)


class Flow(Generic[Item]):
    """Passes items to `send`, at most two unacknowledged; of the others only the newest waits.

    If acknowledgements cannot arrive (a kernel that handles messages between cells only), items are sent at about
    five a second. The last item offered is always sent.
    """

    def __init__(self, send: Callable[[Item], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._waiting: Item | None = None
        self._on_the_way: dict[int, float] = {}  # number: when it was sent
        self._timer: threading.Timer | None = None
        self._closed = False

    def offer(self, item: Item) -> None:
        """Send `item` now, or when fewer than two are unacknowledged, unless a newer one replaces it."""
        with self._lock:
            self._waiting = item
        self._advance()

    def acknowledge(self, number: int) -> None:
        """The browser has shown item `number`, or one that came after it."""
        with self._lock:
            self._on_the_way = {n: sent for n, sent in self._on_the_way.items() if n > number}
        self._advance()

    def drop(self) -> None:
        """Forget the item that waits."""
        with self._lock:
            self._waiting = None

    def close(self) -> None:
        """Stop sending, and end the timer."""
        with self._lock:
            self._closed, self._waiting = True, None
            if self._timer is not None:
                self._timer.cancel()

    def _advance(self) -> None:
        item = self._next()
        if item is not None:
            self._send(item)

    def _next(self) -> Item | None:
        with self._lock:
            if self._waiting is None or self._closed:
                return None
            now = time.monotonic()
            self._on_the_way = {n: sent for n, sent in self._on_the_way.items() if now - sent < PATIENCE}
            if len(self._on_the_way) >= IN_FLIGHT:
                self._wake_in(min(self._on_the_way.values()) + PATIENCE - now)
                return None
            item, self._waiting = self._waiting, None
            self._on_the_way[item.number] = now
            return item

    def _wake_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(max(seconds, 0.0), self._wake)
            self._timer.daemon = True
            self._timer.start()

    def _wake(self) -> None:
        with self._lock:
            self._timer = None
        self._advance()
