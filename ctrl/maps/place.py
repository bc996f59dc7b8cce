"""A place asked: its words, and where it attends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrl.images import Picture
from ctrl.maps.sums import Array
from ctrl.maps.texts import Word

if TYPE_CHECKING:
    from ctrl.maps.heat import HeatMap


@dataclass(frozen=True, eq=False)
class Place:
    """What a place of the picture attends to.

    `words` are ranked by the share of attention that the place gives them; `attends` is the map of the places it
    attends to, None where self-attention was not kept. `mask` is (H, W) in [0, 1].
    """

    mask: Array = field(repr=False)
    words: tuple[tuple[Word, float], ...]
    attends: HeatMap | None = None

    def __str__(self) -> str:
        return ", ".join(f"{word.text} {share:.1%}" for word, share in self.words)


def mask_of(place: Any, size: tuple[int, int]) -> Array:
    """(H, W) in [0, 1] of a point, a box or a mask, for a picture of (width, height)."""
    width, height = size
    if isinstance(place, tuple | list) and len(place) in (2, 4) and all(isinstance(one, int | float) for one in place):
        left, top, right, bottom = (*place, place[0] + 1, place[1] + 1) if len(place) == 2 else place
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(
                f"place must lie in the picture of {width}×{height} pixels, a point (x, y) or a box "
                f"(left, top, right, bottom); got {tuple(place)}."
            )
        mask = np.zeros((height, width), np.float32)
        mask[int(top) : max(int(top) + 1, round(bottom)), int(left) : max(int(left) + 1, round(right))] = 1
        return mask
    given = place.astype(np.uint8) * 255 if isinstance(place, np.ndarray) and place.dtype == bool else place
    mask = Picture.of(given, name="place").grey().fit(width, height)
    if not mask.any():
        raise ValueError("place is a mask that is black all over: no place is asked.")
    return mask
