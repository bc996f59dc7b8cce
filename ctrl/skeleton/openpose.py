"""OpenPose's JSON, as OpenPose, ControlNet's editors and ComfyUI write it.

    {"people": [{"pose_keypoints_2d": [x, y, confidence, …], "hand_left_keypoints_2d": […], …}],
     "canvas_width": 512, "canvas_height": 512}

OpenPose writes 25 keypoints in pixels and no canvas; the editors 18, and null or [] for a part that is missing;
ComfyUI a list of such objects, one a frame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
HAND, FACE = (21,), (68, 70)  # numbers of keypoints; OpenPose's face also has the two pupils
PARTS = {"left_hand": "hand_left_keypoints_2d", "right_hand": "hand_right_keypoints_2d", "face": "face_keypoints_2d"}
BODIES = {
    18: np.arange(18),
    25: np.array([0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]),  # without the hip and the feet
}
MAX_PEOPLE = 100
NOT_ONE = "this is not OpenPose JSON with people and their pose_keypoints_2d"
Size = tuple[float, float]


class Figure(Protocol):
    """The keypoints of one body, as `Skeleton` has them."""

    @property
    def points(self) -> Array:
        """(18, 2)."""

    @property
    def shown(self) -> Array:
        """(18,) bool."""


def read_people(given: Any, *, size: tuple[int, int] | None = None, frame: int | None = None) -> list[dict[str, Array]]:
    """All people in a JSON text or parsed object, each as the arguments of a `Skeleton`; see `Skeleton.from_json`."""
    canvas = _frame(_parsed(given), frame)
    people = canvas.get("people")
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise ValueError(f"{NOT_ONE}: it has no list of people.")
    if len(people) > MAX_PEOPLE:
        raise ValueError(f"the file holds {len(people)} people; at most {MAX_PEOPLE} are read.")
    keypoints = [_keypoints(person) for person in people]
    pixels = any((part[part[:, 2] > 0, :2] > 2).any() for person in keypoints for part in person.values())
    return [_arguments(person, _canvas_size(canvas, size) if pixels else (1.0, 1.0)) for person in keypoints]


def write_people(skeletons: Sequence[Figure], width: int, height: int) -> str:
    """Figures in pixels of a canvas, as ControlNet's editors write them."""
    people = []
    for figure in skeletons:
        person = {"pose_keypoints_2d": _flat(figure.points * [width, height], figure.shown)}
        for name, key in PARTS.items():
            if (part := getattr(figure, name)) is not None:
                person[key] = _flat(part * [width, height], part.any(1))
        people.append(person)
    return json.dumps({"people": people, "canvas_width": width, "canvas_height": height})


def choose(name: str, at: Any, count: int, of: str) -> int:
    """A number from 0 to `count` - 1, None for 0; a ValueError for anything else."""
    if at is None:
        return 0
    if isinstance(at, bool) or not isinstance(at, Integral) or not 0 <= int(at) < count:
        raise ValueError(f"{name} must be a whole number below {count}, the {of} in the file, from 0; got {at!r:.40}.")
    return int(at)


def _flat(points: Array, shown: Array) -> list[float]:
    return [float(number) for number in np.column_stack([points, shown]).reshape(-1)]


def _parsed(given: Any) -> Any:
    if not isinstance(given, str | bytes):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{NOT_ONE}: {type(error).__name__} while reading it.") from error


def _frame(data: Any, frame: int | None) -> dict[str, Any]:
    """The object of one frame."""
    frames = data if isinstance(data, list) and data else [data]
    if frame is None and len(frames) > 1:
        raise ValueError(f"the file holds {len(frames)} frames; choose one by frame=0 and so on.")
    at = choose("frame", frame, len(frames), "frames")
    if not isinstance(frames[at], dict):
        raise ValueError(f"{NOT_ONE}: it holds no object.")
    return dict(frames[at])


def _keypoints(person: dict[str, Any]) -> dict[str, Array]:
    """The keypoints of a person, by the names of `Skeleton`'s fields: (n, 3) x, y and confidence."""
    parts = {
        name: _triples(key, person[key], FACE if name == "face" else HAND)
        for name, key in PARTS.items()
        if person.get(key)
    }
    body = person.get("pose_keypoints_2d") or person.get("pose_keypoints")  # the latter is OpenPose 1.0's
    if body is None and not parts:
        raise ValueError(f"{NOT_ONE}: a person has no keypoints.")
    return parts | {"body": np.zeros((18, 3)) if body is None else _triples("pose_keypoints_2d", body, tuple(BODIES))}


def _triples(key: str, flat: Any, counts: tuple[int, ...]) -> Array:
    try:
        numbers = np.array(flat, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{key} must be an array of numbers, got {flat!r:.60}.") from error
    if numbers.ndim != 1 or numbers.size not in [3 * count for count in counts]:
        many = " or ".join(map(str, counts))
        raise ValueError(f"{key} must hold {many} x, y, confidence, got {numbers.size} numbers.")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{key} must hold finite numbers, got NaN or infinity.")
    return numbers.reshape(-1, 3)


def _canvas_size(canvas: dict[str, Any], size: tuple[int, int] | None) -> Size:
    canvas_size = size or (canvas.get("canvas_width"), canvas.get("canvas_height"))
    if canvas_size[0] is None or canvas_size[1] is None:
        raise ValueError("the keypoints are in pixels and the file gives no canvas size; pass size=(width, height).")
    for side in canvas_size:
        if isinstance(side, bool) or not isinstance(side, int | float) or not 1 < side < 1e6:
            raise ValueError(f"the canvas must have a width and a height in pixels, got {canvas_size!r:.60}.")
    return float(canvas_size[0]), float(canvas_size[1])


def _arguments(person: dict[str, Array], size: Size) -> dict[str, Array]:
    body = person["body"][BODIES[len(person["body"])]]
    parts = {
        name: np.where(part[:, 2:] > 0, part[:, :2] / size, 0.0) for name, part in person.items() if name != "body"
    }
    for name, points in {"body": body[body[:, 2] > 0, :2] / size, **parts}.items():
        if ((points < -1) | (points > 2)).any():
            x, y = points[((points < -1) | (points > 2)).any(1)][0] * size
            raise ValueError(
                f"a keypoint of the {name.replace('_', ' ')} is at ({x:g}, {y:g}), far outside the canvas of "
                f"{size[0]:g}×{size[1]:g}; pass the true size=(width, height)."
            )
    return {"points": body[:, :2] / size, "shown": body[:, 2] > 0, **parts}
