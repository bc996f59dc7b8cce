"""An IP-Adapter at work: reference pictures through the image encoder that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from ctrl.images import Picture
from ctrl.model.ip_adapter.adapter import StyleAdapter, seen

NOTHING = Picture(np.zeros((8, 8), np.uint8))
WHOLE = 0.99  # of a picture; who sees as much sees all of it


class Styling(NamedTuple):
    """An IP-Adapter, the image encoder it reads, and what prepares that encoder's pictures."""

    adapter: StyleAdapter
    encoder: Any
    processor: Any

    def embedded(self, pictures: Sequence[Picture]) -> Tensor:
        """(n, *S): what the adapter reads of n pictures; of none, what stands for one that is not there, (1, *S)."""
        if not pictures:
            return self.adapter.blank(self.encoder, self._pixels([NOTHING]))
        return self.adapter.embed(self.encoder, self._pixels(pictures))

    def sees(self, picture: Picture) -> Image.Image:
        """The part of a picture that the encoder is shown, as it is shown it."""
        return seen(self.processor, picture.image).image

    def notes(self, pictures: Sequence[Picture]) -> list[str]:
        """What of these pictures the encoder does not see."""
        shares = [seen(self.processor, picture.image).share for picture in pictures]
        return [
            f"Style: the encoder sees {share:.0%} of the picture, its middle; model.what_style_sees shows it"
            for share in shares
            if share < WHOLE
        ]

    def _pixels(self, pictures: Sequence[Picture]) -> Tensor:
        """(n, 3, s, s): pictures as the image encoder wants them."""
        shown = [picture.image.convert("RGB") for picture in pictures]
        found: Tensor = self.processor(shown, return_tensors="pt").pixel_values
        return found
