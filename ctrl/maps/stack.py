"""All maps of a run in one array, for a viewer that chooses words, layers and steps itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ctrl.maps.refine import resized
from ctrl.maps.sums import Array

if TYPE_CHECKING:
    from ctrl.maps.attention import Attention
    from ctrl.maps.heat import HeatMap

SIDE = 32  # cells of the longer side


@dataclass(frozen=True)
class Entry:
    """One row of a stack: a word with its letters in the text of its `source`, or a reference picture of a style."""

    text: str
    start: int
    end: int
    source: str
    picture: int | None = None


@dataclass(frozen=True, eq=False)
class Stack:
    """Shares of attention, float32 (layers, steps, entries, h, w), of at most 32 cells along the longer side.

    `steps` are numbers of evaluations, or empty where no history was kept: then the one step is the mean of all.
    """

    entries: tuple[Entry, ...]
    layers: tuple[str, ...]
    steps: tuple[int, ...]
    shares: Array = field(repr=False)

    @staticmethod
    def of(attention: Attention) -> Stack:
        """Of every word of every text, and every style picture; a ValueError says that there is none."""
        layers, steps = attention.layers(), tuple(sorted(attention.history))
        entries = tuple(_entries(attention))
        if not entries:
            raise ValueError(
                f"the prompt {attention.text().text!r:.60} has no word with a map: there is nothing to show."
            )
        maps = [[_asked(attention, entry, layer) for entry in entries] for layer in layers]
        shares = np.stack([_by_step(row, steps) for row in maps])  # (layers, steps, entries, h, w)
        height, width = attention.cells
        scale = min(1.0, SIDE / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        small = resized(shares.reshape(-1, height, width), *size)
        return Stack(entries, layers, steps, small.reshape(*shares.shape[:3], *size))


def _entries(attention: Attention) -> list[Entry]:
    entries = []
    for source in attention.sources:
        if source.startswith("style "):
            pictures = attention.styles[source]
            entries += [Entry(_name(source, at, pictures), 0, 0, source, at) for at in range(pictures)]
        else:
            entries += [Entry(word.text, word.start, word.end, source) for word in attention.words(source)]
    return entries


def _name(source: str, picture: int, pictures: int) -> str:
    return source if pictures == 1 else f"{source}, picture {picture}"


def _asked(attention: Attention, entry: Entry, layer: str) -> HeatMap:
    if entry.picture is not None:
        return attention.style(int(entry.source.split()[1]), entry.picture, layers=layer)
    text = attention.text(entry.source)
    occurrence = next(word.occurrence for word in text.words if word.start == entry.start)
    return attention.map(entry.text, occurrence=occurrence, source=entry.source, layers=layer)


def _by_step(maps: Sequence[HeatMap], steps: Sequence[int]) -> Array:
    """(steps, entries, h, w); 0 at a step at which an entry had no map."""
    if not steps:
        return np.stack([one.heat for one in maps])[None]
    return np.stack([np.stack([one.steps.get(step, np.zeros_like(one.heat)) for one in maps]) for step in steps])
