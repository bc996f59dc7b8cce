"""Self-attention between places, on a grid of at most 512 places: no larger matrix is ever made.

p are the places of a layer, g those of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from ctrl.attention import Call, Site, Term
from ctrl.maps.shares import mean_shares, take

PLACES = 512


@dataclass
class Between:
    """A running sum of self-attention (N, g, g), averaged over heads, of the finest layers of at most 512 places.

    A network whose layers are all finer (SDXL at 1024 pixels) is read at its coarsest ones, averaged to such a grid.
    """

    total: Tensor | None = None
    count: int = 0
    grid: tuple[int, int] = (0, 0)
    coarsest: int = 0
    places: dict[str, int] = field(default_factory=dict)  # of each site's calls

    def counts(self, site: Site) -> bool:
        """Whether a site may be of the layers that count: those of another size need not be read again."""
        return site.name not in self.places or self._counts(site.name)

    def add(self, call: Call, term: Term, rows: Sequence[int]) -> None:
        """Add one call, if it is of the layers that count."""
        size, places = (call.height, call.width), call.height * call.width
        self.coarsest, self.places[call.site] = min(self.coarsest or places, places), places
        if not self._counts(call.site):
            return
        if places <= PLACES:
            self._add(size, mean_shares(term, rows)[..., :places])  # without places of another picture
        else:
            times = _times(*size)
            self._add((-(-size[0] // times), -(-size[1] // times)), _pooled(term, rows, size, times))

    def _counts(self, site: str) -> bool:
        places = self.places[site]
        if places <= PLACES:
            return places >= self.grid[0] * self.grid[1]
        return self.coarsest == places and ".up_blocks." in site

    def _add(self, grid: tuple[int, int], maps: Tensor) -> None:
        if grid != self.grid:
            self.total, self.count, self.grid = None, 0, grid
        self.total = maps.clone() if self.total is None else self.total.add_(maps)
        self.count += 1

    @property
    def bytes(self) -> int:
        """What it holds."""
        return 0 if self.total is None else self.total.nbytes


def _times(height: int, width: int) -> int:
    """By how much each side shrinks to leave at most 512 places."""
    times = 1
    while -(-height // times) * -(-width // times) > PLACES:
        times += 1
    return times


def _pooled(term: Term, rows: Sequence[int], size: tuple[int, int], times: int) -> Tensor:
    """(n, g, g): how much of its attention each cell gives to each cell, without a matrix of p × p.

    SDPA(q, k, M) is the attention times M; with M (p, g), which cell each place is in, it is summed over cells.
    """
    height, width = size
    rows_of = torch.arange(height, device=term.q.device) // times
    columns_of = torch.arange(width, device=term.q.device) // times
    across = -(-width // times)
    cell = rearrange(rows_of * across, "h -> h 1") + columns_of
    member = F.one_hot(cell.flatten()).to(term.q.dtype)  # (p, g)
    q, k = take(term.q, rows), take(term.k, rows)
    member = F.pad(member, (0, 0, 0, k.shape[2] - len(member)))  # places of another picture are in no cell
    to = F.scaled_dot_product_attention(q, k, member.expand(*k.shape[:2], *member.shape))  # (n, heads, p, g)
    mean = reduce(to.float(), "n heads p g -> n p g", "mean")
    return (member[: mean.shape[1]].float().T @ mean) / member.float().sum(0)[:, None]
