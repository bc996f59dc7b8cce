r"""Weighted words in prompts: `(words:1.2)`, the only syntax that a prompt has.

Groups nest, and nested weights multiply: `((red:1.2) ball:1.1)`. `\(` and `\)` are parentheses as text. All else
is text, including parentheses without a weight and ratios such as (16:9), so an ordinary prompt reaches the tokenizer
unchanged. `prompt_notes` points out the syntax of other programs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

HIGHEST = 5.0  # the highest weight, after multiplying nested ones

# nan and inf are matched so that they are refused as weights, and not taken for text.
_NUMBER = r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|inf)"
_MARK = re.compile(rf"\\(?P<escaped>[()])|(?P<opens>\()|(?::\s*(?P<weight>{_NUMBER})\s*)?\)")
_NOTHING_BUT_A_NUMBER = re.compile(r"\s*[0-9]+(?:\.[0-9]+)?\s*")
_ENDS_IN_A_NUMBER = re.compile(r"(?<![\w.])[0-9]+\Z")


@dataclass(frozen=True)
class Piece:
    """A part of a prompt, as the tokenizer sees it, with the weight of its words; 1 changes nothing."""

    text: str
    weight: float


def parse(text: str) -> tuple[Piece, ...]:
    r"""The pieces of a prompt, none empty, neighbours of different weight; joined they are `plain(text)`.

    `(words:1.2)` is the syntax of AUTOMATIC1111's web UI and ComfyUI, without their shorthands; spaces around the
    number are allowed. `(16:9)` and `(in 4:3)` are text: a whole number after another is a ratio. ValueError for a
    weight that is not a finite number from 0 to 5, multiplied out where groups nest.
    """
    marks = list(_MARK.finditer(text))
    pieces, weights, at = [], [1.0], 0
    for mark, weight in zip(marks, _group_weights(text, marks), strict=True):
        if weight is None and not mark["escaped"]:
            continue  # the mark is text
        pieces.append(Piece(text[at : mark.start()], weights[-1]))
        at = mark.end()
        if weight is None:
            at -= 1  # the parenthesis of an escape is text
        elif mark["opens"]:
            weights.append(_product(weights[-1], weight, text[mark.start() :]))
        else:
            weights.pop()
    pieces.append(Piece(text[at:], weights[-1]))
    alike = groupby((piece for piece in pieces if piece.text), key=lambda piece: piece.weight)
    return tuple(Piece("".join(piece.text for piece in run), weight) for weight, run in alike)


def plain(text: str) -> str:
    """The prompt as the tokenizer sees it: no weights, escapes resolved. ValueError as `parse`."""
    return "".join(piece.text for piece in parse(text))


def escape(text: str) -> str:
    r"""The prompt whose plain text is `text`, whatever it holds: every parenthesis written `\(` or `\)`."""
    return re.sub(r"([()])", r"\\\1", text)


def _group_weights(text: str, marks: Sequence[re.Match[str]]) -> list[float | None]:
    """For each mark the weight of the group it opens or closes; None where it is text or an escape."""
    weights: list[float | None] = [None] * len(marks)
    opened: list[tuple[int, int]] = []  # the number of the mark, and `written` before it
    written = at = 0  # parts that are not blank: a group needs words
    for number, mark in enumerate(marks):
        written += bool(text[at : mark.start()].strip())
        at = mark.end()
        if mark["opens"]:
            opened.append((number, written))
            continue
        first, before = opened.pop() if opened and not mark["escaped"] else (number, written)
        if mark["weight"] is None or written == before or _is_ratio(text[marks[first].end() : mark.start()], mark):
            written += 1
        else:
            weights[first] = weights[number] = float(mark["weight"])
    return weights


def _is_ratio(words: str, mark: re.Match[str]) -> bool:
    """Whether a group's words and weight are two numbers that belong together, such as 16:9."""
    if _NOTHING_BUT_A_NUMBER.fullmatch(words):
        return True
    return (
        mark[0][1:-1].isdecimal()
        and _ENDS_IN_A_NUMBER.search(words, len(words) - 20 if len(words) > 20 else 0) is not None
    )


def _product(around: float, weight: float, group: str) -> float:
    for value in (weight, around * weight):
        if not (math.isfinite(value) and 0 <= value <= HIGHEST):
            raise ValueError(
                f"a weight in the prompt must be a finite number from 0 to {HIGHEST:g}, multiplied out where groups "
                f"nest, got {value:g} at {group[:40]!r}; change it, or write \\( and \\) for parentheses that are text."
            )
    return around * weight


@dataclass(frozen=True)
class _Habit:
    """Syntax of other programs: a pattern, and a note on its match."""

    pattern: re.Pattern[str]
    note: Callable[[re.Match[str]], str]


def prompt_notes(text: str) -> tuple[str, ...]:
    """Notes on syntax of other programs that is plain text here: sentences, each once.

    They cover emphasis by brackets alone, LoRAs, BREAK, AND, prompts that change during a run, embeddings, wildcards
    and weights in other notations. Escaped brackets are text everywhere.
    """
    bare = re.sub(r"\\[()\[\]{}]", "  ", text)
    return tuple(dict.fromkeys(habit.note(match) for habit in _HABITS for match in habit.pattern.finditer(bare)))


def _nested(match: re.Match[str]) -> str:
    depth = min(len(match[1]), len(match[3]))
    if re.search(rf":\s*{_NUMBER}\s*\Z", match[2]):
        return (
            f"the outer parentheses of {match[0]!r} are read as text; multiply its weight by {1.1 ** (depth - 1):.3g}"
        )
    return f"{match[0]!r} is read as text; for emphasis write ({match[2].strip()}:{1.1**depth:.3g})"


def _bracketed(match: re.Match[str]) -> str:
    words = match[2].strip()
    if re.search(r"\|", words) or re.search(r":[^:]*\Z", words):
        return f"{match[0]!r} is read as text; prompts that change during a run have no counterpart here"
    depth = min(len(match[1]), len(match[3]))
    return f"{match[0]!r} is read as text; to weaken words write ({words}:{1.1**-depth:.2g})"


def _network(match: re.Match[str]) -> str:
    if match[1].lower() != "lora":
        return f"{match[0]!r} is read as text; {match[1].lower()} has no counterpart here"
    name, _, rest = match[2].partition(":")
    weight = rest.partition(":")[0] or "1"
    return f"{match[0]!r} is read as text; give it as loras=[ctrl.Lora({name!r}, {weight})]"


def _as_text(advice: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{match[0].strip()!r} is read as text; {advice}"


_HABITS = (
    _Habit(re.compile(r"(\({2,40})([^()]+)(\){2,40})"), _nested),
    _Habit(re.compile(r"(\[{1,40})([^\[\]]+)(\]{1,40})"), _bracketed),
    _Habit(re.compile(r"<(lora|lyco|hypernet|embedding):([^<>]+)>", re.IGNORECASE), _network),
    _Habit(re.compile(r"(?<!\S)BREAK(?!\S)"), _as_text("a prompt is cut into chunks by its length alone")),
    _Habit(
        re.compile(r"(?<=\s)AND(?=\s)"), _as_text("to combine prompts give each a part of the picture by ctrl.Region")
    ),
    _Habit(re.compile(r"(?<![\w<])embedding:[\w.-]+"), _as_text("write the words themselves, without this prefix")),
    _Habit(re.compile(r"\{[^{}|]*\|[^{}]*\}"), _as_text("write one recipe for each of its choices")),
    _Habit(re.compile(r"(?<!\w)__[\w/*-]+__(?!\w)"), _as_text("wildcards have no counterpart here")),
    _Habit(re.compile(r"\([^()]*:\s*[0-9]+,[0-9]+\s*\)"), _as_text("a weight's decimals follow a point")),
    _Habit(re.compile(r"\([^()]*[^()\s:]:\s*[0-9]*\.[0-9]+\s*\Z"), _as_text("a parenthesis is not closed")),
    _Habit(
        re.compile(r"(?:\([^()]+\)|(?<!\w)\w+)(?:\+{2,}|(?<=\))(?:[+-]+|[0-9]*\.[0-9]+))(?![\w+])"),
        _as_text("for emphasis write (words:1.2)"),
    ),
    _Habit(
        re.compile(r"\([^()]*[^\W\d][^()]*(?<![\w.])[0-9]+:[0-5]\)"),
        _as_text("two whole numbers are a ratio; for a weight give it a point, as in 2.0"),
    ),
)
