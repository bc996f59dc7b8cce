"""One tap on attention: it reads every call, and writes by changing the terms of a call.

A call is a list of terms, Σ gate · mask · SDPA(q, k, v, bias), at first one. An edit turns the list into another; an
observer sees the list after the edits and changes nothing. Processors are neither replaced nor wrapped: inside a `with`
block each attention module runs its own forward under a TorchFunctionMode that catches `scaled_dot_product_attention`,
so whatever else is attached to the model keeps working, and however the block is left, the model is as it was before.
A module on which nothing acts is not touched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ctrl.attention.adapters import Adapted, adapted
from ctrl.attention.hooks import Hooks
from ctrl.attention.terms import PROMPT, SELF, Call, Edit, Observer, Site, Term


@contextmanager
def tap(places: Sequence[Site], hooks: Hooks) -> Iterator[None]:
    """Let hooks act on the attention calls of one component, whose `sites` are given, inside the block.

    Blocks may be nested. A ValueError names a block in which a hook has no site; a RuntimeError says that there is
    nothing to tap, or that a site was never reached, since a map with holes would look like a whole one.
    """
    acting = hooks.at(places)
    if (hooks.edits or hooks.observers) and not places:
        raise RuntimeError("the network has no attention (no module named attn1 or attn2): there is nothing to tap.")
    taps = [_Tap(site, *acting[site.name], hooks) for site in places if site.name in acting]
    with ExitStack() as stack:
        if hooks.kv is not None:
            stack.enter_context(hooks.kv.attached([site for site in places if site.kind == "cross"]))
        for tapped in taps:
            stack.enter_context(tapped.attached())
        yield
    blind = [tapped.site.name for tapped in taps if not tapped.calls]
    if blind:
        raise RuntimeError(f"{len(blind)} of {len(taps)} attention sites were never reached, such as {blind[0]}.")


@dataclass
class _Tap:
    site: Site
    edits: Sequence[Edit]
    observers: Sequence[Observer]
    hooks: Hooks
    shape: tuple[int, int] = (0, 0)
    stream: Tensor | None = None
    calls: int = field(default=0)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Temporarily replace the module's forward."""
        module, original = self.site.module, self.site.module.forward

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            mode = _Catch(self, adapted(module, args, kwargs))
            with mode:
                out = original(*args, **kwargs)
            if not mode.caught:
                processor = type(getattr(module, "processor", module)).__name__
                raise RuntimeError(
                    f"{self.site.name} made no scaled_dot_product_attention call under {processor}: "
                    "give the model its default attention processors."
                )
            return out

        with ExitStack() as stack:
            stack.callback(self.site.block.register_forward_pre_hook(self._see_shape, with_kwargs=True).remove)
            if self.observers and (norm := self.site.norm) is not None:
                stack.callback(norm.register_forward_pre_hook(self._see_stream).remove)
            stack.enter_context(_forward(module, forward))
            yield
        self.stream = None

    def _see_stream(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.stream = args[0]

    def _see_shape(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states: Tensor = args[0] if args else kwargs["hidden_states"]  # (R, C, h, w)
        self.shape = (states.shape[-2], states.shape[-1])

    def run_adapted(
        self, adapted_call: Adapted, sdpa: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """A further call, which an IP-Adapter's processor makes for its pictures: observed, never edited."""
        q, k, v, bias, _ = _arguments(*args, **kwargs)
        term = Term(q, k, v, bias, adapted_call.gate, adapted_call.mask_at(*self.shape), source=adapted_call.source)
        seen = [observer(self._call(q, k, v), (term,)) for observer in self.observers]
        out = sdpa(*args, **kwargs)
        for after in seen:
            if callable(after):
                after(adapted_call.gate * (out if term.mask is None else out * term.mask))
        return out

    def _call(self, q: Tensor, k: Tensor, v: Tensor) -> Call:
        site, hooks = self.site, self.hooks
        return Call(site.name, q, k, v, *self.shape, site.module, site.kind, hooks.rows, hooks.step, self.stream)

    def run(self, sdpa: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The call as edited; the observers see what is computed, and its output if they ask for it."""
        self.calls += 1
        q, k, v, bias, rest = _arguments(*args, **kwargs)
        call = self._call(q, k, v)
        terms = [Term(q, k, v, bias, source=PROMPT if self.site.kind == "cross" else SELF)]
        for edit in self.edits:
            terms = edit(call, terms)
        seen = [observer(call, tuple(terms)) for observer in self.observers]
        if self.edits:
            out = functools.reduce(torch.add, (_summand(term, sdpa, rest) for term in terms))
        else:
            out = sdpa(*args, **kwargs)
        for after in seen:
            if callable(after):
                after(out)
        return out


class _Catch(TorchFunctionMode):
    """Hands the first attention call of a module's forward to its tap, and shows it those of an IP-Adapter after it."""

    def __init__(self, tapped: _Tap, further: Iterator[Adapted]) -> None:
        self.tapped, self.further, self.caught = tapped, further, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and not self.caught:
            self.caught = True
            return self.tapped.run(func, args, kwargs or {})
        if func is F.scaled_dot_product_attention and (adapted_call := next(self.further, None)) is not None:
            return self.tapped.run_adapted(adapted_call, func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another forward for one module; one that was set before is restored."""
    held, before = module.__dict__, module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del held["forward"]
        else:
            module.forward = before


def _summand(term: Term, sdpa: Callable[..., Tensor], rest: dict[str, Any]) -> Tensor:
    out = sdpa(term.q, term.k, term.v, attn_mask=term.bias, **rest)
    if term.identity:
        out = out.clone()
        for row in term.identity:
            out[row] = term.v[row]
    out = out if term.mask is None else out * term.mask
    return out if term.gate == 1.0 else term.gate * out


def _arguments(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, dict[str, Any]]:
    """SDPA's arguments, which some processors pass by position and some by name."""
    return query, key, value, attn_mask, dict(zip(("dropout_p", "is_causal"), rest, strict=False)) | named
