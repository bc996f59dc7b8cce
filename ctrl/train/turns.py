"""Who trains when: each stage's share of the minutes that are left, written down so that a resumed run keeps to it."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Turn:
    """A stage's turn in a run of `whole` minutes: when it began and how many it was given."""

    stage: str
    whole: float
    began: float
    minutes: float


def turn(path: Path, stage: str, whole: float, passed: float, share: float) -> Turn:
    """The stage's turn as the file has it; else a new one of a share, 0 to 1, of what is left after `passed` minutes.

    So all that a run does beside training (rendering, encoding, loading, sample sheets) comes off the shares of what
    follows it, and a cosine that was begun for so many minutes ends after so many.
    """
    rows = list(csv.reader(path.read_text().splitlines())) if path.exists() else []
    for name, *numbers in rows:
        known = Turn(name, *map(float, numbers))
        if (known.stage, known.whole) == (stage, whole):
            return known
    new = Turn(stage, whole, passed, max(0.0, whole - passed) * share)
    with path.open("a", newline="") as file:
        csv.writer(file).writerow(astuple(new))
    return new
