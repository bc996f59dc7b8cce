"""Where rays meet solids: spheres, capsules, boxes and upright cones, each in closed form.

The intersections are those of Inigo Quilez, https://iquilezles.org/articles/intersectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ctrl.atelier.solids import Solids
from ctrl.atelier.windows import Window

MISS = 1e9  # the distance to what a ray passes by


def hits(things: Solids, origin: Tensor, ray: Tensor, where: Sequence[Window]) -> Iterator[tuple[int, Tensor]]:
    """Each solid's index and the distances (B, h, w) to it inside its window, `MISS` where a ray passes it by."""
    spheres, capsules = things.sphere_radius.shape[1], things.capsule_radius.shape[1]
    boxes = things.box_turn.shape[1]
    for index, (rows, columns) in enumerate(where):
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        ro, rd = origin[:, rows, columns], ray[:, rows, columns]
        if index < spheres:
            hit = _sphere(things, index, ro, rd)
        elif index < spheres + capsules:
            hit = _capsule(things, index - spheres, ro, rd)
        elif index < spheres + capsules + boxes:
            hit = _box(things, index - spheres - capsules, ro, rd)
        else:
            hit = _cone(things, index - spheres - capsules - boxes, ro, rd)
        yield index, hit


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _each(values: Tensor) -> Tensor:
    """One value or vector a scene, shaped to meet (B, h, w) or (B, h, w, 3)."""
    return values[:, None, None]


def _sphere(things: Solids, i: int, ro: Tensor, rd: Tensor) -> Tensor:
    out = ro - _each(things.sphere_centre[:, i])
    return _ball(_dot(out, rd), _dot(out, out), _each(things.sphere_radius[:, i]))


def _capsule(things: Solids, i: int, ro: Tensor, rd: Tensor) -> Tensor:
    axis = _each(things.capsule_to[:, i] - things.capsule_from[:, i])
    radius = _each(things.capsule_radius[:, i])
    out = ro - _each(things.capsule_from[:, i])
    axis2, bard, baoa = _dot(axis, axis), _dot(rd, axis), _dot(out, axis)
    rdoa, oaoa = _dot(rd, out), _dot(out, out)
    a = (axis2 - bard * bard).clamp(min=1e-6)
    b = axis2 * rdoa - baoa * bard
    h = b * b - a * (axis2 * (oaoa - radius * radius) - baoa * baoa)
    t = (-b - h.clamp(min=0).sqrt()) / a
    y = baoa + t * bard
    below = y <= 0
    cap = _ball(torch.where(below, rdoa, rdoa - bard), torch.where(below, oaoa, oaoa - 2 * baoa + axis2), radius)
    t = torch.where((y > 0) & (y < axis2), t, cap)
    return torch.where((h > 0) & (t > 0), t, MISS)


def _ball(b: Tensor, c: Tensor, radius: Tensor) -> Tensor:
    h = b * b - (c - radius * radius)
    t = -b - h.clamp(min=0).sqrt()
    return torch.where((h > 0) & (t > 0), t, MISS)


def turned(vector: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The coordinates of vectors (..., 3) turned about the vertical by `turn` (...) radians."""
    x, y, z = vector.unbind(-1)
    cos, sin = turn.cos(), turn.sin()
    return x * cos - z * sin, y, x * sin + z * cos


def _box(things: Solids, i: int, origin: Tensor, ray: Tensor) -> Tensor:
    turn, half = _each(things.box_turn[:, i]), things.box_half[:, i]
    ro = turned(origin - _each(things.box_centre[:, i]), turn)
    rd = turned(ray, turn)
    near, far = torch.full_like(ro[0], -MISS), torch.full_like(ro[0], MISS)
    for axis, (o, d) in enumerate(zip(ro, rd, strict=True)):
        inverse = 1 / torch.where(d.abs() < 1e-6, 1e-6, d)
        middle, reach = -o * inverse, _each(half[:, axis]) * inverse.abs()
        near, far = torch.maximum(near, middle - reach), torch.minimum(far, middle + reach)
    return torch.where((near < far) & (near > 0), near, MISS)


def _cone(things: Solids, i: int, origin: Tensor, ray: Tensor) -> Tensor:
    """An upright cone or cylinder, closed at the top; its foot stands on the ground, where nobody sees it."""
    (ox, oy, oz), (dx, dy, dz) = (origin - _each(things.cone_base[:, i])).unbind(-1), ray.unbind(-1)
    r0, r1, height = (_each(v) for v in (*things.cone_radii[:, i].unbind(-1), things.cone_height[:, i]))
    slope = (r1 - r0) / height
    reach, drift = r0 + slope * oy, slope * dy
    a = dx * dx + dz * dz - drift * drift
    a = torch.where(a.abs() < 1e-6, 1e-6, a)
    b = ox * dx + oz * dz - reach * drift
    h = b * b - a * (ox * ox + oz * oz - reach * reach)
    root = h.clamp(min=0).sqrt()
    side = torch.full_like(h, MISS)
    for t in ((-b - root) / a, (-b + root) / a):
        y = oy + t * dy
        good = (h > 0) & (t > 1e-4) & (y > 0) & (y < height) & (t < side)
        side = torch.where(good, t, side)
    t = (height - oy) / torch.where(dy.abs() < 1e-6, 1e-6, dy)
    inside = (ox + t * dx) ** 2 + (oz + t * dz) ** 2 < r1**2
    return torch.where(inside & (t > 0) & (t < side), t, side)
