"""Checks of what maps are asked with: each error is one sentence."""

from __future__ import annotations

from numbers import Integral, Real


def whole(name: str, given: object, unit: str) -> None:
    """Refuse, by a ValueError, what is no whole number from 1 of some unit."""
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise ValueError(f"{name} must be a whole number of {unit}, 1 or more, got {given!r:.60}.")


def part(name: str, given: object, most: str) -> None:
    """Refuse, by a TypeError or ValueError, what is no number from 0 to 1, which is `most`."""
    says = f"{name} must be a number from 0 to 1, which is {most}, got {given!r:.60}."
    if isinstance(given, bool) or not isinstance(given, Real):
        raise TypeError(says)
    if not 0 <= float(given) <= 1:
        raise ValueError(says)


def largest(name: str, given: object) -> None:
    """Refuse, by a TypeError or ValueError, what is no number above 0 to scale the colours of a map by."""
    says = f"{name} must be a number above 0, the value drawn at the end of the colours, or None; got {given!r:.60}."
    if isinstance(given, bool) or not isinstance(given, Real):
        raise TypeError(says)
    if not 0 < float(given) < float("inf"):
        raise ValueError(says)
