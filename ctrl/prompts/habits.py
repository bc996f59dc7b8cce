"""Notes on prompts: how shorthands were read, and the syntax of other programs that is text here."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ctrl.prompts.keywords import BREAK, EMBEDDING, embedding_prefixes
from ctrl.prompts.weighted import MARK, NUMBER, group_weights, parse


@dataclass(frozen=True)
class _Habit:
    """Syntax of other programs: a pattern, and a note on its match."""

    pattern: re.Pattern[str]
    note: Callable[[re.Match[str]], str]


def prompt_notes(text: str, embeddings: Collection[str] = ()) -> tuple[str, ...]:
    """Notes on how shorthands were read, and on syntax of other programs that is plain text here: sentences, each once.

    They cover emphasis without a number, LoRAs, BREAK, AND, prompts that change during a run, embeddings but for the
    model's own, wildcards, settings inside the prompt, and weights in other notations. Escaped brackets are text
    everywhere. ValueError as `parse`.
    """
    bare = re.sub(r"\\[()\[\]{}]", "  ", text)
    for start, end in reversed(embedding_prefixes(bare, embeddings)):
        bare = bare[:start] + " " * (end - start) + bare[end:]
    habits = _HABITS if bare.isupper() else (*_HABITS, *_KEYWORDS)
    sentences = [habit.note(match) for habit in habits for match in habit.pattern.finditer(bare)]
    return tuple(dict.fromkeys([*map(_shorthand_note, _shorthands(text)), *sentences]))


def _shorthands(text: str) -> list[str]:
    """The groups of a prompt whose weight is a shorthand, each with all that is in it."""
    marks = list(MARK.finditer(text))
    opened, groups = list[int](), list[tuple[int, int]]()
    for mark, weight in zip(marks, group_weights(text, marks), strict=True):
        if weight is None:
            continue
        if mark["opens"]:
            opened.append(mark.start())
            continue
        start = opened.pop()
        if mark["weight"] is None:
            while groups and groups[-1][0] > start:
                groups.pop()
            groups.append((start, mark.end()))
    return [text[start:end] for start, end in groups]


def _shorthand_note(group: str) -> str:
    read = "".join(one.text if one.weight == 1 else f"({one.text.strip()}:{one.weight:.3g})" for one in parse(group))
    return f"{group!r} is read as {read}" + (r"; for brackets as text write \[ and \]" if "[" in group else "")


def _network(match: re.Match[str]) -> str:
    if match[1].lower() == "embedding":
        return f"{match[0]!r} is read as text; write its word alone"
    if match[1].lower() not in ("lora", "lyco"):
        return f"{match[0]!r} is read as text; {match[1].lower()} has no counterpart here"
    name, *weights = match[2].split(":")
    numbers = [weight for weight in weights if re.fullmatch(NUMBER, weight.strip())]
    given = numbers[0] if len(numbers) == 1 else f"{numbers[1]}, text={numbers[0]}" if numbers else "1"
    given = given if len(numbers) == len(weights) <= 2 else "weight"
    return f"{match[0]!r} is read as text; give it as loras=[ctrl.Lora({name!r}, {given})]"


def _as_text(advice: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{match[0].strip()!r} is read as text; {advice}"


# In a prompt that is all in capitals these are words.
_KEYWORDS = (
    _Habit(BREAK, lambda match: f"{match[0]!r} is read as the end of a chunk; for the word write break"),
    _Habit(
        re.compile(r"(?<=\s)AND(?=\s)"), _as_text("to combine prompts give each a part of the picture by ctrl.Region")
    ),
)
_HABITS = (
    _Habit(
        re.compile(r"\[(?:[^\[\]()]|\([^()]{0,200}\)){0,200}?[:|][^\[\]]{0,200}\]"),
        _as_text("only the prompt and negative change during a run, by [from:to:0.5] and [one|another]"),
    ),
    _Habit(re.compile(r"(?:^|(?<=\s))(?:\{{2,40})([^{}]+)(?:\}{2,40})"), _as_text("for emphasis write (words:1.2)")),
    _Habit(re.compile(r"<([a-z]\w*):([^<>]+)>", re.IGNORECASE), _network),
    _Habit(
        re.compile(r"(?<![\w<])(?:ADDCOMM|ADDBASE|ADDROW|ADDCOL|COUPLE|(?:AREA|MASK)\([^()]*\))(?!\w)"),
        _as_text("for a part of the picture use ctrl.Region"),
    ),
    _Habit(
        EMBEDDING,
        _as_text("the model has no such embedding; ctrl.load(..., embeddings=...) brings one"),
    ),
    _Habit(re.compile(r"\{[^{}|]*\|[^{}]*\}"), _as_text("write one recipe for each of its choices")),
    _Habit(re.compile(r"(?<!\w)__[\w/*-]+__(?!\w)"), _as_text("wildcards have no counterpart here")),
    _Habit(re.compile(r"\)\.(?:and|blend|swap)\("), _as_text("prompts are not combined by functions here")),
    _Habit(re.compile(r"(?<=\w)::-?[0-9]+(?:\.[0-9]+)?(?![0-9.]*\s*\])"), _as_text("for emphasis write (words:1.2)")),
    _Habit(
        re.compile(r"(?<!\S)--[a-z]{1,12}(?:\s+[\w.:/-]+)?"),
        _as_text("settings are arguments of the recipe, such as width, height, seed and negative"),
    ),
    _Habit(re.compile(r"^[ \t]*Negative prompt:", re.MULTILINE), _as_text("give what follows as negative=...")),
    _Habit(
        re.compile(r"^[ \t]*Steps: ?[0-9]+, ?Sampler:", re.MULTILINE),
        _as_text("settings are arguments of the recipe; ctrl.Recipe.load reads them from the picture itself"),
    ),
    _Habit(re.compile(r"\([^()]*:\s*[0-9]+,[0-9]+\s*\)"), _as_text("a weight's decimals follow a point")),
    _Habit(re.compile(r"\([^()]*[^()\s:]:\s*[0-9]*\.[0-9]+\s*\Z"), _as_text("a parenthesis is not closed")),
    _Habit(
        re.compile(r"\([^()]*:\s*[0-9]*\.[0-9]+\s*,[^()]*:\s*[0-9.]+\s*\)"),
        lambda match: f"{match[0]!r} has one weight, its last number; for two write two groups",
    ),
    _Habit(
        re.compile(r"\uff08[^\uff08\uff09()]*[:\uff1a]\s*[0-9.]+\s*\uff09|\([^()]*\uff1a\s*[0-9.]+\s*\)"),
        _as_text("weights are written with ( ) and : as on an English keyboard"),
    ),
    _Habit(re.compile(r"(?<!\w)withLora\([^()]*\)"), _as_text("write <lora:name:0.8>")),
    _Habit(re.compile(r"/\*.{0,200}?\*/"), _as_text("comments have no counterpart here")),
    _Habit(
        re.compile(r"(?:\([^()]+\)|(?<!\w)\w+)(?:\+{2,}|(?<=\))(?:[+-]+|[0-9]*\.[0-9]+))(?![\w+])"),
        _as_text("for emphasis write (words:1.2)"),
    ),
    _Habit(
        re.compile(r"\([^()]*[^\W\d][^()]*(?<![\w.])[0-9]+:[0-5]\)"),
        _as_text("two whole numbers are a ratio; for a weight give it a point, as in 2.0"),
    ),
)
