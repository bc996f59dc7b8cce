"""Prompt-to-Prompt (arXiv 2208.01626): a prompt's picture that keeps the attention of another prompt's.

Every edit of it is linear in the attention matrix, so each is one or two terms, and no matrix of attention is made. In
shapes, K are the tokens of the source's prompt, T those of the edited one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctrl.attention.recorded import Record, counterparts, is_self, taken
from ctrl.attention.terms import PROMPT, Call, Term
from ctrl.rows import Rows


@dataclass(frozen=True, eq=False)
class ReplacedWords:
    """An edit of cross-attention in the rows that read the prompt: tokens take over the attention of the source's.

    Replace and refine are A = A_s · M · diag(α) + A* · diag(1 − α), with A_s the source's attention, A* the run's own,
    M (K, T) which token of the source stands for which, and α (T,) how far. `spread` is (N, K, T), M · diag(α) for each
    picture, and `kept` (N, T), 1 − α. Reweighting is `WordWeights` before it, as published. `whole` says that every α
    is 1: one term is enough then.
    """

    record: Record
    rows: Rows
    spread: Tensor
    kept: Tensor
    whole: bool = False

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms of the prompt with the source's attention in them."""
        found = self.record.of(call)
        if found is None:
            return terms
        source, other = found
        rows = counterparts(self.rows, other)
        q, k = taken(source.q, rows), taken(source.k, rows)
        bias = None if source.bias is None else taken(source.bias, rows)
        spread, kept = self._rows(self.spread, call, 0.0), self._rows(self.kept, call, 1.0)[:, None]
        new: list[Term] = []
        for term in terms:
            if term.source != PROMPT:
                new.append(term)
                continue
            if not self.whole or self.rows.uncond:  # all of it in rows without the prompt
                new.append(replace(term, spread=kept))
            new.append(replace(term, q=q, k=k, bias=bias, spread=spread))
        return new

    def _rows(self, pictures: Tensor, of: Call, without: float) -> Tensor:
        """(R, …) of (N, …): each picture's in the rows that read its prompt, a number in all others."""
        pictures = pictures.to(of.v.device, of.v.dtype)
        count = len(self.rows.prompted) // len(pictures)
        others = pictures.new_full((len(self.rows.uncond), *pictures.shape[1:]), without)
        return torch.cat([others, *[pictures] * count])


@dataclass(frozen=True, eq=False)
class ReplacedSelf:
    """An edit of self-attention in the rows that read the prompt: places attend as they did in the source.

    `share` in (0, 1] is how far. As in the published code it acts in layers of few places, here of at most `largest`.
    """

    record: Record
    rows: Rows
    share: float
    largest: int

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The self-attention with the source's attention in it."""
        found = self.record.of(call)
        if found is None or call.height * call.width > self.largest:
            return terms
        source, other = found
        rows = counterparts(self.rows, other)
        q, k = taken(source.q, rows), taken(source.k, rows)
        return [new for term in terms for new in (self._mixed(term, q, k) if is_self(term) else [term])]

    def _mixed(self, term: Term, q: Tensor, k: Tensor) -> list[Term]:
        mine = torch.zeros(len(term.q), 1, 1, 1, dtype=torch.bool, device=term.q.device)
        mine[list(self.rows.prompted)] = True
        if self.share == 1:
            return [replace(term, q=torch.where(mine, q, term.q), k=torch.where(mine, k, term.k))]
        own = torch.where(mine, 1 - self.share, 1.0).to(term.q.dtype)
        given = torch.where(mine, self.share, 0.0).to(term.q.dtype)
        return [replace(term, gate=term.gate * own), replace(term, q=q, k=k, gate=term.gate * given)]
