"""Transparent pictures: how opaque they are, and what they look like on a background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctrl.images.arrays import Bytes

if TYPE_CHECKING:
    from PIL import Image

SHADES = {0: "black", 255: "white"}


def opacity(image: Image.Image) -> Bytes | None:
    """(h, w) uint8, 255 where nothing shines through; None for a picture that is opaque everywhere."""
    if image.mode not in ("LA", "RGBA"):
        return None
    alpha = np.asarray(image.getchannel("A"))
    return None if alpha.min() == 255 else alpha


def flatten(image: Image.Image, background: int) -> tuple[Bytes, tuple[str, ...]]:
    """A picture of mode L, RGB, LA or RGBA as (h, w) or (h, w, 3) pixels on a grey background, and a remark."""
    from PIL import Image

    if image.mode in ("L", "RGB"):
        return np.asarray(image), ()
    image = image.convert("RGBA")
    alpha = opacity(image)
    if alpha is None:
        return np.asarray(image.convert("RGB")), ()
    behind = Image.new("RGBA", image.size, (background, background, background, 255))
    shade = SHADES.get(background, f"grey {background}")
    clear = float((alpha < 255).mean())
    said = f"was transparent in {max(clear, 0.01):.0%} of it, and is {shade} there"
    return np.asarray(Image.alpha_composite(behind, image).convert("RGB")), (said,)
