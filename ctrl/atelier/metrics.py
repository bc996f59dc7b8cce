"""The numbers a picture is judged by: pure functions of arrays, each with its definition, none softened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over `count` scenes; NaN for an interval that is not known."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if np.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]")


def estimate(values: Array, draws: int = 2000, seed: int = 0) -> Estimate:
    """The mean of one value a scene (N,), NaN where a scene cannot be asked, with its bootstrap interval.

    Percentile bootstrap over scenes (Efron 1979). With nothing to average, everything is NaN.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    means = known[rng.integers(len(known), size=(draws, len(known)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(known.mean()), float(low), float(high), len(known))


def ratio(found: Array, true: Array, draws: int = 2000, seed: int = 0) -> Estimate:
    """The mean of one value a scene (N,) over the mean of another (N,), with its bootstrap interval over scenes."""
    found, true = np.asarray(found, np.float64), np.asarray(true, np.float64)
    rows = np.random.default_rng(seed).integers(len(found), size=(draws, len(found)))
    low, high = np.quantile(found[rows].mean(1) / true[rows].mean(1), [0.025, 0.975])
    return Estimate(float(found.mean() / true.mean()), float(low), float(high), len(found))


def psnr(found: Array, true: Array) -> float:
    """Peak signal-to-noise ratio in dB of two pictures of one shape with values in [0, 1]."""
    error = float(np.mean((np.asarray(found, np.float64) - np.asarray(true, np.float64)) ** 2))
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def sharpness(picture: Array) -> float:
    """The mean absolute difference of neighbouring pixels of a picture (3, h, w), across and down."""
    picture = np.asarray(picture, np.float64)
    return float(np.abs(np.diff(picture, axis=-1)).mean() + np.abs(np.diff(picture, axis=-2)).mean()) / 2


def figure_height(points: Array) -> float:
    """From the highest to the lowest of the true keypoints (18, 2), in the points' own unit."""
    return float(np.ptp(points[:, 1]))


def pck(found: Array, true: Array, visible: Array, share: float = 0.1) -> float:
    """The part of the visible keypoints found within `share` of the figure's height; NaN if none is visible.

    found and true (18, 2), visible (18,) bool. Percentage of correct keypoints, Yang and Ramanan 2013.
    """
    if not visible.any():
        return float("nan")
    distance = np.linalg.norm(found - true, axis=-1)
    return float((distance <= share * figure_height(true))[visible].mean())


def ranks(values: Array) -> Array:
    """The rank of each value, ties sharing their mean rank."""
    _, inverse, counts = np.unique(np.ravel(values), return_inverse=True, return_counts=True)
    after = np.cumsum(counts)
    mean: Array = after - (counts - 1) / 2.0
    return mean[inverse.ravel()]


def spearman(found: Array, true: Array) -> float:
    """Spearman's rank correlation of two arrays of one shape; 0 if either is constant."""
    a, b = ranks(found), ranks(true)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def edge_f1(found: Array, true: Array, reach: float = 2.0) -> float:
    """F1 of two edge maps (h, w): an edge pixel counts if the other map has one within `reach` pixels.

    Both empty is 1, one empty is 0. The boundary F measure of Martin, Fowlkes and Malik 2004, without the
    one-to-one assignment.
    """
    found, true = np.asarray(found) > 0, np.asarray(true) > 0
    if not found.any() or not true.any():
        return float(found.any() == true.any())
    precision, recall = _near(found, true, reach), _near(true, found, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def iou(heat: Array, mask: Array) -> float:
    """Intersection over union of a mask (h, w) bool and where a heat map is above half its maximum."""
    hot = heat >= 0.5 * heat.max() if heat.max() > 0 else np.zeros_like(mask)
    return float((hot & mask).sum() / max(1, (hot | mask).sum()))


def range_iou(heat: Array, mask: Array, threshold: float) -> float:
    """Intersection over union of a mask (h, w) bool and where a heat map is above a part of its range."""
    low, high = float(heat.min()), float(heat.max())
    hot = heat > low + threshold * (high - low) if high > low else np.ones_like(mask)
    return float((hot & mask).sum() / max(1, (hot | mask).sum()))


def average_precision(heat: Array, mask: Array) -> float:
    """The area under precision over recall as the cells of a map (h, w) are taken hottest first; ties go together."""
    _, at = np.unique(-np.ravel(heat), return_inverse=True)
    counts = np.bincount(at.ravel())
    hits = np.bincount(at.ravel(), weights=np.ravel(mask).astype(np.float64))
    precision = np.cumsum(hits) / np.cumsum(counts)
    return float((precision * hits).sum() / max(1.0, hits.sum()))


def energy(heat: Array, mask: Array) -> float:
    """The part of a map (h, w) that is inside a mask: the energy pointing game (arXiv 1910.01279)."""
    total = float(heat.sum())
    return float(heat[mask].sum()) / total if total > 0 else float("nan")


def points_at(heat: Array, mask: Array, reach: int = 1) -> bool:
    """Whether the hottest cell (of a map of the mask's shape) is in the mask or within `reach` cells of it.

    The pointing game, arXiv 1608.00507.
    """
    row, column = np.unravel_index(int(np.argmax(heat)), heat.shape)
    rows = slice(max(0, row - reach), row + reach + 1)
    return bool(mask[rows, max(0, column - reach) : column + reach + 1].any())


def spread(features: Array) -> float:
    """The mean distance between all pairs of N feature vectors (N, F)."""
    gaps = np.linalg.norm(features[:, None] - features[None], axis=-1)
    count = len(features)
    return float(gaps.sum() / (count * (count - 1)))


def _near(some: Array, others: Array, reach: float) -> float:
    away = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((away[some] <= reach).mean())
