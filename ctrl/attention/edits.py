"""Edits of cross-attention: words that weigh more, prompts for parts of the picture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention.terms import PROMPT, Call, Source, Term
from ctrl.memory import Keep, Memory


@dataclass(frozen=True, eq=False)
class WordWeights:
    """An edit that gives the words of the prompt weights (R or 1, T): rows of v are scaled, nothing renormalised.

    This is the reweighting of Prompt-to-Prompt (arXiv 2208.01626). It acts on the prompt's own terms. Weights of 1 are
    bit-equal to none.
    """

    weights: Tensor

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the text's values scaled."""
        return [replace(term, v=scaled(term.v, self.weights)) if term.source == PROMPT else term for term in terms]


@dataclass(frozen=True, eq=False)
class RegionTerm:
    """A part of the picture with a prompt of its own.

    `states` is (R or 1, T, D), `mask` (R or 1, 1, H, W) in [0, 1] at any size, `weights` (R or 1, T) of its
    words or None; `number` is the region's in its recipe, None for its place in `Regions.regions`.
    """

    states: Tensor
    mask: Tensor
    weights: Tensor | None = None
    number: int | None = None


@dataclass(frozen=True, eq=False)
class Regions:
    """An edit that gives parts of the picture prompts of their own, in some rows; the others stay bit-equal.

    The text's output becomes (1 − Σ m) · base prompt + Σ m · region's prompt. Masks are shrunk by area, divided by
    their sum where that is over 1, and multiplied by 1 − `base`: so `base` is the share that the prompt of
    the whole picture keeps where a region covers it fully; where there is no region it keeps all. A region's
    keys and values come from the site's own layers. `keep` remembers the fitted masks.
    """

    rows: tuple[int, ...]
    regions: tuple[RegionTerm, ...]
    base: float = 0.0
    keep: Keep = field(default_factory=Memory, repr=False)

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the text's gated and the regions' added."""
        size = (call.height, call.width)
        rest, *masks = self.keep((size, call.q.dtype, str(call.q.device)), lambda: self._masks(call))
        out = [replace(term, mask=_both(term.mask, rest)) if term.source == PROMPT else term for term in terms]
        for place, (region, mask) in enumerate(zip(self.regions, masks, strict=True)):
            k, v = call.project(region.states)
            v = v if region.weights is None else scaled(v, region.weights)
            number = place if region.number is None else region.number
            out.append(Term(call.q, k, v, mask=mask, source=Source("region", number)))
        return out

    def _masks(self, call: Call) -> list[Tensor]:
        """What is left to the base prompt, then each region's part, (R, 1, height·width, 1) in q's type."""
        size, device = (call.height, call.width), call.q.device
        share = torch.zeros(len(call.q), 1, 1, 1, device=device)
        share[list(self.rows)] = 1 - self.base
        masks = [F.interpolate(part.mask.to(device, torch.float32), size=size, mode="area") for part in self.regions]
        masks = [mask.clamp(0, 1).flatten(2)[..., None] for mask in masks]
        cover = torch.stack([mask.expand(len(share), -1, -1, -1) for mask in masks]).sum(0).clamp(min=1)
        masks = [share * (mask / cover) for mask in masks]
        rest = (1 - torch.stack(masks).sum(0)).clamp(min=0)
        return [mask.to(call.q.dtype) for mask in (rest, *masks)]


def _both(mask: Tensor | None, other: Tensor) -> Tensor:
    return other if mask is None else mask * other


def scaled(v: Tensor, weights: Tensor) -> Tensor:
    """Values (R, heads, T, d) times the weights (R or 1, T) of their tokens."""
    return v * weights.to(v.device, v.dtype)[:, None, :, None]
