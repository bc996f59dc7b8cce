"""Prompts that change during a run: `[from:to:when]` and `[one|another]`, the syntax of AUTOMATIC1111's web UI.

`[from:to:0.5]` is `from` up to half of the steps and `to` after them, `[from:to:8]` the same from the ninth step on; a
number with a point is a share of the steps, so `[from:to:1.0]` is `from` in all of them.
`[to:when]` begins with nothing and `[from::when]` ends with it. `[one|another]` takes turns at every step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ctrl.recipe.blends import Blend
from ctrl.recipe.checks import MAX_ENTRIES
from ctrl.recipe.schedule import Schedule

DEPTH = 20  # of brackets; deeper ones are text
_TOKEN = re.compile(r"\\.|[\[\]():|]|[^\\\[\]():|]+|\\", re.DOTALL)
_WHEN = re.compile(r"\s*([0-9]{1,4}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*")
_ENDS_IN_A_NUMBER = re.compile(r"(?:^|[^\w.])[0-9]+\Z")

Parts: TypeAlias = "list[str | _Choice]"


@dataclass(frozen=True)
class _Choice:
    """Texts of which each step has one: the second from `when` on, or all in turns where it is None.

    `when` is a step, counted from 0, or with `share` a part of the steps.
    """

    texts: Sequence[Parts]
    when: float | None
    share: bool = False

    def at(self, index: int, steps: int) -> str:
        if self.when is None:
            number = index % len(self.texts)
        else:
            number = int(index >= int(self.when * steps if self.share else self.when))
        return _text(self.texts[number], index, steps)


@dataclass
class _Bracket:
    """Brackets that are open: the texts in them, and the signs between those."""

    texts: list[Parts] = field(default_factory=lambda: [[]])
    signs: str = ""
    parentheses: int = 0

    def add(self, token: str) -> None:
        self.parentheses = max(0, self.parentheses + (token == "(") - (token == ")"))
        self.texts[-1].append(token)

    def separate(self, sign: str) -> None:
        self.signs += sign
        self.texts.append([])

    def closed(self) -> Parts:
        if self.signs and not self.signs.strip("|"):
            return [_Choice(self.texts, None)]
        when = _WHEN.fullmatch("".join(map(str, self.texts[-1])))
        before = "".join(map(str, self.texts[0]))
        ratio = len(self.texts) == 2 and when is not None and when[1].isdecimal() and _ENDS_IN_A_NUMBER.search(before)
        if self.signs not in (":", "::") or when is None or ratio:
            return ["[", *self.written(), "]"]
        first, second = ([], self.texts[0]) if self.signs == ":" else self.texts[:2]
        return [_Choice((first, second), float(when[1]), share="." in when[1])]

    def written(self) -> Parts:
        signs = ["", *self.signs]
        return [part for sign, text in zip(signs, self.texts, strict=True) for part in (sign, *text) if part != ""]


def at_every_step(prompt: str | Blend, steps: int) -> str | Blend:
    """A prompt as a blend of the texts that it has during a run of so many steps; one that does not change as it is.

    At each step one of them has all the weight. A run of fewer or more evaluations, such as image to image, changes at
    the same parts of its way. A ValueError for more than 16 texts.
    """
    if isinstance(prompt, Blend) or "[" not in prompt:
        return prompt
    parts = _read(prompt)
    if all(isinstance(part, str) for part in parts):
        return prompt
    texts = [_text(parts, index, steps) for index in range(steps)]
    different = list(dict.fromkeys(texts))
    if len(different) == 1:
        return texts[0]
    if len(different) > MAX_ENTRIES:
        raise ValueError(f"a prompt may change among {MAX_ENTRIES} texts, got {len(different)} in {prompt!r:.60}.")
    return Blend([(text, _where([one == text for one in texts])) for text in different])


def _read(prompt: str) -> Parts:
    opened = [_Bracket()]
    for token in _TOKEN.findall(prompt):
        if token == "[" and len(opened) <= DEPTH:
            opened.append(_Bracket())
        elif token == "]" and len(opened) > 1:
            bracket = opened.pop()
            opened[-1].texts[-1] += bracket.closed()
        elif token in (":", "|") and len(opened) > 1 and not opened[-1].parentheses:
            opened[-1].separate(token)
        else:
            opened[-1].add(token)
    while len(opened) > 1:
        bracket = opened.pop()
        opened[-1].texts[-1] += ["[", *bracket.written()]
    return opened[0].texts[0]


def _text(parts: Parts, index: int, steps: int) -> str:
    return "".join(part if isinstance(part, str) else part.at(index, steps) for part in parts)


def _where(own: Sequence[bool]) -> Schedule:
    """1 at the steps that have it and 0 at the others."""
    last = len(own) - 1
    kept = [at for at in range(last + 1) if at in (0, last) or len({*own[at - 1 : at + 2]}) > 1]
    return Schedule([(at / last, float(own[at])) for at in kept])
