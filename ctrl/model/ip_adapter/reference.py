"""One style in one run: its tokens, keys and values, and the edit of attention it makes at each step.

In shapes, R are rows of the U-Net's batch, N pictures being made, n reference pictures of one style; *S is what the
image encoder says of one picture, as in `ctrl.model.ip_adapter.adapter`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention import Call, Term

if TYPE_CHECKING:
    from ctrl.model.ip_adapter.adapter import StyleAdapter


@dataclass(frozen=True, eq=False)
class StyleReference:
    """One style in one run: decoupled cross-attention, weight · block · mask · SDPA(q, K(tokens), V(tokens)).

    `cond` is (N, n, *S), the pictures; `uncond` (N, n or 1, *S), blanks or the negative picture, which is
    repeated for each of n; `blocks` a weight for every site; `mask` (N or 1, 1, H, W) in [0, 1] at any size.
    Tokens, keys and values are projected once for each order of branches and kept, bit-equal to projecting
    them at every step, so it is made anew for every run.
    """

    adapter: StyleAdapter
    cond: Tensor
    uncond: Tensor
    blocks: Mapping[str, float]
    mask: Tensor | None = None
    _kept: dict[tuple[str, ...], _Rows] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        strange = sorted(self.blocks.keys() ^ self.adapter.projections.keys())
        if strange:
            raise ValueError(f"blocks must give a weight for every site of {self.adapter.name}; see {strange[0]}.")
        few, many = self.uncond.shape[1], self.cond.shape[1]
        if self.cond.shape[0] != self.uncond.shape[0] or few not in (1, many):
            raise ValueError(
                f"uncond must hold 1 or {many} pictures for each of {len(self.cond)} rows, as cond does; "
                f"got {few} for each of {len(self.uncond)}."
            )

    def at(self, weight: float, branches: Sequence[str] = ("uncond", "cond")) -> StyleEdit:
        """The edit of one step, whose batch holds N rows for each of `branches`, in that order.

        "uncond" sees `uncond`, "cond" and "perturbed" see the pictures; another name raises a ValueError.
        """
        order = tuple(branches)
        if order not in self._kept:
            self._kept[order] = _Rows(self.adapter, self._tokens(order), self.mask)
        return StyleEdit(self._kept[order], self.blocks, weight)

    def _tokens(self, branches: tuple[str, ...]) -> Tensor:
        seen = {"uncond": self.uncond.expand_as(self.cond), "cond": self.cond, "perturbed": self.cond}
        strange = [branch for branch in branches if branch not in seen]
        if strange or not branches:
            raise ValueError(f"branches must be some of uncond, cond and perturbed, got {strange or branches}.")
        return self.adapter.tokens(torch.cat([seen[branch] for branch in branches]))


@dataclass(frozen=True, eq=False)
class StyleEdit:
    """An `Edit` of attention: adds the style's term where its weight is not 0, and nothing elsewhere."""

    rows: _Rows
    blocks: Mapping[str, float]
    weight: float

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with this style's added; a call of a site that is not the adapter's is left alone."""
        gate = self.weight * self.blocks.get(call.site, 0.0)
        if gate == 0:
            return terms
        k, v = self.rows.heads(call)
        return [*terms, Term(call.q, k, v, gate=gate, mask=self.rows.shrunk(call))]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The keys and values of one order of rows, `tokens` (R, T, D), as far as calls have asked for them."""

    adapter: StyleAdapter
    tokens: Tensor
    mask: Tensor | None
    pairs: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def heads(self, call: Call) -> tuple[Tensor, Tensor]:
        """Keys and values of a site, each (R, heads, T, d)."""
        rows, heads, _, depth = call.q.shape
        if rows != len(self.tokens):  # SDPA would broadcast them, and the picture be silently wrong
            raise ValueError(f"the style was prepared for {len(self.tokens)} rows, and {call.site} got {rows}.")
        if call.site not in self.pairs:
            weights = self.adapter.projections[call.site]
            k, v = (
                F.linear(self.tokens, weight).view(rows, -1, heads, depth).transpose(1, 2)
                for weight in (weights.to_k, weights.to_v)
            )
            self.pairs[call.site] = (k, v)
        return self.pairs[call.site]

    def shrunk(self, call: Call) -> Tensor | None:
        """The mask at the size of a call, (R or 1, 1, height·width, 1): bicubic, as diffusers shrinks it."""
        if self.mask is None:
            return None
        size = (call.height, call.width)
        if size not in self.masks:
            mask = F.interpolate(self.mask.float(), size=size, mode="bicubic").flatten(2)[..., None]
            if len(mask) > 1:
                mask = mask.repeat(len(self.tokens) // len(mask), 1, 1, 1)
            self.masks[size] = mask.to(call.q.device, call.q.dtype)
        return self.masks[size]
