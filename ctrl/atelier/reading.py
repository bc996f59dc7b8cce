"""What a picture of the world can be asked: the facts of a scene, of a prompt, and of what eyes saw.

`parse` is the inverse of the grammar in captions.py: it finds what a prompt states, whoever wrote it, as
far as it uses the grammar's words. `compare` marks what was seen against what was asked, strictly: a prop is right
only if kind and colour are right on the right side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from ctrl.atelier.captions import GROUND, POSING, STYLE, TIME
from ctrl.atelier.poses import POSES
from ctrl.atelier.scene import (
    COLORS,
    GROUNDS,
    KINDS,
    SHOWS_COLOR,
    SHOWS_TIME,
    SIDES,
    STYLES,
    TIMES,
    Scene,
)

T = TypeVar("T")
NOTHING = "nothing"  # where no prop stands


@dataclass(frozen=True)
class Facts(Generic[T]):
    """One thing for each fact a picture shows: its word, its options, its label or its logits."""

    pose: T
    shirt: T
    trousers: T
    left_kind: T
    left_color: T
    right_kind: T
    right_color: T
    ground: T
    time: T
    style: T

    def values(self) -> tuple[T, ...]:
        """The ten, in order."""
        return tuple(getattr(self, field.name) for field in fields(Facts))


OPTIONS: Facts[tuple[str, ...]] = Facts(
    pose=tuple(POSES),
    shirt=COLORS,
    trousers=COLORS,
    left_kind=(*KINDS, NOTHING),
    left_color=COLORS,
    right_kind=(*KINDS, NOTHING),
    right_color=COLORS,
    ground=GROUNDS,
    time=TIMES,
    style=STYLES,
)


@dataclass(frozen=True)
class Answer:
    """One thing asked of a picture (`what` as in captions.Caption.says) and what is seen there."""

    what: str
    asked: str
    seen: str

    @property
    def right(self) -> bool:
        """Whether the picture shows what was asked."""
        return self.asked == self.seen


def facts_of(scene: Scene) -> Facts[str | None]:
    """What the picture of a scene shows; None where its style does not let a viewer see it."""
    colored = scene.shows_color

    def prop(side: str) -> tuple[str, str | None]:
        for prop in scene.props:
            if prop.side == side:
                return prop.kind, prop.color if colored else None
        return NOTHING, None

    left, right = prop("left"), prop("right")
    return Facts(
        pose=scene.pose,
        shirt=scene.shirt if colored else None,
        trousers=scene.trousers if colored else None,
        left_kind=left[0],
        left_color=left[1],
        right_kind=right[0],
        right_color=right[1],
        ground=scene.ground,
        time=scene.time if scene.shows_time else None,
        style=scene.style,
    )


def parse(prompt: str) -> Facts[str | None]:
    """What a prompt states; None where it is silent or says what its own style cannot show."""
    text = " ".join(prompt.lower().replace(",", " , ").split())
    style = _phrase(text, STYLE)
    colored = style is None or style in SHOWS_COLOR
    left, right = (_prop(text, side) for side in SIDES)
    return Facts(
        pose=_phrase(text, POSING),
        shirt=_worn(text, "shirt") if colored else None,
        trousers=_worn(text, "trousers") if colored else None,
        left_kind=left[0],
        left_color=left[1] if colored else None,
        right_kind=right[0],
        right_color=right[1] if colored else None,
        ground=_phrase(text, GROUND),
        time=_phrase(text, TIME) if style is None or style in SHOWS_TIME else None,
        style=style,
    )


def compare(asked: Facts[str | None], seen: Facts[str | None]) -> tuple[Answer, ...]:
    """One answer for each thing asked. Of a prop, what was asked of kind and colour must both be there."""
    answers = [
        Answer(name, want, getattr(seen, name) or NOTHING)
        for name in ("pose", "shirt", "trousers", "ground", "time", "style")
        if (want := getattr(asked, name)) is not None
    ]
    for side in SIDES:
        kind, color = getattr(asked, f"{side}_kind"), getattr(asked, f"{side}_color")
        if kind is None:
            continue
        there = getattr(seen, f"{side}_kind") or NOTHING
        hue = getattr(seen, f"{side}_color") if color else None
        want = f"{color} {kind}" if color else kind
        answers.append(Answer(f"{side} prop", want, f"{hue} {there}" if hue and there != NOTHING else there))
    return tuple(answers)


def _phrase(text: str, grammar: Mapping[str, tuple[str, ...]]) -> str | None:
    """The meaning whose longest phrase stands in the text, so that "standing still" is no mere "standing"."""
    found = [
        (len(phrase), meaning)
        for meaning, phrases in grammar.items()
        for phrase in (*phrases, meaning)
        if re.search(rf"\b{re.escape(phrase)}\b", text) and (grammar is not GROUND or phrase != meaning)
    ]
    return max(found)[1] if found else None


def _worn(text: str, garment: str) -> str | None:
    match = re.search(rf"\b({'|'.join(COLORS)}) {garment}\b", text)
    return match[1] if match else None


def _prop(text: str, side: str) -> tuple[str | None, str | None]:
    pattern = rf"\b(?:({'|'.join(COLORS)}) )?({'|'.join(KINDS)}) (?:on|to) the {side}\b"
    match = re.search(pattern, text)
    return (match[2], match[1]) if match else (None, None)
