"""Normalized attention guidance: a negative prompt that acts inside cross-attention, where guidance is off."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctrl.attention.edits import scaled
from ctrl.attention.terms import Call, Source, Term

NEGATIVE = Source("negative")
TEXT = ("prompt", "region")  # the sources of what is led away from the negative prompt


@dataclass(frozen=True, eq=False)
class NormalizedNegative:
    """NAG (arXiv 2505.21179) in some rows of the batch: an edit, and the `combine` that belongs to it.

    With Z⁺ what the texts' terms come to and Z⁻ the negative prompt's, the texts' output becomes
    (1 − α) · Z⁺ + α · min(1, τ‖Z⁺‖₁ / ‖Z̃‖₁) · Z̃ for Z̃ = Z⁺ + φ · (Z⁺ − Z⁻), `scale` being φ. The norms are over
    all channels of all heads at a place. The authors' code takes φ + 1 as `nag_scale`. At a place this is a sum of
    Z⁺ and Z⁻ with two factors, which become the terms' gates: whatever reads the terms sees what acts. Styles are added
    to it as they are. `states` is (R, T, D), the negative prompt, and `weights` (R, T) of its words, or None.
    """

    rows: tuple[int, ...]
    states: Tensor
    scale: float
    tau: float
    alpha: float
    weights: Tensor | None = None

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the negative prompt's added, which does not act before `combine`."""
        k, v = call.project(self.states)
        v = v if self.weights is None else scaled(v, self.weights)
        return [*terms, Term(call.q, k, v, gate=0.0, source=NEGATIVE)]

    def combine(self, call: Call, terms: Sequence[Term], parts: Sequence[Tensor]) -> list[Term]:
        """The terms with the gates of NAG; `parts` are SDPA of each, (R, heads, height·width, d)."""
        pairs = list(zip(terms, parts, strict=True))
        plus = functools.reduce(torch.add, (term.weighed(part) for term, part in pairs if term.source.kind in TEXT))
        minus = next(part for term, part in pairs if term.source == NEGATIVE)
        extrapolated = plus + self.scale * (plus - minus)
        norm = _norm(extrapolated).clamp(min=torch.finfo(torch.float32).tiny)
        kept = self.alpha * (self.tau * _norm(plus) / norm).clamp(max=1)  # (R, 1, height·width, 1)
        mine = torch.zeros(len(kept), 1, 1, 1, dtype=torch.bool, device=kept.device)
        mine[list(self.rows)] = True
        text = torch.where(mine, kept * (1 + self.scale) + (1 - self.alpha), 1.0).to(plus.dtype)
        negative = torch.where(mine, -kept * self.scale, 0.0).to(plus.dtype)
        return [_gated(term, text, negative) for term in terms]


def _gated(term: Term, text: Tensor, negative: Tensor) -> Term:
    if term.source == NEGATIVE:
        return replace(term, gate=negative)
    return replace(term, gate=term.gate * text) if term.source.kind in TEXT else term


def _norm(tensor: Tensor) -> Tensor:
    """The L1 norm over heads and channels at each place, (R, 1, height·width, 1), in float32."""
    return tensor.float().abs().sum((1, 3), keepdim=True)
