"""Where in the picture a solid, or its shadow, can possibly be: so that a ray only meets what is near it.

A window is a pair of slices, rows and columns. It is conservative: every pixel that shows the solid, in any scene
of the batch, is inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ctrl.atelier.solids import Solids

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Windows:
    """For each solid, where it is seen and where it can cast its shadow."""

    seen: list[Window]
    shaded: list[Window]


def of(things: Solids, project: Callable[[Tensor], tuple[Tensor, Tensor]], sun: Tensor, size: int) -> Windows:
    """Windows in a picture of size x size pixels. `sun` (B, 3) is the unit vector towards the light."""
    ends, radius = _spans(things)
    drop = sun[:, None, None] * (ends[..., 1:2] / sun[:, None, None, 1:2])
    shadows = ends - drop
    wide = radius / sun[:, None, 1]
    return Windows(
        seen=_boxes(*project(ends.flatten(1, 2)), radius, size),
        shaded=_boxes(*project(torch.cat([ends, shadows], 2).flatten(1, 2)), torch.maximum(wide, radius), size),
    )


def _spans(things: Solids) -> tuple[Tensor, Tensor]:
    """Every solid as a swept ball: two ends (B, n, 2, 3) and a radius (B, n)."""
    box_reach = things.box_half.norm(dim=-1)
    rise = torch.stack([torch.zeros_like(things.cone_height), things.cone_height], -1)
    stand = torch.stack([torch.zeros_like(rise), rise, torch.zeros_like(rise)], -1)
    ends = [
        things.sphere_centre[:, :, None].expand(-1, -1, 2, -1),
        torch.stack([things.capsule_from, things.capsule_to], 2),
        things.box_centre[:, :, None].expand(-1, -1, 2, -1),
        things.cone_base[:, :, None] + stand,
    ]
    radius = [things.sphere_radius, things.capsule_radius, box_reach, things.cone_radii.amax(-1)]
    return torch.cat(ends, 1), torch.cat(radius, 1)


def _boxes(spots: Tensor, reach: Tensor, radius: Tensor, size: int) -> list[Window]:
    """Windows around points (B, n * ends, 2) at depths (B, n * ends) with the balls' radii (B, n)."""
    count = radius.shape[1]
    spots, reach = spots.unflatten(1, (count, -1)), reach.unflatten(1, (count, -1))
    parked = reach.isnan() | (spots.abs() > 50).any(-1)
    margin = 1.8 * radius[:, :, None] / (reach - radius[:, :, None]).clamp(min=0.2) * 1.1
    low = torch.where(parked[..., None], math.inf, spots - margin[..., None]).amin((0, 2))
    high = torch.where(parked[..., None], -math.inf, spots + margin[..., None]).amax((0, 2))
    windows = []
    for (x0, y0), (x1, y1) in zip(low.tolist(), high.tolist(), strict=True):
        if x0 > x1:
            windows.append((slice(0, 0), slice(0, 0)))
            continue
        windows.append((_slice(y0, y1, size), _slice(x0, x1, size)))
    return windows


def _slice(low: float, high: float, size: int) -> slice:
    return slice(max(0, math.floor(low * size) - 1), min(size, math.ceil(high * size) + 1))
