"""The measured table: its rows, as text, as JSON, and in the README between its two marks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ctrl.atelier.metrics import Estimate

BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"
_HEAD = ("measure", "value", "control absent", "control shuffled", "ceiling", "share of it", "at least", "goal")


PARTS = ("value", "absent", "shuffled", "ceiling")


@dataclass(frozen=True)
class Row:
    """One measure: its value between two floors and a ceiling. None is what the measure does not have."""

    name: str
    value: Estimate
    absent: Estimate | None = None
    shuffled: Estimate | None = None
    ceiling: Estimate | None = None
    least: float | None = None
    goal: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        found: Sequence[Estimate | None],
        *,
        least: float | None = None,
        goal: float | None = None,
    ) -> Row:
        """A row of value, both floors and ceiling in this order; what is left out is not there."""
        value, absent, shuffled, ceiling = (*found, None, None, None)[:4]
        if value is None:
            raise ValueError(f"{name} must have a value.")
        return cls(name, value, absent, shuffled, ceiling, least, goal)

    @property
    def reached(self) -> bool | None:
        """Whether the value is at least what it must be; None where nothing is asked."""
        return None if self.least is None else self.value.mean >= self.least

    @property
    def share(self) -> float | None:
        """The value by its ceiling; None without one, and of a distance, whose ceiling is below its floor."""
        if self.ceiling is None or not self.ceiling.mean > 0:
            return None
        if self.absent is not None and self.absent.mean > self.ceiling.mean:
            return None
        return self.value.mean / self.ceiling.mean

    def cells(self) -> tuple[str, ...]:
        """The row as words."""
        share = "" if self.share is None or math.isnan(self.share) else f"{self.share:.2f}"
        least, goal = ("" if bound is None else f"{bound:g}" for bound in (self.least, self.goal))
        floors = (_mean(part) for part in (self.absent, self.shuffled, self.ceiling))
        return (
            self.name,
            _whole(self.value),
            *floors,
            share,
            f"{least}, missed" if self.reached is False else least,
            goal,
        )


@dataclass(frozen=True)
class Table:
    """All that was measured in one go, and on what."""

    rows: tuple[Row, ...]
    scenes: int
    first_seed: int
    seconds: float
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str) -> Table:
        """The table that `json` wrote; null is NaN."""
        whole = json.loads(text)
        bounds = ("least", "goal")
        rows = [
            Row(row["name"], *(_estimate(row[name]) for name in PARTS), **{name: row[name] for name in bounds})
            for row in whole["rows"]
        ]
        return cls(tuple(rows), whole["scenes"], whole["first_seed"], whole["seconds"], tuple(whole["notes"]))

    def markdown(self) -> str:
        """The table in GitHub's Markdown, with the interval beside each value."""
        rows = [(f"{name}{self._fewer(row)}", *rest) for row in self.rows for name, *rest in [row.cells()]]
        lines = [_HEAD, ("---",) * len(_HEAD), *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        under = (
            f"{self.scenes} scenes from seed {_seed(self.first_seed)}; "
            "in brackets, 95 % intervals by bootstrap over scenes; "
            "a small number is how many of them a row is of, if fewer."
        )
        return "\n".join([table, "", under, *(f"{note}." for note in self.notes)])

    def _fewer(self, row: Row) -> str:
        """How many scenes a row is of, if not of all."""
        return "" if row.value.count in (self.scenes, 0) else f" <sub>{row.value.count}</sub>"

    def text(self) -> str:
        """The table for a terminal."""
        lines = [_HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
        drawn = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*drawn, *(f"note: {note}" for note in self.notes)])

    def json(self) -> str:
        """Everything, with null where there is no number."""
        whole = asdict(self)
        for row, drawn in zip(whole["rows"], self.rows, strict=True):
            row |= {"share": drawn.share, "reached": drawn.reached}
        return json.dumps(_finite(whole), indent=2) + "\n"


def rewrite(readme: Path, table: Table) -> None:
    """Put the table between the README's marks; a ValueError if they are not there."""
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme.name} must have the marks {BEGIN} and {END} once each, in this order.")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table.markdown()}\n{END}{after}", encoding="utf-8")


def _estimate(found: dict[str, Any] | None) -> Any:
    if found is None:
        return None
    numbers: dict[str, Any] = {name: math.nan if value is None else value for name, value in found.items()}
    return Estimate(**numbers)


def _whole(value: Estimate) -> str:
    return "not measured" if math.isnan(value.mean) else str(value)


def _mean(value: Estimate | None) -> str:
    return "" if value is None or math.isnan(value.mean) else f"{value.mean:.2f}"


def _seed(seed: int) -> str:
    return "2^40" if seed == 2**40 else str(seed)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
