"""A batched analytic ray caster: scenes in, everything there is to know about their pictures out.

No meshes and no learning: each pixel's ray meets solids and the ground in closed form (`hits`). The same code runs on
the CPU in small pieces that stay in cache and on a GPU in large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ctrl.atelier import poses, solids, windows
from ctrl.atelier.camera import Camera
from ctrl.atelier.hits import MISS, hits, turned
from ctrl.atelier.scene import GROUNDS, TIMES, Scene
from ctrl.atelier.solids import Solids
from ctrl.atelier.windows import Window

SKY_DEPTH = 30.0  # metres; where a ray meets nothing


@dataclass(frozen=True)
class Buffers:
    """What the rays found, h x w to a scene. Sizes in the comments; lengths in metres."""

    depth: Tensor  # (B, h, w) along the viewing axis, SKY_DEPTH where there is sky
    part: Tensor  # (B, h, w) int64, an index into solids.PARTS
    solid: Tensor  # (B, h, w) int64: which solid, -2 ground, -1 sky
    normal: Tensor  # (B, 3, h, w) unit, world axes, zero in the sky
    color: Tensor  # (B, 3, h, w) the surface's own colour, unlit
    light: Tensor  # (B, h, w) cosine of the light, 0 in shadow
    spot: Tensor  # (B, 2, h, w) x and z on the ground
    height: Tensor  # (B, h, w) how far up the picture a ray looks, -1 to 1, for skies
    keypoints: Tensor  # (B, 18, 2) in [0, 1], x right and y down
    visible: Tensor  # (B, 18) bool: in the picture and not behind something
    time: Tensor  # (B,) int64, an index into scene.TIMES
    ground: Tensor  # (B,) int64, an index into scene.GROUNDS


def rows_of(buffers: Buffers, rows: Tensor) -> Buffers:
    """The buffers of some of the scenes of a batch."""
    return Buffers(*(getattr(buffers, field.name)[rows] for field in fields(Buffers)))


@torch.no_grad()
def cast(scenes: Sequence[Scene], size: int, device: torch.device | str = "cpu") -> Buffers:
    """Cast size x size rays into each scene."""
    device = torch.device(device)
    camera = Camera.of(scenes)
    things = solids.build(scenes)
    bounds = windows.of(things, camera.project, _sun(scenes), size)
    camera = camera.to(device)
    things = Solids(*(getattr(things, field.name).to(device) for field in fields(Solids)))
    origin, (ray, cosine) = camera.origin[:, None], camera.rays(size)

    ground = torch.where(ray[..., 1] < -1e-4, -origin[..., 1] / ray[..., 1].clamp(max=-1e-4), MISS)
    ground = torch.where(ground * cosine > SKY_DEPTH, MISS, ground)
    distance, which = _nearest(things, origin.expand_as(ray), ray, ground, bounds.seen)
    point = origin + ray * distance.clamp(max=1e3)[..., None]
    normal, color, part = _surface(things, point, which)

    toward_sun = _sun(scenes).to(device)[:, None]
    facing = (normal * toward_sun).sum(-1)
    lifted = point + normal * 0.012
    lit = torch.where(facing > 0, facing, 0.0)
    lit = torch.where(_blocked(things, lifted, toward_sun.expand_as(ray), bounds.shaded), 0.0, lit)

    joints, stature = solids.figure_joints(scenes)
    places = poses.keypoints(joints, stature).to(device)
    spots, reach = camera.project(places)
    depth = torch.where(which == -1, SKY_DEPTH, distance * cosine).view(-1, size, size)

    def image(values: Tensor) -> Tensor:
        square: Tensor = values.movedim(-1, 1).unflatten(-1, (size, size))
        return square

    return Buffers(
        depth=depth,
        part=part.unflatten(-1, (size, size)),
        solid=which.unflatten(-1, (size, size)),
        normal=image(normal),
        color=image(color),
        light=lit.unflatten(-1, (size, size)),
        spot=image(point[..., ::2]),
        height=ray[..., 1].unflatten(-1, (size, size)),
        keypoints=spots,
        visible=_visible(spots, reach, depth),
        time=torch.tensor([TIMES.index(scene.time) for scene in scenes], device=device),
        ground=torch.tensor([GROUNDS.index(scene.ground) for scene in scenes], device=device),
    )


def _sun(scenes: Sequence[Scene]) -> Tensor:
    lift = torch.tensor([{"day": 52.0, "sunset": 28.0, "night": 46.0}[scene.time] for scene in scenes])
    turn = torch.tensor([scene.sun for scene in scenes]).deg2rad()
    lift = lift.deg2rad()
    return torch.stack([turn.sin() * lift.cos(), lift.sin(), turn.cos() * lift.cos()], -1)


def _nearest(
    things: Solids, origin: Tensor, ray: Tensor, ground: Tensor, where: Sequence[Window]
) -> tuple[Tensor, Tensor]:
    """Distance (B, N) and index of the nearest solid: -2 the ground, -1 nothing."""
    size = int(ray.shape[1] ** 0.5)
    distance = ground.clone()
    which = torch.where(ground < MISS, -2, -1)
    square, name = distance.unflatten(1, (size, size)), which.unflatten(1, (size, size))
    for index, hit in hits(things, origin.unflatten(1, (size, size)), ray.unflatten(1, (size, size)), where):
        rows, columns = where[index]
        near = square[:, rows, columns]
        closer = hit < near
        near.copy_(torch.minimum(near, hit))
        name[:, rows, columns].masked_fill_(closer, index)
    return distance, which


def _blocked(things: Solids, origin: Tensor, ray: Tensor, where: Sequence[Window]) -> Tensor:
    size = int(ray.shape[1] ** 0.5)
    shade = torch.zeros(origin.shape[:2], dtype=torch.bool, device=origin.device)
    square = shade.unflatten(1, (size, size))
    for index, hit in hits(things, origin.unflatten(1, (size, size)), ray.unflatten(1, (size, size)), where):
        rows, columns = where[index]
        square[:, rows, columns] |= hit < MISS
    return shade


def _surface(things: Solids, point: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit normals (B, N, 3), colours (B, N, 3) and parts (B, N) where rays ended."""
    spheres, capsules = things.sphere_radius.shape[1], things.capsule_radius.shape[1]
    boxes, cones = things.box_turn.shape[1], things.cone_height.shape[1]
    first_capsule, first_box, first_cone = spheres, spheres + capsules, spheres + capsules + boxes

    def of(rows: Tensor, first: int, count: int) -> Tensor:
        index = (which - first).clamp(0, count - 1)
        return rows.gather(1, index[..., None].expand(*index.shape, rows.shape[-1]))

    start = of(things.capsule_from, first_capsule, capsules)
    axis = of(things.capsule_to, first_capsule, capsules) - start
    share = ((point - start) * axis).sum(-1, keepdim=True) / (axis * axis).sum(-1, keepdim=True)
    capsule = point - start - axis * share.clamp(0, 1)
    sphere = point - of(things.sphere_centre, 0, spheres)

    turn = of(things.box_turn[..., None], first_box, boxes)[..., 0]
    local = torch.stack(turned(point - of(things.box_centre, first_box, boxes), turn), -1)
    local = local / of(things.box_half, first_box, boxes)
    face = local * (local.abs() == local.abs().amax(-1, keepdim=True))
    box = torch.stack(turned(face, -turn), -1)

    base, height = (
        of(things.cone_base, first_cone, cones),
        of(things.cone_height[..., None], first_cone, cones),
    )
    radii = of(things.cone_radii, first_cone, cones)
    out = point - base
    slope = (radii[..., :1] - radii[..., 1:]) / height
    flat = (out[..., 0::2] ** 2).sum(-1, keepdim=True).sqrt()
    cone = torch.cat([out[..., :1], slope * flat, out[..., 2:]], -1)
    on_top = out[..., 1:2] > height - 1e-3
    upright = torch.tensor([0.0, 1.0, 0.0], device=point.device)
    cone = torch.where(on_top, upright, cone)

    kind = which[..., None]
    normal = torch.where(kind >= first_cone, cone, box)
    normal = torch.where(kind < first_box, capsule, normal)
    normal = torch.where(kind < first_capsule, sphere, normal)
    normal = normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    normal = torch.where(kind == -2, upright, normal)
    normal = torch.where(kind == -1, 0.0, normal)
    color = of(things.color, 0, things.color.shape[1])
    part = things.part.gather(1, which.clamp(min=0))
    return normal, color, torch.where(which < 0, which == -2, part).long()


def _visible(spots: Tensor, reach: Tensor, depth: Tensor) -> Tensor:
    """A joint is inside its limb, so it counts as seen when what covers it is no further than a limb is thick."""
    size = depth.shape[-1]
    pixel = (spots * size).floor().long()
    inside = ((pixel >= 0) & (pixel < size)).all(-1)
    x, y = pixel.clamp(0, size - 1).unbind(-1)
    rows = torch.arange(len(depth), device=depth.device)[:, None]
    return inside & (reach - depth[rows, y, x] < 0.24)


def disparity(depth: Tensor) -> Tensor:
    """Depth (B, h, w) as depth ControlNets take it: inverse, each picture stretched to [0, 1], near is 1.

    The convention of MiDaS (https://github.com/isl-org/MiDaS).
    """
    inverse: Tensor = 1 / depth
    low, high = inverse.amin((-1, -2), keepdim=True), inverse.amax((-1, -2), keepdim=True)
    return (inverse - low) / (high - low).clamp(min=1e-6)
