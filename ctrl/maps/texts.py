"""Texts with their tokens: a word is found by its letters, on the tokens that the network really read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

WORD = re.compile(r"\w+(?:['’-]\w+)*")


class Token(NamedTuple):
    """A token: its position among the tokens that the network attends to, and its letters in the text."""

    position: int
    start: int
    end: int


class Word(NamedTuple):
    """A word of a text: its letters, and which of its equals it is, from 0."""

    text: str
    start: int
    end: int
    occurrence: int


@dataclass(frozen=True)
class Text:
    """A text as it was read: `tokens` without those that begin, end and pad it."""

    text: str
    tokens: tuple[Token, ...]

    @staticmethod
    def of(text: str, spans: Sequence[tuple[int, int, int]]) -> Text:
        """From (position, start, end) of each token."""
        return Text(text, tuple(Token(*span) for span in spans))

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """Its words that were read, in order; each knows which of its equals it is."""
        seen: dict[str, int] = {}
        found = []
        for match in WORD.finditer(self.text):
            key = match.group().casefold()
            occurrence = seen[key] = seen.get(key, -1) + 1
            if self.between(*match.span()):
                found.append(Word(match.group(), *match.span(), occurrence))
        return tuple(found)

    def between(self, start: int, end: int) -> tuple[int, ...]:
        """The positions of the tokens that hold any letter from `start` to `end`."""
        return tuple(dict.fromkeys(one.position for one in self.tokens if one.start < end and one.end > start))

    def words_of(self, positions: Sequence[int]) -> tuple[Word, ...]:
        """Its words whose tokens are all at these positions."""
        return tuple(word for word in self.words if set(self.between(word.start, word.end)).issubset(positions))

    def find(self, word: str, occurrence: int = 0) -> Word:
        """A word or phrase by its letters, in either case and with any blanks; occurrences count from 0.

        A KeyError lists the words there are; another says that the text was cut before this one.
        """
        _insist(word, occurrence)
        parts = word.split()
        if not parts:
            raise KeyError(f"a word must have letters, got {word!r}.")
        pattern = r"\s+".join(re.escape(part) for part in parts)
        edges = ("(?<!\\w)" if parts[0][0].isalnum() else "") + pattern + ("(?!\\w)" if parts[-1][-1].isalnum() else "")
        matches = list(re.finditer(edges, self.text, re.IGNORECASE))
        if not matches:
            there = ", ".join(dict.fromkeys(one.text for one in self.words)) or "none"
            raise KeyError(f"{word!r} is not in {self.text!r:.200}; its words are {there}.")
        if not 0 <= occurrence < len(matches):
            raise KeyError(f"{word!r} is there {len(matches)} times, and occurrences count from 0; got {occurrence}.")
        match = matches[occurrence]
        if not self.between(*match.span()):
            raise KeyError(f"{word!r} was cut: the text encoder did not read so far into the text.")
        return Word(match.group(), *match.span(), occurrence)

    def among(self, kept: Sequence[int], word: str, occurrence: int = 0) -> tuple[Word, list[int]]:
        """A word or phrase, and the places of its tokens in a list of positions; a KeyError says that it has none."""
        found = self.find(word, occurrence)
        places = [kept.index(one) for one in self.between(found.start, found.end) if one in kept]
        if not places:
            names = ", ".join(dict.fromkeys(one.text for one in self.words_of(kept))) or "none"
            raise KeyError(f"{word!r} was not watched: Watch(words=…) names {names}.")
        return found, places

    def positions(self, words: Sequence[str] | None) -> tuple[int, ...]:
        """The positions of the tokens of these words, wherever they occur; of all if None."""
        if words is None:
            return tuple(sorted({one.position for one in self.tokens}))
        found: set[int] = set()
        for word in words:
            occurrence = 0
            while True:
                try:
                    found.update(self.between(*self.find(word, occurrence)[1:3]))
                except KeyError:
                    break
                occurrence += 1
        return tuple(sorted(found))


def _insist(word: object, occurrence: object) -> None:
    if not isinstance(word, str) or not isinstance(occurrence, int):
        raise TypeError(
            "a word is asked by its letters, as in attention['shirt'], and its second occurrence as in "
            f"attention['shirt', 1]; got {word!r:.60} and {occurrence!r:.60}."
        )
