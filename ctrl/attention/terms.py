"""A call of attention and the terms it is made of, Σ gate · mask · SDPA(q, k, v, bias)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Site:
    """An attention module, by the name of its component and its own: "unet.mid_block…attn2"."""

    name: str
    module: nn.Module
    block: nn.Module  # the transformer around it, whose input still has a height and a width


@dataclass(frozen=True, eq=False)
class Call:
    """One call of scaled_dot_product_attention at a site.

    `q` is (R, heads, height·width, d), `k` and `v` are (R, heads, T, d), with R rows in the order of the
    batch; in self-attention T is height·width. `module` is the attention module that made the call.
    """

    site: str
    q: Tensor
    k: Tensor
    v: Tensor
    height: int
    width: int
    module: Any = None  # diffusers' Attention; its parts are typed by nobody

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (R, heads, T, d) of other text states (R or 1, T, D), by the site's own layers."""
        module, (rows, heads, _, depth) = self.module, self.q.shape
        if len(states) not in (1, rows):  # SDPA would broadcast some of them, and the picture be silently wrong
            raise ValueError(f"states must have 1 or {rows} rows, as {self.site} has, got {len(states)}.")
        states = module.norm_encoder_hidden_states(states) if module.norm_cross else states
        k, v = (
            layer(states).view(len(states), -1, heads, depth).transpose(1, 2) for layer in (module.to_k, module.to_v)
        )
        k = k if module.norm_k is None else module.norm_k(k)
        return k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)


@dataclass(frozen=True, eq=False)
class Term:
    """One summand, gate · mask · SDPA(q, k, v, bias); `mask` broadcasts to (R, heads, height·width, d).

    In the rows `identity` each place attends to itself alone, so that SDPA is v.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None = None
    gate: float = 1.0
    mask: Tensor | None = None
    identity: tuple[int, ...] = ()


Edit = Callable[[Call, list[Term]], list[Term]]
Observer = Callable[[str, Tensor, Tensor, tuple[int, int]], None]


@dataclass(frozen=True, eq=False)
class Projections:
    """What turns a reference's tokens into keys and values at one site: weights (heads·d, D)."""

    to_k: Tensor
    to_v: Tensor
