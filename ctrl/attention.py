"""One tap on cross-attention: it reads every call, and writes by adding terms to it.

A cross-attention call is a list of terms, Σ gate · mask · SDPA(q, k, v, bias), at first one. An edit turns
the list into another; an observer reads q and k and changes nothing. Processors are neither replaced nor
wrapped: for the length of a `with` block each attention module runs its own forward under a
TorchFunctionMode that catches `scaled_dot_product_attention`, so whatever else is attached to the model
keeps working, and leaving the block by any road leaves the model as it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, eq=False)
class Site:
    """A cross-attention module, by the name of its component and its own: "unet.mid_block…attn2"."""

    name: str
    module: nn.Module
    block: nn.Module  # the transformer around it, whose input still has a height and a width


@dataclass(frozen=True, eq=False)
class Call:
    """One call of scaled_dot_product_attention at a site.

    `q` is (R, heads, height·width, d), `k` and `v` are (R, heads, T, d), with R rows in the order of the
    batch.
    """

    site: str
    q: Tensor
    k: Tensor
    v: Tensor
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Term:
    """One summand, gate · mask · SDPA(q, k, v, bias); `mask` broadcasts to (R, heads, height·width, d)."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None = None
    gate: float = 1.0
    mask: Tensor | None = None


Edit = Callable[[Call, list[Term]], list[Term]]
Observer = Callable[[str, Tensor, Tensor, tuple[int, int]], None]


@dataclass(frozen=True, eq=False)
class Projections:
    """What turns a reference's tokens into keys and values at one site: weights (heads·d, D)."""

    to_k: Tensor
    to_v: Tensor


@dataclass(frozen=True, eq=False)
class Reference:
    """An edit that adds a reference picture's term: decoupled cross-attention (IP-Adapter, arXiv 2308.06721).

    `tokens` is (R, T, D), `mask` (R or 1, 1, H, W) in [0, 1] at any size, or None for everywhere.
    """

    tokens: Tensor
    projections: Mapping[str, Projections]
    gate: float
    mask: Tensor | None = None

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with this reference's added."""
        weights = self.projections[call.site]
        rows, heads, _, depth = call.q.shape
        k = F.linear(self.tokens, weights.to_k).view(rows, -1, heads, depth).transpose(1, 2)
        v = F.linear(self.tokens, weights.to_v).view(rows, -1, heads, depth).transpose(1, 2)
        mask = self.mask
        if mask is not None:  # bicubic, as diffusers shrinks its IP-Adapter masks
            mask = F.interpolate(mask, size=(call.height, call.width), mode="bicubic")
            mask = mask.reshape(mask.shape[0], 1, -1, 1)
        return [*terms, Term(call.q, k, v, gate=self.gate, mask=mask)]


def sites(component: nn.Module, name: str = "unet") -> tuple[Site, ...]:
    """The cross-attention modules of a U-Net or ControlNet, in the order diffusers numbers them."""
    modules = dict(component.named_modules())
    found = [path for path in modules if path.endswith(".attn2")]
    return tuple(
        Site(f"{name}.{path}", modules[path], modules[path.split(".transformer_blocks.")[0]])
        for path in found
    )


@contextmanager
def tap(
    component: nn.Module,
    *,
    name: str = "unet",
    edits: Sequence[Edit] = (),
    observers: Sequence[Observer] = (),
) -> Iterator[None]:
    """Edit and observe every cross-attention call of `component` inside the block.

    An observer is called as `observer(site, q, k, (height, width))` with q (R, heads, height·width, d) and
    k (R, heads, T, d) of the text's call; it must not change them. Blocks may be nested. A RuntimeError
    says so when a site was never seen, since a map with holes would look like a whole one.
    """
    taps = [_Tap(site, tuple(edits), tuple(observers)) for site in sites(component, name)]
    if not taps:
        raise RuntimeError(f"{name} has no cross-attention (no module named attn2): there is nothing to tap.")
    with ExitStack() as stack:
        for one in taps:
            stack.enter_context(one.attached())
        yield
    blind = [one.site.name for one in taps if not one.calls]
    if blind:
        raise RuntimeError(
            f"{len(blind)} of {len(taps)} attention sites were never reached, such as {blind[0]}."
        )


@dataclass
class _Tap:
    site: Site
    edits: tuple[Edit, ...]
    observers: tuple[Observer, ...]
    shape: tuple[int, int] = (0, 0)
    calls: int = field(default=0)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Put this tap's forward in front of the module's own, and take it away again."""
        module, held = self.site.module, self.site.module.__dict__
        before, original = held.get("forward"), self.site.module.forward

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            mode = _Catch(self)
            with mode:
                out = original(*args, **kwargs)
            if not mode.caught:
                processor = type(getattr(module, "processor", module)).__name__
                raise RuntimeError(
                    f"{self.site.name} made no scaled_dot_product_attention call under {processor}: "
                    "give the model its default attention processors."
                )
            return out

        handle = self.site.block.register_forward_pre_hook(self._see_shape, with_kwargs=True)
        module.forward = forward
        try:
            yield
        finally:
            handle.remove()
            if before is None:
                del held["forward"]
            else:
                module.forward = before

    def _see_shape(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states: Tensor = args[0] if args else kwargs["hidden_states"]  # (R, C, h, w)
        self.shape = (states.shape[-2], states.shape[-1])

    def run(self, sdpa: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The call as edited, after the observers have seen it."""
        self.calls += 1
        q, k, v, bias, rest = _arguments(*args, **kwargs)
        call = Call(self.site.name, q, k, v, *self.shape)
        for observer in self.observers:
            observer(call.site, q, k, self.shape)
        if not self.edits:
            return sdpa(*args, **kwargs)
        terms = [Term(q, k, v, bias)]
        for edit in self.edits:
            terms = edit(call, terms)
        return functools.reduce(torch.add, (_summand(term, sdpa, rest) for term in terms))


class _Catch(TorchFunctionMode):
    """Hands the first attention call of a module's forward, the text's, to its tap."""

    def __init__(self, tapped: _Tap) -> None:
        self.tapped, self.caught = tapped, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and not self.caught:
            self.caught = True
            return self.tapped.run(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _summand(term: Term, sdpa: Callable[..., Tensor], rest: dict[str, Any]) -> Tensor:
    out = sdpa(term.q, term.k, term.v, attn_mask=term.bias, **rest)
    out = out if term.mask is None else out * term.mask
    return out if term.gate == 1.0 else term.gate * out


def _arguments(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, dict[str, Any]]:
    """SDPA's arguments, which some processors pass by position and some by name."""
    return query, key, value, attn_mask, dict(zip(("dropout_p", "is_causal"), rest, strict=False)) | named
