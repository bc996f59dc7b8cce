"""A place asked: its words, and where it attends."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from ctrl.images import Picture
from ctrl.maps.heat import Ground, HeatMap
from ctrl.maps.refine import resized
from ctrl.maps.sums import Array
from ctrl.maps.texts import Word


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


def corners_of(place: Any) -> tuple[float, ...] | None:
    """The two or four numbers of a point or a box, in a tuple, a list or an array; None for all else."""
    if isinstance(place, np.ndarray) and place.ndim == 1:
        place = place.tolist()
    if not isinstance(place, tuple | list) or len(place) not in (2, 4):
        return None
    if not all(isinstance(one, Real) and not isinstance(one, bool) for one in place):
        return None
    return tuple(one.item() if isinstance(one, np.generic) else one for one in place)


def mask_of(place: Any, size: tuple[int, int]) -> Array:
    """(H, W) in [0, 1] of a point, a box or a mask, for a picture of (width, height)."""
    width, height = size
    corners = corners_of(place)
    if corners is not None:
        left, top, right, bottom = (*corners, corners[0] + 1, corners[1] + 1) if len(corners) == 2 else corners
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(
                f"place must lie in the picture of {width}×{height} pixels, a point (x, y) or a box "
                f"(left, top, right, bottom); got {corners}."
            )
        mask = np.zeros((height, width), np.float32)
        mask[int(top) : max(int(top) + 1, round(bottom)), int(left) : max(int(left) + 1, round(right))] = 1
        return mask
    if isinstance(place, HeatMap):
        raise TypeError(f"place must be a point, a box or a mask, got the map of {place.name!r}; give its mask().")
    given = place.astype(np.uint8) * 255 if isinstance(place, np.ndarray) and place.dtype == bool else place
    mask = Picture.of(given, name="place").grey().fit(width, height)
    if not mask.any():
        raise ValueError("place is a mask that is black all over: no place is asked.")
    return mask


def attends(place: Any, mask: Array, ground: Ground) -> HeatMap | None:
    """The map of the places that a place attends to; None where self-attention was not kept."""
    if ground.between is None:
        return None
    weights = resized(mask[None], *ground.grid)[0].ravel()
    heat = (weights / weights.sum() @ ground.between).reshape(ground.grid)
    spelled = "place" if (corners := corners_of(place)) is None else repr(corners)  # a mask is no line of Python
    call = f"shot.attention.at({spelled}).attends"
    return HeatMap("this place", np.asarray(heat, np.float32), ground, asked={"call": call})
