"""A prompt through the text encoders: as long as it needs to be, and with its words' weights.

A prompt that fits the encoders is encoded bit for bit as diffusers' pipelines encode it. A longer one is encoded in
chunks, each a whole text with its own BOS, EOS and padding, whose states are concatenated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, pairwise, takewhile
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ctrl.model.parts import TextEncoder
from ctrl.prompts import Piece, parse

CHUNKS = 8  # at most; what is beyond is cut
COMMA = 10  # tokens a chunk may give up in order to end at a comma


@dataclass(frozen=True, eq=False)
class Text:
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


class Span(NamedTuple):
    """A token: its position among the T of `Text.states`, and where its characters are in the plain prompt."""

    position: int
    start: int
    end: int


@torch.no_grad()
def encode(encoders: Sequence[TextEncoder], prompt: str, device: torch.device, dtype: torch.dtype) -> Text:
    """The prompt through one encoder as StableDiffusionPipeline does it, or two as StableDiffusionXLPipeline does.

    At most 8 chunks are read. ValueError for a weight that `ctrl.prompts.parse` refuses, TypeError for a tokenizer
    without offsets.
    """
    pieces = parse(prompt)
    layout = _lay(encoders, "".join(piece.text for piece in pieces))
    # One at a time: in a batch a chunk's bits would depend on how many others there are.
    encoded = [_encode_chunk(encoders, layout, begin, end, device) for begin, end in layout.chunks]
    states = torch.cat([states for states, _ in encoded], dim=1).to(device, dtype)
    pooled = encoded[0][1]
    weights = _weights(layout, pieces)
    return Text(
        states,
        None if pooled is None else pooled.to(device, dtype),
        None if all(weight == 1 for weight in weights) else torch.tensor(weights, dtype=dtype, device=device),
        layout.cut,
        len(layout.chunks),
    )


@torch.no_grad()
def pad_to_longest(encoders: Sequence[TextEncoder], texts: Sequence[Text]) -> tuple[Text, ...]:
    """The texts with empty chunks appended, so that all are as long as the longest and can be rows of one batch.

    One that is all zeros (see `empty`) grows by zeros.
    """
    chunks = max((text.chunks for text in texts), default=1)
    if all(text.chunks == chunks for text in texts):
        return tuple(texts)
    blank = encode(encoders, "", texts[0].states.device, texts[0].states.dtype).states
    return tuple(_grown(text, blank, chunks - text.chunks) for text in texts)


def unskipped(encoders: Sequence[TextEncoder], prompt: str, read: Text) -> Text:
    """A negative prompt that was `read`, through all layers: diffusers' `clip_skip` is for the prompt alone."""
    if not any(text_encoder.clip_skip for text_encoder in encoders):
        return read
    whole = [replace(text_encoder, clip_skip=0) for text_encoder in encoders]
    text = encode(whole, prompt, read.states.device, read.states.dtype)
    return pad_to_longest(whole, (text, read))[0]


def empty(text: Text) -> Text:
    """Zeros in the shapes of `text`: what SDXL reads for no negative prompt (force_zeros_for_empty_prompt)."""
    pooled = None if text.pooled is None else torch.zeros_like(text.pooled)
    return Text(torch.zeros_like(text.states), pooled, None, "", text.chunks)


def chunks(encoders: Sequence[TextEncoder], prompt: str) -> int:
    """How many chunks `encode` makes of the prompt. Errors as `encode`."""
    return len(_lay(encoders, "".join(piece.text for piece in parse(prompt))).chunks)


def spans(encoders: Sequence[TextEncoder], prompt: str) -> list[Span]:
    """Where each token that `encode` reads comes from; with two encoders, the first one's tokens.

    Tokens in order, without BOS, EOS and padding; the bytes of one emoji share its place. Errors as `encode`.
    """
    return _lay(encoders, "".join(piece.text for piece in parse(prompt))).spans()


class _Token(NamedTuple):
    id: int
    start: int
    end: int


class _Break(NamedTuple):
    """A place in the plain prompt where no encoder has a token across, and how many tokens each has before it."""

    at: int
    before: tuple[int, ...]


@dataclass(frozen=True)
class _Layout:
    """Which tokens of a prompt go into which chunk; `tokens` is a list for each encoder, `length` a chunk's tokens."""

    plain: str
    tokens: tuple[list[_Token], ...]
    length: int
    chunks: list[tuple[_Break, _Break]]

    @property
    def cut(self) -> str:
        return self.plain[self.chunks[-1][1].at :].rstrip()

    def spans(self) -> list[Span]:
        return [
            Span(number * self.length + 1 + place, token.start, token.end)
            for number, (begin, end) in enumerate(self.chunks)
            for place, token in enumerate(self.tokens[0][begin.before[0] : end.before[0]])
        ]


def _lay(encoders: Sequence[TextEncoder], plain: str) -> _Layout:
    tokens = tuple(_read(text_encoder, plain) for text_encoder in encoders)
    # A tokenizer that was saved without its length says 10³⁰.
    lengths = [(row.tokenizer.model_max_length, row.encoder.config.max_position_embeddings) for row in encoders]
    length = min(min(pair) for pair in lengths)
    breaks = _breaks(plain, tokens)
    bounds = [0]
    while bounds[-1] < len(breaks) - 1 and len(bounds) <= CHUNKS:
        bound = _next_bound(plain, breaks, bounds[-1], length - 2)
        if bound == bounds[-1]:  # one character of more tokens than a chunk has: it and the rest are cut
            break
        bounds.append(bound)
    chunks = [(breaks[begin], breaks[end]) for begin, end in pairwise(bounds)]
    return _Layout(plain, tokens, length, chunks or [(breaks[0], breaks[0])])


def _read(text_encoder: TextEncoder, plain: str) -> list[_Token]:
    if not text_encoder.tokenizer.is_fast:
        raise TypeError(
            f"the text encoder's tokenizer, {type(text_encoder.tokenizer).__name__}, does not say where its tokens "
            "are in the prompt; load a fast one, such as transformers' CLIPTokenizer."
        )
    read = text_encoder.tokenizer(plain, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    several = _vectors(text_encoder.tokenizer)
    places = zip(read.input_ids, read.offset_mapping, strict=True)
    return [_Token(token, *place) for number, place in places for token in several.get(number, (number,))]


def _vectors(tokenizer: Any) -> dict[int, tuple[int, ...]]:
    """The tokens that stand for a word of several vectors: a textual inversion's are called word, word_1, …"""
    added: dict[str, int] = tokenizer.added_tokens_encoder
    vectors = {}
    for word, number in added.items():
        rest = takewhile(added.__contains__, (f"{word}_{at}" for at in count(1)))
        vectors[number] = (number, *(added[token] for token in rest))
    return vectors


def _breaks(plain: str, tokens: Sequence[list[_Token]]) -> list[_Break]:
    """Every place where a chunk can end, the first before all tokens and the last after them.

    Two encoders need not agree on the tokens: SDXL's second takes "!" out of "!!!", because it pads with it.
    """
    starts = [[token.start for token in text_encoder] for text_encoder in tokens]
    breaks: list[_Break] = []
    for at in sorted({0, *starts[0], len(plain)}):
        before = tuple(bisect_left(text_encoder, at) for text_encoder in starts)
        if any(count and text_encoder[count - 1].end > at for count, text_encoder in zip(before, tokens, strict=True)):
            continue
        if breaks and breaks[-1].before == before:
            breaks.pop()  # only blanks between
        breaks.append(_Break(at, before))
    return breaks


def _next_bound(plain: str, breaks: Sequence[_Break], begin: int, capacity: int) -> int:
    """The number of the break that ends the chunk which begins at break `begin`.

    The last that fits gives way to one a few tokens before it that follows a comma, else to one between words, else to
    one that is not between two letters or digits.
    """

    def tokens(first: int, last: int) -> int:
        return max(b - a for a, b in zip(breaks[first].before, breaks[last].before, strict=True))

    last = begin
    while last + 1 < len(breaks) and tokens(begin, last + 1) <= capacity:
        last += 1
    if last == len(breaks) - 1:
        return last
    backwards = range(last, begin, -1)
    commas = (
        bound
        for bound in backwards
        if tokens(bound, last) <= COMMA and plain[breaks[bound - 1].at : breaks[bound].at].rstrip().endswith(",")
    )
    spaces = (bound for bound in backwards if plain[breaks[bound].at - 1].isspace())
    signs = (
        bound
        for bound in backwards
        if not (plain[breaks[bound].at - 1].isalnum() and plain[breaks[bound].at].isalnum())
    )
    return next(chain(commas, spaces, signs), last)


def _encode_chunk(
    encoders: Sequence[TextEncoder], layout: _Layout, begin: _Break, end: _Break, device: torch.device
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


def _weights(layout: _Layout, pieces: Sequence[Piece]) -> list[float]:
    """The weight of each of the T tokens; one that reaches over several pieces has the mean of its letters'."""
    letters = [piece.weight for piece in pieces for _ in piece.text]
    weights = [1.0] * (layout.length * len(layout.chunks))
    for position, start, end in layout.spans():
        covered = letters[start:end]
        weights[position] = covered[0] if len(set(covered)) == 1 else fmean(covered)
    return weights


def _grown(text: Text, blank: Tensor, missing: int) -> Text:
    if not missing:
        return text
    if not text.states.any():
        blank = torch.zeros_like(blank)
    states = torch.cat([text.states, *[blank] * missing], dim=1)
    weights = text.weights
    if weights is not None:
        weights = torch.cat([weights, weights.new_ones(missing * blank.shape[1])])
    return replace(text, states=states, weights=weights, chunks=text.chunks + missing)
