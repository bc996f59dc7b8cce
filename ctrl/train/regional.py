"""Props named by a region and not by the caption, so that the U-Net learns to draw what a `Region` asks for.

The caption leaves the prop out; the region has its words and its place: its half of the picture, or a loose box around
it. The U-Net is trained inside the edit that runs use, `attention.edits.Regions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctrl.atelier.captions import thing
from ctrl.atelier.scene import SIDES, Scene
from ctrl.atelier.solids import PARTS
from ctrl.attention.edits import Regions, RegionTerm
from ctrl.train.feed import Batch
from ctrl.train.grounding import FINEST

SHARE = 0.25  # of the pictures that show a prop
LOOSE = 3  # cells: how much further than the prop a box may reach on each side


@dataclass(frozen=True)
class Regional(Batch):
    """The words of a batch's regions, (B, L), and where they act, (B, 1, 16, 16); no place is no region."""

    ids: Tensor
    mask: Tensor

    def edit(self, states: Tensor) -> Regions:
        """The edit that gives the regions their words, encoded as `states` (B, L, D)."""
        return Regions(tuple(range(len(states))), (RegionTerm(states, self.mask),))


@dataclass(frozen=True)
class Apart:
    """A scene without the prop that a region names, and the region's words and place (16, 16), if there is one."""

    scene: Scene
    words: str = ""
    mask: Tensor | None = None


def take_apart(scenes: Sequence[Scene], filled: Tensor, generator: torch.Generator) -> list[Apart]:
    """Name a prop of some scenes by a region; `filled` (B, parts, 16, 16) is how much of each cell each part fills."""
    chosen = (torch.rand(len(scenes), generator=generator) < SHARE).tolist()
    pairs = zip(scenes, filled, chosen, strict=True)
    return [_apart(scene, cells, generator) if take and scene.props else Apart(scene) for scene, cells, take in pairs]


def places(scenes: Sequence[Apart]) -> Tensor:
    """The masks of a batch, (B, 1, 16, 16)."""
    nowhere = torch.zeros(FINEST, FINEST)
    return torch.stack([nowhere if one.mask is None else one.mask for one in scenes])[:, None]


def _apart(scene: Scene, cells: Tensor, generator: torch.Generator) -> Apart:
    number, half, plain = (int(torch.randint(n, (), generator=generator)) for n in (len(scene.props), 2, 2))
    prop = scene.props[number]
    there = cells[PARTS.index(f"{prop.side} prop")] > 0
    if not there.any():
        return Apart(scene)
    rest = replace(scene, props=tuple(other for other in scene.props if other is not prop))
    mask = _half(prop.side) if half else _box(there, generator)
    return Apart(rest, thing(prop.kind, prop.color if plain or scene.shows_color else None), mask)


def _half(side: str) -> Tensor:
    half = torch.zeros(FINEST, FINEST)
    half[:, FINEST // 2 * SIDES.index(side) :][:, : FINEST // 2] = 1
    return half


def _box(there: Tensor, generator: torch.Generator) -> Tensor:
    rows, columns = (there.any(axis).nonzero()[:, 0] for axis in (1, 0))
    reach = torch.randint(LOOSE + 1, (4,), generator=generator).tolist()
    box = torch.zeros(FINEST, FINEST)
    top, left = max(0, int(rows[0]) - reach[0]), max(0, int(columns[0]) - reach[1])
    box[top : int(rows[-1]) + 1 + reach[2], left : int(columns[-1]) + 1 + reach[3]] = 1
    return box
