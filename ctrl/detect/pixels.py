"""Pictures at the size a detector reads them at."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ctrl.images import Picture

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

LANCZOS = Image.Resampling.LANCZOS
TRAINED, READ = 256, 512  # pixels along the shorter side: the edges of the atelier, the networks of controlnet_aux
LONGEST = 2048  # pixels along the longer side, which no picture is enlarged beyond


def rgb(picture: Picture, shorter: int | None = None) -> Pixels:
    """(h, w, 3) uint8, `shorter` pixels along the shorter side; its own size for None."""
    image = picture.image.convert("RGB")
    size = picture.size if shorter is None else scaled(picture.size, shorter)
    return np.array(image if size == picture.size else image.resize(size, LANCZOS))


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """A grey map (h, w) uint8 at `size` (width, height)."""
    return pixels if pixels.shape == size[::-1] else np.asarray(Image.fromarray(pixels).resize(size, LANCZOS))


def scaled(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """(width, height) with `shorter` pixels along the shorter side, fewer where the longer would pass `LONGEST`."""
    scale = min(shorter / min(size), max(1.0, LONGEST / max(size)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
