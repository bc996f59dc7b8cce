"""Transparent pictures: how opaque they are, and what they look like on a background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctrl.images.arrays import Array, Bytes

if TYPE_CHECKING:
    from PIL import Image

SHADES = {0: "black", 255: "white"}
GREY_STEPS = {"L;2": 85, "L;4": 17}  # between the greys of a PNG of 2 or 4 bits, once they are decoded to 8


@dataclass(frozen=True)
class TransparentColour:
    """The one grey or colour that a PNG declares transparent (its tRNS chunk), in the file's own numbers.

    `raw` is Pillow's name for the file's layout, empty when the file was decoded before.
    """

    value: tuple[int, ...]
    raw: str

    @classmethod
    def of(cls, image: Image.Image) -> TransparentColour | None:
        """Read it before `image` is decoded. None for palettes, which Pillow resolves, and for what was converted."""
        clear = image.info.get("transparency")
        if image.format != "PNG" or image.mode not in ("1", "L", "RGB", "I;16") or isinstance(clear, bytes | None):
            return None
        tiles = getattr(image, "tile", None)
        return cls(clear if isinstance(clear, tuple) else (clear,), str(tiles[0].args) if tiles else "")

    def opaque(self, values: Array) -> Array:
        """Where decoded values (h, w) or (h, w, 3) are another colour: (h, w) bool."""
        if values.ndim == 3:
            deep = self.raw == "RGB;16B" or max(self.value) > 255
            same: Array = values == np.array([part >> 8 if deep else part for part in self.value])
            return np.logical_not(same.all(-1))
        step = GREY_STEPS.get(self.raw, 1)
        if not self.raw and self.value[0] < 16:  # any other grey below 16 would be in no picture of such steps
            step = next((step for step in GREY_STEPS.values() if not (values % step).any()), 1)
        return np.asarray(values != self.value[0] * step)


def with_alpha(image: Image.Image, opaque: Array) -> Image.Image:
    """The image, of mode L or RGB, with an alpha channel from (h, w) bool."""
    from PIL import Image

    image = image.copy()
    image.putalpha(Image.fromarray(opaque.astype(np.uint8) * np.uint8(255)))
    return image


def opacity(image: Image.Image) -> Bytes | None:
    """(h, w) uint8, 255 where the picture is opaque; None if it is so everywhere."""
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
    remark = f"was transparent in {max(clear, 0.01):.0%} of it, and is {shade} there"
    return np.asarray(Image.alpha_composite(behind, image).convert("RGB")), (remark,)
