"""A figure as a value: 18 OpenPose keypoints of the body, 21 of each hand, those of a face."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from ctrl.caller import constructor_ends_at_caller, ends_at_caller
from ctrl.skeleton.draw import draw_figures, to_png
from ctrl.skeleton.openpose import FACE, HAND, choose, read_people, write_people
from ctrl.skeleton.poses import POSES

Array = np.ndarray[Any, Any]

# Keypoints in OpenPose's order; "right" is the figure's own right, on the left of a picture it faces out of.
JOINTS = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
    "left wrist", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip
# The joint that a mirrored figure has in place of each joint.
MIRRORED = np.array([0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16])
FRACTIONS = (
    "{} are fractions of the picture's size, got ({:g}, {:g}) for the {}; divide pixels by the width and height."
)


@constructor_ends_at_caller
@dataclass(frozen=True, eq=False)
class Skeleton:
    """The joints of one figure.

    `points` is (18, 2): x to the right and y down as fractions of the picture's width and height. `shown` is
    (18,) bool; a joint that is not shown is not drawn. `left_hand` and `right_hand` are (21, 2), `face` is (68, 2) or
    (70, 2), or None; of these a keypoint at (0, 0) is not shown, as in OpenPose. All are kept as read-only arrays. A
    shown joint may be a little outside the picture; coordinates that look like pixels raise a ValueError.
    """

    points: Array
    shown: Array = field(default_factory=lambda: np.ones(18, bool))
    left_hand: Array | None = None
    right_hand: Array | None = None
    face: Array | None = None

    def __post_init__(self) -> None:
        points, shown = _numbers("points", self.points), np.array(self.shown)
        if points.shape != (18, 2):
            raise ValueError(f"points must have shape (18, 2), one (x, y) a joint, got {points.shape}.")
        if shown.shape != (18,) or shown.dtype != np.bool_:
            raise ValueError(f"shown must be 18 booleans, got {shown.dtype} of shape {shown.shape}.")
        if not np.isfinite(points).all():
            raise ValueError("points must be finite numbers, got NaN or infinity; hide a joint by `shown`.")
        outside = shown & _far(points)
        if outside.any():
            joint = int(np.argmax(outside))
            x, y = points[joint]
            raise ValueError(FRACTIONS.format("points", x, y, JOINTS[joint]))
        points[~shown] = 0.0  # so that equal drawings are equal values
        points.flags.writeable = shown.flags.writeable = False
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "shown", shown)
        for name, counts in (("left_hand", HAND), ("right_hand", HAND), ("face", FACE)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _part(name, getattr(self, name), counts))

    @classmethod
    @ends_at_caller
    def named(cls, name: str) -> Skeleton:
        """A pose from `POSES`, such as "waving"; a ValueError lists them all."""
        if name not in tuple(POSES):  # a tuple, since a list cannot be looked up in a mapping
            raise ValueError(f"there is no pose {name!r:.60}; there are {', '.join(POSES)}.")
        table = np.array(POSES[name])  # (18, 3)
        return cls(table[:, :2], table[:, 2] > 0)

    @classmethod
    @ends_at_caller
    def from_json(
        cls,
        text: str,
        *,
        size: tuple[int, int] | None = None,
        person: int | None = None,
        frame: int | None = None,
    ) -> Skeleton:
        """From OpenPose's JSON, or ControlNet's and ComfyUI's: 18 or 25 keypoints, hands and a face if it has them.

        They are fractions, or pixels of a canvas, whose `size` (width, height) is needed if the file does not give it.
        A file with several people needs `person`, one with several frames `frame`, counted from 0;
        `People.from_json` takes them all. A ValueError says what is wrong with it.
        """
        people = read_people(text, size=size, frame=frame)
        if person is None and len(people) != 1:
            advice = "choose one by person=0 and so on" if people else "it needs one"
            raise ValueError(f"the file holds {len(people)} people; {advice}.")
        return Skeleton(**people[choose("person", person, len(people), "people")])

    def to_json(self, width: int = 512, height: int = 512) -> str:
        """OpenPose's JSON in pixels of a canvas of `width` × `height`."""
        return write_people([self], width, height)

    def to_dict(self) -> dict[str, list[Any]]:
        """Its fields as lists, without hands and face that are None; `from_dict` reads it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.tolist() for name, value in values.items() if value is not None}

    @classmethod
    @ends_at_caller
    def from_dict(cls, given: dict[str, Any]) -> Skeleton:
        """The inverse of `to_dict`; a ValueError for fields too many or too few."""
        odd = (given.keys() - {field.name for field in fields(cls)}) | ({"points", "shown"} - given.keys())
        if odd:
            raise ValueError(f"a skeleton has wrong or missing fields: {', '.join(map(repr, sorted(odd)))[:200]}.")
        return cls(**given)

    def mirror(self) -> Skeleton:
        """The mirrored pose: left and right change sides, joints keep their names."""
        points = self.points[MIRRORED] * [-1, 1] + [1, 0]
        left, right, face = (_mirrored(part) for part in (self.right_hand, self.left_hand, self.face))
        return Skeleton(points, self.shown[MIRRORED], left, right, face)

    def draw(self, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """(height, width, 3) uint8 RGB: OpenPose's coloured limbs and joints on black, as ControlNets expect.

        From 512 pixels along the shorter side it is what controlnet_aux draws; smaller drawings use fractions of a
        pixel, as the training pictures of the atelier's pose ControlNet did.
        """
        return draw_figures([self], width, height)

    def _repr_png_(self) -> bytes:
        return to_png(self.draw(512, 512))

    @cached_property
    def sha256(self) -> str:
        """The hash of its fields, in hexadecimal."""
        digest = hashlib.sha256((self.points + 0.0).tobytes() + self.shown.tobytes())  # minus zero is zero
        for name in ("left_hand", "right_hand", "face"):
            if (part := getattr(self, name)) is not None:
                digest.update(name.encode() + (part + 0.0).tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skeleton) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        parts = [
            name.replace("_", " ") for name in ("left_hand", "right_hand", "face") if getattr(self, name) is not None
        ]
        return ", ".join([f"Skeleton({int(self.shown.sum())} of 18 joints", *parts, f"sha256 {self.sha256[:8]})"])


@constructor_ends_at_caller
@dataclass(frozen=True)
class People:
    """Several figures in one picture, drawn over each other in their order."""

    skeletons: tuple[Skeleton, ...]

    def __post_init__(self) -> None:
        people: Any = self.skeletons
        if not isinstance(people, list | tuple) or not people or not all(isinstance(one, Skeleton) for one in people):
            raise TypeError(f"People takes a list of Skeletons, at least one, got {people!r:.80}.")
        object.__setattr__(self, "skeletons", tuple(people))

    @classmethod
    @ends_at_caller
    def from_json(cls, text: str, *, size: tuple[int, int] | None = None, frame: int | None = None) -> People:
        """All people in a JSON text that `Skeleton.from_json` reads, at least one."""
        people = read_people(text, size=size, frame=frame)
        if not people:
            raise ValueError("the file holds 0 people; it needs one.")
        return cls(tuple(Skeleton(**person) for person in people))

    def to_json(self, width: int = 512, height: int = 512) -> str:
        """OpenPose's JSON in pixels of a canvas of `width` × `height`."""
        return write_people(self.skeletons, width, height)

    def mirror(self) -> People:
        """All figures mirrored, see `Skeleton.mirror`."""
        return People(tuple(skeleton.mirror() for skeleton in self.skeletons))

    def draw(self, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """(height, width, 3) uint8 RGB, as `Skeleton.draw`."""
        return draw_figures(self.skeletons, width, height)

    def _repr_png_(self) -> bytes:
        return to_png(self.draw(512, 512))

    @cached_property
    def sha256(self) -> str:
        """The hash of all figures in their order, in hexadecimal."""
        return hashlib.sha256(" ".join(skeleton.sha256 for skeleton in self.skeletons).encode()).hexdigest()


def _far(points: Array) -> Array:
    """Whether each of (n, 2) points is too far outside the picture to be a fraction of its size: (n,) bool."""
    return np.asarray(((points < -1) | (points > 2)).any(axis=1))


def _part(name: str, given: Any, counts: tuple[int, ...]) -> Array:
    """The keypoints of a hand or a face, checked and read-only."""
    points = _numbers(name, given)
    if points.shape not in [(count, 2) for count in counts]:
        shapes = " or ".join(f"({count}, 2)" for count in counts)
        raise ValueError(f"{name} must have shape {shapes}, one (x, y) a keypoint, got {points.shape}.")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} must be finite numbers, got NaN or infinity; hide a keypoint by (0, 0).")
    if _far(points).any():
        at = int(np.argmax(_far(points)))
        raise ValueError(FRACTIONS.format(name, *points[at], f"keypoint {at}"))
    points.flags.writeable = False
    return points


def _mirrored(part: Array | None) -> Array | None:
    """(n, 2) keypoints with left and right exchanged, those not shown excepted."""
    return None if part is None else np.where(part.any(1, keepdims=True), part * [-1, 1] + [1, 0], 0.0)


def _numbers(name: str, given: Any) -> Array:
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of numbers, got {given!r:.60}.") from error
