"""Warnings at the line of whoever called a detector."""

from __future__ import annotations

import sys
import warnings


def warn_user(sentence: str) -> None:
    """Warn at the nearest line outside this room."""
    level = 1
    while sys._getframe(level).f_globals.get("__name__", "").startswith(__package__ or ""):
        level += 1
    warnings.warn(sentence, stacklevel=level + 1)
