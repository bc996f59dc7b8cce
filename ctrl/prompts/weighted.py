r"""Weighted words in prompts: `(words:1.2)`, and the shorthands `((words))` and `[words]`.

Groups nest, and nested weights multiply: `((red:1.2) ball:1.1)`. Each pair of doubled parentheses is 1.1 and each pair
of brackets 1 / 1.1, as in AUTOMATIC1111's web UI. `\(`, `\)`, `\[` and `\]` are parentheses and brackets as text. All
else is text, including single parentheses without a weight and ratios such as (16:9), so an ordinary prompt reaches
the tokenizer unchanged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

HIGHEST = 5.0  # the highest weight, after multiplying nested ones
STRONGER, WEAKER = 1.1, 1 / 1.1  # the weights of the shorthands

# nan and inf are matched so that they are refused as weights, and not taken for text.
NUMBER = r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|inf)"
MARK = re.compile(rf"\\(?P<escaped>[()\[\]])|(?P<opens>[(\[])|(?::\s*(?P<weight>{NUMBER})\s*)?\)|\]")
SYNTAX = re.compile(r"\\[()\[\]]|:[^:()]*\)|\(\(|\[")  # a text without it is a prompt that weighs nothing
_NOTHING_BUT_A_NUMBER = re.compile(r"\s*[0-9]+(?:\.[0-9]+)?\s*")
_ENDS_IN_A_NUMBER = re.compile(r"(?<![\w.])[0-9]+\Z")


@dataclass(frozen=True)
class Piece:
    """A part of a prompt, as the tokenizer sees it, with the weight of its words; 1 changes nothing."""

    text: str
    weight: float


def parse(text: str) -> tuple[Piece, ...]:
    r"""The pieces of a prompt, none empty, neighbours of different weight; joined they are `plain(text)`.

    `(words:1.2)` is the syntax of AUTOMATIC1111's web UI and ComfyUI, `((words))` and `[words]` are the web UI's;
    spaces around the number are allowed. `(words)` is text, and so are `(16:9)` and `(in 4:3)`, since a whole number
    after another is a ratio, and brackets with a colon or a bar. ValueError for a weight that is not a finite number
    from 0 to 5, multiplied out where groups nest.
    """
    marks = list(MARK.finditer(text))
    pieces, weights, at = [], [1.0], 0
    for mark, weight in zip(marks, group_weights(text, marks), strict=True):
        if weight is None and not mark["escaped"]:
            continue  # the mark is text
        pieces.append(Piece(text[at : mark.start()], weights[-1]))
        at = mark.end()
        if weight is None:
            at -= 1  # the parenthesis or bracket of an escape is text
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
    r"""The prompt whose plain text is `text`, whatever it holds: `\(`, `\)`, `\[` and `\]` for every such sign."""
    return re.sub(r"([()\[\]])", r"\\\1", text)


def simplified(text: str) -> str:
    """One spelling for prompts that `parse` reads alike: `a (red:1.0) ball` is `a red ball`. ValueError as `parse`."""
    pieces = parse(text)
    simple = "".join(piece.text for piece in pieces)
    if not SYNTAX.search(simple) and all(piece.weight == 1 for piece in pieces):
        return simple
    written = "".join(
        escape(piece.text) if piece.weight == 1 else f"({escape(piece.text)}:{piece.weight!r})" for piece in pieces
    )
    return written if parse(written) == pieces else text


@dataclass
class _Open:
    """A group that is open: the number of its mark, and how many parts that are not blank were before it."""

    number: int
    written: int
    changes: bool = False  # whether a colon or a bar is in it, outside of its inner groups


def group_weights(text: str, marks: Sequence[re.Match[str]]) -> list[float | None]:
    """For each mark the weight of the group it opens or closes; None where it is text or an escape."""
    weights: list[float | None] = [None] * len(marks)
    opened: dict[str, list[_Open]] = {"(": [], "[": []}
    inner = (0, 0)  # the first and last marks of the last group in parentheses that has words
    written = at = 0  # parts that are not blank: a group needs words
    for number, mark in enumerate(marks):
        part = text[at : mark.start()]
        written += bool(part.strip())
        if opened["["] and not (opened["("] and opened["("][-1].number > opened["["][-1].number):
            opened["["][-1].changes |= ":" in part or "|" in part
        at = mark.end()
        if mark["opens"]:
            opened[mark["opens"]].append(_Open(number, written))
            continue
        kind = "[" if mark[0] == "]" else "("
        group = None if mark["escaped"] else _closed(opened, kind)
        first = number if group is None else group.number
        if group is None or written == group.written:
            written += 1
        elif kind == "[":
            weights[first] = weights[number] = None if group.changes else WEAKER
        elif mark["weight"] is not None and _is_ratio(text[marks[first].end() : mark.start()], mark):
            written += 1
        else:
            if mark["weight"] is not None:
                weights[first] = weights[number] = float(mark["weight"])
            elif inner == (first + 1, number - 1) and _touching(marks, first, number):
                for one in (first, number, *(one for one in inner if weights[one] is None)):
                    weights[one] = STRONGER
            inner = (first, number)
    return weights


def _closed(opened: Mapping[str, list[_Open]], kind: str) -> _Open | None:
    """The last group of this kind that is open, closed, with all that were opened in it."""
    if not opened[kind]:
        return None
    group, other = opened[kind].pop(), opened["(" if kind == "[" else "["]
    while other and other[-1].number > group.number:
        other.pop()
    return group


def _touching(marks: Sequence[re.Match[str]], first: int, last: int) -> bool:
    """Whether nothing is between these marks and their neighbours inside."""
    return marks[first].end() == marks[first + 1].start() and marks[last - 1].end() == marks[last].start()


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
    if 1 in (around, weight):
        return around * weight
    return round(around * weight, 12)  # 1.1 times 1.1 is 1.21
