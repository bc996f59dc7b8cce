"""Undo and redo of recipes."""

from __future__ import annotations

import time
from collections.abc import Callable

from ctrl import Recipe

GESTURE = 1.0  # seconds; changes of one kind that follow one another sooner are one step back
LENGTH = 200


class Past:
    """The recipes so far. Changes by one knob or pad without a pause, such as a drag, are undone together."""

    def __init__(self, first: Recipe, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: list[Recipe] = []
        self._after: list[Recipe] = []
        self._now, self._by, self._at = first, "", clock()

    @property
    def now(self) -> Recipe:
        """The recipe shown now."""
        return self._now

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier recipe."""
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        """Whether a recipe was undone."""
        return bool(self._after)

    def push(self, recipe: Recipe, by: str) -> None:
        """Add a recipe that was changed `by` a knob or pad of this name."""
        now = self._clock()
        if not (by and by == self._by and now - self._at < GESTURE):
            self._before = [*self._before, self._now][-LENGTH:]
        self._now, self._by, self._at, self._after = recipe, by, now, []

    def undo(self) -> Recipe:
        """Go back to the recipe before, if there is one; returns the recipe shown now."""
        return self._step(self._before, self._after)

    def redo(self) -> Recipe:
        """Go forward to the recipe undone last, if there is one; returns the recipe shown now."""
        return self._step(self._after, self._before)

    def _step(self, source: list[Recipe], other: list[Recipe]) -> Recipe:
        if source:
            other.append(self._now)
            self._now, self._by = source.pop(), ""
        return self._now
