"""Influence: what each place becomes at each cross-attention, split exactly into who made it so.

A site adds its output to the stream of features h: h' = h + W (Σ_t p_t v_t) + b, over the tokens t of every term. The
share of a token is the part of h' that points along it, ⟨W p_t v_t, h'⟩ / |h'|², and that of the model itself
⟨h + b, h'⟩ / |h'|²: what self-attention, convolutions and earlier layers had made before. Shares sum to 1, and one is
negative where it pulls away from what the place becomes. A ControlNet's is the same of the skip it is added to.

N are the pictures made at once, p the places of a call, t its tokens, C the channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor

from ctrl.attention import Call, Term
from ctrl.maps.shares import acting, gate, shares, take
from ctrl.maps.sums import Key, Layers, Sums
from ctrl.rows import Residuals, Rows

MODEL, REST = "the model itself", "start and padding"


@dataclass
class Pending:
    """The calls of one site so far: the prompt's, and those of an IP-Adapter's processor after it, with their output.

    `rows` are those of the prompt in its first `call`.
    """

    call: Call
    terms: list[Term]
    rows: Sequence[int]
    out: Tensor | None = None

    def add(self, out: Tensor) -> None:
        """Add the output (R, heads, p, d) of one call."""
        self.out = out if self.out is None else self.out + out


@dataclass
class Influence:
    """Adds up shares over sites and steps; `kept` are the positions of the tokens whose shares are kept apart."""

    kept: Mapping[str, tuple[int, ...]]
    by_step: dict[int, Sums] | None
    sums: Sums = field(default_factory=Sums)
    errors: list[Tensor] = field(default_factory=list)
    dtypes: set[torch.dtype] = field(default_factory=set)
    _layers: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _pending: Pending | None = field(default=None, repr=False)

    def hear(self, call: Call, terms: Sequence[Term], rows: Sequence[int]) -> Callable[[Tensor], None]:
        """What to call with the output of a call. A site is split when the next one is heard, or at `close`."""
        now = self._pending
        if now is not None and now.call.site == call.site and terms[0].source.kind == "style":
            now.terms += terms
            return now.add
        self.close()
        self._pending = Pending(call, list(terms), rows)
        return self._pending.add

    def close(self) -> None:
        """Split the site heard last, where the prompt has rows and the stream of features is known."""
        now, self._pending = self._pending, None
        if now is not None and now.out is not None and now.call.stream is not None and now.rows:
            self._split(now, take(now.call.stream, now.rows).float(), now.out)

    def _split(self, site: Pending, stream: Tensor, out: Tensor) -> None:
        """Add up the shares at a site, of its stream (N, p, C) and its output (R, heads, p, d)."""
        call, rows = site.call, site.rows
        weight, bias = self._layer(call)  # (heads, d, C), (C,)
        added = einsum(take(out, rows).float(), weight, "n h p d, h d c -> n p c") + bias
        after = stream + added
        size = reduce(after**2, "n p c -> n p 1", "sum")
        along = einsum(after, weight, "n p c, h d c -> n h p d")
        parts = {MODEL: reduce((stream + bias) * after, "n p c -> n p 1", "sum") / size}
        for term in site.terms:
            source, part = str(term.source), _along(term, along, rows) / size
            parts[source] = parts[source] + part if source in parts else part
        total = torch.stack([reduce(part, "n p t -> n p", "sum") for part in parts.values()]).sum(0)
        self.errors.append((total - 1).abs().amax())
        self.dtypes.add(out.dtype)
        for source, part in parts.items():
            self._add(Layers.of(call.site, call.height, call.width), source, part, call.step or 0)

    @contextmanager
    def controls(self, unet: Any, rows: Rows, residuals: Mapping[str, Residuals], step: int) -> Iterator[None]:
        """Split the skips of a U-Net that is called inside the block, to which ControlNets add their residuals."""
        places = [unet.conv_in, *unet.down_blocks, unet.mid_block] if residuals else []
        waiting = list(range(len(next(iter(residuals.values()))))) if residuals else []

        def hear(module: Any, args: Any, out: Any) -> None:
            skips = out[1] if isinstance(out, tuple) else (out,)
            stage = "mid_block" if module is unet.mid_block else "down_blocks"
            for skip in skips:
                number = waiting.pop(0)
                self._skip(stage, skip, {name: own[number] for name, own in residuals.items()}, rows, step)

        with ExitStack() as stack:
            for place in places:
                stack.callback(place.register_forward_hook(hear).remove)
            yield

    @property
    def error(self) -> float | None:
        """The largest difference of a place's shares from 1."""
        return float(torch.stack(self.errors).nan_to_num(nan=torch.inf).amax()) if self.errors else None

    @property
    def bytes(self) -> int:
        """What is held."""
        return self.sums.bytes + sum(sums.bytes for sums in (self.by_step or {}).values())

    def _skip(self, stage: str, skip: Tensor, residuals: Mapping[str, Tensor], rows: Rows, step: int) -> None:
        own = {name: take(residual, rows.cond).float() for name, residual in residuals.items()}
        after = take(skip, rows.cond).float() + torch.stack(list(own.values())).sum(0)  # (N, C, h, w)
        size = reduce(after**2, "n c h w -> n (h w) 1", "sum")
        layers = Layers("unet skips", stage, *skip.shape[-2:])
        for name, residual in own.items():
            self._add(layers, name, reduce(residual * after, "n c h w -> n (h w) 1", "sum") / size, step)

    def _add(self, layers: Layers, source: str, part: Tensor, step: int) -> None:
        for name, own in self._kept(source, part):
            key = Key(layers, name)
            self.sums.add(key, own)
            if self.by_step is not None:
                self.by_step.setdefault(step, Sums()).add(key, own)

    def _kept(self, source: str, part: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The tokens of words apart, those that begin, end and pad a text together."""
        positions = self.kept.get(source)
        if positions is None:
            yield source, part
            return
        words = part[..., list(positions)]
        yield source, words
        yield f"{source}: {REST}", reduce(part, "n p t -> n p 1", "sum") - reduce(words, "n p t -> n p 1", "sum")

    def _layer(self, call: Call) -> tuple[Tensor, Tensor]:
        """The site's output layer as (heads, d, C) and (C,), LoRAs included, whatever class it is of."""
        if call.site not in self._layers:
            layer, scale = call.module.to_out[0], call.module.rescale_output_factor
            _, heads, _, depth = call.q.shape
            one = torch.eye(heads * depth, dtype=call.q.dtype, device=call.q.device)
            with torch.no_grad():
                bias = layer(torch.zeros_like(one[:1])).float()[0] / scale
                weight = layer(one).float() / scale - bias
            self._layers[call.site] = rearrange(weight, "(h d) c -> h d c", h=heads), bias
        return self._layers[call.site]


def _along(term: Term, along: Tensor, rows: Sequence[int]) -> Tensor:
    """(N, p, t): how far what each token brings points along (N, heads, p, d)."""
    part = gate(term, rows) * shares(term, rows) * (along @ take(term.v, rows).float().mT)
    mask = acting(term, rows)
    return reduce(part if mask is None else part * mask, "n h p t -> n p t", "sum")
