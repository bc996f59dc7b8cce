"""Which tokens of one prompt stand for which of another: words are aligned, on the tokens that the network reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from ctrl.maps import Text

if TYPE_CHECKING:
    from ctrl.model import TextEncoders

Unit: TypeAlias = tuple[str, tuple[int, ...]]  # a word or a mark between words, in small letters, and its tokens
Pair: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Tokens:
    """A prompt's `text`, the `count` of tokens that the network reads of it, and the `length` of one of its chunks."""

    text: Text
    count: int
    length: int

    @cached_property
    def units(self) -> list[Unit]:
        """Its words and the marks between them, in order."""
        units = [(word.text.casefold(), self.text.between(word.start, word.end)) for word in self.text.words]
        taken = {at for _, positions in units for at in positions}
        marks: dict[int, str] = {}
        for token in self.text.tokens:
            if token.position not in taken:
                marks[token.position] = marks.get(token.position, "") + self.text.text[token.start : token.end]
        units += [(letters.casefold(), (position,)) for position, letters in marks.items()]
        return sorted(units, key=lambda unit: unit[1])

    @cached_property
    def rest(self) -> list[list[int]]:
        """By chunk the positions that end and pad it."""
        words = {token.position for token in self.text.tokens}
        chunks = [range(start, start + self.length) for start in range(0, self.count, self.length)]
        last = [max([chunk[0], *(at for at in chunk if at in words)]) for chunk in chunks]
        return [[at for at in chunk if at > end] for chunk, end in zip(chunks, last, strict=True)]


def pairs(source: Tokens, edited: Tokens, *, replace: bool) -> list[Pair]:
    """Tokens of the source and of the edited prompt that stand for each other.

    Equal words do, found as the longest common subsequence. With `replace`, so do exchanged words, one for one, or all
    for all where their numbers differ. A chunk's start and end stand for themselves, its padding by its position.
    """
    found: list[Pair] = []
    for old, new in _between(source.units, edited.units):
        if [word for word, _ in old] == [word for word, _ in new] or (replace and len(old) == len(new)):
            found += [(before[1], after[1]) for before, after in zip(old, new, strict=True)]
        elif replace and old and new:
            found.append((_all(old), _all(new)))
    for at, (ours, theirs) in enumerate(zip(source.rest, edited.rest, strict=False)):
        found += [((at * source.length,), (at * edited.length,))]
        found += [((ours[0],), (theirs[0],))] if ours and theirs else []
        found += [((one,), (one,)) for one in sorted({*ours[1:]} & {*theirs[1:]})]
    return found


def matrix(found: Sequence[Pair], source: int, edited: int) -> list[list[float]]:
    """M (K, T): 1 where a token stands for another; words of unequal numbers of tokens share, as published."""
    rows = [[0.0] * edited for _ in range(source)]
    for old, new in found:
        one_by_one = len(old) == len(new)
        for place, before in enumerate(old):
            for after in [new[place]] if one_by_one else new:
                rows[before][after] = 1.0 if one_by_one else 1.0 / len(new)
    return rows


def _all(units: Sequence[Unit]) -> tuple[int, ...]:
    return tuple(at for _, positions in units for at in positions)


def _between(old: Sequence[Unit], new: Sequence[Unit]) -> Iterator[tuple[Sequence[Unit], Sequence[Unit]]]:
    """Both texts in order, cut at equal words: the words between two equal ones, then those, one of each."""
    at, to = 0, 0
    for left, right in [*_common([word for word, _ in old], [word for word, _ in new]), (len(old), len(new))]:
        yield old[at:left], new[to:right]
        yield old[left : left + 1], new[right : right + 1]
        at, to = left + 1, right + 1


def _common(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """The places of a longest common subsequence."""
    longest = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for left in reversed(range(len(old))):
        for right in reversed(range(len(new))):
            same = old[left] == new[right]
            skip = max(longest[left + 1][right], longest[left][right + 1])
            longest[left][right] = max(skip, longest[left + 1][right + 1] + 1) if same else skip
    found, left, right = [], 0, 0
    while left < len(old) and right < len(new):
        if old[left] == new[right] and longest[left][right] == longest[left + 1][right + 1] + 1:
            found.append((left, right))
            left, right = left + 1, right + 1
        elif longest[left + 1][right] >= longest[left][right + 1]:
            left += 1
        else:
            right += 1
    return found


def text_of(encoders: TextEncoders, prompt: str) -> Text:
    """A prompt with its tokens."""
    return Text.of(encoders.plain(prompt), encoders.spans(prompt))


def positions(text: Text, word: str, argument: str) -> tuple[int, ...]:
    """The tokens of a word or phrase, wherever it occurs; a ValueError if it does not."""
    found = text.positions([word])
    if not found:
        there = ", ".join(dict.fromkeys(one.text for one in text.words)) or "none"
        raise ValueError(f"{argument}: {word!r:.60} is not in {text.text!r:.200}; its words are {there}.")
    return found
