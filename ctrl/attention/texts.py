"""What a run keeps of its texts: the keys and values they were projected to."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ctrl.attention.sites import sites
from ctrl.attention.terms import Site


class Texts:
    """The keys and values of a run's texts: each is projected once, bit-equal to projecting it at every step.

    What was projected is known by the tensor object and its version, so every step must be handed the same
    tensor, not an equal one; a text that is gone, or was written to, is projected anew. One object serves all
    components of a run, since a projection belongs to the layer that made it; no layer's weights may change
    during the run. While gradients are on nothing is kept.
    """

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self._sites: dict[tuple[nn.Module, str], tuple[Site, ...]] = {}

    def sites(self, component: nn.Module, name: str) -> tuple[Site, ...]:
        """The component's cross-attention, looked for once: going through an SDXL takes milliseconds."""
        if (component, name) not in self._sites:
            self._sites[component, name] = sites(component, name)
        return self._sites[component, name]

    @contextmanager
    def attached(self, places: Sequence[Site]) -> Iterator[None]:
        """Let the `to_k` and `to_v` of these sites answer from memory inside the block."""
        layers = [site.module.get_submodule(name) for site in places for name in ("to_k", "to_v")]
        # As the tap does it, but for all at once: a context for each of SDXL's 140 would take as long as a layer.
        before = [layer.__dict__.get("forward") for layer in layers]
        try:
            for layer in layers:
                layer.__dict__["forward"] = functools.partial(self._project, layer, layer.forward)
            yield
        finally:
            for layer, forward in zip(layers, before, strict=True):
                layer.__dict__.pop("forward", None)
                if forward is not None:
                    layer.__dict__["forward"] = forward

    def _project(self, layer: nn.Module, original: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return original(states)
        version = 0 if states.is_inference() else states._version
        kept = self._kept.get(id(states))
        if kept is None or kept.states() is not states or kept.version != version:
            self._kept = {key: one for key, one in self._kept.items() if one.states() is not None}
            kept = self._kept[id(states)] = _Kept(weakref.ref(states), version)
        if layer not in kept.projected:
            kept.projected[layer] = original(states)
        return kept.projected[layer]


@dataclass
class _Kept:
    states: weakref.ref[Tensor]  # weak, so that a text's keys and values go when it does
    version: int
    projected: dict[nn.Module, Tensor] = field(default_factory=dict)
