"""Receipts: what a map was made from, and whether to believe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctrl.maps.texts import Text


@dataclass(frozen=True)
class Receipt:
    """What was seen of a run.

    - `seen`: how many calls of each site were watched; `missed`: why each other cross-attention was not.
    - `steps`: the evaluations watched, of `count`; `rows`: what the rows of the U-Net's batch were.
    - `texts`: the texts with their tokens, by source.
    - `error`: the largest difference between shares times values and what the network computed, relative to the
      largest number there; `checked`: the sites at which this was done; `tolerance`: what the number format allows.
    - `bytes`: what the watch held.
    """

    seen: Mapping[str, int]
    missed: Mapping[str, str]
    steps: tuple[int, ...]
    count: int
    rows: tuple[str, ...]
    texts: Mapping[str, Text]
    error: float | None
    checked: tuple[str, ...]
    tolerance: float | None
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether the maps rebuild the network's own output."""
        return self.error is not None and self.tolerance is not None and self.error <= self.tolerance

    @property
    def read_steps(self) -> str:
        """The steps that were read, for a sentence, and how to read all where some were not."""
        some = len(self.steps) < self.count
        return f"the {len(self.steps)} of {self.count} steps that were read" + "; Watch(every=1) reads all" * some

    def insist(self) -> None:
        """Refuse, by a RuntimeError, to show maps that fail their check."""
        if self.error is None:
            why = ", ".join(dict.fromkeys(self.missed.values())) or "none"
            raise RuntimeError(
                f"no cross-attention was read, so there are no maps (layers left out: {why}); give ctrl.Watch other "
                "layers, sizes, heads or steps."
            )
        if not self.ok:
            raise RuntimeError(
                f"the maps fail their check: shares times values differ from the network's output by {self.error:.2g} "
                f"of its largest number at {self.checked[0]}, and {self.tolerance:.2g} is allowed. Something else "
                "changes this model's attention; watch it with its default attention processors."
            )

    def __str__(self) -> str:
        sites = f"{len(self.seen)} of {len(self.seen) + len(self.missed)} cross-attention layers"
        steps = f"{len(self.steps)} of {self.count} steps"
        read = f"read at {sites} in {steps}, predictions {' and '.join(self.rows)}, {self.bytes / 1e6:.2f} MB"
        if self.error is None:
            return f"{read}; not checked"
        return f"{read}; check {'passed' if self.ok else 'failed'}: the output is rebuilt to within {self.error:.1e}"
