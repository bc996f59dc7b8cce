"""OpenPose's JSON with several people, hands and faces, read from and written to the figures of a `PosePad`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

Figure = dict[str, list[list[float]]]  # body (18), hand_left, hand_right (21), face: points [x, y, shown], fractions

_KEYS = {
    "body": "pose_keypoints_2d",
    "hand_left": "hand_left_keypoints_2d",
    "hand_right": "hand_right_keypoints_2d",
    "face": "face_keypoints_2d",
}
_COUNTS = {"body": (18, 25), "hand_left": (21,), "hand_right": (21,), "face": (68, 70)}
_FROM_BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
MAX_TEXT = 4_000_000  # characters


def read(text: str) -> tuple[list[Figure], tuple[int, int] | None]:
    """The people of OpenPose JSON, and its canvas (width, height) where it names one.

    Coordinates may be pixels of the canvas or fractions. A list, as ComfyUI writes, stands for its first entry.

    Raises:
        ValueError: it is no such JSON, holds nobody, or a part has another number of points.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"the JSON has {len(text)} characters; {MAX_TEXT} are the most that is read.")
    try:
        data = json.loads(text)
        data = data[0] if isinstance(data, list) else data
        people = [{part: _numbers(person.get(key) or []) for part, key in _KEYS.items()} for person in data["people"]]
        size = (int(data["canvas_width"]), int(data["canvas_height"])) if "canvas_width" in data else None
    except (LookupError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise ValueError(
            f"this is not OpenPose JSON with people and their pose_keypoints_2d: {error!r:.120}."
        ) from error
    if not people:
        raise ValueError("this OpenPose JSON holds no person.")
    in_pixels = any(
        abs(value) > 2 for person in people for flat in person.values() for value in (*flat[::3], *flat[1::3])
    )
    if in_pixels and size is None:
        raise ValueError("this OpenPose JSON is in pixels and names no canvas_width and canvas_height; add them.")
    scale = size if in_pixels and size is not None else (1, 1)
    return [{part: _points(part, flat, scale) for part, flat in person.items()} for person in people], size


def write(figures: Sequence[Figure], width: int, height: int) -> str:
    """OpenPose's JSON in pixels of a canvas of `width` × `height`."""
    people = [
        {
            key: [value for point in figure.get(part) or [] for value in _pixels(point, width, height)]
            for part, key in _KEYS.items()
        }
        for figure in figures
    ]
    return json.dumps({"people": people, "canvas_width": width, "canvas_height": height})


def _numbers(flat: Any) -> list[float]:
    numbers = [float(value) for value in flat]
    if not all(abs(value) < 1e6 for value in numbers):  # false for NaN too
        raise ValueError("a coordinate is not a finite number below a million")
    return numbers


def _points(part: str, flat: list[float], scale: tuple[int, int]) -> list[list[float]]:
    if not flat and part != "body":
        return []
    if len(flat) not in [3 * count for count in _COUNTS[part]]:
        counts = " or ".join(map(str, _COUNTS[part]))
        raise ValueError(f"{_KEYS[part]} must hold {counts} x, y, confidence, got {len(flat)} numbers.")
    rows = [flat[i : i + 3] for i in range(0, len(flat), 3)]
    if part == "body" and len(rows) == 25:
        rows = [rows[i] for i in _FROM_BODY_25]
    return [[round(x / scale[0], 6), round(y / scale[1], 6), 1.0 if sure > 0 else 0.0] for x, y, sure in rows]


def _pixels(point: Sequence[float], width: int, height: int) -> tuple[float, float, float]:
    x, y, shown = point
    return (round(x * width, 3), round(y * height, 3), 1.0) if shown else (0.0, 0.0, 0.0)
