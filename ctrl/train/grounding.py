"""Grounding: draw the cross-attention of a word onto the thing it names, whose mask the world knows.

The idea is TokenCompose's (arXiv 2312.03626): beside denoising, a map learns where its word's thing is. The loss is
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

from ctrl.atelier.captions import Caption
from ctrl.atelier.solids import PARTS
from ctrl.atelier.words import SMALLEST, parts_of
from ctrl.attention import Call, Edit, Hooks, Term, sites, tap
from ctrl.train.feed import Batch
from ctrl.train.rows import MIRRORED, Rows

THINGS = ("figure", "shirt", "trousers", "left prop", "right prop", "ground")  # a caption mentions each at most once
FINEST = 16  # cells a side of the masks; coarser layers pool them
NOTHING = 1e-12  # what a sum over nothing is divided by
_OF = torch.tensor([[float(part in parts_of(thing)) for part in range(len(PARTS))] for thing in THINGS])  # (T, parts)


@dataclass(frozen=True)
class Named(Batch):
    """For each of THINGS the tokens its word has in a caption, and where it is; zeros where either is missing."""

    token: Tensor  # (B, T, L) shares of one, over the tokens of the word
    mask: Tensor  # (B, T, 16, 16) filled part of each cell

    @staticmethod
    def of(captions: Sequence[Caption], spans: Tensor, filled: Tensor) -> Named:
        """What captions name, given their tokens' letters (B, L, 2) and how parts fill the cells (B, parts, 16, 16)."""
        said = enumerate(captions)
        every = [(row, THINGS.index(m.what), m.start, m.end) for row, caption in said for m in caption.mentions]
        row, thing, start, end = torch.tensor(every, dtype=torch.long).view(-1, 4).unbind(1)
        at = (spans[row, :, 0] < end[:, None]) & (spans[row, :, 1] > start[:, None])  # (M, L)
        token = torch.zeros(len(captions), len(THINGS), spans.shape[1])
        token[row, thing] = at / at.sum(1, keepdim=True).clamp(min=1)
        return Named(token, torch.einsum("tp,bpyx->btyx", _OF, filled))


def filled(part: np.ndarray, rows: Rows) -> Tensor:
    """How much of each of 16 x 16 cells each part fills, (B, parts, 16, 16), in rows of a pool's parts (N, S, S).

    In the mirror what stood on the left is the right prop.
    """
    seen, count, side = part[rows.index], len(rows.index), part.shape[-1]
    cell = np.arange(side) * FINEST // side
    place = (np.arange(count)[:, None, None] * FINEST + cell[:, None]) * FINEST + cell  # (B, S, S)
    cells = np.bincount((place * len(PARTS) + seen).ravel(), minlength=count * FINEST**2 * len(PARTS))
    share = torch.from_numpy(cells).view(count, FINEST, FINEST, len(PARTS)).permute(0, 3, 1, 2) * (FINEST / side) ** 2
    mirrored = torch.tensor(rows.mirrored)[:, None, None, None]
    return torch.where(mirrored, share.flip(-1)[:, MIRRORED], share).float()


@dataclass
class Drawn:
    """How far the maps are from the masks, added up layer by layer while the U-Net runs."""

    named: Named
    weight: Tensor  # (B,)
    layers: list[Tensor] = field(default_factory=list)

    def see(self, call: Call, _: Sequence[Term]) -> None:
        """An observer of cross-attention: q (B, heads, P, d), k (B, heads, L, d)."""
        q, k, shape = call.q, call.k, (call.height, call.width)
        if min(shape) < SMALLEST:
            return
        look = (q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(1)  # (B, P, L)
        heat = self.named.token @ look.transpose(-1, -2)  # (B, T, P)
        target = F.adaptive_avg_pool2d(self.named.mask, shape).flatten(2)
        there = (self.named.token.sum(-1) > 0) & (target.sum(-1) > 0)  # (B, T)
        target, heat = (value / value.sum(-1, keepdim=True).clamp(min=NOTHING) for value in (target, heat))
        away = target * (target.clamp(min=1e-6).log() - heat.clamp(min=1e-6).log())
        weight = self.weight[:, None] * there
        self.layers.append((away.sum(-1) * weight).sum() / weight.sum().clamp(min=NOTHING))

    def loss(self) -> Tensor:
        """The mean over the layers, nats; 0 if nothing was named."""
        return torch.stack(self.layers).mean() if self.layers else self.weight.new_zeros(())


@contextmanager
def drawn(unet: nn.Module, named: Named, weight: Tensor, edits: Sequence[Edit] = ()) -> Iterator[Drawn]:
    """Watch the U-Net called inside the block. `weight` (B,) says how much of the picture shows through the noise."""
    watching = Drawn(named, weight)
    with tap(sites(unet), Hooks(edits=edits, observers=[watching.see])):
        yield watching
