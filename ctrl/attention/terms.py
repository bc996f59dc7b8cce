"""A call of attention and the terms it is made of, Σ gate · mask · SDPA(q, k, v, bias).

R are the rows of the batch, T the tokens attended to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor, nn

from ctrl.rows import Rows

Kind = Literal["cross", "self"]


@dataclass(frozen=True, eq=False)
class Site:
    """An attention module by the name of its component and its own, "unet.mid_block…attn2"."""

    name: str
    kind: Kind
    module: nn.Module
    block: nn.Module  # the transformer around it, whose input still has a height and a width

    @cached_property
    def component(self) -> str:
        """The network it is in: "unet", or the kind of a ControlNet."""
        return self.name.partition(".")[0]

    @cached_property
    def norm(self) -> nn.Module | None:
        """The layer before the module, which reads the features that the module's output is added to."""
        within = self.name.partition(".transformer_blocks.")[2].rpartition(".")[0]
        if not within:
            return None
        parent = self.block.get_submodule(f"transformer_blocks.{within}")
        return getattr(parent, "norm2" if self.kind == "cross" else "norm1", None)

    @cached_property
    def path(self) -> str:
        """Its name within the component."""
        return self.name.partition(".")[2]


@dataclass(frozen=True)
class Source:
    """Where a term's keys and values come from: the prompt, a region or style of the recipe by number, the negative
    prompt where it is read beside the prompt (NAG), or the picture.

    The tokens of a style's reference pictures follow one another, equally many of each of its `pictures`.
    """

    kind: Literal["prompt", "region", "style", "negative", "self"]
    index: int = 0
    pictures: int = 1

    def __str__(self) -> str:
        return f"{self.kind} {self.index}" if self.kind in ("region", "style") else self.kind


PROMPT, SELF = Source("prompt"), Source("self")


@dataclass(frozen=True, eq=False)
class Call:
    """One call of scaled_dot_product_attention at a site.

    `q` is (R, heads, height·width, d), `k` and `v` are (R, heads, T, d); in self-attention T is height·width. `module`
    is the attention module that made the call. `rows` says which row of the batch is which and `step` which evaluation
    of the run this is, where the caller knows. `stream` is (R, height·width, C), the features to which the module's
    output is added, for observers.
    """

    site: str
    q: Tensor
    k: Tensor
    v: Tensor
    height: int
    width: int
    module: Any = None  # diffusers' Attention; its parts are typed by nobody
    kind: Kind = "cross"
    rows: Rows | None = None
    step: int | None = None
    stream: Tensor | None = None

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

    `gate` is how strongly the term acts, a number or (R, 1, height·width or 1, 1); `mask` says where. With a `spread`
    (R or 1, K, T) the K keys stand for other tokens than the T values, and it is SDPA(q, k, spread · v, bias); one of
    (R or 1, 1, T) is diagonal. In the rows `identity` each place attends to itself alone, so that SDPA is v.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None = None
    gate: float | Tensor = 1.0
    mask: Tensor | None = None
    identity: tuple[int, ...] = ()
    source: Source = PROMPT
    spread: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """What each key brings, (R, heads, K, d)."""
        if self.spread is None:
            return self.v
        return self.spread.mT[:, None] * self.v if self.spread.shape[1] == 1 else self.spread[:, None] @ self.v

    def weighed(self, out: Tensor) -> Tensor:
        """gate · mask · `out`, which is SDPA(q, k, v, bias); `out` itself where there is nothing to multiply."""
        out = out if self.mask is None else out * self.mask
        return out if isinstance(self.gate, float) and self.gate == 1.0 else self.gate * out


Edit = Callable[[Call, list[Term]], list[Term]]
# An observer may answer with a function, which is then called with the output (R, heads, height·width, d) of the call.
Observer = Callable[[Call, Sequence[Term]], Callable[[Tensor], None] | None]
# For what is not linear in the terms: of the terms after all edits and SDPA(q, k, v, bias) of each, (R, heads,
# height·width, d), the same terms with other gates.
Combine = Callable[[Call, Sequence[Term], Sequence[Tensor]], list[Term]]


@dataclass(frozen=True, eq=False)
class Projections:
    """The layers that turn a reference's tokens into keys and values at one site: weights (heads·d, D)."""

    to_k: Tensor
    to_v: Tensor
