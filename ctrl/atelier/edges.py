"""The one edge extractor: it makes the control pictures, in training too, and judges what comes of them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

LOW, HIGH, BLUR = 50.0, 120.0, 0.8  # for 128 pixels


def edges_of(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The edges of a picture (h, w, 3) uint8 RGB as (h, w) uint8: 255 on an edge, 0 elsewhere.

    Canny (1986) on the smoothed picture, at each pixel in the channel that changes most, since red on orange
    is hardly an edge in grey. Smoothing grows with the picture and the thresholds shrink as slopes do,
    so that a picture and its enlargement have the same edges.
    """
    scale = min(picture.shape[:2]) / 128
    smooth = cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), BLUR * scale)
    found = cv2.Canny(smooth, LOW / scale, HIGH / scale, L2gradient=True)
    return np.asarray(found, dtype=np.uint8)
