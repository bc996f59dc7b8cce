"""What one might say of a scene: a small grammar with synonyms and dropped clauses, never a false word.

Captions name colours and times only where the style shows them, unless they are to name everything, as people do.
`Mention`s say which letters of the caption
speak of which thing in the picture, so that an attention map can be asked about a word and checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the world needs torch, and its words do not
    from ctrl.atelier.scene import Prop, Scene

FIGURE = ("a figure", "a person", "someone", "a mannequin")
POSING = {
    "standing": ("standing", "standing still"),
    "waving": ("waving", "waving hello"),
    "arms raised": ("with arms raised", "with raised arms"),
    "arms outstretched": ("with arms outstretched", "with outstretched arms"),
    "hands on hips": ("with hands on hips",),
    "pointing": ("pointing", "pointing aside"),
    "walking": ("walking",),
    "running": ("running",),
    "sitting": ("sitting", "sitting down"),
    "kneeling": ("kneeling", "kneeling down"),
}
GROUND = {
    "grass": ("on grass", "on the grass"),
    "sand": ("on sand", "on the sand"),
    "snow": ("on snow", "in the snow"),
    "wood": ("on a wood floor", "on wood"),
    "tiles": ("on tiles", "on a tiled floor"),
}
TIME = {
    "day": ("by day", "in daylight"),
    "sunset": ("at sunset", "at dusk"),
    "night": ("at night", "by night"),
}
STYLE = {
    "3d render": ("3d render",),
    "ink sketch": ("ink sketch", "ink drawing"),
    "watercolor": ("watercolor", "watercolor painting"),
    "pixel art": ("pixel art",),
    "neon lines": ("neon lines", "neon glow"),
    "blueprint": ("blueprint",),
    "clay model": ("clay model",),
    "comic book": ("comic book", "comic"),
}

Pick = Callable[[tuple[str, ...]], str]


@dataclass(frozen=True)
class Mention:
    """A word of a caption and what it names: `what` is a part's name in solids.PARTS, or "figure"."""

    word: str
    start: int
    end: int
    what: str


@dataclass(frozen=True)
class Caption:
    """The words, what they point at, and which facts of the scene they state."""

    text: str
    mentions: tuple[Mention, ...]
    says: frozenset[str]  # of "pose", "shirt", "trousers", "left prop", "right prop", "ground", "time", "style"


@dataclass(frozen=True)
class _Clause:
    says: frozenset[str]
    text: str
    mentions: tuple[tuple[str, str], ...] = ()


def describe(
    scene: Scene,
    seed: int | None = None,
    keep: float = 1.0,
    *,
    everything: bool = False,
    styled: bool | None = None,
) -> Caption:
    """A caption of the scene. Each clause but the figure's is kept with probability `keep`; `seed` picks the words.

    With no seed it is the plain one: first synonyms, fixed order, nothing dropped. `everything` names colours and the
    time in every style, also where the picture cannot show them. `styled` says whether the style is named; None keeps
    it as it keeps other clauses.
    """
    colored, timed = (everything or shows for shows in (scene.shows_color, scene.shows_time))
    rng = None if seed is None else np.random.Generator(np.random.Philox(key=[seed % 2**64, scene.seed % 2**64]))

    def pick(options: tuple[str, ...]) -> str:
        return options[0] if rng is None else options[int(rng.integers(len(options)))]

    def kept() -> bool:
        return rng is None or bool(rng.random() < keep)

    figure = _figure(scene, pick, kept, colored=colored)
    tail = [_prop(prop, pick, colored=colored) for prop in scene.props if kept()]
    if kept():
        words = pick(GROUND[scene.ground])
        name = "floor" if "floor" in words else words.split()[-1]
        tail.append(_Clause(frozenset({"ground"}), words, ((name, "ground"),)))
    if timed and kept():
        tail.append(_Clause(frozenset({"time"}), pick(TIME[scene.time])))
    if rng is not None and rng.random() < 0.5:
        tail = [tail[i] for i in rng.permutation(len(tail))]
    clauses = [figure, *tail]
    if styled is None:
        styled = kept()
    if styled:
        style = _Clause(frozenset({"style"}), pick(STYLE[scene.style]))
        clauses.insert(len(clauses) if rng is not None and rng.random() < 0.5 else 0, style)
    return _join(clauses)


def _figure(scene: Scene, pick: Pick, kept: Callable[[], bool], *, colored: bool) -> _Clause:
    words, says = [pick(FIGURE)], set[str]()
    mentions = [(words[0].split()[-1], "figure")]
    if kept():
        words.append(pick(POSING[scene.pose]))
        says.add("pose")
    worn = [(name, getattr(scene, name)) for name in ("shirt", "trousers") if kept()] if colored else []
    if worn:
        named = [f"{article(color)} {color} shirt" if name == "shirt" else f"{color} trousers" for name, color in worn]
        words.append("in " + " and ".join(named))
        mentions += [(name, name) for name, _ in worn]
        says |= {name for name, _ in worn}
    return _Clause(frozenset(says), " ".join(words), tuple(mentions))


def _prop(prop: Prop, pick: Pick, *, colored: bool) -> _Clause:
    side = pick((f"on the {prop.side}", f"to the {prop.side}"))
    return _Clause(
        frozenset({f"{prop.side} prop"}),
        f"{thing(prop.kind, prop.color if colored else None)} {side}",
        ((prop.kind, f"{prop.side} prop"),),
    )


def thing(kind: str, color: str | None = None) -> str:
    """A prop in words: "an orange ball", "a box"."""
    words = kind if color is None else f"{color} {kind}"
    return f"{article(words)} {words}"


def article(word: str) -> str:
    """The indefinite article of a word or phrase."""
    return "an" if word[0] in "aeiou" else "a"


def _join(clauses: list[_Clause]) -> Caption:
    text, mentions = "", []
    for clause in clauses:
        text += ", " if text else ""
        for word, what in clause.mentions:
            start = len(text) + f"{clause.text} ".replace(",", " ").index(f"{word} ")
            mentions.append(Mention(word, start, start + len(word), what))
        text += clause.text
    return Caption(text, tuple(mentions), frozenset().union(*(clause.says for clause in clauses)))
