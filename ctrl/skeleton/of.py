"""Poses from every accepted form: names, Skeletons, keypoints and OpenPose JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ctrl.skeleton.openpose import BODIES, read_people
from ctrl.skeleton.poses import POSES
from ctrl.skeleton.skeleton import Array, People, Skeleton

MAX_FILE = 16 * 2**20  # bytes of JSON


def pose_of(given: Any) -> Skeleton | People | None:
    """The figure or figures of a pose; None if `given` may be a picture instead.

    `given` is a Skeleton, `People`, a list of Skeletons, the name of a pose ("waving") or a list of names, keypoints
    as floats of shape (18, 2) or (18, 3) with a confidence, (25, 3), or (n, 18, 2 or 3) for n figures, or
    OpenPose's JSON: its text, a file that ends in .json, or the parsed object. A ValueError says what is wrong.
    """
    if isinstance(given, Skeleton | People):
        return given
    if isinstance(given, str | os.PathLike):
        return _of_text(os.fspath(given))
    if isinstance(given, dict):
        return _one_or_all(_read(given))
    if isinstance(given, list | tuple) and given and all(isinstance(pose, str | Skeleton | People) for pose in given):
        return _one_or_all([figure for pose in given for figure in _figures(pose)])
    if isinstance(given, list) and given and all(isinstance(frame, dict) for frame in given):
        return _one_or_all(_read(given))
    if isinstance(given, list | tuple) or hasattr(given, "__array__"):
        return _of_keypoints(given)
    return None


def _of_text(text: str | bytes) -> Skeleton | People | None:
    text = os.fsdecode(text)
    if text in POSES:
        return Skeleton.named(text)
    if text.lstrip()[:1] in ("{", "["):
        return _one_or_all(_read(text))
    if text.lower().endswith(".json"):
        return _one_or_all(_read(_file_text(text)))
    if not any(sign in text for sign in "./\\~") and len(text) < 60 and not Path(text).exists():
        return Skeleton.named(text)  # whose error lists the names
    return None


def _file_text(name: str) -> str:
    path = Path(name).expanduser()
    if not path.is_file() or path.stat().st_size > MAX_FILE:
        raise ValueError(f"a pose's JSON must be a file of at most {MAX_FILE} bytes, and {name!r:.200} is not one.")
    return path.read_text(encoding="utf-8", errors="replace")


def _figures(pose: str | Skeleton | People) -> tuple[Skeleton, ...]:
    figures = Skeleton.named(pose) if isinstance(pose, str) else pose
    return figures.skeletons if isinstance(figures, People) else (figures,)


def _read(json: Any) -> list[Skeleton]:
    return [Skeleton(**person) for person in read_people(json)]


def _one_or_all(skeletons: list[Skeleton]) -> Skeleton | People:
    if not skeletons:
        raise ValueError("a pose needs a figure, and the file holds 0 people.")
    return skeletons[0] if len(skeletons) == 1 else People(tuple(skeletons))


def _of_keypoints(given: Any) -> Skeleton | People | None:
    """The figures of an array of keypoints; None for other shapes, and for integers, which are a picture's."""
    try:
        values = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    except (TypeError, ValueError, RuntimeError):
        return None
    count, width = values.shape[-2:] if values.ndim in (2, 3) else (0, 0)
    if not np.issubdtype(values.dtype, np.floating) or (count, width) not in ((18, 2), (18, 3), (25, 3)):
        return None
    figures = values if values.ndim == 3 else values[None]
    return _one_or_all([_of_rows(rows[BODIES[count]].astype(np.float64)) for rows in figures])


def _of_rows(rows: Array) -> Skeleton:
    """A Skeleton from keypoints (18, 2), or (18, 3) with a confidence."""
    shown = rows[:, 2] > 0 if rows.shape[1] == 3 else np.ones(18, bool)
    return Skeleton(rows[:, :2], shown)
