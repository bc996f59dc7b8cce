"""The tokens of a prompt in chunks: which of them each pass through the text encoders reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise, takewhile
from operator import attrgetter
from typing import Any, NamedTuple

from ctrl.model.parts import TextEncoder
from ctrl.prompts import Named, chunk_ends, named_embeddings

CHUNKS = 8  # at most; what is beyond is cut
COMMA = 10  # tokens a chunk may give up in order to end at a comma


class Span(NamedTuple):
    """A token: its position among the T of `PromptEmbeds.states`, and where its characters are in the plain prompt."""

    position: int
    start: int
    end: int


class Token(NamedTuple):
    """A token's number, and where its characters are in the plain prompt."""

    id: int
    start: int
    end: int


class Break(NamedTuple):
    """A place in the plain prompt where no encoder has a token across, and how many tokens each has before it."""

    at: int
    before: tuple[int, ...]


@dataclass(frozen=True)
class Chunks:
    """Which tokens of a prompt go into which chunk; `tokens` is a list for each encoder, `length` a chunk's tokens."""

    plain: str
    tokens: tuple[list[Token], ...]
    length: int
    chunks: list[tuple[Break, Break]]

    @property
    def cut(self) -> str:
        """The end of the prompt that no chunk holds."""
        return self.plain[self.chunks[-1][1].at :].rstrip()

    def spans(self) -> list[Span]:
        """The first encoder's tokens, in order."""
        return [
            Span(number * self.length + 1 + place, token.start, token.end)
            for number, (begin, end) in enumerate(self.chunks)
            for place, token in enumerate(self.tokens[0][begin.before[0] : end.before[0]])
        ]


def in_chunks(encoders: Sequence[TextEncoder], plain: str) -> Chunks:
    """A plain prompt in chunks; TypeError for a tokenizer without offsets."""
    for text_encoder in encoders:
        _check_places(text_encoder)
    named = named_embeddings(plain, embeddings(encoders))
    ends = chunk_ends(plain)
    tokens = tuple(_without(_read(text_encoder, plain, named), ends) for text_encoder in encoders)
    # A tokenizer that was saved without its length says 10³⁰.
    lengths = [(row.tokenizer.model_max_length, row.encoder.config.max_position_embeddings) for row in encoders]
    length = min(min(pair) for pair in lengths)
    breaks = _breaks(plain, tokens)
    last = len(breaks) - 1
    stops = [bisect_left(breaks, end, key=attrgetter("at"), hi=last) for _, end in ends]
    bounds = [0]
    while bounds[-1] < last and len(bounds) <= CHUNKS:
        stop = next((stop for stop in stops if stop > bounds[-1]), last)
        bound = _next_bound(plain, breaks, bounds[-1], stop, length - 2)
        if bound == bounds[-1]:  # one character of more tokens than a chunk has: it and the rest are cut
            break
        bounds.append(bound)
    chunks = [(breaks[begin], breaks[end]) for begin, end in pairwise(bounds)]
    return Chunks(plain, tokens, length, chunks or [(breaks[0], breaks[0])])


def _check_places(text_encoder: TextEncoder) -> None:
    if not text_encoder.tokenizer.is_fast:
        raise TypeError(
            f"the text encoder's tokenizer, {type(text_encoder.tokenizer).__name__}, does not say where its tokens "
            "are in the prompt; load a fast one, such as transformers' CLIPTokenizer."
        )


def _read(text_encoder: TextEncoder, plain: str, named: Sequence[Named]) -> list[Token]:
    """The tokens of a plain prompt; those of `named` are their embeddings'."""
    read = text_encoder.tokenizer(plain, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    several = _vectors(text_encoder.tokenizer)
    places = zip(read.input_ids, read.offset_mapping, strict=True)
    tokens = [Token(token, *place) for number, place in places for token in several.get(number, (number,))]
    added = text_encoder.tokenizer.added_tokens_encoder
    words = [Token(token, one.name, one.name_end) for one in named for token in several[added[one.word]]]
    kept = _without(tokens, [(one.start, one.end) for one in named])
    return sorted([*kept, *words], key=attrgetter("start")) if words else tokens


def _without(tokens: list[Token], skipped: Sequence[tuple[int, int]]) -> list[Token]:
    """The tokens without those that touch a skipped stretch of the prompt."""
    return [token for token in tokens if not any(token.start < end and token.end > start for start, end in skipped)]


def embeddings(encoders: Sequence[TextEncoder]) -> tuple[str, ...]:
    """The words that were added to the tokenizers: textual inversions, each by the first of its tokens."""
    tokenizer = encoders[0].tokenizer
    special = set(tokenizer.all_special_tokens)
    return tuple(word for word in tokenizer.added_tokens_encoder if word not in special)


def _vectors(tokenizer: Any) -> dict[int, tuple[int, ...]]:
    """The tokens that stand for a word of several vectors: a textual inversion's are called word, word_1, …"""
    added: dict[str, int] = tokenizer.added_tokens_encoder
    vectors = {}
    for word, number in added.items():
        rest = takewhile(added.__contains__, (f"{word}_{at}" for at in count(1)))
        vectors[number] = (number, *(added[token] for token in rest))
    return vectors


def _breaks(plain: str, tokens: Sequence[list[Token]]) -> list[Break]:
    """Every place where a chunk can end, the first before all tokens and the last after them.

    Two encoders need not agree on the tokens: SDXL's second takes "!" out of "!!!", because it pads with it.
    """
    starts = [[token.start for token in text_encoder] for text_encoder in tokens]
    breaks: list[Break] = []
    for at in sorted({0, *starts[0], len(plain)}):
        before = tuple(bisect_left(text_encoder, at) for text_encoder in starts)
        if any(count and text_encoder[count - 1].end > at for count, text_encoder in zip(before, tokens, strict=True)):
            continue
        if breaks and breaks[-1].before == before:
            breaks.pop()  # only blanks between
        breaks.append(Break(at, before))
    return breaks


def _next_bound(plain: str, breaks: Sequence[Break], begin: int, stop: int, capacity: int) -> int:
    """The number of the break that ends the chunk which begins at break `begin`: `stop` if all up to it fits.

    Else the last that fits gives way to one a few tokens before it that follows a comma, else to one between words,
    else to one that is not between two letters or digits.
    """

    def tokens(first: int, last: int) -> int:
        return max(b - a for a, b in zip(breaks[first].before, breaks[last].before, strict=True))

    last = begin
    while last < stop and tokens(begin, last + 1) <= capacity:
        last += 1
    if last == stop:
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
