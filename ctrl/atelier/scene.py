"""What one picture of the miniature world shows: a frozen value, drawn from a seed.

A scene is an artist's figure in a named pose, dressed in two colours, on one of five grounds, at one of three
times of day, with up to two props, in one of eight drawing styles. Everything a caption can say about the
picture, and everything a measure can ask of it, is a field here. Lengths are metres, angles degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrl.atelier.language import COLORS as COLORS
from ctrl.atelier.language import KINDS as KINDS
from ctrl.atelier.language import SIDES as SIDES
from ctrl.atelier.poses import ANGLES, POSES

STYLES = (
    "3d render",
    "ink sketch",
    "watercolor",
    "pixel art",
    "neon lines",
    "blueprint",
    "clay model",
    "comic book",
)
PLAIN = "3d render"  # the style of a picture whose caption names none
GROUNDS = ("grass", "sand", "snow", "wood", "tiles")
TIMES = ("day", "sunset", "night")

SHOWS_COLOR = frozenset({"3d render", "watercolor", "pixel art", "neon lines", "comic book"})
SHOWS_TIME = frozenset({"3d render", "watercolor", "pixel art", "comic book"})

EVALUATION_SEEDS = 2**40  # seeds from here on are never trained on


@dataclass(frozen=True)
class Prop:
    """A thing beside the figure; `x` (right) and `z` (towards the viewer) say where it stands."""

    kind: str
    color: str
    side: str
    x: float
    z: float
    size: float
    turn: float


@dataclass(frozen=True)
class Scene:
    """One picture's worth of world. `angles` are the joint angles of `poses.ANGLES`, jitter included."""

    seed: int
    pose: str
    angles: tuple[float, ...]
    heading: float
    mirrored: bool
    shirt: str
    trousers: str
    skin: int
    hair: int
    props: tuple[Prop, ...]
    ground: str
    time: str
    style: str
    place: tuple[float, float]
    stature: float
    yaw: float
    pitch: float
    distance: float
    sun: float

    @property
    def shows_color(self) -> bool:
        """Whether this style lets a viewer see which colour things are."""
        return self.style in SHOWS_COLOR

    @property
    def shows_time(self) -> bool:
        """Whether this style lets a viewer see the time of day."""
        return self.style in SHOWS_TIME


def sample(seed: int) -> Scene:
    """The scene of a seed: the same seed gives the same scene everywhere, for ever."""
    rng = np.random.Generator(np.random.Philox(seed))

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    def within(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    pose = pick(tuple(POSES))
    shirt = pick(COLORS)
    trousers = pick(tuple(color for color in COLORS if color != shirt))
    jitter = rng.uniform(-1.0, 1.0, len(ANGLES)) * POSES[pose].jitter
    sides = [SIDES, SIDES[:1], SIDES[1:], SIDES[:1], SIDES[1:], ()][int(rng.integers(6))]
    props = tuple(
        Prop(
            kind=pick(KINDS),
            color=pick(COLORS),
            side=side,
            x=(-1.0 if side == "left" else 1.0) * within(0.72, 0.95),
            z=within(-0.45, 0.35),
            size=within(0.85, 1.15),
            turn=within(0.0, 90.0),
        )
        for side in sides
    )
    turn = POSES[pose].heading
    return Scene(
        seed=seed,
        pose=pose,
        angles=tuple(float(angle) for angle in np.asarray(POSES[pose].angles) + jitter),
        heading=turn * (1.0 if rng.random() < 0.5 else -1.0) + within(-14.0, 14.0),
        mirrored=bool(rng.random() < 0.5),
        shirt=shirt,
        trousers=trousers,
        skin=int(rng.integers(4)),
        hair=int(rng.integers(4)),
        props=props,
        ground=pick(GROUNDS),
        time=pick(TIMES),
        style=pick(STYLES),
        place=(within(-0.12, 0.12), within(-0.12, 0.12)),
        stature=within(0.94, 1.06),
        yaw=within(-12.0, 12.0),
        pitch=within(4.0, 16.0),
        distance=within(4.1, 4.7),
        sun=within(-60.0, 60.0),
    )
