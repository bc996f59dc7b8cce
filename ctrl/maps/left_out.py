"""Edits of attention that leave one thing out: tokens of the prompt, a head, or a whole call.

R are the rows of the batch, p the places of a call, T its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention import PROMPT, Call, Term
from ctrl.maps.shares import take


@dataclass(frozen=True, eq=False)
class WithoutTokens:
    """Keeps some rows from attending to some tokens of the prompt; the others share what those had.

    `places` (h, w) in [0, 1] is how much of each cell of the latent grid loses them; None is all of every cell.
    """

    tokens: Sequence[int]
    rows: Sequence[int]
    places: Tensor | None = None

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with −∞ added to the scores of the tokens."""
        return [replace(term, bias=self._bias(call, term)) if term.source == PROMPT else term for term in terms]

    def _bias(self, call: Call, term: Term) -> Tensor:
        bias = term.q.new_zeros(len(term.q), 1, term.q.shape[2], term.k.shape[2])
        lost = torch.full((term.q.shape[2],), -torch.inf, device=bias.device, dtype=bias.dtype)
        if self.places is not None:
            size = (call.height, call.width)
            share = F.interpolate(self.places[None, None].float(), size=size, mode="area").flatten()
            lost = torch.log(1 - share.clamp(0, 1)).to(bias)
        for row in self.rows:
            bias[row, 0, :, self._keys(term, row)] = lost[:, None]
        if term.bias is None:
            return bias
        return bias.masked_fill(~term.bias, -torch.inf) if term.bias.dtype == torch.bool else bias + term.bias

    def _keys(self, term: Term, row: int) -> list[int]:
        """The keys that stand for the tokens: in an edit by Prompt-to-Prompt those of the source's prompt."""
        tokens = list(self.tokens)
        if term.spread is None or term.spread.shape[1] == 1:
            return tokens
        stands = take(term.spread, [row])[0][:, tokens].any(1)  # (K,)
        return [int(key) for key in stands.nonzero()]


@dataclass(frozen=True)
class WithoutHead:
    """Takes the output of one head, or of all if `head` is None, out of a call, in all rows.

    A ValueError says that there is no such head.
    """

    head: int | None = None

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms, masked."""
        heads = call.q.shape[1]
        if self.head is not None and self.head >= heads:
            raise ValueError(f"head must be from 0 to {heads - 1} at {call.site}, got {self.head}.")
        kept = torch.ones(1, heads, 1, 1, device=call.q.device, dtype=call.q.dtype)
        kept[:, slice(None) if self.head is None else self.head] = 0
        return [replace(term, mask=kept if term.mask is None else term.mask * kept) for term in terms]
