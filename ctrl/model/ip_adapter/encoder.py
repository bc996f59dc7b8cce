"""An IP-Adapter at work: reference pictures through the image encoder that it reads."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ctrl.images import Picture
from ctrl.memory import Keep
from ctrl.model.ip_adapter.adapter import StyleAdapter, seen
from ctrl.model.ip_adapter.blocks import StyleBlocks, weights
from ctrl.model.ip_adapter.reference import StyleReference
from ctrl.model.revision import changes, weights_of

BLANK = Picture(np.zeros((8, 8), np.uint8))
ALL = 0.99  # of a picture's area; an encoder that sees as much sees all of it


@dataclass(frozen=True, eq=False)
class IPAdapter:
    """An IP-Adapter, the image encoder it reads, and the processor of that encoder's pictures.

    `blocks` says what the presets mean in this model's family; None where nothing is published.
    """

    adapter: StyleAdapter
    encoder: Any
    processor: Any
    blocks: StyleBlocks | None
    identity: Hashable
    lock: threading.RLock

    @property
    def revision(self) -> Hashable:
        """Which weights it has, for the keys of a memory."""
        return ("ip_adapter", self.identity, changes(self.weights))

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """Its parameters and buffers."""
        keys = (weight for pair in self.adapter.projections.values() for weight in (pair.to_k, pair.to_v))
        return (*weights_of(self.encoder, self.adapter.projection), *keys)

    @torch.no_grad()
    def embed(self, pictures: Sequence[Picture]) -> Tensor:
        """The image encoder's embeddings (n, *S) of n pictures; of none, those of the blank one, (1, *S)."""
        with self.lock:
            if not pictures:
                return self.adapter.blank(self.encoder, self._pixels([BLANK]))
            return self.adapter.embed(self.encoder, self._pixels(pictures))

    def reference(
        self,
        cond: Tensor,
        uncond: Tensor,
        *,
        blocks: str | Mapping[str, float] | Sequence[tuple[str, float]],
        combine: str,
        mask: Tensor | None,
        keep: Keep,
    ) -> StyleReference:
        """One style of N pictures, from embeddings `cond` (N, n, *S) and `uncond` (N, n or 1, *S)."""
        chosen: str | Mapping[str, float] = blocks if isinstance(blocks, str) else dict(blocks)
        by_site = weights(chosen, self.adapter.projections, self.blocks)
        return StyleReference.of(self.adapter, cond, uncond, blocks=by_site, mask=mask, combine=combine, keep=keep)

    def style_crop(self, picture: Any) -> Image.Image:
        """The part of a reference picture that the image encoder is shown, as it is shown it."""
        return seen(self.processor, Picture.of(picture).image).image

    def notes(self, pictures: Sequence[Picture]) -> list[str]:
        """Warnings about pictures that the image encoder sees only in part."""
        shares = [seen(self.processor, picture.image).share for picture in pictures]
        return [
            f"Style: the encoder sees {share:.0%} of the picture, its middle; model.ip_adapter().style_crop shows it"
            for share in shares
            if share < ALL
        ]

    def _pixels(self, pictures: Sequence[Picture]) -> Tensor:
        """(n, 3, s, s): pictures as the image encoder wants them."""
        rgb = [picture.image.convert("RGB") for picture in pictures]
        pixels: Tensor = self.processor(rgb, return_tensors="pt").pixel_values
        return pixels
