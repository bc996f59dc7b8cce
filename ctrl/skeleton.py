"""A human pose as a value: 18 OpenPose keypoints, named poses, mirror, JSON, and the drawing of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

# Keypoints in OpenPose's order; "right" is the figure's own right, on the left of a picture it faces out of.
JOINTS = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
    "left wrist", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
    (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255),
    (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
# Which joint a mirror shows in each one's place.
MIRRORED = np.array([0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16])
_FROM_BODY_25 = np.array([0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18])
_FROM, _TO = (np.array(ends) for ends in zip(*LIMBS, strict=True))
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_OUTLINE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=-1)  # (24, 2), the unit circle
_FINE = 4  # bits below one pixel that cv2 draws with


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Where the 18 joints of one figure are.

    `points` is (18, 2): x to the right and y down as fractions of the picture's width and height. `shown` is
    (18,) bool; a joint that is not shown is not drawn. Both are kept as read-only arrays. A shown joint may
    lie a little outside the picture; coordinates that look like pixels raise a ValueError.
    """

    points: Array
    shown: Array = field(default_factory=lambda: np.ones(18, bool))

    def __post_init__(self) -> None:
        points, shown = _numbers("points", self.points), np.array(self.shown)
        if points.shape != (18, 2):
            raise ValueError(f"points must have shape (18, 2), one (x, y) a joint, got {points.shape}.")
        if shown.shape != (18,) or shown.dtype != np.bool_:
            raise ValueError(f"shown must be 18 booleans, got {shown.dtype} of shape {shown.shape}.")
        if not np.isfinite(points).all():
            raise ValueError("points must be finite numbers, got NaN or infinity; hide a joint by `shown`.")
        outside = shown & ((points < -1) | (points > 2)).any(axis=1)
        if outside.any():
            joint = int(np.argmax(outside))
            x, y = points[joint]
            raise ValueError(
                f"points are fractions of the picture's size, got ({x:g}, {y:g}) for the {JOINTS[joint]}; "
                "divide pixels by the width and height."
            )
        points[~shown] = 0.0  # so that equal drawings are equal values
        points.flags.writeable = shown.flags.writeable = False
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "shown", shown)

    @classmethod
    def named(cls, name: str) -> Skeleton:
        """A pose from `POSES`, such as "waving"; a ValueError lists them all."""
        if name not in tuple(POSES):  # a tuple's own question, which a list may be asked
            raise ValueError(f"there is no pose {name!r:.60}; there are {', '.join(POSES)}.")
        table = np.array(POSES[name])  # (18, 3)
        return cls(table[:, :2], table[:, 2] > 0)

    @classmethod
    def from_json(cls, text: str, *, person: int | None = None) -> Skeleton:
        """From OpenPose's JSON, 18 or 25 keypoints, in pixels with a canvas size or as fractions.

        A file with several people needs `person`, counted from 0.
        """
        try:
            data = json.loads(text)
            people = data["people"] if isinstance(data, dict) else data[0]["people"]
            if person is None and len(people) != 1:
                raise ValueError(f"the file holds {len(people)} people; choose one by person=0 and so on.")
            flat = _numbers("pose_keypoints_2d", people[person or 0]["pose_keypoints_2d"])
            canvas = data if isinstance(data, dict) else data[0]
            size = _numbers("canvas size", [canvas.get("canvas_width", 1), canvas.get("canvas_height", 1)])
        except (LookupError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(
                f"this is not OpenPose JSON with people[0].pose_keypoints_2d: {error!r}."
            ) from error
        if flat.size not in (54, 75):
            raise ValueError(
                f"pose_keypoints_2d must hold 18 or 25 x, y, confidence, got {flat.size} numbers."
            )
        joints = flat.reshape(-1, 3)
        joints = joints[_FROM_BODY_25] if len(joints) == 25 else joints
        points, shown = joints[:, :2], joints[:, 2] > 0
        if (points[shown] > 2).any() and (size > 1).all():
            points = points / size
        return cls(points, shown)

    def to_json(self, width: int = 512, height: int = 512) -> str:
        """OpenPose's JSON in pixels of a canvas of `width` × `height`."""
        pixels = self.points * [width, height]
        joints = np.concatenate([pixels, self.shown[:, None].astype(float)], axis=1)
        people = [{"pose_keypoints_2d": joints.reshape(-1).tolist()}]
        return json.dumps({"people": people, "canvas_width": width, "canvas_height": height})

    def mirror(self) -> Skeleton:
        """The pose seen in a mirror: left and right change sides, joints keep their names."""
        points = self.points[MIRRORED] * [-1, 1] + [1, 0]
        return Skeleton(points, self.shown[MIRRORED])

    def draw(self, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """(height, width, 3) uint8 RGB: OpenPose's coloured limbs and joints on black.

        Limbs are ellipses in the limb's colour × 0.6, joints are discs; both grow with the picture (4 pixels
        at 512). The same drawing made the training pictures of the pose ControlNet.
        """
        canvas = np.zeros((height, width, 3), np.uint8)
        thick = max(2, round(4 * min(width, height) / 512))
        points = self.points * [width, height]  # (18, 2)
        one, other = points[_FROM], points[_TO]  # (17, 2)
        along = (other - one) / 2
        half = np.linalg.norm(along, axis=1, keepdims=True)
        along = np.where(half > 0, along / np.maximum(half, 1e-9), [1.0, 0.0])
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        rim = (one + other)[:, None] / 2 + _OUTLINE[:, :1] * (along * half)[:, None]
        rim = rim + _OUTLINE[:, 1:] * (across * thick)[:, None]  # (17, 24, 2)
        rim = np.round(rim * 2**_FINE).astype(np.int32)
        drawn = self.shown[_FROM] & self.shown[_TO]
        for limb in np.flatnonzero(drawn):
            dim = tuple(int(0.6 * part) for part in COLOURS[limb])
            cv2.fillConvexPoly(canvas, rim[limb], dim, cv2.LINE_8, _FINE)
        centres = np.round(points * 2**_FINE).astype(int).tolist()
        for joint in np.flatnonzero(self.shown):
            cv2.circle(canvas, centres[joint], thick << _FINE, COLOURS[joint], -1, cv2.LINE_8, _FINE)
        return canvas

    @cached_property
    def sha256(self) -> str:
        """Of points and visibility, in hexadecimal."""
        points = self.points + 0.0  # so that minus zero is zero
        return hashlib.sha256(points.tobytes() + self.shown.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skeleton) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Skeleton({int(self.shown.sum())} of 18 joints, sha256 {self.sha256[:8]})"


def _numbers(name: str, given: Any) -> Array:
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of numbers, got {given!r:.60}.") from error


# The figure of the atelier at rest, seen from the front at a fixed camera: x, y and whether the joint is in sight.
# fmt: off
POSES: dict[str, tuple[tuple[float, float, int], ...]] = {
    "standing": (
        (0.500, 0.245, 1), (0.500, 0.306, 1), (0.425, 0.322, 1), (0.407, 0.436, 1), (0.397, 0.537, 1),
        (0.575, 0.322, 1), (0.593, 0.436, 1), (0.603, 0.537, 1), (0.461, 0.503, 1), (0.447, 0.662, 1),
        (0.438, 0.809, 1), (0.539, 0.503, 1), (0.553, 0.662, 1), (0.562, 0.809, 1), (0.474, 0.226, 1),
        (0.526, 0.226, 1), (0.434, 0.238, 1), (0.566, 0.238, 1),
    ),
    "waving": (
        (0.500, 0.245, 1), (0.500, 0.306, 1), (0.425, 0.322, 1), (0.317, 0.279, 1), (0.294, 0.176, 1),
        (0.575, 0.322, 1), (0.593, 0.436, 1), (0.603, 0.537, 1), (0.461, 0.503, 1), (0.447, 0.662, 1),
        (0.438, 0.809, 1), (0.539, 0.503, 1), (0.553, 0.662, 1), (0.562, 0.809, 1), (0.474, 0.226, 1),
        (0.526, 0.226, 1), (0.434, 0.238, 1), (0.566, 0.238, 1),
    ),
    "arms raised": (
        (0.500, 0.245, 1), (0.500, 0.306, 1), (0.425, 0.322, 1), (0.380, 0.214, 1), (0.357, 0.110, 1),
        (0.575, 0.322, 1), (0.620, 0.214, 1), (0.643, 0.110, 1), (0.461, 0.503, 1), (0.447, 0.662, 1),
        (0.438, 0.809, 1), (0.539, 0.503, 1), (0.553, 0.662, 1), (0.562, 0.809, 1), (0.474, 0.226, 1),
        (0.526, 0.226, 1), (0.434, 0.238, 1), (0.566, 0.238, 1),
    ),
    "arms outstretched": (
        (0.500, 0.245, 1), (0.500, 0.306, 1), (0.425, 0.322, 1), (0.309, 0.322, 1), (0.206, 0.322, 1),
        (0.575, 0.322, 1), (0.691, 0.322, 1), (0.794, 0.322, 1), (0.461, 0.503, 1), (0.447, 0.662, 1),
        (0.438, 0.809, 1), (0.539, 0.503, 1), (0.553, 0.662, 1), (0.562, 0.809, 1), (0.474, 0.226, 1),
        (0.526, 0.226, 1), (0.434, 0.238, 1), (0.566, 0.238, 1),
    ),
    "hands on hips": (
        (0.500, 0.248, 1), (0.500, 0.309, 1), (0.425, 0.325, 1), (0.341, 0.400, 1), (0.409, 0.475, 1),
        (0.575, 0.325, 1), (0.659, 0.400, 1), (0.591, 0.475, 1), (0.461, 0.505, 1), (0.436, 0.663, 1),
        (0.416, 0.809, 1), (0.539, 0.505, 1), (0.564, 0.663, 1), (0.584, 0.809, 1), (0.474, 0.229, 1),
        (0.526, 0.229, 1), (0.434, 0.241, 1), (0.566, 0.241, 1),
    ),
    "pointing": (
        (0.500, 0.245, 1), (0.500, 0.306, 1), (0.425, 0.322, 1), (0.310, 0.331, 1), (0.207, 0.336, 1),
        (0.575, 0.322, 1), (0.593, 0.436, 1), (0.603, 0.537, 1), (0.461, 0.503, 1), (0.447, 0.662, 1),
        (0.438, 0.809, 1), (0.539, 0.503, 1), (0.553, 0.662, 1), (0.562, 0.809, 1), (0.474, 0.226, 1),
        (0.526, 0.226, 1), (0.434, 0.238, 1), (0.566, 0.238, 1),
    ),
    "walking": (
        (0.581, 0.272, 1), (0.510, 0.332, 1), (0.480, 0.353, 1), (0.421, 0.454, 1), (0.405, 0.557, 1),
        (0.536, 0.344, 1), (0.591, 0.439, 1), (0.662, 0.508, 1), (0.485, 0.534, 1), (0.560, 0.684, 1),
        (0.587, 0.842, 1), (0.514, 0.521, 0), (0.458, 0.656, 1), (0.371, 0.745, 1), (0.564, 0.253, 1),
        (0.581, 0.252, 1), (0.494, 0.266, 1), (0.542, 0.263, 0),
    ),
    "running": (
        (0.628, 0.348, 1), (0.545, 0.405, 1), (0.513, 0.429, 1), (0.416, 0.493, 1), (0.466, 0.585, 1),
        (0.567, 0.413, 1), (0.642, 0.494, 1), (0.730, 0.451, 1), (0.485, 0.599, 1), (0.621, 0.691, 1),
        (0.585, 0.842, 1), (0.514, 0.584, 0), (0.459, 0.715, 1), (0.331, 0.703, 1), (0.616, 0.331, 1),
        (0.631, 0.328, 1), (0.543, 0.344, 1), (0.588, 0.336, 0),
    ),
    "sitting": (
        (0.554, 0.400, 1), (0.500, 0.455, 1), (0.449, 0.479, 1), (0.464, 0.593, 1), (0.519, 0.673, 1),
        (0.548, 0.463, 1), (0.593, 0.563, 1), (0.661, 0.632, 1), (0.474, 0.653, 0), (0.585, 0.704, 1),
        (0.583, 0.871, 1), (0.525, 0.639, 0), (0.665, 0.678, 1), (0.680, 0.829, 1), (0.531, 0.382, 1),
        (0.564, 0.379, 1), (0.460, 0.393, 1), (0.547, 0.384, 0),
    ),
    "kneeling": (
        (0.569, 0.400, 1), (0.510, 0.455, 1), (0.458, 0.479, 1), (0.456, 0.597, 1), (0.500, 0.689, 1),
        (0.558, 0.463, 1), (0.581, 0.568, 1), (0.635, 0.650, 1), (0.474, 0.652, 0), (0.589, 0.701, 1),
        (0.581, 0.865, 1), (0.525, 0.638, 0), (0.526, 0.785, 1), (0.426, 0.762, 1), (0.546, 0.382, 1),
        (0.579, 0.379, 1), (0.474, 0.394, 1), (0.561, 0.385, 0),
    ),
}
# fmt: on
