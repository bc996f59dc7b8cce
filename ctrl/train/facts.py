"""Which letters of a caption state which fact, and scenes twisted so that their captions are false."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ctrl.atelier.captions import POSING, STYLE, TIME, Caption
from ctrl.atelier.poses import POSES
from ctrl.atelier.scene import COLORS, GROUNDS, KINDS, SIDES, STYLES, TIMES, Prop, Scene

ATTRIBUTES = ("color", "kind", "side", "pose", "ground", "time", "style")
VALUES = (COLORS, KINDS, SIDES, tuple(POSES), GROUNDS, TIMES, STYLES)  # of each attribute, in the same order


@dataclass(frozen=True)
class Fact:
    """The word whose last letter is `letter` states this value (an index) of this attribute (an index)."""

    letter: int
    attribute: int
    value: int


def fact(letter: int, attribute: str, value: str) -> Fact:
    """A fact by its names."""
    index = ATTRIBUTES.index(attribute)
    return Fact(letter, index, VALUES[index].index(value))


def facts(scene: Scene, caption: Caption) -> list[Fact]:
    """Every fact a true caption of the scene states, each at the word that completes it.

    A thing's noun completes its colour and kind; the side word after it completes side, colour and kind.
    """
    text, found = caption.text, []
    for mention in caption.mentions:
        if mention.what in ("shirt", "trousers"):
            found.append(fact(mention.end - 1, "color", getattr(scene, mention.what)))
        if mention.what == "ground":
            found.append(fact(mention.end - 1, "ground", scene.ground))
        for prop in scene.props:
            if mention.what == f"{prop.side} prop":
                found += _of_prop(scene, prop, text, mention.end)
    phrases = (("pose", POSING[scene.pose], scene.pose), ("time", TIME[scene.time], scene.time))
    for name, options, value in (*phrases, ("style", STYLE[scene.style], scene.style)):
        if name in caption.says:
            said = max((words for words in options if words in text), key=len)
            found.append(fact(text.index(said) + len(said) - 1, name, value))
    return found


def _of_prop(scene: Scene, prop: Prop, text: str, noun_end: int) -> list[Fact]:
    side_end = text.index(prop.side, noun_end) + len(prop.side)
    found = [fact(end - 1, "kind", prop.kind) for end in (noun_end, side_end)]
    if scene.shows_color:
        found += [fact(end - 1, "color", prop.color) for end in (noun_end, side_end)]
    return [*found, fact(side_end - 1, "side", prop.side)]


LOOKS = (tuple(POSES), GROUNDS, TIMES, STYLES, COLORS, COLORS)  # pose, ground, time, style, shirt, trousers


def looks(scene: Scene) -> tuple[int, ...]:
    """What the whole picture shows, an index into each of LOOKS; -100 where the style hides it."""
    return (
        LOOKS[0].index(scene.pose),
        LOOKS[1].index(scene.ground),
        LOOKS[2].index(scene.time) if scene.shows_time else -100,
        LOOKS[3].index(scene.style),
        LOOKS[4].index(scene.shirt) if scene.shows_color else -100,
        LOOKS[5].index(scene.trousers) if scene.shows_color else -100,
    )


def twisted(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one thing changed that words must bind: colours or sides exchanged, other poses."""
    draws = [_other_pose, _other_place, _swapped_clothes, _swapped_sides, _swapped_props]
    return draws[int(rng.integers(len(draws)))](scene, rng)


def _other(options: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    return options[(options.index(value) + 1 + int(rng.integers(len(options) - 1))) % len(options)]


def _other_pose(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, pose=_other(tuple(POSES), scene.pose, rng))


def _other_place(scene: Scene, rng: np.random.Generator) -> Scene:
    if rng.random() < 0.5:
        return replace(scene, time=_other(TIMES, scene.time, rng))
    return replace(scene, ground=_other(GROUNDS, scene.ground, rng))


def _swapped_clothes(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, shirt=scene.trousers, trousers=scene.shirt)


def _swapped_sides(scene: Scene, rng: np.random.Generator) -> Scene:
    """Left is right; the sides stay in order, so that a caption's drawn words stay the same."""
    moved = (replace(prop, side=SIDES[1 - SIDES.index(prop.side)], x=-prop.x) for prop in scene.props)
    return replace(scene, props=tuple(sorted(moved, key=lambda prop: SIDES.index(prop.side))))


def _swapped_props(scene: Scene, rng: np.random.Generator) -> Scene:
    """A prop takes the shirt's colour and the shirt the prop's."""
    if not scene.props:
        return _swapped_clothes(scene, rng)
    first, *rest = scene.props
    return replace(scene, shirt=first.color, props=(replace(first, color=scene.shirt), *rest))
