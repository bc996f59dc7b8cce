"""The solids a scene is built of, as a batch of tensors: spheres, capsules, boxes and upright cones.

Every solid carries the colour of its surface and the *part* it belongs to, so that a ray which meets it knows
what the picture shows there. Slots a scene does not use are parked far below the ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ctrl.atelier import poses
from ctrl.atelier.scene import Prop, Scene

PARTS = (
    "sky", "ground", "face", "hair", "shirt", "arms", "trousers", "shoes", "seat", "left prop", "right prop",
)  # fmt: skip
FIGURE_PARTS = tuple(PARTS.index(name) for name in ("face", "hair", "shirt", "arms", "trousers", "shoes"))

PAINT = {
    "red": (0.82, 0.12, 0.12),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.96, 0.84, 0.15),
    "green": (0.13, 0.58, 0.22),
    "blue": (0.13, 0.30, 0.85),
    "purple": (0.54, 0.20, 0.70),
    "white": (0.94, 0.94, 0.94),
}
SKIN = ((0.96, 0.80, 0.69), (0.86, 0.66, 0.50), (0.62, 0.43, 0.30), (0.42, 0.28, 0.20))
HAIR = ((0.16, 0.11, 0.09), (0.36, 0.21, 0.11), (0.62, 0.42, 0.20), (0.30, 0.30, 0.33))
BARK, SHOE, SEAT, IRIS = (0.40, 0.26, 0.15), (0.20, 0.17, 0.17), (0.58, 0.40, 0.24), (0.06, 0.05, 0.07)
PARKED = -1e6


@dataclass(frozen=True)
class Solids:
    """A batch of solids, B scenes each. Colours (B, n, 3) in [0, 1]; parts (B, n) index `PARTS`."""

    sphere_centre: Tensor  # (B, S, 3)
    sphere_radius: Tensor  # (B, S)
    capsule_from: Tensor  # (B, C, 3)
    capsule_to: Tensor  # (B, C, 3)
    capsule_radius: Tensor  # (B, C)
    box_centre: Tensor  # (B, X, 3)
    box_half: Tensor  # (B, X, 3)
    box_turn: Tensor  # (B, X) radians about the vertical
    cone_base: Tensor  # (B, K, 3)
    cone_radii: Tensor  # (B, K, 2) at the base and at the top
    cone_height: Tensor  # (B, K)
    color: Tensor  # (B, S + C + X + K, 3), in that order
    part: Tensor  # (B, S + C + X + K)


def figure_joints(scenes: Sequence[Scene]) -> tuple[poses.Joints, Tensor]:
    """The joints and the stature (B,) of each scene's figure, on the CPU."""
    angles = torch.tensor([scene.angles for scene in scenes])
    stature = torch.tensor([scene.stature for scene in scenes])
    joints = poses.pose(
        angles,
        torch.tensor([scene.heading for scene in scenes]),
        torch.tensor([scene.mirrored for scene in scenes]),
        torch.tensor([scene.place for scene in scenes]),
        stature,
    )
    return joints, stature


def build(scenes: Sequence[Scene]) -> Solids:
    """The solids of a batch of scenes, on the CPU in float32."""
    joints, stature = figure_joints(scenes)
    figure = _Figure(scenes, joints, stature[:, None])
    props = [_props(scene) for scene in scenes]

    def stacked(index: int) -> Tensor:
        return torch.tensor([rows[index] for rows in props])

    seat_centre, seat_half, seat_turn = figure.seat()
    return Solids(
        sphere_centre=torch.cat([figure.sphere_centre, stacked(0)], 1),
        sphere_radius=torch.cat([figure.sphere_radius, stacked(1)], 1),
        capsule_from=figure.capsule_from,
        capsule_to=figure.capsule_to,
        capsule_radius=figure.capsule_radius,
        box_centre=torch.cat([seat_centre, stacked(2)], 1),
        box_half=torch.cat([seat_half, stacked(3)], 1),
        box_turn=torch.cat([seat_turn, stacked(4)], 1),
        cone_base=stacked(5),
        cone_radii=stacked(6),
        cone_height=stacked(7),
        color=torch.cat(
            [
                figure.sphere_color,
                stacked(8),
                figure.capsule_color,
                figure.seat_color,
                stacked(9),
                stacked(10),
            ],
            1,
        ),
        part=torch.tensor(
            [
                [*_SPHERE_PARTS, *slots, *_CAPSULE_PARTS, PARTS.index("seat"), *slots, *slots]
                for slots in [[PARTS.index("left prop"), PARTS.index("right prop")]] * len(scenes)
            ]
        ),
    )


_SPHERE_NAMES = ("face", "hair", "arms", "arms", "face", "face")
_CAPSULE_NAMES = (
    "shirt", "shirt", "trousers", "face", "shirt", "arms", "shirt", "arms",
    "trousers", "trousers", "trousers", "trousers", "shoes", "shoes",
)  # fmt: skip
_SPHERE_PARTS = [PARTS.index(name) for name in _SPHERE_NAMES]
_CAPSULE_PARTS = [PARTS.index(name) for name in _CAPSULE_NAMES]


class _Figure:
    """The spheres and capsules of the figure, and the seat of those who sit."""

    def __init__(self, scenes: Sequence[Scene], joints: poses.Joints, size: Tensor) -> None:
        j, self._scenes, self._joints, self._size = joints, scenes, joints, size
        skin, hair = (
            torch.tensor([SKIN[scene.skin] for scene in scenes]),
            torch.tensor([HAIR[scene.hair] for scene in scenes]),
        )
        shirt = torch.tensor([PAINT[scene.shirt] for scene in scenes])
        trousers = torch.tensor([PAINT[scene.trousers] for scene in scenes])
        iris, shoe = torch.tensor(IRIS).expand_as(skin), torch.tensor(SHOE).expand_as(skin)
        radius = poses.HEAD_RADIUS * size
        eyes = [
            j.head + 0.9 * radius * j.forward + 0.16 * radius * j.up + side * 0.36 * radius * j.right
            for side in (1, -1)
        ]
        hair_at = j.head - 0.16 * radius * j.forward + 0.16 * radius * j.up
        self.sphere_centre = torch.stack([j.head, hair_at, *j.wrists, *eyes], 1)
        self.sphere_radius = size * torch.tensor([[0.165, 0.168, 0.075, 0.075, 0.034, 0.034]])
        self.sphere_color = torch.stack([skin, hair, skin, skin, iris, iris], 1)

        across = 0.6 * poses.SHOULDER * size * j.right
        chest = j.neck - 0.10 * size * j.up
        toes = [ankle + 0.15 * size * j.forward for ankle in j.ankles]
        segments = [
            (chest + across, chest - across, 0.105, shirt),
            (chest - 0.03 * size * j.up, j.pelvis + 0.10 * size * j.up, 0.135, shirt),
            (*j.hips, 0.125, trousers),
            (j.neck - 0.05 * size * j.up, j.head, 0.06, skin),
            (j.shoulders[0], j.elbows[0], 0.078, shirt),
            (j.elbows[0], j.wrists[0], 0.062, skin),
            (j.shoulders[1], j.elbows[1], 0.078, shirt),
            (j.elbows[1], j.wrists[1], 0.062, skin),
            (j.hips[0], j.knees[0], 0.098, trousers),
            (j.knees[0], j.ankles[0], 0.082, trousers),
            (j.hips[1], j.knees[1], 0.098, trousers),
            (j.knees[1], j.ankles[1], 0.082, trousers),
            (j.ankles[0], toes[0], 0.075, shoe),
            (j.ankles[1], toes[1], 0.075, shoe),
        ]
        self.capsule_from = torch.stack([a for a, _, _, _ in segments], 1)
        self.capsule_to = torch.stack([b for _, b, _, _ in segments], 1)
        self.capsule_radius = size * torch.tensor([[r for _, _, r, _ in segments]])
        self.capsule_color = torch.stack([paint for _, _, _, paint in segments], 1)
        self.seat_color = torch.tensor(SEAT).expand(len(scenes), 1, 3)

    def seat(self) -> tuple[Tensor, Tensor, Tensor]:
        """Centre (B, 1, 3), half sizes (B, 1, 3) and turn (B, 1) of the box under the figure."""
        seated = torch.tensor([[poses.POSES[scene.pose].seated] for scene in self._scenes])
        pelvis = self._joints.pelvis
        height = pelvis[:, 1:2] - 0.10 * self._size
        centre = torch.cat([pelvis[:, :1], height / 2, pelvis[:, 2:]], -1)
        centre = centre - 0.06 * self._size * self._joints.forward
        half = torch.cat([0.20 * self._size, height / 2, 0.20 * self._size], -1)
        parked = torch.tensor([0.0, PARKED, 0.0])
        turn = torch.tensor([[scene.heading] for scene in self._scenes]).deg2rad()
        return torch.where(seated, centre, parked)[:, None], half[:, None], turn


def _props(scene: Scene) -> tuple[list[object], ...]:
    """Two slots, left then right, of one sphere, one box and one cone each."""
    slots = [_prop(next((p for p in scene.props if p.side == side), None)) for side in ("left", "right")]
    return tuple([slot[index] for slot in slots] for index in range(11))


def _prop(prop: Prop | None) -> tuple[object, ...]:
    away, dot, none = (0.0, PARKED, 0.0), 0.01, (0.0, 0.0, 0.0)
    sphere: tuple[object, object] = (away, dot)
    box: tuple[object, object] = (away, (dot, dot, dot))
    cone: tuple[object, object, object] = (away, (dot, dot), dot)
    if prop is None:
        return (*sphere, *box, 0.0, *cone, none, none, none)
    s, x, z, paint, cone_paint = prop.size, prop.x, prop.z, PAINT[prop.color], PAINT[prop.color]
    if prop.kind == "ball":
        sphere = ((x, 0.25 * s, z), 0.25 * s)
    elif prop.kind == "box":
        box = ((x, 0.22 * s, z), (0.22 * s, 0.22 * s, 0.22 * s))
    elif prop.kind == "cone":
        cone = ((x, 0.0, z), (0.27 * s, 0.0), 0.68 * s)
    elif prop.kind == "drum":
        cone = ((x, 0.0, z), (0.25 * s, 0.25 * s), 0.36 * s)
    elif prop.kind == "pillar":
        cone = ((x, 0.0, z), (0.14 * s, 0.14 * s), 1.15 * s)
    else:
        sphere, cone = ((x, 0.85 * s, z), 0.27 * s), ((x, 0.0, z), (0.07 * s, 0.06 * s), 0.65 * s)
        cone_paint = BARK
    return (*sphere, *box, float(torch.tensor(prop.turn).deg2rad()), *cone, paint, paint, cone_paint)
