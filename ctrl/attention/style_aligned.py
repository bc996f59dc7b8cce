"""StyleAligned (arXiv 2312.02133): self-attention that sees another run's picture, too, so that both share a style."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctrl.attention.recorded import Record, counterparts, is_self, taken
from ctrl.attention.terms import Call, Term
from ctrl.rows import Rows

EPSILON = 1e-5  # added to the variance, as in the authors' code


@dataclass(frozen=True, eq=False)
class SharedAttention:
    """An edit of self-attention in every row: SDPA(Q̂, [K̂, K_r], [V, V_r]), r being the reference's row.

    Q̂ and K̂ are Q and K by AdaIN, with the mean and deviation over places of the reference's. At `weight` w from 0 to 1
    they are so to that part; for any w, ln w is added to the scores of the reference's places (the authors' shift). So
    1 is as published, and 0 is absent.
    """

    record: Record
    rows: Rows
    weight: float = 1.0

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The self-attention with the reference's places among its keys."""
        found = self.record.of(call)
        if found is None:
            return terms
        other, rows = found[0], counterparts(self.rows, found[1])
        q, k, v = (taken(part, rows) for part in (other.q, other.k, other.v))
        return [self._shared(term, q, k, v) if is_self(term) else term for term in terms]

    def _shared(self, term: Term, q: Tensor, k: Tensor, v: Tensor) -> Term:
        part = min(self.weight, 1.0)
        keys = torch.cat([adain(term.k, k, part), k], 2)
        bias = term.bias
        if self.weight != 1:
            bias = keys.new_zeros(1, 1, 1, keys.shape[2])
            bias[..., term.k.shape[2] :] = math.log(self.weight)
            bias = bias.expand(-1, -1, term.q.shape[2], -1)
        return replace(term, q=adain(term.q, q, part), k=keys, v=torch.cat([term.v, v], 2), bias=bias)


def adain(own: Tensor, other: Tensor, part: float = 1.0) -> Tensor:
    """(R, heads, p, d) with the mean and standard deviation over places of another's, to a part (arXiv 1703.06868)."""
    mean, deviation = _moments(own)
    wanted, spread = _moments(other)
    aligned = ((own - mean) / deviation * spread + wanted).to(own.dtype)
    return aligned if part == 1 else torch.lerp(own, aligned, part)


def _moments(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over places, (R, heads, 1, d), in float32."""
    wide = tensor.float()
    return wide.mean(2, keepdim=True), (wide.var(2, keepdim=True) + EPSILON).sqrt()
