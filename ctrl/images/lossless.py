"""Pixels in as few bytes as a lossless file takes, for recipes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from ctrl.images.arrays import Bytes
from ctrl.images.files import why

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "WEBP")
# Smaller than PNG for photographs, maps and masks alike, and as quick; more effort gains about 5 %.
WEBP = {"lossless": True, "quality": 20, "method": 1}


def pack(pixels: Bytes) -> bytes:
    """Pixels (H, W) or (H, W, 3) as WebP, or as PNG where three channels are all equal.

    WebP knows no grey, so grey is kept in three equal channels, and `unpack` takes equal channels for grey.
    """
    from PIL import Image

    buffer = io.BytesIO()
    if pixels.ndim == 3 and _is_grey(pixels):
        Image.fromarray(pixels).save(buffer, "PNG")
    else:
        Image.fromarray(pixels).convert("RGB").save(buffer, "WEBP", **WEBP)
    return buffer.getvalue()


def unpack(data: bytes, longest: int) -> Bytes:
    """The pixels in `data`; a ValueError for anything but a PNG or WebP in RGB or grey of up to `longest` pixels."""
    image = _open(data)
    if max(image.size) > longest or image.mode not in ("L", "RGB") or getattr(image, "is_animated", False):
        raise ValueError(f"a carried picture is RGB or grey and at most {longest} pixels long.")
    try:
        pixels = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise ValueError(f"a carried picture cannot be read: {why(error)}.") from error
    return pixels[..., 0] if image.format == "WEBP" and _is_grey(pixels) else pixels


def _is_grey(pixels: Bytes) -> bool:
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())


def _open(data: bytes) -> Image.Image:
    """The image, opened but not decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("a carried picture cannot be read: it is neither PNG nor WebP.") from None
    except Exception as error:  # a broken header leads Pillow to any of a dozen kinds
        raise ValueError(f"a carried picture cannot be read: {why(error)}.") from error
