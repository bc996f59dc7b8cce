"""A history of maps, step by step, as bytes with the share that byte 255 stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ctrl.maps.sums import Array, Key, Layers, Sums

SIDE = 32  # cells of the shorter side of what is kept; finer maps are averaged


class Bytes(NamedTuple):
    """Maps as bytes, uint8 (N, t, h, w), and the share that 255 stands for, float32 (N, t)."""

    maps: Tensor
    scales: Tensor

    @staticmethod
    def of(maps: Tensor) -> Bytes:
        """From float32 (N, t, h, w)."""
        scales = maps.amax((2, 3))
        whole = torch.where(scales > 0, scales, 1.0)
        return Bytes((maps / whole[..., None, None] * 255).round().to(torch.uint8).cpu(), scales.cpu())

    def shares(self, picture: int) -> Array:
        """One picture's maps (t, h, w) as shares again."""
        shares = self.maps[picture].float() / 255 * self.scales[picture][:, None, None]
        return np.asarray(shares.numpy())


@dataclass
class History:
    """The maps of each step, in order; `now` is the step that is not complete."""

    steps: dict[int, dict[tuple[Layers, str], Bytes]] = field(default_factory=dict)
    now: Sums = field(default_factory=Sums)
    step: int = -1

    def add(self, step: int, key: Key, maps: Tensor) -> None:
        """Add maps (N, p, t) of one site."""
        if step != self.step:
            self.close()
            self.step = step
        self.now.add(key, maps)

    def close(self) -> None:
        """The step is complete: keep it as bytes."""
        if self.now.sums:
            self.steps[self.step] = {
                (key.layers, key.source): Bytes.of(_grid(held.total / held.weight, key.layers))
                for key, held in self.now.sums.items()
            }
        self.now = Sums()

    @property
    def bytes(self) -> int:
        """What it holds."""
        kept = (one for step in self.steps.values() for one in step.values())
        return self.now.bytes + sum(one.maps.nbytes + one.scales.nbytes for one in kept)


def _grid(maps: Tensor, layers: Layers) -> Tensor:
    """(N, t, h, w) of (N, p, t), averaged to at most 32 cells along the shorter side."""
    grid = rearrange(maps, "n (h w) t -> n t h w", h=layers.height)
    times = -(-min(layers.height, layers.width) // SIDE)
    return F.avg_pool2d(grid, times, ceil_mode=True, count_include_pad=False) if times > 1 else grid
