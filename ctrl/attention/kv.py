"""Keys and values of the texts that a network reads: each text is projected once and kept in a memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ctrl.attention.override import override
from ctrl.attention.terms import Site
from ctrl.memory import Memory

Project: TypeAlias = Callable[[Tensor], Tensor]
Known: TypeAlias = tuple[tuple[Tensor, Tensor], ...]  # texts, each with its projection


@dataclass(frozen=True, eq=False)
class TextKV:
    """The texts of one call, (R or 1, T, D), each with the key of its content, and where their projections are kept.

    A key must include the weights that project it. Only the same tensor objects are looked up; any other input is
    projected as usual, and so is everything while gradients are on. Lookups come before the call, so that a compiled
    network holds none.
    """

    memory: Memory
    texts: Sequence[tuple[Tensor, Hashable]]

    @contextmanager
    def attached(self, places: Sequence[Site]) -> Iterator[None]:
        """Let the `to_k` and `to_v` of these sites answer from memory inside the block."""
        names = [(site, name) for site in places for name in ("to_k", "to_v")]
        layers = [site.module.get_submodule(name) for site, name in names]
        forwards = [self._forward(*at, layer.forward) for at, layer in zip(names, layers, strict=True)]
        with override("forward", zip(layers, forwards, strict=True)):
            yield

    def _forward(self, site: Site, name: str, original: Project) -> Project:
        """The forward of a layer: its lookups are made now, or at the call where that may be under gradients."""
        reads = getattr(site.module, "cross_attention_dim", None)
        if torch.is_grad_enabled() or getattr(site.module, "norm_cross", None) or reads is None:
            return functools.partial(self._project, (site.name, name), original)
        texts = [(text, key) for text, key in self.texts if text.shape[-1] == reads]
        keys = [("kv", key, (site.name, name)) for _, key in texts]
        pairs = zip(texts, keys, strict=True)
        known = tuple((text, self.memory(key, functools.partial(original, text))) for (text, _), key in pairs)
        return _answering(known, original)

    def _project(self, layer: tuple[str, str], original: Project, states: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            for text, key in self.texts:
                if text is states:
                    return self.memory(("kv", key, layer), lambda: original(states))
        return original(states)


def _answering(known: Known, original: Project) -> Project:
    """A layer's forward that answers what is known.

    A closure: torch.compile guards it by its code and its tensors' shapes, and a `functools.partial` by its identity,
    which would compile the network again at every call.
    """

    def forward(states: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            for text, projected in known:
                if text is states:
                    return projected
        return original(states)

    return forward
