"""How many a second, of the last few."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

LAST = 8


class Rate:
    """Counts events by a clock in seconds; pauses are left out by `begin`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._before = clock, clock()
        self._spans: deque[float] = deque(maxlen=LAST)

    def begin(self) -> None:
        """What passed until now is no part of an event."""
        self._before = self._clock()

    def tick(self) -> None:
        """An event has happened."""
        now = self._clock()
        self._spans.append(now - self._before)
        self._before = now

    @property
    def seconds(self) -> float:
        """The mean time of an event; 0 before the first."""
        return sum(self._spans) / len(self._spans) if self._spans else 0.0

    @property
    def per_second(self) -> float:
        """Events a second; 0 before the first."""
        return 1 / self.seconds if self.seconds > 0 else 0.0
