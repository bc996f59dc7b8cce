"""Inpainting in pixels: the original image where the mask is black, the drawn picture elsewhere."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from ctrl.images import Picture

FEATHER = 4.0  # pixels: the standard deviation of the border's blur, half a latent of Stable Diffusion
Grey: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


def with_original(drawn: Image.Image, original: Picture, mask: Picture) -> Image.Image:
    """The drawn picture, and the original's own pixels where the mask is black.

    Latents are many pixels wide and a VAE loses detail, so without this the whole picture changes a little. The edge is
    feathered on the white side. A mask that is black all over gives the original, one that is white all over the drawn
    picture, to the bit.
    """
    weight = drawn_share(mask.fit(*drawn.size))[..., None]
    kept = original.fit(*drawn.size)
    if kept.ndim == 2:
        kept = np.repeat(kept[..., None], 3, axis=2)
    mixed = weight * np.asarray(drawn).astype(np.float32) + (1 - weight) * kept * 255.0
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))


def drawn_share(mask: Grey) -> Grey:
    """The share (H, W) of the drawn picture for a mask (H, W) in [0, 1]: 0 where it is black, never above the mask."""
    import cv2

    blurred = cv2.GaussianBlur(mask, (0, 0), FEATHER, borderType=cv2.BORDER_REPLICATE)
    inner = np.clip(2 * blurred - 1, 0, 1)
    inner[blurred > 1 - 1e-5] = 1  # a blur of ones is rounded
    share: Grey = np.minimum(mask, inner)
    return share
