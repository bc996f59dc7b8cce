"""Regions by bias: words of the prompt that attend more inside a mask and less outside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention.terms import PROMPT, Call, Term


@dataclass(frozen=True, eq=False)
class BiasedRegion:
    """Words and their place: `tokens` (R, T) is 1 where a row's token is one of them, `mask` (R, 1, H, W) in [0, 1] at
    any size; `strength` is λ."""

    tokens: Tensor
    mask: Tensor
    strength: float


@dataclass(frozen=True, eq=False)
class BiasedWords:
    """An edit of the prompt's scores by DenseDiffusion (arXiv 2308.12964).

    With s = q · kᵀ / √d, its largest and smallest value over the tokens at each place, and S the share of the picture
    that the mask covers, a region's words get s + λ · (1 − S) · (m · (max − s) − (1 − m) · (s − min)). Softmax
    comes after it, so what these words gain the others lose. Words of no region are left as they are, where the paper
    pushes them out of every region.
    """

    regions: Sequence[BiasedRegion]

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The prompt's terms with their scores biased."""
        return [self._biased(term, call) if term.source == PROMPT else term for term in terms]

    def _biased(self, term: Term, call: Call) -> Term:
        scores = (term.q.float() * term.q.shape[-1] ** -0.5) @ term.k.float().mT  # (R, heads, p, T)
        up, down = scores.amax(-1, keepdim=True) - scores, scores - scores.amin(-1, keepdim=True)
        bias = torch.zeros_like(scores)
        for region in self.regions:
            mask = F.interpolate(region.mask.to(scores.device), size=(call.height, call.width), mode="area")
            inside = mask.flatten(2)[..., None]  # (R, 1, p, 1)
            strength = region.strength * (1 - inside.mean(2, keepdim=True))
            tokens = region.tokens.to(scores.device)[:, None, None]
            bias = bias + strength * tokens * (inside * up - (1 - inside) * down)
        bias = bias.to(term.q.dtype)
        return replace(term, bias=bias if term.bias is None else term.bias + bias)
