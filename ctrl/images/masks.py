"""Masks: white where something acts, read from arrays, grey or coloured pictures and transparent ones.

0 and 1 are black and white in every type, and a shape painted on a transparent layer is white where it is opaque. Where
the numbers could mean something else, a remark gives them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctrl.images.arrays import Array, Bytes, Scaled, check_finite
from ctrl.images.decode import Decoded
from ctrl.images.transparency import flatten, opacity

if TYPE_CHECKING:
    from PIL import Image

FULL = (1, 255, 65535)  # what white is in a mask's numbers
TWELVE_BITS = 4095  # the least that is read as of 65535
OVERSHOOT = 0.1  # of the contrast: how far Lanczos and cubic resizing take floats beyond it, and a little more
LOWEST = 0.01  # the least contrast that overshoot is measured by; a tenth of it is rounding
DIM = 128  # a mask of whole numbers that is nowhere brighter was probably counted otherwise
COLOURFUL = 32  # between the channels of a pixel: more than JPEG gives to grey


def scale_mask(array: Array, name: str) -> Scaled:
    """Numbers (H, W, …) of any type to 8 bits; whole numbers and floats alike go to 1, to 255 or to 65535."""
    if array.dtype == np.bool_:
        return Scaled(array.astype(np.uint8) * np.uint8(255), fractions=True)
    floats = np.issubdtype(array.dtype, np.floating)
    if not floats and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} is an array of {array.dtype}; use bool, whole numbers or floats.")
    check_finite(array, name)
    low, high = array.min(), array.max()
    beyond = OVERSHOOT if floats else 0.0
    full = next((full for full in FULL if high <= full * (1 + beyond)), 0)
    if (
        low < -beyond * max(high, LOWEST)
        or (full == 255 and high < 2)
        or (full == 65535 and high < TWELVE_BITS)
        or not full
    ):
        raise ValueError(
            f"{name} has values from {low:.4g} to {high:.4g}; a mask goes from 0, where nothing acts, to 1, 255 or "
            "65535: scale it."
        )
    remarks = []
    if low < 0 or high > full:
        remarks.append(f"had values from {low:.4g} to {high:.4g}, cut to 0 to {full}")
    elif full > 1 and high < full and array.dtype != np.uint8:
        remarks.append(f"had values from {low:.4g} to {high:.4g}, read as of {full}")
    scaled = np.round(np.clip(array, 0, full) / full * 255).astype(np.uint8)
    return Scaled(scaled, fractions=full == 1, remarks=tuple(remarks))


def mask_from(decoded: Decoded) -> tuple[Bytes, tuple[str, ...]]:
    """A decoded picture as a mask (H, W) uint8, and remarks on how it was read."""
    image, remarks = decoded.image, list(decoded.remarks)
    alpha = opacity(image)
    if alpha is not None and _is_painted(image, alpha):
        remarks.append(
            f"keeps its shape in its transparency, so it is white in the {(alpha > 127).mean():.0%} of it that is "
            "opaque; invert its alpha if you mean the rest"
        )
        return alpha, tuple(remarks)
    pixels, added = flatten(image, background=0)
    remarks += added
    pixels, brightened = brighten(pixels)
    if pixels.ndim == 3:
        grey, added = grey_of(pixels)
        remarks += added
    else:
        grey = pixels
    if 0 < grey.max() < DIM and not decoded.fractions:
        remarks.append(f"is nowhere brighter than {grey.max()} of 255, so it acts at {grey.max() / 255:.0%} at most")
    if brightened and decoded.fractions:
        remarks.append("had no value above 1/255, so 1/255 was read as white")
    return grey, tuple(remarks)


def brighten(pixels: Bytes) -> tuple[Bytes, bool]:
    """Pixels in black and white if they are only 0 and 1, and whether they were."""
    only_ones = int(pixels.max()) == 1
    return (pixels * np.uint8(255), True) if only_ones else (pixels, False)


def grey_of(pixels: Bytes) -> tuple[Bytes, tuple[str, ...]]:
    """The brightness (H, W) of colours (H, W, 3), by ITU-R 601, and a remark where colours were lost."""
    from PIL import Image

    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    spread = pixels.max(2).astype(int) - pixels.min(2)
    if (spread > COLOURFUL).mean() <= 0.001:
        return grey, ()
    return grey, (f"is coloured, so its brightness was taken, from {grey.min()} to {grey.max()} of 255",)


def _is_painted(image: Image.Image, alpha: Bytes) -> bool:
    """Whether the shape is in the alpha (H, W): what is opaque is of one colour but white, or a photograph's."""
    if not alpha.any():
        return False
    seen = np.asarray(image.convert("RGB"))[alpha > alpha.max() // 2].astype(int)  # (n, 3)
    coloured = np.percentile(seen.max(1) - seen.min(1), 99) > COLOURFUL
    flat = np.ptp(seen, axis=0).max() <= COLOURFUL
    return bool(coloured or (flat and seen.max() < 255 - COLOURFUL))
