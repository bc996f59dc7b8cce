"""Recognise control maps, and pictures that are given in place of one: photographs, inverted maps, other maps.

Each test asks for all that the maps of its kind have in common, so that a photograph, in black and white too, or a
drawing is hardly ever taken for a map, nor a map for a photograph. Reduced, enlarged and JPEG-compressed maps are
still recognised.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ctrl.images.arrays import Array
from ctrl.images.picture import Picture

COLOURFUL = 16  # between the channels of a pixel: more than JPEG gives to grey
BLACK, WHITE = 40, 200  # what may be black and white in a map that was compressed
DARK = 16  # what is black in a drawing, compressed too


@dataclass(frozen=True)
class Map:
    """A kind of map: what it is called, what it looks like, which control takes it, and what makes it."""

    name: str
    look: str
    control: str
    detector: str
    kinds: tuple[str, ...]  # what the kinds of its ControlNets have in their names


POSE = Map("a drawing of a pose", "coloured limbs on black", "ctrl.Pose", "ctrl.detect.pose", ("pose",))
EDGES = Map(
    "an edge map", "white lines on black", "ctrl.Edges", "ctrl.detect.edges",
    ("edge", "canny", "line", "scribble", "hed", "pidi", "mlsd"),
)  # fmt: skip
DEPTH = Map("a depth map", "grey, white near", "ctrl.Depth", "ctrl.detect.depth", ("depth", "midas", "zoe", "leres"))


def map_notes(kind: str, picture: Picture) -> tuple[str, ...]:
    """What is wrong with a picture as the map of a control of this kind ("pose", "depth", "edges", "canny", …).

    Each note is the end of a sentence that begins with "the picture", and says what to do. There is none for a map
    that looks right and for kinds whose maps look like anything.
    """
    wanted = next((known for known in (POSE, DEPTH, EDGES) if any(word in kind.lower() for word in known.kinds)), None)
    if wanted is None or picture.pixels.max() == picture.pixels.min():
        return ()
    pixels = _reduced(picture.pixels, 512)
    recognised = looks_like(picture)
    if recognised is wanted:
        return _inverted_depth(_grey(pixels)) if wanted is DEPTH else ()
    if recognised is not None:
        return (f"looks like {recognised.name}; give it to {recognised.control}",)
    checks = {POSE: _not_a_pose, EDGES: _not_edges, DEPTH: _not_depth}
    return checks[wanted](pixels)


def _not_a_pose(pixels: Array) -> tuple[str, ...]:
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
    top = colours.max(2)
    on_black = np.where((colours.min(2) > WHITE)[..., None], np.uint8(0), colours)
    if _is_pose(_reduced(255 - colours, 256)):
        return (_inverted(POSE),)
    if _is_pose(_reduced(on_black, 256)):
        return (f"is drawn on white, and {POSE.control} expects {POSE.look}; draw it on black",)
    return (_photograph(POSE),) if (top <= DARK).mean() < 0.7 else ()


def _not_edges(pixels: Array) -> tuple[str, ...]:
    grey = _grey(pixels)
    if _is_edges(_reduced(255 - grey, 512)) or ((grey > WHITE).mean() > 0.6 and _colour_share(pixels) < 0.2):
        return (_inverted(EDGES),)
    return (_photograph(EDGES),) if _is_coloured(pixels) or (grey > BLACK).mean() > 0.6 else ()


def _not_depth(pixels: Array) -> tuple[str, ...]:
    if _is_edges(_reduced(255 - _grey(pixels), 512)):
        return ("looks like dark lines on white; invert it and give it to ctrl.Edges",)
    grey = _reduced(_grey(pixels), 128)
    if _is_coloured(pixels) or _smooth_share(grey) < 0.5:
        return (_photograph(DEPTH),)
    low, high = np.percentile(grey, [1, 99])
    if high - low < 64:
        return (f"spans only {low:.0f} to {high:.0f} of 255, and a depth map black to white; stretch it",)
    return _inverted_depth(grey)


def _inverted(wanted: Map) -> str:
    return f"looks inverted, and {wanted.control} expects {wanted.look}; invert it, as PIL.ImageOps.invert does"


def _photograph(wanted: Map) -> str:
    return f"does not look like {wanted.name}, {wanted.look}; {wanted.detector}(picture) makes one of a photograph"


def _inverted_depth(grey: Array) -> tuple[str, ...]:
    """The far part is mostly at the top, which is white in an inverted map: its rows darken from top to bottom."""
    rows = _reduced(grey, 128).mean(1)
    quarter = len(rows) // 4
    top, bottom = rows[:quarter].mean(), rows[-quarter:].mean()
    if top - bottom < 64 or np.corrcoef(rows, np.arange(len(rows)))[0, 1] > -0.7:
        return ()
    return (
        f"is bright at the top ({top:.0f} of 255) and dark at the bottom ({bottom:.0f}), as if far were white; "
        "ctrl.Depth expects near to be white: invert it",
    )


def looks_like(picture: Picture) -> Map | None:
    """Which kind of map a picture is; None for a picture of anything else."""
    pixels = _reduced(picture.pixels, 512)
    if pixels.ndim == 3:
        if _is_pose(_reduced(pixels, 256)):
            return POSE
        if np.percentile(pixels.max(2) - pixels.min(2), 99) > 8:
            return None
        pixels = pixels[..., 1]
    if _is_edges(_reduced(pixels, 512)):
        return EDGES
    return DEPTH if _is_depth(_reduced(pixels, 128)) else None


def _is_pose(colours: Array) -> bool:
    """OpenPose's drawing: on black, pure colours all around the wheel. (h, w, 3) uint8."""
    top, low = colours.max(2), colours.min(2)
    lit = top > 64
    if (top <= DARK).mean() < 0.7 or lit.mean() < 0.002:
        return False
    pure = (low[lit] <= 0.35 * top[lit]).mean()
    hue = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV)[..., 0][lit]  # 0 to 179
    share = np.bincount(hue // 15, minlength=12) / lit.sum()
    return bool(pure >= 0.8 and (share >= 0.02).sum() >= 5)


def _is_edges(grey: Array) -> bool:
    """Thin bright lines on black: an opening by a small square takes most of the light away. (h, w) uint8."""
    side = max(3, round(min(grey.shape) / 40) | 1)
    opened = cv2.morphologyEx(grey, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    thick = opened.sum(dtype=np.int64) / max(1, grey.sum(dtype=np.int64))
    return bool((grey < 12).mean() >= 0.5 and (grey > 96).mean() >= 0.002 and thick <= 0.6)


def _is_depth(grey: Array) -> bool:
    """From black to white in slow ramps: much of it slopes gently, hardly any of it is texture. (h, w) uint8."""
    low, high = np.percentile(grey, [1, 99])
    values = grey.astype(np.float32)
    across, down = (cv2.Sobel(values, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    slope = np.hypot(across, down) / 8
    gentle = ((slope > 0.25) & (slope <= 6)).mean()
    return bool(low <= 24 and high >= 192 and _smooth_share(grey) >= 0.7 and gentle >= 0.5)


def _smooth_share(grey: Array) -> float:
    """How much of a picture (h, w) is without texture, 0 to 1."""
    return float((np.abs(cv2.Laplacian(grey.astype(np.float32), cv2.CV_32F, ksize=1)) <= 4).mean())


def _is_coloured(pixels: Array) -> bool:
    return _colour_share(pixels) > 0.01


def _colour_share(pixels: Array) -> float:
    """How much of a picture (h, w) or (h, w, 3) is coloured, 0 to 1."""
    return 0.0 if pixels.ndim == 2 else float((pixels.max(2) - pixels.min(2) > COLOURFUL).mean())


def _grey(pixels: Array) -> Array:
    """(h, w) uint8."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def _reduced(pixels: Array, shorter: int) -> Array:
    """Pixels reduced to `shorter` along the shorter side, so that one measure fits all sizes."""
    height, width = pixels.shape[:2]
    scale = shorter / min(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
