"""Running sums of maps, in float32: what is held does not grow with the number of steps.

N are the pictures made at once, p the places of a layer (height · width), t the tokens kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

When = Literal["all", "last"]
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
    """What a sum is of: the layers, the source ("prompt", "negative", "region 0", "style 1"), and the steps."""

    layers: Layers
    source: str
    when: When


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
    """Sums by what they are of. A step is added once: what is kept as "last" is not in "all" until `means`."""

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
        """For one picture, the mean of each sum, (t, height, width) on the CPU, and its weight: how many maps it is of.

        "all" is of every step, the last ones included.
        """
        found: dict[Key, tuple[Array, float]] = {}
        for whole in dict.fromkeys(key._replace(when="all") for key in self.sums):
            late = whole._replace(when="last")
            parts = [self.sums[key] for key in (whole, late) if key in self.sums]
            found[whole] = _mean(parts, picture, whole.layers)
            if late in self.sums:
                found[late] = _mean([self.sums[late]], picture, whole.layers)
        return found


def _mean(parts: Sequence[Sum], picture: int, layers: Layers) -> tuple[Array, float]:
    """Of one picture's maps, (t, height, width), and their weight."""
    weight = sum(part.weight for part in parts)
    mean = (torch.stack([part.total[picture] for part in parts]).sum(0) / weight).cpu().numpy()
    return np.ascontiguousarray(mean.T).reshape(-1, layers.height, layers.width), weight
