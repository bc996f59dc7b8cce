"""Which pictures of the pool a step learns from, as they are or in the mirror."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ctrl.atelier.scene import SIDES, Scene
from ctrl.atelier.solids import PARTS
from ctrl.train.pool import Pool, scene_of

_PROPS = (PARTS.index("left prop"), PARTS.index("right prop"))
MIRRORED = [sum(_PROPS) - part if part in _PROPS else part for part in range(len(PARTS))]  # PARTS as a mirror has them


@dataclass(frozen=True)
class Rows:
    """Which pictures of the pool a step learns from, and which of them in the mirror."""

    index: list[int]
    mirrored: list[bool]

    def scenes(self) -> list[Scene]:
        """The scenes as seen."""
        return [mirror(scene_of(i)) if flip else scene_of(i) for i, flip in zip(self.index, self.mirrored, strict=True)]


def choose(pool: Pool, count: int, generator: torch.Generator) -> Rows:
    """Random rows of the pool."""
    index = torch.randint(pool.ready, (count,), generator=generator).tolist()
    return Rows(index, (torch.rand(count, generator=generator) < 0.5).tolist())


def choose_near(pool: Pool, count: int, generator: torch.Generator) -> Rows:
    """The same, with half of the scenes from `elsewhere`, which are the odd rows, replaced by the world's own."""
    rows = choose(pool, count, generator)
    again = (torch.rand(count, generator=generator) < 0.5).tolist()
    return replace(rows, index=[row - row % 2 if near else row for row, near in zip(rows.index, again, strict=True)])


def mirror(scene: Scene) -> Scene:
    """The scene as its mirror image shows it, as far as words go."""
    props = tuple(replace(prop, side=SIDES[1 - SIDES.index(prop.side)], x=-prop.x) for prop in scene.props)
    return replace(scene, props=props[::-1], mirrored=not scene.mirrored)
