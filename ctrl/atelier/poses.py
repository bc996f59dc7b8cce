"""The artist's figure: ten named poses as joint angles, and the joints they put in space.

A limb's direction is two angles in degrees: how far it is lifted sideways from hanging straight down
(0 down, 90 level, 180 up), then how far that plane is swung forward. Both are in the body's own frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LIMBS = (
    "right upper arm",
    "right forearm",
    "left upper arm",
    "left forearm",
    "right thigh",
    "right shin",
    "left thigh",
    "left shin",
)
ANGLES = (*(f"{limb} {axis}" for limb in LIMBS for axis in ("lift", "swing")), "lean")


@dataclass(frozen=True)
class NamedPose:
    """Joint angles in the order of `ANGLES`, the turn of the body, and how far each angle may stray."""

    angles: tuple[float, ...]
    heading: float = 0.0
    jitter: float = 7.0
    seated: bool = False


def _pose(arms: tuple[float, ...], legs: tuple[float, ...], lean: float = 0.0, heading: float = 0.0) -> NamedPose:
    return NamedPose(angles=(*arms, *legs, lean), heading=heading)


_LEGS = (5, 0, 4, 0, 5, 0, 4, 0)
_DOWN = (9, 0, 6, 10)

POSES: dict[str, NamedPose] = {
    "standing": _pose((*_DOWN, *_DOWN), _LEGS),
    "waving": _pose((112, 0, 168, 0, *_DOWN), _LEGS),
    "arms raised": _pose((158, 0, 168, 0, 158, 0, 168, 0), _LEGS),
    "arms outstretched": _pose((90, 0, 90, 0, 90, 0, 90, 0), _LEGS),
    "hands on hips": _pose((48, -8, -42, 14, 48, -8, -42, 14), (9, 0, 8, 0, 9, 0, 8, 0)),
    "pointing": _pose((86, 0, 87, 0, *_DOWN), _LEGS),
    "walking": _pose((6, -30, 4, -8, 6, 30, 4, 48), (3, 30, 3, 12, 3, -24, 3, -44), 3, 68),
    "running": _pose((12, -55, 8, 35, 12, 42, 4, 118), (3, 62, 3, -12, 3, -24, 3, -88), 14, 68),
    "sitting": _pose((12, 22, 6, 52, 12, 22, 6, 52), (8, 84, 5, 4, 8, 84, 5, 4), 0, 48),
    "kneeling": _pose((10, 8, 5, 40, 10, 8, 5, 40), (6, 84, 4, 0, 5, -4, 3, -86), 4, 48),
}
POSES["sitting"] = NamedPose(POSES["sitting"].angles, heading=48.0, seated=True)

UPPER_ARM, FOREARM, THIGH, SHIN = 0.29, 0.26, 0.42, 0.40
SPINE, NECK, SHOULDER, HIP = 0.50, 0.17, 0.19, 0.10
HEAD_RADIUS, FOOT_RADIUS, HIP_RADIUS = 0.165, 0.075, 0.13


@dataclass(frozen=True)
class Joints:
    """Where a batch of figures is, in metres: each field (B, 3); `forward`, `up`, `right` are unit axes."""

    pelvis: Tensor
    neck: Tensor
    head: Tensor
    shoulders: tuple[Tensor, Tensor]  # right, left: the figure's own
    elbows: tuple[Tensor, Tensor]
    wrists: tuple[Tensor, Tensor]
    hips: tuple[Tensor, Tensor]
    knees: tuple[Tensor, Tensor]
    ankles: tuple[Tensor, Tensor]
    forward: Tensor
    up: Tensor
    right: Tensor


def pose(angles: Tensor, heading: Tensor, mirrored: Tensor, place: Tensor, stature: Tensor) -> Joints:
    """The joints of a batch of figures standing on the ground y = 0.

    angles (B, 17) and heading (B,) in degrees, mirrored (B,) bool (swaps left and right limbs),
    place (B, 2) is x and z in metres, stature (B,) scales the whole figure.
    """
    angles = _swap_sides(angles, mirrored).deg2rad()
    turn = heading.deg2rad()
    zero = torch.zeros_like(turn)
    upright = torch.stack([zero, zero + 1, zero], -1)
    forward = torch.stack([turn.sin(), zero, turn.cos()], -1)  # heading 0 faces the viewer, +z
    right = torch.stack([-turn.cos(), zero, turn.sin()], -1)  # the figure's own right hand
    lean = angles[:, 16:17]
    up = upright * lean.cos() + forward * lean.sin()
    size = stature[:, None]

    def limb(index: int, length: float) -> Tensor:
        lift, swing = angles[:, 2 * index : 2 * index + 1], angles[:, 2 * index + 1 : 2 * index + 2]
        side = right if LIMBS[index].startswith("right") else -right
        hang = -upright * swing.cos() + forward * swing.sin()
        return (side * lift.sin() + hang * lift.cos()) * (length * size)

    pelvis = torch.zeros_like(upright)
    neck = pelvis + up * (SPINE * size)
    head = neck + up * (NECK * size) + forward * (0.015 * size)
    shoulders = (
        neck + right * (SHOULDER * size) - up * (0.04 * size),
        neck - right * (SHOULDER * size) - up * (0.04 * size),
    )
    hips = (pelvis + right * (HIP * size), pelvis - right * (HIP * size))
    elbows = (shoulders[0] + limb(0, UPPER_ARM), shoulders[1] + limb(2, UPPER_ARM))
    wrists = (elbows[0] + limb(1, FOREARM), elbows[1] + limb(3, FOREARM))
    knees = (hips[0] + limb(4, THIGH), hips[1] + limb(6, THIGH))
    ankles = (knees[0] + limb(5, SHIN), knees[1] + limb(7, SHIN))

    lowest = torch.stack([p[:, 1] for p in (*knees, *ankles)], -1).amin(-1)
    base = torch.stack([place[:, 0], FOOT_RADIUS * stature - lowest, place[:, 1]], -1)

    def settle(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pair[0] + base, pair[1] + base

    return Joints(
        pelvis + base, neck + base, head + base,
        settle(shoulders), settle(elbows), settle(wrists), settle(hips), settle(knees), settle(ankles),
        forward, up, right,
    )  # fmt: skip


def keypoints(joints: Joints, stature: Tensor) -> Tensor:
    """The 18 OpenPose points in space, (B, 18, 3) metres, in OpenPose's order (nose first, ears last)."""
    size = stature[:, None]
    radius = HEAD_RADIUS * size
    front = joints.head + joints.forward * (0.86 * radius) + joints.up * (0.18 * radius)
    eyes = [front + side * joints.right * (0.38 * radius) for side in (1, -1)]
    ears = [joints.head + side * joints.right * radius for side in (1, -1)]
    nose = joints.head + joints.forward * radius - joints.up * (0.1 * radius)
    arms = [pair[side] for side in (0, 1) for pair in (joints.shoulders, joints.elbows, joints.wrists)]
    legs = [pair[side] for side in (0, 1) for pair in (joints.hips, joints.knees, joints.ankles)]
    return torch.stack([nose, joints.neck, *arms, *legs, *eyes, *ears], 1)


def _swap_sides(angles: Tensor, mirrored: Tensor) -> Tensor:
    order = [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11, 16]
    return torch.where(mirrored[:, None], angles[:, order], angles)
