"""The words that the atelier knows: those of its captions, and no others.

print(ctrl.atelier.vocabulary())
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from html import escape
from pathlib import Path

from ctrl.atelier.captions import FIGURE, GROUND, POSING, STYLE, TIME

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white")
KINDS = ("ball", "box", "cone", "drum", "pillar", "tree")
SIDES = ("left", "right")  # of the picture, as the viewer sees it
CLOTHES = ("shirt", "trousers")
# Words that no caption needs to have for a prompt to mean the same.
SMALL = frozenset({
    "a", "an", "the", "and", "with", "in", "on", "at", "by", "to", "of", "is", "are", "his", "her", "their", "its",
    "it", "who", "that", "this", "there",
})  # fmt: skip

EXAMPLE = "a figure waving in a red shirt and blue trousers, a yellow ball on the left, on grass, at sunset, comic book"
TOKENS = Path(__file__).parent / "weights" / "tokenizer" / "vocab.json"
WORD = re.compile(r"[^\s,.;:!?()\[\]{}\"]+")
NAMED = 8  # unknown words, at most, in one note


@dataclass(frozen=True)
class Vocabulary:
    """What a prompt for the atelier can say, in the words of its captions; it prints, and shows itself as a table."""

    figure: tuple[str, ...]
    pose: tuple[str, ...]
    clothes: tuple[str, ...]
    color: tuple[str, ...]
    thing: tuple[str, ...]
    place: tuple[str, ...]
    ground: tuple[str, ...]
    time: tuple[str, ...]
    style: tuple[str, ...]

    @property
    def words(self) -> frozenset[str]:
        """Every single word."""
        return frozenset(word for _, phrases in self._rows() for phrase in phrases for word in phrase.split()) | SMALL

    def unknown(self, text: str) -> tuple[str, ...]:
        """The words of a text, without weights, that are not among these, each once."""
        known, found = self.words, (word.strip("'’`-–—") for word in WORD.findall(text.casefold()))
        return tuple(dict.fromkeys(word for word in found if word and word not in known))

    def __str__(self) -> str:
        rows = [f"{name:8} {', '.join(phrases)}" for name, phrases in self._rows()]
        return "\n".join([*rows, f"{'example':8} {EXAMPLE}"])

    def _repr_html_(self) -> str:
        rows = [*((name, ", ".join(phrases)) for name, phrases in self._rows()), ("example", EXAMPLE)]
        left = 'style="text-align:left"'
        cells = [f"<tr><th {left}>{name}</th><td {left}>{escape(text)}</td></tr>" for name, text in rows]
        return f"<table>{''.join(cells)}</table>"

    def _rows(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


@cache
def vocabulary() -> Vocabulary:
    """The words of the atelier model that comes with the package."""
    poses, grounds, times, styles = ([phrase for several in group.values() for phrase in several] for group in (
        POSING, GROUND, TIME, STYLE,
    ))  # fmt: skip
    places = tuple(f"{at} the {side}" for side in SIDES for at in ("on", "to"))
    return Vocabulary(FIGURE, tuple(poses), CLOTHES, COLORS, KINDS, places, tuple(grounds), tuple(times), tuple(styles))


def is_atelier(tokens: Mapping[str, int]) -> bool:
    """Whether a tokenizer with these tokens and their numbers is the atelier's."""
    return TOKENS.is_file() and _tokens().items() <= tokens.items()


def unknown_note(text: str, added: Mapping[str, int]) -> str | None:
    """A note on the words of a text that the atelier does not know; `added` are words it was given since."""
    words = [word for word in vocabulary().unknown(text) if word not in added]
    if not words:
        return None
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return f"the atelier does not know {', '.join(map(repr, words[:NAMED]))}{more}; it knows {_brief()}"


@cache
def _brief() -> str:
    """What there is, each thing by its first name."""
    groups = (tuple(POSING), CLOTHES, COLORS, KINDS, tuple(GROUND), tuple(TIME), tuple(STYLE))
    return f"a figure; {'; '.join(map(', '.join, groups))} (ctrl.atelier.vocabulary())"


@cache
def _tokens() -> dict[str, int]:
    read: dict[str, int] = json.loads(TOKENS.read_text(encoding="utf-8"))
    return read
