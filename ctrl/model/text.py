"""A prompt through the text encoders: as long as it needs to be, and with its words' weights.

A prompt that fits the encoders is encoded bit for bit as diffusers' pipelines encode it. A longer one, or one with
BREAK between its words, is encoded in chunks, each a whole text with its own BOS, EOS and padding, whose states are
concatenated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from ctrl.model.chunks import Break, Chunks, Span, in_chunks
from ctrl.model.parts import TextEncoder
from ctrl.prompts import Piece, parse


@dataclass(frozen=True, eq=False)
class PromptEmbeds:
    """An encoded prompt of `chunks` chunks.

    `states` is (1, T, D), T being all chunks' tokens. `pooled` is (1, P), of the first chunk, None if
    no encoder projects. `weights` (T,), of the type of `states`, is how strongly each token acts, 1 for BOS, EOS and
    padding; None if every one is 1. `cut` is the end of the plain prompt that no chunk holds, "" if all was read.
    """

    states: Tensor
    pooled: Tensor | None
    weights: Tensor | None
    cut: str
    chunks: int


@torch.no_grad()
def encode(encoders: Sequence[TextEncoder], prompt: str, device: torch.device, dtype: torch.dtype) -> PromptEmbeds:
    """The prompt through one encoder as StableDiffusionPipeline does it, or two as StableDiffusionXLPipeline does.

    At most 8 chunks are read. ValueError for a weight that `ctrl.prompts.parse` refuses, TypeError for a tokenizer
    without offsets.
    """
    pieces = parse(prompt)
    layout = in_chunks(encoders, "".join(piece.text for piece in pieces))
    # One at a time: in a batch a chunk's bits would depend on how many others there are.
    encoded = [_encode_chunk(encoders, layout, begin, end, device) for begin, end in layout.chunks]
    states = torch.cat([states for states, _ in encoded], dim=1).to(device, dtype)
    pooled = encoded[0][1]
    weights = _weights(layout, pieces)
    return PromptEmbeds(
        states,
        None if pooled is None else pooled.to(device, dtype),
        None if all(weight == 1 for weight in weights) else torch.tensor(weights, dtype=dtype, device=device),
        layout.cut,
        len(layout.chunks),
    )


@torch.no_grad()
def pad_to_longest(encoders: Sequence[TextEncoder], texts: Sequence[PromptEmbeds]) -> tuple[PromptEmbeds, ...]:
    """The texts with empty chunks appended, so that all are as long as the longest and can be rows of one batch.

    One that is all zeros (see `empty`) grows by zeros.
    """
    chunks = max((text.chunks for text in texts), default=1)
    if all(text.chunks == chunks for text in texts):
        return tuple(texts)
    blank = encode(encoders, "", texts[0].states.device, texts[0].states.dtype).states
    return tuple(_grown(text, blank, chunks - text.chunks) for text in texts)


def unskipped(encoders: Sequence[TextEncoder], prompt: str, read: PromptEmbeds) -> PromptEmbeds:
    """A negative prompt that was `read`, through all layers: diffusers' `clip_skip` is for the prompt alone."""
    if not any(text_encoder.clip_skip for text_encoder in encoders):
        return read
    whole = [replace(text_encoder, clip_skip=0) for text_encoder in encoders]
    text = encode(whole, prompt, read.states.device, read.states.dtype)
    return pad_to_longest(whole, (text, read))[0]


def empty(text: PromptEmbeds) -> PromptEmbeds:
    """Zeros in the shapes of `text`: what SDXL reads for no negative prompt (force_zeros_for_empty_prompt)."""
    pooled = None if text.pooled is None else torch.zeros_like(text.pooled)
    return PromptEmbeds(torch.zeros_like(text.states), pooled, None, "", text.chunks)


def chunks(encoders: Sequence[TextEncoder], prompt: str) -> int:
    """How many chunks `encode` makes of the prompt. Errors as `encode`."""
    return len(in_chunks(encoders, "".join(piece.text for piece in parse(prompt))).chunks)


def spans(encoders: Sequence[TextEncoder], prompt: str) -> list[Span]:
    """Where each token that `encode` reads comes from; with two encoders, the first one's tokens.

    Tokens in order, without BOS, EOS and padding; the bytes of one emoji share its place. Errors as `encode`.
    """
    return in_chunks(encoders, "".join(piece.text for piece in parse(prompt))).spans()


def _encode_chunk(
    encoders: Sequence[TextEncoder], layout: Chunks, begin: Break, end: Break, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """The chunk's states (1, length, D) and, if an encoder projects, its pooled embedding (1, P)."""
    ids = [
        _framed(text_encoder, [token.id for token in tokens[first:last]], layout.length)
        for text_encoder, tokens, first, last in zip(encoders, layout.tokens, begin.before, end.before, strict=True)
    ]
    if not any(hasattr(text_encoder.encoder, "text_projection") for text_encoder in encoders):
        (text_encoder,), (row,) = encoders, ids
        return _last_states(text_encoder, row, end.before[0] - begin.before[0] + 2, device), None
    read = [
        text_encoder.encoder(torch.tensor([row], device=device), output_hidden_states=True)
        for text_encoder, row in zip(encoders, ids, strict=True)
    ]
    pooled = next(output.text_embeds for output in read if "text_embeds" in output)
    states = [output.hidden_states[-2 - row.clip_skip] for output, row in zip(read, encoders, strict=True)]
    return torch.cat(states, dim=-1), pooled


def _framed(text_encoder: TextEncoder, ids: list[int], length: int) -> list[int]:
    tokenizer = text_encoder.tokenizer
    padding = [tokenizer.pad_token_id] * (length - 2 - len(ids))
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *padding]


def _last_states(text_encoder: TextEncoder, ids: list[int], used: int, device: torch.device) -> Tensor:
    mask = None
    if getattr(text_encoder.encoder.config, "use_attention_mask", False):
        mask = torch.tensor([[1] * used + [0] * (len(ids) - used)], device=device)
    skip, row = text_encoder.clip_skip, torch.tensor([ids], device=device)
    output = text_encoder.encoder(row, attention_mask=mask, output_hidden_states=bool(skip))
    states: Tensor = output[0]
    if skip:
        norm = getattr(text_encoder.encoder, "text_model", text_encoder.encoder).final_layer_norm
        states = norm(output.hidden_states[-1 - skip])
    return states


def _weights(layout: Chunks, pieces: Sequence[Piece]) -> list[float]:
    """The weight of each of the T tokens; one that reaches over several pieces has the mean of its letters'."""
    letters = [piece.weight for piece in pieces for _ in piece.text]
    weights = [1.0] * (layout.length * len(layout.chunks))
    for position, start, end in layout.spans():
        covered = letters[start:end]
        weights[position] = covered[0] if len(set(covered)) == 1 else fmean(covered)
    return weights


def _grown(text: PromptEmbeds, blank: Tensor, missing: int) -> PromptEmbeds:
    if not missing:
        return text
    if not text.states.any():
        blank = torch.zeros_like(blank)
    states = torch.cat([text.states, *[blank] * missing], dim=1)
    weights = text.weights
    if weights is not None:
        weights = torch.cat([weights, weights.new_ones(missing * blank.shape[1])])
    return replace(text, states=states, weights=weights, chunks=text.chunks + missing)
