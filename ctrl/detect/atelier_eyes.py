"""The atelier's own detectors of pose and depth, and a measure of whether a picture is of the kind they know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrl.caller import warn_caller
from ctrl.detect.pixels import resized
from ctrl.images import Picture
from ctrl.skeleton import Skeleton

if TYPE_CHECKING:
    from ctrl.atelier.eyes import Eyes

Array = np.ndarray[Any, Any]

# The share of a joint's heat within 2 cells of its peak. Over 64 true renders, sharp and compressed, large and
# small, the mean of the joints in sight was never below 0.83; over 26 photographs and figures from elsewhere it was
# never above 0.67.
FAMILIAR = 0.7
FOUND = 0.4


@dataclass(frozen=True)
class Sight:
    """What the eyes saw in one picture."""

    points: Array  # (18, 2) in [0, 1], x right and y down
    shown: Array  # (18,) bool: in sight, and its focus is high enough
    near: Array  # (64, 64) disparity in [0, 1], near is 1
    focus: float  # the mean share of a joint's heat within 2 cells of its peak, 0 to 1

    @property
    def familiar(self) -> bool:
        """Whether the picture is of the world the eyes know."""
        return self.focus >= FAMILIAR

    @property
    def figures(self) -> list[Skeleton]:
        """The one figure every picture of the atelier shows, if it was found."""
        return [Skeleton(self.points, self.shown)] if self.shown.any() else []


def figures(picture: Picture, size: int | None = None) -> list[Skeleton]:
    """The figure in a picture, if there is one; a warning where the picture is of another world."""
    seen = look(picture)
    if seen.figures:
        _warn_unfamiliar(seen, "openpose")
    return seen.figures


def depth(picture: Picture, size: int | None = None) -> Array:
    """(h, w) uint8 of the picture's size, white near; a warning where the picture is of another world."""
    seen = look(picture)
    _warn_unfamiliar(seen, "midas")
    return resized(np.round(seen.near * 255).astype(np.uint8), picture.size)


def _warn_unfamiliar(seen: Sight, other: str) -> None:
    if not seen.familiar:
        warn_caller(
            "picture does not look like the atelier's world, and detector 'atelier' knows nothing else; "
            f"for photographs use {other!r}."
        )


def look(picture: Picture) -> Sight:
    """Let the package's eyes read a picture of any size."""
    import torch
    from torch.nn import functional

    from ctrl.atelier.eyes import SIZE, locate

    pixels = np.array(picture.image.convert("RGB"))
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255  # (1, 3, h, w)
    if batch.shape[-2:] != (SIZE, SIZE):
        batch = functional.interpolate(batch, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    with torch.inference_mode():
        raw = _eyes()(batch.clamp(0, 1))
        points = locate(raw.heat)[0].numpy()
        sight = raw.sight[0].sigmoid().numpy() > 0.5
        near = raw.near[0].clamp(0, 1).numpy()
        heat = raw.heat[0].flatten(1).softmax(-1).unflatten(-1, raw.heat.shape[-2:]).numpy()  # (18, n, n)
    focus = _focus(heat)
    seen = focus[sight] if sight.any() else focus
    return Sight(points.astype(np.float64), sight & (focus >= FOUND), near, float(seen.mean()))


def _focus(heat: Array) -> Array:
    """Heat (18, n, n) to the share of it within 2 cells of the peak, (18,)."""
    joints, side, _ = heat.shape
    peak = heat.reshape(joints, -1).argmax(1)
    ticks = np.arange(side)
    rows = np.abs(ticks - (peak // side)[:, None]) <= 2  # (18, n)
    columns = np.abs(ticks - (peak % side)[:, None]) <= 2
    return np.asarray(np.einsum("jrc,jr,jc->j", heat, rows, columns))


@cache
def _eyes() -> Eyes:
    from ctrl.atelier import eyes

    return eyes.load()
