"""Running sums of maps, in float32: what is held does not grow with the number of steps.

N are the pictures made at once, p the places of a layer (height · width), t the tokens kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.float32]]


class Layers(NamedTuple):
    """The sites of one component and stage ("down_blocks", "mid_block", "up_blocks") that have one size."""

    component: str
    stage: str
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.stage.partition('_')[0]} {self.height}×{self.width}"

    @staticmethod
    @cache
    def of(site: str, height: int, width: int) -> Layers:
        """The layers that a site, "unet.up_blocks.1…", belongs to."""
        component, stage, *_ = site.split(".")
        return Layers(component, stage, height, width)


class Key(NamedTuple):
    """What a sum is of: the layers and the source ("prompt", "negative", "region 0", "style 1")."""

    layers: Layers
    source: str


@dataclass
class Sum:
    """A running sum of maps (N, p, t) times their weights, and the sum of these."""

    total: Tensor
    weight: float = 1.0

    def add(self, maps: Tensor, weight: float) -> None:
        """Add maps of one site at one step."""
        self.total.add_(maps, alpha=weight)
        self.weight += weight


@dataclass
class Sums:
    """Sums over sites and steps, by what they are of."""

    sums: dict[Key, Sum] = field(default_factory=dict)

    def add(self, key: Key, maps: Tensor, weight: float = 1.0) -> None:
        """Add float32 maps (N, p, t) times a weight, which become the sum if they are the first."""
        held = self.sums.get(key)
        if held is None:
            self.sums[key] = Sum(maps * weight, weight)
        else:
            held.add(maps, weight)

    @property
    def bytes(self) -> int:
        """What the sums hold."""
        return sum(one.total.nbytes for one in self.sums.values())

    def means(self, picture: int) -> dict[Key, tuple[Array, float]]:
        """For one picture, the mean of each sum, (t, height, width) on the CPU, and its weight, the maps it is of."""
        return {key: (_mean(held, picture, key.layers), held.weight) for key, held in self.sums.items()}


def _mean(held: Sum, picture: int, layers: Layers) -> Array:
    """Of one picture's maps, (t, height, width)."""
    mean = (held.total[picture] / held.weight).cpu().numpy()
    return np.ascontiguousarray(mean.T).reshape(-1, layers.height, layers.width)
