"""From where a scene is seen: rays out of the picture, and points back into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ctrl.atelier.scene import Scene

FOCAL = 1.72  # in picture heights
TARGET = (0.0, 0.90, 0.0)


@dataclass(frozen=True)
class Camera:
    """One camera a scene; it looks at `TARGET`."""

    origin: Tensor  # (B, 3)
    right: Tensor
    up: Tensor
    forward: Tensor

    @staticmethod
    def of(scenes: Sequence[Scene]) -> Camera:
        """The cameras of scenes, on the CPU."""
        yaw = torch.tensor([scene.yaw for scene in scenes]).deg2rad()
        pitch = torch.tensor([scene.pitch for scene in scenes]).deg2rad()
        distance = torch.tensor([scene.distance for scene in scenes])
        back = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)
        right = torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], -1)
        up = torch.linalg.cross(back, right)
        origin = torch.tensor(TARGET) + back * distance[:, None]
        return Camera(origin, right, up, -back)

    def to(self, device: torch.device) -> Camera:
        """The same on a device."""
        return Camera(*(getattr(self, field.name).to(device) for field in fields(Camera)))

    def rays(self, size: int) -> tuple[Tensor, Tensor]:
        """Unit directions (B, size * size, 3) and their cosine with the viewing axis (B, size * size)."""
        ticks = (torch.arange(size, device=self.origin.device) + 0.5) / size - 0.5
        y, x = torch.meshgrid(-ticks, ticks, indexing="ij")
        plane = torch.stack([x.flatten(), y.flatten(), torch.full_like(x.flatten(), FOCAL)], -1)
        axes = torch.stack([self.right, self.up, self.forward], 1)
        length = plane.norm(dim=-1, keepdim=True)
        return (plane / length) @ axes, (FOCAL / length[:, 0]).expand(len(self.origin), -1)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Picture positions (B, n, 2) in [0, 1] and depths (B, n) of points (B, n, 3)."""
        seen = points - self.origin[:, None]
        depth = (seen * self.forward[:, None]).sum(-1)
        x = (seen * self.right[:, None]).sum(-1) / depth * FOCAL
        y = (seen * self.up[:, None]).sum(-1) / depth * FOCAL
        return torch.stack([0.5 + x, 0.5 - y], -1), depth
