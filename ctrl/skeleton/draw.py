"""OpenPose's drawing of figures, in the colours and widths that pose ControlNets were trained with.

The drawing is that of controlnet_aux, which follows ControlNet's annotator (arXiv 2302.05543): limbs are ellipses in
their colour × 0.6, joints discs, hands lines around the colour wheel, faces white dots. Widths are for 512 pixels
along the shorter side and scale with the picture.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from ctrl.skeleton.skeleton import Skeleton

Array = np.ndarray[Any, Any]
Canvas = np.ndarray[Any, np.dtype[np.uint8]]

LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
    (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255),
    (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
# From the wrist, 0, along each finger.
FINGERS = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21))
FULL = 512  # pixels along the shorter side; smaller pictures are drawn with fractions of a pixel
WIDTH, FINGER_WIDTH, FACE_RADIUS = 4, 2, 3  # pixels at 512
_FROM, _TO = (np.array(ends) for ends in zip(*LIMBS, strict=True))
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_OUTLINE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=-1)  # (24, 2), the unit circle
_FINE = 4  # fractional bits of cv2's coordinates


def draw_figures(skeletons: Sequence[Skeleton], width: int, height: int) -> Canvas:
    """(height, width, 3) uint8 RGB: the body, hands and face of each figure, drawn over the previous ones."""
    canvas = np.zeros((height, width, 3), np.uint8)
    scale = min(width, height) / FULL
    draw_body = _draw_body if scale >= 1 else _draw_small_body
    for figure in skeletons:
        draw_body(canvas, figure.points * [width, height], figure.shown, max(2, round(WIDTH * scale)))
        for hand in (figure.left_hand, figure.right_hand):
            if hand is not None:
                _draw_hand(canvas, hand * [width, height], scale)
        if figure.face is not None:
            for x, y in _seen(figure.face * [width, height]):
                cv2.circle(canvas, (x, y), max(1, round(FACE_RADIUS * scale)), (255, 255, 255), -1)
    return canvas


def to_png(canvas: Canvas) -> bytes:
    """A drawing (height, width, 3) RGB as a PNG file, for notebooks."""
    return cv2.imencode(".png", canvas[..., ::-1])[1].tobytes()


def _draw_body(canvas: Canvas, points: Array, shown: Array, width: int) -> None:
    """The body as controlnet_aux draws it, in whole pixels; `points` (18, 2) in pixels."""
    for limb, (start, end) in enumerate(LIMBS):
        if shown[start] and shown[end]:
            (x, y), (across, down) = points[[start, end]].mean(0), points[start] - points[end]
            axes = int(math.hypot(across, down) / 2), width
            angle = int(math.degrees(math.atan2(down, across)))
            outline = np.array(cv2.ellipse2Poly((int(x), int(y)), axes, angle, 0, 360, 1))
            cv2.fillConvexPoly(canvas, outline, _dim(limb))
    for joint in np.flatnonzero(shown):
        cv2.circle(canvas, (int(points[joint, 0]), int(points[joint, 1])), width, COLOURS[joint], -1)


def _draw_small_body(canvas: Canvas, points: Array, shown: Array, width: int) -> None:
    """The body, to a sixteenth of a pixel; `points` (18, 2) in pixels."""
    start, end = points[_FROM], points[_TO]  # (17, 2)
    along = (end - start) / 2
    half = np.linalg.norm(along, axis=1, keepdims=True)
    along = np.where(half > 0, along / np.maximum(half, 1e-9), [1.0, 0.0])
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    rim = (start + end)[:, None] / 2 + _OUTLINE[:, :1] * (along * half)[:, None]
    rim = rim + _OUTLINE[:, 1:] * (across * width)[:, None]  # (17, 24, 2)
    rim = np.round(rim * 2**_FINE).astype(np.int32)
    for limb in np.flatnonzero(shown[_FROM] & shown[_TO]):
        cv2.fillConvexPoly(canvas, rim[limb], _dim(limb), cv2.LINE_8, _FINE)
    centres = np.round(points * 2**_FINE).astype(int).tolist()
    for joint in np.flatnonzero(shown):
        cv2.circle(canvas, centres[joint], width << _FINE, COLOURS[joint], -1, cv2.LINE_8, _FINE)


def _draw_hand(canvas: Canvas, points: Array, scale: float) -> None:
    """Lines from the wrist along the fingers, discs in blue; `points` (21, 2) in pixels."""
    ends = points.astype(int).tolist()
    for index, (start, end) in enumerate(FINGERS):
        if min(*ends[start], *ends[end]) > 0:
            colour = [255 * part for part in colorsys.hsv_to_rgb(index / len(FINGERS), 1, 1)]
            cv2.line(canvas, ends[start], ends[end], colour, max(1, round(FINGER_WIDTH * scale)))
    for x, y in _seen(points):
        cv2.circle(canvas, (x, y), max(1, round(WIDTH * scale)), (0, 0, 255), -1)


def _seen(points: Array) -> list[tuple[int, int]]:
    """The (n, 2) points that are shown, in whole pixels; hidden ones are in the first row and column."""
    return [(x, y) for x, y in points.astype(int).tolist() if x > 0 and y > 0]


def _dim(limb: int | np.integer[Any]) -> tuple[int, ...]:
    return tuple(int(0.6 * part) for part in COLOURS[limb])
