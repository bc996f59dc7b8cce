"""What a picture holds, as maps that steer another: its pose, its depth, its edges, its line art.

    ctrl.Pose(ctrl.detect.pose("photo.jpg", detector="openpose"))
    ctrl.Depth(ctrl.detect.depth(photo, detector="midas"), weight=0.6)
    ctrl.Edges(ctrl.detect.edges(photo, detector="canny"))

`detector="atelier"` needs nothing and makes maps as the ControlNets of the package know them; its eyes read pictures
of the atelier's world, and warn when they are shown anything else. "canny" is OpenCV's. The others are those of
controlnet_aux (`pip install ctrl-diffusion[detectors]`), loaded when first used. A detector may also be a function
of yours that takes a PIL image and returns a map as PIL image, array or tensor, or for `pose` a `Skeleton`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ctrl.detect import borrowed, sight
from ctrl.images import BLACK, Picture, looks_like
from ctrl.skeleton import Skeleton

__all__ = ["FOR_DEPTH", "FOR_EDGES", "FOR_LINE_ART", "FOR_POSE", "depth", "edges", "line_art", "pose"]

LANCZOS = Image.Resampling.LANCZOS
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Detector = str | Callable[[Image.Image], Any]

ATELIER, CANNY = "atelier", "canny"
FOR_POSE = (ATELIER, borrowed.OPENPOSE.name)
FOR_DEPTH = (ATELIER, *(tool.name for tool in borrowed.DEPTH))
FOR_EDGES = (ATELIER, CANNY, *(tool.name for tool in borrowed.EDGES))
FOR_LINE_ART = tuple(tool.name for tool in borrowed.LINE_ART)

LOW, HIGH = 100.0, 200.0  # the thresholds of Canny that published ControlNets were trained with
TRAINED, READ = 128, 512  # pixels along the shorter side: the edges of the atelier, the networks of controlnet_aux
SIZES = range(64, 2049)
LONGEST = 2048  # pixels along the longer side of what is read


def pose(picture: Any, *, detector: Detector = ATELIER, person: int | None = None) -> Skeleton:
    """The pose of the figure in a picture: 18 joints, those out of sight not shown.

    `picture` is anything `Picture.of` takes. `detector` is one of `FOR_POSE` or a function that returns a
    Skeleton, several of them, or controlnet_aux's poses. Of several figures the largest is taken, with a warning;
    `person` chooses one, 0 the largest. Raises a ValueError if no figure is found. OpenPose (arXiv 1812.08008) is
    licensed for non-commercial use.
    """
    name = _choose(detector, FOR_POSE)
    _check_person(person)
    taken = _take(picture)
    if name == ATELIER:
        seen = sight.look(taken)
        found = seen.figures
        if found:
            _wonder(seen, FOR_POSE[1])
    else:
        made = borrowed.OPENPOSE.poses(_rgb(taken), READ) if name else _ask(detector, taken)
        found = borrowed.skeletons(made, taken.size)
    if not found:
        raise ValueError(f"no figure was found in picture by {_spoken(detector)}; use another, or draw a Skeleton.")
    if person is not None and person >= len(found):
        raise ValueError(f"person must be below {len(found)}, the number of figures found; got {person}.")
    if person is None and len(found) > 1:
        warnings.warn(
            f"picture shows {len(found)} figures and the largest was taken; person=1 takes the next.", stacklevel=2
        )
    return found[0 if person is None else int(person)]


def depth(picture: Any, *, detector: Detector = ATELIER) -> Picture:
    """How near everything in a picture is: a grey picture of its size, white near and black far.

    Brightness goes with disparity, 1 / distance, as depth ControlNets expect. `picture` is anything `Picture.of`
    takes. `detector` is one of `FOR_DEPTH` (MiDaS, arXiv 1907.01341; ZoeDepth, arXiv 2302.12288) or a function
    that returns such a map.
    """
    name = _choose(detector, FOR_DEPTH)
    taken = _take(picture)
    if name == ATELIER:
        seen = sight.look(taken)
        _wonder(seen, FOR_DEPTH[1])
        return _fit(np.round(seen.near * 255).astype(np.uint8), taken.size)
    return _mapped(name, detector, taken, READ, taken.size)


def edges(
    picture: Any, *, detector: Detector = ATELIER, low: float = LOW, high: float = HIGH, size: int | None = None
) -> Picture:
    """The outlines in a picture: a grey picture, white on black.

    `detector` is one of `FOR_EDGES` (Canny 1986; HED, arXiv 1504.06375; PiDiNet, arXiv 2108.07009) or a function
    that returns such a map. "atelier" is Canny with the smoothing the atelier's ControlNet was trained with;
    "canny" is `cv2.Canny` on RGB with the thresholds `low` and `high`, which are its alone.

    `size` is how many pixels along the shorter side the picture is read at, and the map has. Lines get lost when
    a map is reduced, so let it be the size of the picture to be made. It is 128 for "atelier", 512 for the networks
    and the picture's own for "canny" and functions unless you say otherwise. `picture` is anything `Picture.of`
    takes. A picture without any edge gives a black map and a warning.
    """
    name = _choose(detector, FOR_EDGES)
    _check_thresholds(low, high, name)
    _check_size(size)
    taken = _take(picture)
    if name == ATELIER:
        from ctrl.atelier.edges import edges_of

        found = Picture(edges_of(_rgb(taken, size or TRAINED)))
    elif name == CANNY:
        found = Picture(np.asarray(cv2.Canny(_rgb(taken, size), low, high), np.uint8))
    else:
        found = _drawn(name, detector, taken, size)
    _notice_nothing(found)
    return found


def line_art(picture: Any, *, detector: Detector = FOR_LINE_ART[0], size: int | None = None) -> Picture:
    """A picture redrawn in lines: a grey picture, white on black, as line art ControlNets expect.

    `detector` is one of `FOR_LINE_ART` (arXiv 2203.12691; "lineart_standard" needs no weights) or a function that
    returns such a map. `size` is how many pixels along the shorter side the picture is read at, and the map has:
    512 for those named, the picture's own for a function unless you say otherwise. `picture` is anything
    `Picture.of` takes. A picture without any line gives a black map and a warning.
    """
    name = _choose(detector, FOR_LINE_ART)
    _check_size(size)
    found = _drawn(name, detector, _take(picture), size)
    _notice_nothing(found)
    return found


def _choose(detector: object, names: Sequence[str]) -> str | None:
    """The detector's name, None for a function."""
    if isinstance(detector, str) and detector in names:
        return detector
    if isinstance(detector, str) or not callable(detector):
        raise ValueError(f"detector must be one of {', '.join(names)}, or a function of a picture; got {detector!r}.")
    return None


def _check_person(person: object) -> None:
    if person is None:
        return
    if isinstance(person, bool) or not isinstance(person, Integral) or int(person) < 0:
        raise ValueError(f"person must be a whole number from 0, the largest figure, or None; got {person!r}.")


def _check_thresholds(low: float, high: float, name: str | None) -> None:
    given: tuple[tuple[str, object], ...] = (("low", low), ("high", high))
    for argument, value in given:
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise ValueError(f"{argument} must be a number from 0 (Canny's thresholds are 100 and 200), got {value!r}.")
    if low > high:
        raise ValueError(f"low must not be above high, got low={low:g} and high={high:g}; swap them.")
    if name != CANNY and (low, high) != (LOW, HIGH):
        raise ValueError("low and high are the thresholds of detector='canny'; choose it, or leave them out.")


def _check_size(size: object) -> None:
    if size is None:
        return
    if isinstance(size, bool) or not isinstance(size, Integral) or int(size) not in SIZES:
        raise ValueError(
            f"size must be a whole number of pixels from {SIZES.start} to {SIZES.stop - 1}, or None; got {size!r}."
        )


def _take(picture: Any) -> Picture:
    """The picture, with a warning where there is nothing left to detect in it."""
    taken = Picture.of(picture, name="picture", background=BLACK)
    known = looks_like(taken)
    if known is not None:
        sentence = f"picture already looks like {known.name}; if it is one, give it to {known.control} as it is."
        warnings.warn(sentence, stacklevel=3)
    return taken


def _wonder(seen: sight.Sight, other: str) -> None:
    """Warn where the eyes look at something they have never seen."""
    if not seen.familiar:
        warnings.warn(
            "picture does not look like the atelier's world, and detector 'atelier' knows nothing else; "
            f"for photographs use {other!r}.",
            stacklevel=3,
        )


def _notice_nothing(found: Picture) -> None:
    if not found.pixels.any():
        warnings.warn("no line was found in picture, so the map is all black.", stacklevel=3)


def _drawn(name: str | None, detector: Detector, taken: Picture, size: int | None) -> Picture:
    """A map of lines, at the size the picture is read at."""
    size = size or (READ if name else min(taken.size))
    return _mapped(name, detector, taken, size, _scaled(taken.size, size))


def _mapped(name: str | None, detector: Detector, taken: Picture, read: int, size: tuple[int, int]) -> Picture:
    """The map, `size` (width, height), by one of controlnet_aux's tools or by a function."""
    if name is not None:
        return _fit(borrowed.named(name).map(_rgb(taken), min(_scaled(taken.size, read))), size)
    made = _ask(detector, Picture(_rgb(taken, min(size))))
    return _fit(Picture.of(made, name="detector's map").grey().pixels, size)


def _ask(detector: Any, picture: Picture) -> Any:
    return detector(picture.image.convert("RGB"))


def _rgb(picture: Picture, shorter: int | None = None) -> Pixels:
    """(h, w, 3) uint8, `shorter` pixels along the shorter side; its own size for None."""
    image = picture.image.convert("RGB")
    size = picture.size if shorter is None else _scaled(picture.size, shorter)
    return np.array(image if size == picture.size else image.resize(size, LANCZOS))


def _fit(pixels: Pixels, size: tuple[int, int]) -> Picture:
    """A grey map (h, w) uint8 as a picture of `size` (width, height)."""
    picture = Picture(pixels)
    return picture if picture.size == size else Picture(np.asarray(picture.image.resize(size, LANCZOS)))


def _scaled(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """(width, height) with `shorter` pixels along the shorter side, fewer where the longer would pass `LONGEST`."""
    scale = min(shorter / min(size), LONGEST / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _spoken(detector: Detector) -> str:
    return f"detector {detector!r}" if isinstance(detector, str) else "detector"
