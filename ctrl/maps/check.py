"""The reconstruction check: shares times values must give what the network computed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ctrl.attention import Call, Term
from ctrl.maps.shares import shares, take

PLACES = 16  # of a call that is checked
EVERY = 8  # steps: one call is checked in the first of them
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass
class Check:
    """How far shares times values were from the output of attention at the calls that were checked.

    Differences are relative to the largest number of the output. `worst` and `tolerance` are None before any check.
    """

    differences: list[Tensor] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    tolerance: float | None = None

    def of(self, call: Call, terms: Sequence[Term]) -> Callable[[Tensor], None]:
        """A check of this call, to be called with its output (R, heads, p, d)."""
        row = [call.rows.cond[0] if call.rows is not None and call.rows.cond else 0]
        places = torch.linspace(0, call.q.shape[2] - 1, min(PLACES, call.q.shape[2]), device=call.q.device).long()
        again = functools.reduce(torch.add, (_at(term, row, places) for term in terms))

        def compare(out: Tensor) -> None:
            true = take(out, row).float()[:, :, places]
            scale = true.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
            self.differences.append((again - true).abs().amax() / scale)
            self.sites.append(call.site)
            self.tolerance = max(self.tolerance or 0.0, TOLERANCES.get(out.dtype, 1e-2))

        return compare

    @property
    def worst(self) -> float | None:
        """The largest difference; a number that is not finite counts as infinity."""
        if not self.differences:
            return None
        worst = torch.stack(self.differences).nan_to_num(nan=torch.inf).amax()
        return float(worst)


def _at(term: Term, row: list[int], places: Tensor) -> Tensor:
    """The term's output (1, heads, places, d) by its shares, in float32."""
    if row[0] in term.identity:
        out = take(term.v, row).float()[:, :, places]
    else:
        bias = None if term.bias is None else _rows_of(term.bias, row, places)
        spread = None if term.spread is None else take(term.spread, row)
        few = Term(take(term.q, row)[:, :, places], take(term.k, row), term.v, bias, spread=spread)
        out = shares(few, [0]) @ take(term.v, row).float()
    out = out if term.mask is None else out * _rows_of(term.mask, row, places)
    return out * _rows_of(term.gate, row, places) if isinstance(term.gate, Tensor) else term.gate * out


def _rows_of(tensor: Tensor, row: list[int], places: Tensor) -> Tensor:
    """Of what broadcasts to (R, heads, p, …), one row and some places."""
    own = take(tensor, row)
    return own if own.shape[2] == 1 else own[:, :, places]
