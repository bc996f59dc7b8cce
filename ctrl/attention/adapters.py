"""IP-Adapters loaded into diffusers' own processors: the source of each further attention call of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ctrl.attention.terms import Source


class Adapted(NamedTuple):
    """One call of a processor for reference pictures: its source, its scale, and where it acts, (1, h, w) or None."""

    source: Source
    gate: float
    mask: Tensor | None

    def mask_at(self, height: int, width: int) -> Tensor | None:
        """The mask as a term has it, (1, 1, height·width, 1), shrunk by bicubic as diffusers does."""
        if self.mask is None:
            return None
        shrunk = F.interpolate(self.mask[None].float(), size=(height, width), mode="bicubic")
        return shrunk.flatten(2)[..., None]


def adapted(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Adapted]:
    """The calls for pictures that a module's processor makes after the prompt's, in its order, of its own arguments.

    Styles are numbered from 0: one for each adapter, or, where an adapter's pictures have masks, one for each picture.
    An adapter at scale 0 makes no call and keeps its number.
    """
    states = kwargs.get("encoder_hidden_states", args[1] if len(args) > 1 else None)
    scales = getattr(getattr(module, "processor", None), "scale", None)
    if not isinstance(states, tuple) or not isinstance(scales, list):
        return
    masks = kwargs.get("ip_adapter_masks")
    if masks is None:
        masks = [None] * len(scales)
    elif not isinstance(masks, list):
        masks = list(masks.unsqueeze(1))
    number = 0
    for pictures, scale, mask in zip(states[1], scales, masks, strict=True):
        count = pictures.shape[1] if pictures.ndim == 4 else 1
        if mask is None:
            if scale != 0:
                yield Adapted(Source("style", number, count), float(scale), None)
            number += 1
            continue
        each = scale if isinstance(scale, list) else [scale] * mask.shape[1]
        if any(each):
            for at, gate in enumerate(each):
                yield Adapted(Source("style", number + at), float(gate), mask[:, at])
        number += mask.shape[1]
