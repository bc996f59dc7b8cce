"""The shares of attention of a term, in float32: how much of its attention each place gives to each token.

R are the rows of a batch, n those that are asked, p places (height · width), t tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from ctrl.attention import Term


def take(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """(n, …): some rows of (R, …), without a copy where they follow one another; (1, …) serves every row."""
    if len(tensor) == 1:
        return tensor.expand(len(rows), *tensor.shape[1:])
    if tuple(rows) == tuple(range(rows[0], rows[0] + len(rows))):
        return tensor[rows[0] : rows[0] + len(rows)]
    return tensor[list(rows)]


def shares(term: Term, rows: Sequence[int], heads: Sequence[int] | None = None) -> Tensor:
    """(n, heads, p, t): softmax(q · kᵀ / √d + bias) of some rows and heads; over the tokens the sum is 1.

    Shares of a term with a `spread` are those of the tokens that it is spread to.
    Keys are scaled before the product, since float16 overflows in SD 2.x otherwise.
    """
    if term.bias is None and term.spread is None and heads is None:
        every: Tensor = _of_heads(term, rows).unflatten(0, (len(rows), -1))
        return every
    q, k = take(term.q, rows), take(term.k, rows)
    bias = None if term.bias is None else take(term.bias, rows)
    if heads is not None:
        q, k = q[:, list(heads)], k[:, list(heads)]
        bias = bias if bias is None or bias.shape[1] == 1 else bias[:, list(heads)]
    keys = rearrange(k * k.shape[-1] ** -0.5, "n h t d -> (n h) d t")
    scores = torch.bmm(rearrange(q, "n h p d -> (n h) p d"), keys).unflatten(0, q.shape[:2])
    if bias is not None:
        scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias
    found: Tensor = scores.softmax(-1, dtype=torch.float32)
    if term.spread is None:
        return found
    spread = take(term.spread, rows)[:, None].float()
    return found * spread if spread.shape[2] == 1 else found @ spread


def gate(term: Term, rows: Sequence[int]) -> float | Tensor:
    """How strongly a term acts in some rows: a number, or (n, 1, p, 1)."""
    return take(term.gate, rows) if isinstance(term.gate, Tensor) else term.gate


def mean_shares(
    term: Term, rows: Sequence[int], heads: Sequence[int] | None = None, tokens: Tensor | slice | None = None
) -> Tensor:
    """(n, p, t): the mean of `shares` over heads, where the term acts; of some tokens, by their numbers, or of all.

    Tokens are taken after the mean: there are fewer numbers by then.
    """
    mask = acting(term, rows)
    if mask is None and heads is None and term.bias is None and term.spread is None:
        every = _of_heads(term, rows)
        mean = every.mean(0, keepdim=True) if len(rows) == 1 else every.unflatten(0, (len(rows), -1)).mean(1)
    else:
        found = shares(term, rows, heads)
        mean = (found if mask is None else found * mask).mean(1)
    return mean if tokens is None else mean[..., tokens]


def _of_heads(term: Term, rows: Sequence[int]) -> Tensor:
    """(n · heads, p, t): the shares of all heads, of a term without bias and spread."""
    if len(rows) == 1:
        q, k = (tensor[rows[0] if len(tensor) > 1 else 0] for tensor in (term.q, term.k))  # (heads, …)
    else:
        q, k = (take(tensor, rows).flatten(0, 1) for tensor in (term.q, term.k))
    scores = torch.baddbmm(q.new_empty(1), q, k.mT, beta=0, alpha=q.shape[-1] ** -0.5)  # scaled before it is rounded
    found: Tensor = scores.softmax(-1, dtype=torch.float32)
    return found


def acting(term: Term, rows: Sequence[int]) -> Tensor | None:
    """Where a term acts, (n, heads or 1, p or 1, 1) in [0, 1]: its mask, not its gate; None for everywhere."""
    if term.mask is None:
        return None
    mask = take(term.mask, rows)
    return mask if mask.shape[-1] == 1 else mask.mean(-1, keepdim=True)
