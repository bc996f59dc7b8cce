"""From where a word looked to where its thing is: self-attention once, and the picture as a guide.

Both were measured on the atelier (mIoU against true masks): A² once +.015 on its own weights and +.038 on weights
trained without grounding; a guided filter +.05 to +.11 at the size of the picture.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from einops import rearrange
from PIL import Image

from ctrl.maps.sums import Array

SMOOTH = 1e-3  # variance of a picture in [0, 1] that the guide counts as flat


def resized(maps: Array, height: int, width: int) -> Array:
    """(t, h, w) brought to another size: bilinear where it grows, by area where it shrinks."""
    if maps.shape[1:] == (height, width):
        return maps
    shrinks = maps.shape[1] > height or maps.shape[2] > width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([cv2.resize(one, (width, height), interpolation=how) for one in maps]).astype(np.float32)


def spread(heat: Array, between: Array, grid: tuple[int, int]) -> Array:
    """A map (h, w) spread over the places that attend to each other: A², each row summing to 1, applied once.

    `between` is self-attention (g, g) on a `grid` of (rows, columns).
    """
    squared = between**2
    squared = squared / squared.sum(1, keepdims=True).clip(min=1e-12)
    small = rearrange(resized(heat[None], *grid), "1 h w -> (h w)")
    spread = rearrange(squared @ small, "(h w) -> 1 h w", h=grid[0])
    found: Array = resized(np.ascontiguousarray(spread, np.float32), *heat.shape)[0]
    return found


def guided(heat: Array, picture: Image.Image) -> Array:
    """A map (h, w) at the size of the picture, its edges drawn to the picture's.

    A guided filter (He and others, ECCV 2010) with the picture in grey as its guide, over windows of one cell of the
    map to each side.
    """
    width, height = picture.size
    guide: Any = np.asarray(picture.convert("L"), np.float32) / 255
    large = resized(heat[None], height, width)[0]
    radius = max(1, round(max(height / heat.shape[0], width / heat.shape[1])))
    box = (2 * radius + 1, 2 * radius + 1)

    def mean(values: Any) -> Any:
        return cv2.blur(values, box, borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_map = mean(guide), mean(large)
    slope = (mean(guide * large) - mean_guide * mean_map) / (mean(guide * guide) - mean_guide**2 + SMOOTH)
    offset = mean_map - slope * mean_guide
    return np.asarray((mean(slope) * guide + mean(offset)).clip(min=0), np.float32)
