"""Keys and values of the texts that a network reads: each text is projected once and kept in a memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ctrl.attention.terms import Site
from ctrl.memory import Memory


@dataclass(frozen=True, eq=False)
class TextKV:
    """The texts of one call, (R or 1, T, D), each with the key of its content, and where their projections are kept.

    A key must include the weights that project it. Only the same tensor objects are looked up; any other input is
    projected as usual, and so is everything while gradients are on.
    """

    memory: Memory
    texts: Sequence[tuple[Tensor, Hashable]]

    @contextmanager
    def attached(self, places: Sequence[Site]) -> Iterator[None]:
        """Let the `to_k` and `to_v` of these sites answer from memory inside the block."""
        names = [(site, name) for site in places for name in ("to_k", "to_v")]
        layers = [site.module.get_submodule(name) for site, name in names]
        # As the tap does it, but for all at once: a context for each of SDXL's 140 would take as long as a layer.
        before = [layer.__dict__.get("forward") for layer in layers]
        try:
            for (site, name), layer in zip(names, layers, strict=True):
                layer.__dict__["forward"] = functools.partial(self._project, (site.name, name), layer.forward)
            yield
        finally:
            for layer, forward in zip(layers, before, strict=True):
                layer.__dict__.pop("forward", None)
                if forward is not None:
                    layer.__dict__["forward"] = forward

    def _project(self, layer: tuple[str, str], original: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            for text, key in self.texts:
                if text is states:
                    return self.memory(("kv", key, layer), lambda: original(states))
        return original(states)
