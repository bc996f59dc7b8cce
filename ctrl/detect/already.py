"""Is a picture a map already? A detector run on a map gives a black picture, or worse, a plausible one.

Each test asks for all that the maps of its kind have in common, so that a photograph, in black and white too,
or a drawing is hardly ever taken for a map. Reduced, enlarged and JPEG-compressed maps are still recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ctrl.images import Picture

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Map:
    """A kind of map: what it is called, and which control takes it."""

    name: str
    control: str


POSE = Map("a drawing of a pose", "ctrl.Pose")
EDGES = Map("an edge map", "ctrl.Edges")
DEPTH = Map("a depth map", "ctrl.Depth")


def looks_like(picture: Picture) -> Map | None:
    """Which kind of map a picture is; None for a picture of anything else."""
    pixels = picture.pixels
    if pixels.ndim == 3:
        if _is_pose(_reduced(pixels, 256)):
            return POSE
        spread = pixels.max(2) - pixels.min(2)
        if np.percentile(spread, 99) > 8:  # more colour than JPEG gives to grey
            return None
        pixels = pixels[..., 1]
    if _is_edges(_reduced(pixels, 512)):
        return EDGES
    return DEPTH if _is_depth(_reduced(pixels, 128)) else None


def _is_pose(colours: Array) -> bool:
    """OpenPose's drawing: on black, pure colours all around the wheel. (h, w, 3) uint8."""
    top, low = colours.max(2), colours.min(2)
    lit = top > 64
    if (top <= 16).mean() < 0.7 or lit.mean() < 0.002:
        return False
    pure = (low[lit] <= 0.35 * top[lit]).mean()
    hue = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV)[..., 0][lit]  # 0 to 179
    share = np.bincount(hue // 15, minlength=12) / lit.sum()
    return bool(pure >= 0.8 and (share >= 0.02).sum() >= 5)


def _is_edges(grey: Array) -> bool:
    """Thin bright lines on black: an opening by a small square takes most of the light away. (h, w) uint8."""
    side = max(3, round(min(grey.shape) / 40) | 1)
    opened = cv2.morphologyEx(grey, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    thick = opened.sum(dtype=np.int64) / max(1, grey.sum(dtype=np.int64))
    return bool((grey < 12).mean() >= 0.5 and (grey > 96).mean() >= 0.002 and thick <= 0.6)


def _is_depth(grey: Array) -> bool:
    """From black to white in slow ramps: much of it slopes gently, hardly any of it is texture. (h, w) uint8."""
    low, high = np.percentile(grey, [1, 99])
    values = grey.astype(np.float32)
    bend = np.abs(cv2.Laplacian(values, cv2.CV_32F, ksize=1))
    across, down = (cv2.Sobel(values, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    slope = np.hypot(across, down) / 8
    gentle = ((slope > 0.25) & (slope <= 6)).mean()
    return bool(low <= 24 and high >= 192 and (bend <= 4).mean() >= 0.7 and gentle >= 0.5)


def _reduced(pixels: Array, shorter: int) -> Array:
    """Pixels reduced to `shorter` along the shorter side, so that one measure fits all sizes."""
    height, width = pixels.shape[:2]
    scale = shorter / min(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
