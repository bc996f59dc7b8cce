r"""The one piece of syntax a prompt has: `(words:1.2)`, how strongly words act.

Groups nest, and nested weights multiply: `((red:1.2) ball:1.1)`. `\(` and `\)` are parentheses that are text. All else
is text as it stands, parentheses without a weight among it, so an ordinary prompt reaches the tokenizer untouched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

HIGHEST = 5.0  # weights are from 0 to this, multiplied out

# nan and inf are how Python writes what is no weight; they are read so that they can be refused.
_NUMBER = r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|inf)"
_MARK = re.compile(rf"\\(?P<escaped>[()])|(?P<opens>\()|(?::(?P<weight>{_NUMBER}))?\)")


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt, as the tokenizer sees it, and how strongly its words act; 1 is as they are."""

    text: str
    weight: float


def parse(text: str) -> tuple[Piece, ...]:
    r"""The pieces of a prompt, none empty, neighbours of different weight; joined they are `plain(text)`.

    `(words:1.2)` is the syntax of AUTOMATIC1111's web UI and ComfyUI, without their shorthands: exactly this form, with
    words in it and no space before the number. ValueError for a weight that is not a finite number from 0 to 5,
    multiplied out where groups nest.
    """
    marks = list(_MARK.finditer(text))
    pieces, weights, at = [], [1.0], 0
    for mark, weight in zip(marks, _group_weights(text, marks), strict=True):
        if weight is None and not mark["escaped"]:
            continue  # the mark is text
        pieces.append(Piece(text[at : mark.start()], weights[-1]))
        at = mark.end()
        if weight is None:
            at -= 1  # of an escape the parenthesis stays
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
    found: list[float | None] = [None] * len(marks)
    opened: list[tuple[int, int]] = []  # the number of the mark, and how much was written before it
    written = at = 0  # stretches that are not blank: a group needs words
    for number, mark in enumerate(marks):
        written += bool(text[at : mark.start()].strip())
        at = mark.end()
        if mark["opens"]:
            opened.append((number, written))
            continue
        first, before = opened.pop() if opened and not mark["escaped"] else (number, written)
        if mark["weight"] is None or written == before:
            written += 1
        else:
            found[first] = found[number] = float(mark["weight"])
    return found


def _product(around: float, weight: float, group: str) -> float:
    for found in (weight, around * weight):
        if not (math.isfinite(found) and 0 <= found <= HIGHEST):
            raise ValueError(
                f"a weight in the prompt must be a finite number from 0 to {HIGHEST:g}, multiplied out where groups "
                f"nest, got {found:g} at {group[:40]!r}; change it, or write \\( and \\) for parentheses that are text."
            )
    return around * weight
