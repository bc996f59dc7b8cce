"""The tap on a compiled network: its graph has one opaque operation for each attention call, and no Python of hooks.

Hooks come and go and differ from step to step, which a graph would be compiled again for. So a network that is called
with hooks is traced with `ctrl::attend` in the place of `scaled_dot_product_attention`, at every site, whatever the
hooks are; that operation, when it runs, does what the hooks of the call say. Each network thus has two graphs, with
hooks and without. Some calls have no graph, and run eagerly: those whose other layers carry hooks, as influence with
ControlNets and probes need, since a graph would be compiled again for each of them, and those of a U-Net with an
IP-Adapter loaded into its processors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ctrl.attention.override import override
from ctrl.attention.terms import Site


class Tapped(Protocol):
    """What acts on the attention calls of one site."""

    def run_at(
        self, size: tuple[int, int], stream: Tensor | None, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
    ) -> Tensor:
        """The output of a call in a transformer of this height and width, and with these features before it."""


class _Running(threading.local):
    """The taps of the call that this thread is in, by the number of their site."""

    def __init__(self) -> None:  # in every thread
        self.taps: Mapping[int, Tapped] = {}


_running = _Running()


@torch.library.custom_op("ctrl::attend", mutates_args=())
def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, stream: Tensor | None, site: int, height: int, width: int
) -> Tensor:
    """The attention of a site as the taps of this thread have it: scaled_dot_product_attention where none acts."""
    tapped = _running.taps.get(site)
    if tapped is None:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    else:
        out = tapped.run_at((height, width), stream, q, k, v, bias)
    return out.contiguous()  # the strides that the graph expects, see below


@attend.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, stream: Tensor | None, site: int, height: int, width: int
) -> Tensor:
    return q.new_empty(*q.shape[:-1], v.shape[-1])


def is_compiled(module: Any) -> bool:
    """Whether calls of a module run as a graph, by `module.compile()` or as what `torch.compile(module)` returns."""
    return module._compiled_call_impl is not None or hasattr(module, "_orig_mod")


def has_graph(module: nn.Module, *, tapped: bool = True) -> bool:
    """Whether a call of a compiled module may run as its graph; `tapped` calls have hooks on attention."""
    adapted = getattr(getattr(module, "config", None), "encoder_hid_dim_type", None) == "ip_image_proj"
    hooked = any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())
    return not hooked and not (tapped and adapted)


def callable_of(module: nn.Module, *, tapped: bool) -> tuple[Callable[..., Any], bool]:
    """What runs a module, and whether that is its graph; a compiled module that has none for the call runs eagerly."""
    if not is_compiled(module):
        return module, False
    as_graph = has_graph(module, tapped=tapped)
    return (module if as_graph else module._call_impl), as_graph


@contextmanager
def graphed(places: Sequence[Site], taps: Mapping[int, Tapped]) -> Iterator[None]:
    """Let taps act on the sites of a compiled network, by their numbers in `places`, inside the block."""
    before, _running.taps = _running.taps, taps
    try:
        with override("forward", _methods(places)):
            yield
    finally:
        _running.taps = before


def _methods(places: Sequence[Site]) -> list[tuple[nn.Module, Callable[..., Any]]]:
    """The forwards of all sites and of what is around them.

    Closures, made anew for every call: a graph is guarded by their code, and a bound method by its object.
    """
    sizes: dict[str, tuple[int, int]] = {}
    streams: dict[int, Tensor] = {}
    methods: dict[nn.Module, Callable[..., Any]] = {}
    for number, site in enumerate(places):
        block = site.path.partition(".transformer_blocks.")[0]
        if site.block not in methods:
            methods[site.block] = _with_size(site.block.forward, sizes, block)
        if site.norm is not None:
            methods[site.norm] = _with_stream(site.norm.forward, streams, number)
        methods[site.module] = _attending(site.module.forward, sizes, block, streams, number)
    return list(methods.items())


def _with_size(original: Callable[..., Any], sizes: dict[str, tuple[int, int]], block: str) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        states: Tensor = args[0] if args else kwargs["hidden_states"]  # (R, C, h, w)
        sizes[block] = (states.shape[-2], states.shape[-1])
        return original(*args, **kwargs)

    return forward


def _with_stream(original: Callable[..., Any], streams: dict[int, Tensor], number: int) -> Callable[..., Any]:
    def forward(states: Tensor, *args: Any, **kwargs: Any) -> Any:
        streams[number] = states
        return original(states, *args, **kwargs)

    return forward


def _attending(
    original: Callable[..., Any],
    sizes: dict[str, tuple[int, int]],
    block: str,
    streams: dict[int, Tensor],
    number: int,
) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        with _Attend(number, sizes[block], streams.pop(number, None)):
            return original(*args, **kwargs)

    return forward


class _Attend(TorchFunctionMode):
    """Puts `attend` in the place of scaled_dot_product_attention."""

    def __init__(self, number: int, size: tuple[int, int], stream: Tensor | None) -> None:
        super().__init__()
        self.number, self.size, self.stream = number, size, stream

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and not kwargs.get("dropout_p") and not kwargs.get("is_causal"):
            q, k, v = args
            return attend(q, k, v, kwargs.get("attn_mask"), self.stream, self.number, *self.size)
        return func(*args, **kwargs)
