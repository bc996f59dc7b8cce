"""What a pipeline's text encoder read: the tokens, and which rows of a batch they are in, found by content.

R are the rows of a batch, T their tokens; a text encoder reads L at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ctrl.maps.texts import Text, Token
from ctrl.rows import Branch, Rows

TENSORS = 4  # whose rows are remembered: those of ControlNets and of a guider's branches may be others
EMBEDS: tuple[tuple[Branch, str], ...] = (("cond", "prompt_embeds"), ("uncond", "negative_prompt_embeds"))
EMPTY = Text("", ())
END = "</w>"  # of the last piece of a word, in CLIP's vocabulary


@dataclass(frozen=True, kw_only=True)
class LabelledRows(Rows):
    """Rows in any order: `labels` is the branch of each, `readings` which text each has."""

    labels: tuple[Branch, ...]

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """The branch of each row."""
        return self.labels

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def uncond(self) -> tuple[int, ...]:
        """The rows of the negative prompt."""
        return self._rows("uncond")

    @cached_property
    def cond(self) -> tuple[int, ...]:
        """The rows of the prompt in the unperturbed network."""
        return self._rows("cond")

    def _rows(self, branch: Branch) -> tuple[int, ...]:
        return tuple(row for row, label in enumerate(self.labels) if label == branch)


@dataclass(frozen=True, eq=False)
class Read:
    """One reading of a text encoder: the ids (B, L), and states (B, L, D) that a U-Net may be given."""

    ids: Tensor
    states: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Known:
    """Embeddings (B, T, D) that a pipeline made for a branch, and the text of each, where its encoder read them."""

    branch: Branch
    embeds: Tensor
    texts: tuple[Text, ...]


class Matched(NamedTuple):
    """Embeddings (R, T, D), as they were at a version of the tensor, and the branch and text of each row."""

    embeds: Tensor
    version: int
    rows: list[tuple[Branch, Text]]


@dataclass
class Reader:
    """Remembers what the encoders of a pipeline read and what `encode_prompt` made of it, during one run."""

    tokenizer: Any
    reads: list[Read] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    matched: list[Matched] = field(default_factory=list)

    def hear(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A forward hook of the text encoder."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        last = out.get("last_hidden_state") if hasattr(out, "get") else None
        states = [] if last is None else [last]
        states += list(getattr(out, "hidden_states", None) or ())
        if ids is not None:
            self.reads.append(Read(ids, tuple(states)))

    def encoding(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        """`encode_prompt` with what it answers remembered: embeddings of the prompt first, then of the negative one."""

        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            before = len(self.reads)
            made = encode(*args, **kwargs)
            given = inspect.signature(encode).bind_partial(*args, **kwargs).arguments
            reads = iter(self.reads[before:])  # of the first tower, the prompt's, then the negative prompt's
            for (branch, argument), embeds in zip(EMBEDS, made, strict=False):
                if isinstance(embeds, Tensor) and embeds.ndim == 3:
                    read = next(reads, None) if given.get(argument) is None else None
                    self.known.append(Known(branch, embeds, self._texts(read, embeds)))
            return made

        return encode_prompt

    def rows(self, embeds: Tensor, *, perturbed: bool = False) -> tuple[LabelledRows, list[Text], list[Text]]:
        """Which rows of (R, T, D) embeddings are what, and the texts of the prompt's and the negative's rows.

        A RuntimeError says that the embeddings were made elsewhere. `perturbed` says that the network is.
        """
        found = self._matched(embeds)
        made = next((len(one.embeds) for one in self.known if one.branch == "cond"), None)
        branches: tuple[Branch, ...] = tuple(branch for branch, _ in found)
        if made is not None and made < len(branches) == branches.count("cond") and self._alike:
            first: tuple[Branch, ...] = ("uncond",)
            branches = first * made + branches[made:]  # diffusers' order, since the content does not tell
        rows = _labelled(branches, made, perturbed=perturbed)
        texts = [[found[row][1] for row in own][: rows.pictures] for own in (rows.cond, rows.uncond)]
        return rows, texts[0], texts[1]

    @property
    def _alike(self) -> bool:
        """Whether the prompt and the negative prompt are the same text."""
        cond, uncond = ([one.embeds for one in self.known if one.branch == own] for own in ("cond", "uncond"))
        return bool(cond and uncond) and torch.equal(cond[0], uncond[0])

    @property
    def made(self) -> list[Known]:
        """The embeddings made so far.

        Without `encode_prompt` those the encoder made; the first is the prompt's, which every pipeline encodes first.
        """
        if self.known:
            return self.known
        known = []
        for number, read in enumerate(self.reads):
            for states in read.states:
                texts = tuple(text_of(self.tokenizer, ids) for ids in read.ids)
                known.append(Known("uncond" if number else "cond", states, texts))
        return known

    def _matched(self, embeds: Tensor) -> list[tuple[Branch, Text]]:
        """The branch and the text of each row, compared once: a pipeline gives one tensor at every step."""
        version = None if embeds.is_inference() else embeds._version
        for one in self.matched:
            if one.embeds is embeds and one.version == version:
                return one.rows
        known = self.made
        found = [self._match(row, known) for row in embeds]
        if version is not None:
            self.matched = [*self.matched, Matched(embeds, version, found)][-TENSORS:]
        return found

    def _match(self, row: Tensor, known: Sequence[Known]) -> tuple[Branch, Text]:
        """The branch and the text of one row (T, D), by content."""
        for one in known:
            width = min(one.embeds.shape[-1], row.shape[-1])
            same = one.embeds.shape[1] == row.shape[0]
            for at in range(len(one.embeds) if same else 0):
                if torch.equal(one.embeds[at, :, :width].to(row), row[:, :width]):
                    each = max(1, len(one.embeds) // max(1, len(one.texts)))  # images of one prompt follow one another
                    return one.branch, one.texts[min(at // each, len(one.texts) - 1)]
        if not row.any():  # SDXL's empty negative prompt
            return "uncond", EMPTY
        raise RuntimeError(
            "the pipeline was given prompt embeddings that it did not encode inside the block: give it the prompt, or "
            "call encode_prompt inside `with ctrl.watching(pipe)`."
        )

    def _texts(self, read: Read | None, embeds: Tensor) -> tuple[Text, ...]:
        if read is not None and embeds.shape[1] == read.ids.shape[1]:
            return tuple(text_of(self.tokenizer, ids) for ids in read.ids)
        return tuple((self._heard(row) or numbered(len(row))) if row.any() else EMPTY for row in embeds)

    def _heard(self, row: Tensor) -> Text | None:
        """The text of embeddings (T, D) that are readings one after another, by content; None if they are not."""
        texts, start = [], 0
        while start < len(row):
            ids = next((ids for ids, states in self._readings() if _begins(row[start:], states)), None)
            if ids is None:
                return None
            texts.append(text_of(self.tokenizer, ids))
            start += len(ids)
        return joined(texts, len(row) // len(texts))

    def _readings(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The ids (L,) and states (L, D) of every text that was read."""
        return ((ids, one[at]) for read in self.reads for one in read.states for at, ids in enumerate(read.ids))


def _begins(row: Tensor, states: Tensor) -> bool:
    """Whether embeddings (T, D) begin with states (L, D'), which may be those of the first of two towers."""
    width = min(row.shape[-1], states.shape[-1])
    same = len(row) >= len(states)
    return same and torch.equal(states[:, :width].to(row), row[: len(states), :width])


@lru_cache(64)
def _labelled(branches: tuple[Branch, ...], made: int | None, *, perturbed: bool) -> LabelledRows:
    """Rows whose texts are of these branches; `made` is how many rows the prompt's embeddings had, where known."""
    negatives, prompts = branches.count("uncond"), branches.count("cond")
    pictures = min(prompts, negatives) if negatives and prompts else prompts or negatives
    if not negatives and made and prompts == 2 * made:  # PAG without guidance: the prompt's rows, twice
        pictures = made
    labels: list[Branch] = []
    for branch in branches:
        again = branch == "cond" and labels.count(branch) >= pictures
        labels.append("perturbed" if perturbed or again else branch)
    return LabelledRows(pictures=pictures, guided=bool(negatives), labels=tuple(labels))


def numbered(count: int) -> Text:
    """The text of embeddings nobody read: token 5 is the word "5"."""
    words = [str(number) for number in range(count)]
    starts = [sum(len(word) + 1 for word in words[:number]) for number in range(count)]
    spans = zip(range(count), starts, words, strict=True)
    return Text(" ".join(words), tuple(Token(at, start, start + len(word)) for at, start, word in spans))


def joined(texts: Sequence[Text], length: int) -> Text:
    """Texts of `length` positions each, one after another."""
    plain, tokens = "", list[Token]()
    for number, text in enumerate(texts):
        start = len(plain) + 1 if plain else 0
        tokens += [Token(at + number * length, start + first, start + last) for at, first, last in text.tokens]
        plain = f"{plain} {text.text}" if plain else text.text
    return Text(plain, tuple(tokens))


def text_of(tokenizer: Any, ids: Tensor) -> Text:
    """The text of ids (L,) as they were read, word by word, without what begins, ends and pads it."""
    numbers = ids.tolist()
    pieces, added, end = tokenizer.convert_ids_to_tokens(numbers), tokenizer.get_added_vocab(), tokenizer.eos_token_id
    tokens: list[Token] = []
    words: list[str] = []
    start = 0
    group: list[int] = []
    for at in range(1, len(pieces)):
        if numbers[at] == end:
            break
        group.append(at)
        if pieces[at].endswith(END) or pieces[at] in added:
            word = tokenizer.decode([numbers[one] for one in group]).strip()
            tokens += _places(group, [pieces[one].removesuffix(END) for one in group], word, start)
            words.append(word)
            start += len(word) + 1
            group = []
    return Text(" ".join(words), tuple(tokens))


def _places(group: Sequence[int], pieces: Sequence[str], word: str, start: int) -> list[Token]:
    """The letters of each piece of a word; the bytes of one emoji share its place."""
    if "".join(pieces) != word:
        return [Token(at, start, start + len(word)) for at in group]
    ends = [start + sum(map(len, pieces[: number + 1])) for number in range(len(pieces))]
    return [Token(at, end - len(piece), end) for at, piece, end in zip(group, pieces, ends, strict=True)]
