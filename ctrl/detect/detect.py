"""The public functions, and the table of detectors of each kind of map."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ctrl.caller import ends_at_caller, warn_caller
from ctrl.detect import atelier_eyes, controlnet_aux
from ctrl.detect.pixels import TRAINED, Pixels, resized, rgb, scaled
from ctrl.images import BLACK, Picture, looks_like
from ctrl.skeleton import Skeleton

__all__ = ["depth", "edges", "line_art", "pose"]

Detector = str | Callable[[Image.Image], Any]
Reader = Callable[[Picture, int | None], Any]  # of a picture, at so many pixels along its shorter side, None by default

LOW, HIGH = 100.0, 200.0  # the thresholds of Canny that published ControlNets were trained with
SIZES = range(64, 2049)


def _atelier_edges(picture: Picture, size: int | None) -> Pixels:
    from ctrl.atelier.edges import edges_of

    return np.asarray(edges_of(rgb(picture, size or TRAINED)), np.uint8)


def _canny(picture: Picture, size: int | None, low: float = LOW, high: float = HIGH) -> Pixels:
    return np.asarray(cv2.Canny(rgb(picture, size), low, high), np.uint8)


# The detectors of each kind of map, by name. Those of poses return figures, the largest first, the others (h, w) uint8.
DETECTORS: dict[str, dict[str, Reader]] = {
    "pose": {"atelier": atelier_eyes.figures, "openpose": controlnet_aux.OPENPOSE.figures},
    "depth": {"atelier": atelier_eyes.depth, **{tool.name: tool.depth for tool in controlnet_aux.DEPTH}},
    "edges": {"atelier": _atelier_edges, "canny": _canny, **{tool.name: tool.lines for tool in controlnet_aux.EDGES}},
    "line_art": {tool.name: tool.lines for tool in controlnet_aux.LINE_ART},
}


@ends_at_caller
def pose(picture: Any, *, detector: Detector = "atelier", person: int | None = None) -> Skeleton:
    """The pose of the figure in a picture: 18 joints, those out of sight not shown.

    `picture` is anything `Picture.of` takes. `detector` is "atelier", "openpose" or a function that returns a
    Skeleton, several of them, or controlnet_aux's poses, whose hands and faces are kept. Of several figures the
    largest is taken, with a warning; `person` chooses one, 0 the largest. Raises a ValueError if no figure is found.
    OpenPose (arXiv 1812.08008) is licensed for non-commercial use.
    """
    reader = _reader("pose", detector, _own_figures)
    _check_person(person)
    figures: list[Skeleton] = reader(_open(picture), None)
    if not figures:
        raise ValueError(f"no figure was found in picture by {_describe(detector)}; use another, or draw a Skeleton.")
    if person is not None and person >= len(figures):
        raise ValueError(f"person must be below {len(figures)}, the number of figures found; got {person}.")
    if person is None and len(figures) > 1:
        warn_caller(f"picture shows {len(figures)} figures and the largest was taken; person=1 takes the next.")
    return figures[0 if person is None else int(person)]


@ends_at_caller
def depth(picture: Any, *, detector: Detector = "atelier") -> Picture:
    """How near everything in a picture is: a grey picture of its size, white near and black far.

    Brightness goes with disparity, 1 / distance, as depth ControlNets expect. `picture` is anything `Picture.of`
    takes. `detector` is "atelier", "midas" (arXiv 1907.01341), "zoe" (arXiv 2302.12288) or a function that returns
    such a map.
    """
    reader = _reader("depth", detector, _own_map)
    return Picture(reader(_open(picture), None))


@ends_at_caller
def edges(
    picture: Any, *, detector: Detector = "atelier", low: float = LOW, high: float = HIGH, size: int | None = None
) -> Picture:
    """The outlines in a picture: a grey picture, white on black.

    `detector` is "atelier", "canny" (Canny 1986), "hed" (arXiv 1504.06375), "pidinet" (arXiv 2108.07009) or a function
    that returns such a map. "atelier" is Canny with the smoothing the atelier's ControlNet was trained with;
    "canny" is `cv2.Canny` on RGB with the thresholds `low` and `high`, which no other detector has.

    `size` is how many pixels along the shorter side the picture is read at, and the map has. Lines get lost when
    a map is reduced, so let it be the size of the picture to be made. It is 256 for "atelier", 512 for the networks
    and the picture's own for "canny" and functions unless you say otherwise. `picture` is anything `Picture.of`
    takes. A picture without any edge gives a black map and a warning.
    """
    reader = _reader("edges", detector, _own_map)
    _check_thresholds(low, high, detector)
    _check_size(size)
    if detector == "canny":
        reader = partial(_canny, low=low, high=high)
    return _lines(reader, picture, size)


@ends_at_caller
def line_art(picture: Any, *, detector: Detector = "lineart", size: int | None = None) -> Picture:
    """A picture redrawn in lines: a grey picture, white on black, as line art ControlNets expect.

    `detector` is "lineart", "lineart_anime" (arXiv 2203.12691), "lineart_standard", which needs no weights, or a
    function that returns such a map. `size` is how many pixels along the shorter side the picture is read at, and the
    map has: 512 for those named, the picture's own for a function unless you say otherwise. `picture` is anything
    `Picture.of` takes. A picture without any line gives a black map and a warning.
    """
    reader = _reader("line_art", detector, _own_map)
    _check_size(size)
    return _lines(reader, picture, size)


def _reader(kind: str, detector: object, wrap: Callable[..., Any]) -> Reader:
    """The reader of this name; or the user's function, called through `wrap`."""
    readers = DETECTORS[kind]
    if isinstance(detector, str) and detector in readers:
        return readers[detector]
    if isinstance(detector, str) or not callable(detector):
        raise ValueError(f"detector must be one of {', '.join(readers)}, or a function of a picture; got {detector!r}.")
    return partial(wrap, detector)


def _own_figures(detector: Callable[[Image.Image], Any], picture: Picture, size: int | None) -> list[Skeleton]:
    return controlnet_aux.skeletons(detector(picture.image.convert("RGB")), picture.size)


def _own_map(detector: Callable[[Image.Image], Any], picture: Picture, size: int | None) -> Pixels:
    made = detector(Image.fromarray(rgb(picture, size)))
    wanted = picture.size if size is None else scaled(picture.size, size)
    return resized(Picture.of(made, name="detector's map").grey().pixels, wanted)


def _lines(reader: Reader, picture: Any, size: int | None) -> Picture:
    lines = Picture(reader(_open(picture), size))
    if not lines.pixels.any():
        warn_caller("no line was found in picture, so the map is all black.")
    return lines


def _open(picture: Any) -> Picture:
    """The picture, with a warning where it is a map already."""
    opened = Picture.of(picture, name="picture", background=BLACK)
    known = looks_like(opened)
    if known is not None:
        warn_caller(f"picture already looks like {known.name}; if it is one, give it to {known.control} as it is.")
    return opened


def _check_person(person: object) -> None:
    if person is None:
        return
    if isinstance(person, bool) or not isinstance(person, Integral) or int(person) < 0:
        raise ValueError(f"person must be a whole number from 0, the largest figure, or None; got {person!r}.")


def _check_thresholds(low: float, high: float, detector: object) -> None:
    thresholds: tuple[tuple[str, object], ...] = (("low", low), ("high", high))
    for argument, value in thresholds:
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise ValueError(f"{argument} must be a number from 0 (Canny's thresholds are 100 and 200), got {value!r}.")
    if low > high:
        raise ValueError(f"low must not be above high, got low={low:g} and high={high:g}; swap them.")
    if detector != "canny" and (low, high) != (LOW, HIGH):
        raise ValueError("low and high are the thresholds of detector='canny'; choose it, or leave them out.")


def _check_size(size: object) -> None:
    if size is None:
        return
    if isinstance(size, bool) or not isinstance(size, Integral) or int(size) not in SIZES:
        raise ValueError(
            f"size must be a whole number of pixels from {SIZES.start} to {SIZES.stop - 1}, or None; got {size!r}."
        )


def _describe(detector: Detector) -> str:
    return f"detector {detector!r}" if isinstance(detector, str) else "detector"
