"""Grounding: draw the cross-attention of a word onto the thing it names, whose mask the world knows.

The idea is TokenCompose's (arXiv 2312.03626): beside denoising, a map is told where its word's thing is. The loss is
one term in place of its two, Σ target · log(target / map), where target is the mask and map the word's attention, both
summing to one over the picture: scale-free, since figure and shirt share cells and their softmax.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from ctrl.atelier.captions import Caption
from ctrl.atelier.solids import PARTS
from ctrl.atelier.words import SMALLEST, parts_of, tokens_of
from ctrl.attention import tap

LEFT, RIGHT = PARTS.index("left prop"), PARTS.index("right prop")
FINEST = 16  # cells a side of the masks; coarser layers pool them


@dataclass(frozen=True)
class Named:
    """The M mentions of a batch of captions: the row and tokens each has, and where its thing is."""

    row: Tensor  # (M,)
    token: Tensor  # (M, L) shares of one, over the tokens of the word
    mask: Tensor  # (M, 16, 16) filled part of each cell


def named(
    tokenizer: CLIPTokenizer, captions: Sequence[Caption], part: Tensor, length: int, device: torch.device
) -> Named:
    """What captions name, of parts (B, S, S) that index solids.PARTS; words too long or things unseen are left out."""
    rows, tokens, masks = [], [], []
    for row, caption in enumerate(captions):
        for mention in caption.mentions:
            there = torch.isin(part[row], torch.tensor(parts_of(mention.what), dtype=part.dtype)).float()
            at = [t for t in tokens_of(tokenizer, caption.text, mention.start, mention.end) if t < length]
            if not at or not there.any():
                continue
            rows.append(row)
            tokens.append(torch.zeros(length).index_fill_(0, torch.tensor(at), 1 / len(at)))
            masks.append(F.adaptive_avg_pool2d(there[None], FINEST)[0])
    if not rows:
        return Named(*(torch.zeros(shape, device=device) for shape in ((0,), (0, length), (0, FINEST, FINEST))))
    stacked = (torch.tensor(rows), torch.stack(tokens), torch.stack(masks))
    return Named(*(one.to(device) for one in stacked))


def parts(pool: np.ndarray, index: Sequence[int], mirrored: Sequence[bool]) -> Tensor:
    """Parts (B, S, S) of rows of a pool's; in the mirror what stood on the left is the right prop."""
    seen = torch.from_numpy(np.stack([pool[i] for i in index]))
    flipped = seen.flip(-1)
    swapped = torch.where(flipped == LEFT, RIGHT, torch.where(flipped == RIGHT, LEFT, flipped))
    return torch.where(torch.tensor(mirrored)[:, None, None], swapped.to(seen.dtype), seen)


@dataclass
class Drawn:
    """How far the maps lie from the masks, added up layer by layer while the U-Net runs."""

    named: Named
    weight: Tensor  # (B,)
    layers: list[Tensor] = field(default_factory=list)

    def see(self, _: str, q: Tensor, k: Tensor, shape: tuple[int, int]) -> None:
        """An observer for the attention tap: q (B, heads, P, d), k (B, heads, L, d)."""
        if min(shape) < SMALLEST or not len(self.named.row):
            return
        look = (q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(1)  # (B, P, L)
        heat = (look[self.named.row] @ self.named.token[:, :, None])[..., 0]  # (M, P)
        target = F.adaptive_avg_pool2d(self.named.mask, shape).flatten(1)
        target = target / target.sum(1, keepdim=True)
        away = target * (target.clamp(min=1e-6).log() - (heat / heat.sum(1, keepdim=True)).clamp(min=1e-6).log())
        weight = self.weight[self.named.row]
        self.layers.append((away.sum(1) * weight).sum() / weight.sum())

    def loss(self) -> Tensor:
        """The mean over the layers, nats; 0 if nothing was named."""
        return torch.stack(self.layers).mean() if self.layers else self.weight.new_zeros(())


@contextmanager
def drawn(unet: nn.Module, named: Named, weight: Tensor) -> Iterator[Drawn]:
    """Watch the U-Net called inside the block. `weight` (B,) says how much of the picture shows through the noise."""
    watching = Drawn(named, weight)
    with tap(unet, observers=[watching.see]):
        yield watching
