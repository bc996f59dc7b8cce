"""How a live session shows and spends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Choices of a live session.

    - `previews`: the least time in seconds between two previews, None for none.
    - `draft_after`: a draft by the LCM-LoRA comes first where the exact picture would take longer than so many seconds;
      None for no drafts.
    - `fill`: while idle, how many neighbours of the value that was last moved are made ahead.
    - `memory`: bytes that are kept from one picture to the next.
    """

    previews: float | None = 0.1
    draft_after: float | None = None
    fill: int = 0
    memory: int = 64 << 20

    def __post_init__(self) -> None:
        for name in ("previews", "draft_after"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise ValueError(f"{name} must be a number of seconds, 0 or more, or None, got {value!r:.60}.")
        for name in ("fill", "memory"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number, 0 or more, got {value!r:.60}.")
