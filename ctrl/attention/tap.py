"""One tap on attention: it reads every call, and writes by changing the terms of a call.

A call is a list of terms, Σ gate · mask · SDPA(q, k, v, bias), at first one. An edit turns the list into another; an
observer sees the list after the edits and changes nothing. What is not linear in the terms has one slot after them,
`combine`, which sets their gates. Processors are neither replaced nor wrapped: inside a `with`
block each attention module runs its own forward under a TorchFunctionMode that catches `scaled_dot_product_attention`,
so whatever else is attached to the model keeps working, and however the block is left, the model is as it was before.
A module on which nothing acts, itself or within it, is not touched.
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
from ctrl.attention.graphed import graphed
from ctrl.attention.hooks import Hooks, Pause
from ctrl.attention.override import override
from ctrl.attention.terms import PROMPT, SELF, Call, Edit, Observer, Site, Term


@contextmanager
def tap(places: Sequence[Site], hooks: Hooks, *, compiled: bool = False) -> Iterator[None]:
    """Let hooks act on the attention calls of one component, whose `sites` are given, inside the block.

    Blocks may be nested. Of a `compiled` component, which is called as a graph, all sites must be given, see `graphed`.
    A ValueError names a block in which a hook has no site; a RuntimeError says that there is nothing to tap, or that a
    site was never reached, since a map with holes would look like a whole one.
    """
    acting = hooks.at(places)
    if hooks.act and not places:
        raise RuntimeError("the network has no attention (no module named attn1 or attn2): there is nothing to tap.")
    around: dict[nn.Module, _Shape] = {}
    taps = []
    for site in places:
        if site.name in acting:
            shape = around.setdefault(site.block, _Shape(site.block.forward))
            taps.append(_Tap(site, *acting[site.name], hooks, shape, site.module.forward))
    with ExitStack() as stack:
        if hooks.kv is not None:
            stack.enter_context(hooks.kv.attached([site for site in places if site.kind == "cross"]))
        if compiled and taps:
            by_name = {tapped.site.name: tapped for tapped in taps}
            acts = {number: by_name[site.name] for number, site in enumerate(places) if site.name in by_name}
            stack.enter_context(graphed(places, acts))
        else:
            methods = [(module, shape.forward) for module, shape in around.items()]
            methods += [(norm, tapped.norm_forward(norm)) for tapped in taps if (norm := tapped.norm) is not None]
            methods += [(tapped.site.module, tapped.forward) for tapped in taps]
            stack.enter_context(override("forward", methods))
        for site in [site for site in places if site.kind == "cross"] if hooks.pauses else ():
            stack.callback(site.module.register_forward_pre_hook(_pausing(hooks.pauses)).remove)
        yield
    blind = [tapped.site.name for tapped in taps if not tapped.calls]
    if blind:
        raise RuntimeError(f"{len(blind)} of {len(taps)} attention sites were never reached, such as {blind[0]}.")


def _pausing(pauses: Sequence[Pause]) -> Callable[..., None]:
    def before(*_: Any) -> None:
        for pause in pauses:
            pause.check()

    return before


class _Shape:
    """The height and width of a transformer's input, which the attention calls in it have lost."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original, self.size = original, (0, 0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The transformer's own forward."""
        states: Tensor = args[0] if args else kwargs["hidden_states"]  # (R, C, h, w)
        self.size = (states.shape[-2], states.shape[-1])
        return self.original(*args, **kwargs)


@dataclass(eq=False)
class _Tap:
    site: Site
    edits: Sequence[Edit]
    observers: Sequence[Observer]
    hooks: Hooks
    shape: _Shape
    original: Callable[..., Any]  # the module's own forward
    stream: Tensor | None = None
    calls: int = field(default=0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own forward, its attention calls caught."""
        module = self.site.module
        mode = _Catch(self, adapted(module, args, kwargs))
        with mode:
            out = self.original(*args, **kwargs)
        self.stream = None
        if not mode.caught:
            processor = type(getattr(module, "processor", module)).__name__
            raise RuntimeError(
                f"{self.site.name} made no scaled_dot_product_attention call under {processor}: "
                "give the model its default attention processors."
            )
        return out

    @property
    def norm(self) -> nn.Module | None:
        """The layer that reads the features which the output is added to, where an observer may want them."""
        return self.site.norm if self.observers else None

    def norm_forward(self, norm: nn.Module) -> Callable[..., Any]:
        """That layer's own forward, which keeps the features for the call after it."""
        original = norm.forward

        def forward(states: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.stream = states
            return original(states, *args, **kwargs)

        return forward

    def run_at(
        self, size: tuple[int, int], stream: Tensor | None, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
    ) -> Tensor:
        """The output of a call in a compiled network, see `graphed`."""
        self.shape.size, self.stream = size, stream
        return self.run(F.scaled_dot_product_attention, (q, k, v), {"attn_mask": bias})

    def run_adapted(
        self, adapted_call: Adapted, sdpa: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """A further call, which an IP-Adapter's processor makes for its pictures: observed, never edited."""
        q, k, v, bias, _ = _arguments(*args, **kwargs)
        term = Term(
            q, k, v, bias, adapted_call.gate, adapted_call.mask_at(*self.shape.size), source=adapted_call.source
        )
        seen = [observer(self._call(q, k, v), (term,)) for observer in self.observers]
        out = sdpa(*args, **kwargs)
        for after in seen:
            if callable(after):
                after(term.weighed(out))
        return out

    def _call(self, q: Tensor, k: Tensor, v: Tensor) -> Call:
        site, hooks = self.site, self.hooks
        return Call(site.name, q, k, v, *self.shape.size, site.module, site.kind, hooks.rows, hooks.step, self.stream)

    def run(self, sdpa: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The call as edited; the observers see what is computed, and its output if they ask for it."""
        self.calls += 1
        q, k, v, bias, rest = _arguments(*args, **kwargs)
        call = self._call(q, k, v)
        terms = [Term(q, k, v, bias, source=PROMPT if self.site.kind == "cross" else SELF)]
        for edit in self.edits:
            terms = edit(call, terms)
        combine = self.hooks.combine if self.site.kind == "cross" else None
        if combine is not None:
            parts = [_attended(term, sdpa, rest) for term in terms]
            terms = combine(call, terms, parts)
        seen = [observer(call, tuple(terms)) for observer in self.observers]
        if combine is not None:
            out = functools.reduce(torch.add, map(Term.weighed, terms, parts))
        elif self.edits:
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
        if func is F.scaled_dot_product_attention:
            return self._attended(func, args, kwargs or {})
        return func(*args, **kwargs) if kwargs else func(*args)  # most of what a forward calls

    def _attended(self, sdpa: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        if not self.caught:
            self.caught = True
            return self.tapped.run(sdpa, args, kwargs)
        if (adapted_call := next(self.further, None)) is not None:
            return self.tapped.run_adapted(adapted_call, sdpa, args, kwargs)
        return sdpa(*args, **kwargs)


def _summand(term: Term, sdpa: Callable[..., Tensor], rest: dict[str, Any]) -> Tensor:
    return term.weighed(_attended(term, sdpa, rest))


def _attended(term: Term, sdpa: Callable[..., Tensor], rest: dict[str, Any]) -> Tensor:
    out = sdpa(term.q, term.k, term.values, attn_mask=term.bias, **rest)
    if term.identity:
        out = out.clone()
        for row in term.identity:
            out[row] = term.v[row, :, : out.shape[2]]  # the picture's own places come first
    return out


def _arguments(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, dict[str, Any]]:
    """SDPA's arguments, which some processors pass by position and some by name."""
    return query, key, value, attn_mask, dict(zip(("dropout_p", "is_causal"), rest, strict=False)) | named
