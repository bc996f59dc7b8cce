"""The settings of a live session."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Choices of a live session.

    - `previews`: the shortest time in seconds between two previews of a run; None for no previews. The first comes at
      once. A browser on the same cores takes time to draw each, which delays the finished picture.
    - `draft_after`: a draft by the LCM-LoRA is made first where the exact picture would take longer than this many
      seconds; None for no drafts.
    - `fill`: how many neighbours of the value moved last are made ahead while the session is idle.
    - `memory`: the bytes that may be kept from one picture to the next.
    """

    previews: float | None = 0.3
    draft_after: float | None = None
    fill: int = 0
    memory: int = 64 << 20

    @staticmethod
    def of(given: object) -> Settings:
        """The settings given, the usual ones for None; a TypeError for anything else."""
        if given is None:
            return Settings()
        if not isinstance(given, Settings):
            raise TypeError(f"settings must be ctrl.live.Settings, got {given!r:.60}; write Settings(previews=None).")
        return given

    def __post_init__(self) -> None:
        for name in ("previews", "draft_after"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise ValueError(f"{name} must be a number of seconds, 0 or more, or None, got {value!r:.60}.")
        for name in ("fill", "memory"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number, 0 or more, got {value!r:.60}.")
