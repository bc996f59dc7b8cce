"""One style in one run: its tokens, keys and values, and the edit of attention it makes at each step.

In shapes, R are rows of the U-Net's batch, N pictures being made, n reference pictures of one style; *S is the shape of
the image encoder's embedding of one picture, as in `ctrl.model.ip_adapter.adapter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention import Call, Source, Term
from ctrl.memory import SHARED, Keep, Memory
from ctrl.model.ip_adapter.adapter import StyleAdapter
from ctrl.rows import Rows

COMBINE = ("concat", "average")


@dataclass(frozen=True, eq=False)
class StyleReference:
    """One style: decoupled cross-attention, weight · block · mask · SDPA(q, K(tokens), V(tokens)).

    `cond` is (N, n, *S), the pictures; `uncond` (N, n or 1, *S), blanks or the negative picture, which is
    repeated for each of n; `blocks` a weight for every site; `mask` (N or 1, 1, H, W) in [0, 1] at any size.
    `keep` remembers tokens, keys and values, which are then bit-equal to projecting them at every step, and the mask at
    every size, unless `keep_mask` is False.
    """

    adapter: StyleAdapter = field(metadata=SHARED)
    cond: Tensor
    uncond: Tensor
    blocks: Mapping[str, float]
    mask: Tensor | None = None
    keep: Keep = field(default_factory=Memory, repr=False)
    keep_mask: bool = True

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

    @staticmethod
    def of(
        adapter: StyleAdapter,
        cond: Tensor,
        uncond: Tensor,
        *,
        blocks: Mapping[str, float],
        mask: Tensor | None = None,
        combine: str = "concat",
        keep: Keep | None = None,
    ) -> StyleReference:
        """A style of several pictures, by "concat", their tokens one after another in one softmax, or by "average", the
        tokens of their mean embedding."""
        if combine not in COMBINE:
            raise ValueError(f"combine must be 'concat' or 'average', got {combine!r}.")
        if combine == "average":
            cond, uncond = (embeds.mean(1, keepdim=True) for embeds in (cond, uncond))
        return StyleReference(adapter, cond, uncond, blocks, mask, Memory() if keep is None else keep)

    def masked(self, mask: Tensor) -> StyleReference:
        """The same style with a mask (N, 1, h, w) of one step."""
        return replace(self, mask=mask, keep_mask=False)

    def at(self, weight: float, rows: Rows, index: int = 0) -> StyleEdit:
        """The edit of one step; `index` is the style's number in its recipe."""
        if rows.pictures != len(self.cond):
            raise ValueError(f"the style was prepared for {len(self.cond)} pictures, and rows has {rows.pictures}.")
        return StyleEdit(self, rows, weight, index)

    def tokens(self, rows: Rows) -> Tensor:
        """The tokens (R, n·t, D) of all rows."""
        return self.keep(("tokens", rows), lambda: self._tokens(rows))

    def _tokens(self, rows: Rows) -> Tensor:
        uncond = self.uncond.expand_as(self.cond)
        return self.adapter.tokens(torch.cat([uncond if branch == "uncond" else self.cond for branch in rows.branches]))


@dataclass(frozen=True, eq=False)
class StyleEdit:
    """An `Edit` of attention: adds the style's term where its weight is not 0, and nothing elsewhere."""

    style: StyleReference
    rows: Rows
    weight: float
    index: int

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with this style's added; a call of a site that is not the adapter's is left alone."""
        gate = self.weight * self.style.blocks.get(call.site, 0.0)
        if gate == 0:
            return terms
        if len(call.q) != len(self.rows):  # SDPA would broadcast them, and the picture be silently wrong
            raise ValueError(f"the style was prepared for {len(self.rows)} rows, and {call.site} got {len(call.q)}.")
        k, v = self.style.keep(("kv", self.rows, call.site), lambda: self._heads(call))
        source = Source("style", self.index, self.style.cond.shape[1])
        return [*terms, Term(call.q, k, v, gate=gate, mask=self._mask(call), source=source)]

    def _heads(self, call: Call) -> tuple[Tensor, Tensor]:
        """Keys and values of a site, each (R, heads, n·t, d)."""
        rows, heads, _, depth = call.q.shape
        tokens, layers = self.style.tokens(self.rows), self.style.adapter.projections[call.site]
        k, v = (
            F.linear(tokens, layer).view(rows, -1, heads, depth).transpose(1, 2) for layer in (layers.to_k, layers.to_v)
        )
        return k, v

    def _mask(self, call: Call) -> Tensor | None:
        """The mask at the size of a call, (R or 1, 1, height·width, 1)."""
        mask, size = self.style.mask, (call.height, call.width)
        if mask is None:
            return None

        def shrunk() -> Tensor:
            return _shrunk(mask, size, len(self.rows)).to(call.q.device, call.q.dtype)

        return self.style.keep(("mask", self.rows, size, call.q.dtype), shrunk) if self.style.keep_mask else shrunk()


def _shrunk(mask: Tensor, size: tuple[int, int], rows: int) -> Tensor:
    """Bicubic, as diffusers shrinks it."""
    mask = F.interpolate(mask.float(), size=size, mode="bicubic").flatten(2)[..., None]
    return mask.repeat(rows // len(mask), 1, 1, 1) if len(mask) > 1 else mask
