"""The tools of `maps.py`, each behind one face: how it watches a pipeline's run, its maps, and the bytes it holds."""

from __future__ import annotations

import copy
import functools
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import ctrl
from ctrl.atelier.words import tokens_of
from ctrl.attention import sites as attention_sites

SIDE = 16
Maps = Callable[[str], np.ndarray]
Make = Callable[[Any], torch.Tensor]  # of a pipeline, its latents


class Tool:
    """What watches a pipeline's run inside a block."""

    def run(self, pipe: Any, make: Make) -> tuple[torch.Tensor, Any]:
        """What `make` returns of a pipeline, and what was seen."""
        with self.watch(pipe) as seen:  # type: ignore[attr-defined]  # each tool has its own
            return make(pipe), seen


class Ours(Tool):
    """`ctrl.watching` with its defaults: up blocks of 8 cells or more, all steps."""

    name = "ctrl.watching"
    kept = ctrl.Watch()

    @contextmanager
    def watch(self, pipe: Any) -> Iterator[Any]:
        with ctrl.watching(pipe, self.kept) as seen:
            yield seen

    def maps(self, pipe: Any, seen: Any, prompt: str) -> Maps:
        return lambda word: seen.attention[word].heat

    def bytes(self, seen: Any) -> int:
        return seen.attention.receipt.bytes


class Words(Ours):
    """`ctrl.watching` without self-attention, which the others do not read either."""

    name = "ctrl.watching, words alone"
    kept = ctrl.Watch(self_attention=False)


class Daam(Tool):
    """daam 0.2.0: the sum over all steps and sites of 8 cells or more."""

    name = "daam 0.2.0"

    def __init__(self) -> None:
        for module in ("spacy", "spacy.tokens"):
            sys.modules.setdefault(module, types.ModuleType(module))
        sys.modules["spacy"].tokens = sys.modules["spacy.tokens"]
        sys.modules["spacy.tokens"].Token = object
        import daam

        self.trace = daam.trace

    @contextmanager
    def watch(self, pipe: Any) -> Iterator[Any]:
        trace = self.trace(pipe)
        places = SIDE * SIDE
        trace.latent_hw = places
        for hook in trace.module:
            if hasattr(hook, "latent_hw"):
                hook.latent_hw, hook.context_size = places, pipe.tokenizer.model_max_length
        with trace as seen:
            yield seen

    def maps(self, pipe: Any, seen: Any, prompt: str) -> Maps:
        whole = seen.compute_global_heat_map(prompt=prompt, factors={1, 2})  # sites of 8 cells or more
        return lambda word: whole.compute_word_heat_map(word).heatmap.float().numpy()

    def bytes(self, seen: Any) -> int:
        return sum(heat.nbytes for _, heat in seen.all_heat_maps)


class Capture(Tool):
    """attention-map-diffusers 1.0.0: its default, queries and keys of the last step, the mean of the sites' maps."""

    name = "attention-map-diffusers 1.0.0"

    def __init__(self) -> None:
        from attention_map_diffusers import AttentionCapture

        self.capture = AttentionCapture

    @contextmanager
    def watch(self, pipe: Any) -> Iterator[Any]:
        with self.capture(pipe) as seen:
            yield seen

    def maps(self, pipe: Any, seen: Any, prompt: str) -> Maps:
        found = []
        for record in seen.compute():
            grid = record.q_shape
            if min(grid.height, grid.width) >= 8:
                data = record.data.float()
                data = data[-1].mean(0) if data.ndim == 4 else data[-1]  # the prompt's row: (p, t)
                maps = data.T.unflatten(-1, (grid.height, grid.width))
                found.append(F.interpolate(maps[None], size=(SIDE, SIDE), mode="bilinear")[0])
        whole = torch.stack(found).mean(0)

        def first(word: str) -> np.ndarray:
            start = prompt.index(word)
            return whole[tokens_of(pipe.tokenizer, prompt, start, start + len(word))].sum(0).numpy()

        return first

    def bytes(self, seen: Any) -> int:
        return sum(
            part.nbytes for record in seen.records for part in (record.q, record.k, record.data) if part is not None
        )


class Sight:
    """nnsight 0.8.1: queries and keys of the up sites of 8 cells or more, their maps added up in float32."""

    name = "nnsight 0.8.1"

    def __init__(self) -> None:
        from nnsight import NNsight

        self.wrap = NNsight
        self.twins: dict[int, Any] = {}

    def run(self, pipe: Any, make: Make) -> tuple[torch.Tensor, Any]:
        """Of a twin with a U-Net of its own: what nnsight puts into modules stays there."""
        if id(pipe.unet) not in self.twins:
            self.twins[id(pipe.unet)] = copy.deepcopy(pipe.unet)
        twin = copy.copy(pipe)
        twin.unet = self.twins[id(pipe.unet)]
        whole = Whole(twin, make)
        model, seen = self.wrap(whole), Seen()
        sites = [(site, envoy(model, site.path), envoy(model, block(site.path))) for site in up_sites(twin.unet)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a loop over all steps ends with the last
            with model.trace(torch.zeros(1)) as tracer:
                for _ in tracer.iter[:]:
                    for site, attention, around in sites:
                        height, width = around.input.shape[-2:]
                        q, k = attention.to_q.output, attention.to_k.output
                        seen.add(site, q, k, (height, width), twin.do_classifier_free_guidance)
        return whole.made, seen

    def maps(self, pipe: Any, seen: Any, prompt: str) -> Maps:
        return seen.maps(pipe.tokenizer, prompt)

    def bytes(self, seen: Any) -> int:
        return sum(one.nbytes for one in seen.sums.values())


class Whole(torch.nn.Module):
    """A pipeline's run as a module, with its U-Net inside."""

    def __init__(self, pipe: Any, make: Make) -> None:
        super().__init__()
        self.unet, self.run, self.made = pipe.unet, lambda: make(pipe), torch.zeros(0)

    def forward(self, nothing: torch.Tensor) -> torch.Tensor:
        self.made = self.run()
        return nothing


class Seen:
    """Running sums of maps (p, t) by the size of their site."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, int], torch.Tensor] = {}

    def add(self, site: Any, q: Any, k: Any, size: tuple[int, int], guided: bool) -> None:
        """Add the maps of the prompt's first row at one site."""
        if min(size) < 8:
            return
        row, heads = len(q) // 2 if guided else 0, site.module.heads
        queries, keys = (one[row].unflatten(-1, (heads, -1)).transpose(0, 1) for one in (q, k))
        maps = (queries @ (keys * keys.shape[-1] ** -0.5).mT).softmax(-1, dtype=torch.float32).mean(0)
        self.sums[size] = self.sums[size] + maps if size in self.sums else maps

    def maps(self, tokenizer: Any, prompt: str) -> Maps:
        """The mean over the sizes of sites."""
        found = []
        for size, maps in self.sums.items():
            found.append(F.interpolate(maps.T.unflatten(-1, size)[None], size=(SIDE, SIDE), mode="bilinear")[0])
        whole = torch.stack(found).mean(0)

        def first(word: str) -> np.ndarray:
            start = prompt.index(word)
            return whole[tokens_of(tokenizer, prompt, start, start + len(word))].sum(0).numpy()

        return first


def up_sites(unet: Any) -> list[Any]:
    """The cross-attentions of the up blocks, in the order in which they run."""
    return [site for site in attention_sites(unet) if site.path.startswith("up_blocks.")]


def block(path: str) -> str:
    """The transformer around a site."""
    return path.split(".transformer_blocks.")[0]


def envoy(model: Any, path: str) -> Any:
    """nnsight's envoy of a module of the U-Net."""
    parts = path.split(".")
    return functools.reduce(lambda at, name: at[int(name)] if name.isdigit() else getattr(at, name), parts, model.unet)


TOOLS: tuple[type, ...] = (Ours, Words, Daam, Capture, Sight)
