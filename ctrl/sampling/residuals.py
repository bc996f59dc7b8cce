"""Controls are residuals: Σ weight(t) · block · mask · branch · residual over the ControlNets that act at a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.conditioning import ControlInput
from ctrl.guidance import Layout

if TYPE_CHECKING:
    from ctrl.model import Model, Residuals
    from ctrl.sampling.run import Run


@dataclass(frozen=True, eq=False)
class ControlRun:
    """One control in one run. Its picture is embedded once for each number of rows and kept, as its masks are."""

    model: Model
    given: ControlInput
    embedded: dict[int, Tensor] = field(default_factory=dict)
    masks: dict[torch.Size, Tensor] = field(default_factory=dict)
    branches: dict[Layout, Tensor] = field(default_factory=dict)

    def act(self, weight: float, layout: Layout, sample: Tensor, t: Tensor, run: Run) -> Residuals:
        """What it adds to the rows of `layout` when it acts with this weight.

        Where it leaves the prediction without the prompt alone, its ControlNet is shown the prompted rows only. A
        perturbed row is given what the prompted row of its picture is given.
        """
        how, n = self.given.how, layout.pictures
        free, _ = how.multipliers
        spared = layout.guided and free == 0
        asked = Layout(pictures=n, guided=layout.guided and not spared)
        first = n if spared else 0
        found = self.model.residuals(
            how.kind,
            sample[first : first + asked.rows],
            t,
            run.told(asked),
            self._hint(asked.rows),
            edits=run.edits(asked),
            texts=run.texts,
        )
        weights = self._weights(weight, len(found.down) + 1, sample.device)
        parts = [
            self._spread(self._weighed(part, one, asked), layout, spared=spared)
            for part, one in zip((*found.down, found.mid), weights, strict=True)
        ]
        return type(found)(tuple(parts[:-1]), parts[-1])

    def _hint(self, rows: int) -> Tensor:
        if rows not in self.embedded:
            hint = torch.cat([self.given.hint] * (rows // len(self.given.hint)))
            self.embedded[rows] = self.model.embed_hint(self.given.how.kind, hint)
        return self.embedded[rows]

    def _weights(self, weight: float, count: int, device: torch.device) -> Sequence[float | Tensor]:
        """The weight of each residual, the middle's last; softened as diffusers' guess mode does it."""
        weights: Sequence[float | Tensor] = [weight] * count
        if self.given.how.soft:
            weights = list(torch.logspace(-1, 0, count, device=device) * weight)  # 0.1 to 1.0
        if self.given.how.blocks is not None:
            weights = [one * block for one, block in zip(weights, self.given.how.blocks, strict=True)]
        return weights

    def _weighed(self, residual: Tensor, weight: float | Tensor, asked: Layout) -> Tensor:
        residual = residual * weight
        if self.given.mask is not None:
            residual = residual * self._mask(self.given.mask, residual.shape)
        if asked.guided and self.given.how.multipliers[0] != 1:
            residual = residual * self._branch(residual, asked)
        return residual

    def _mask(self, mask: Tensor, shape: torch.Size) -> Tensor:
        """(R, 1, h, w) for residuals (R, C, h, w)."""
        if shape not in self.masks:
            fitted = F.interpolate(mask, size=shape[-2:], mode="area")
            self.masks[shape] = torch.cat([fitted] * (shape[0] // len(fitted))).to(self.model.dtype)
        return self.masks[shape]

    def _branch(self, residual: Tensor, asked: Layout) -> Tensor:
        """(R, 1, 1, 1): what multiplies the rows with and without the prompt."""
        if asked not in self.branches:
            free, full = self.given.how.multipliers
            rows = [free] * asked.pictures + [full] * asked.pictures
            self.branches[asked] = residual.new_tensor(rows)[:, None, None, None]
        return self.branches[asked]

    def _spread(self, residual: Tensor, layout: Layout, *, spared: bool) -> Tensor:
        """Over all rows of the layout, of those the ControlNet was asked for."""
        cond = residual[-layout.pictures :] if layout.perturbed else residual
        if spared:
            residual = torch.cat([torch.zeros_like(residual), residual])
        return torch.cat([residual, *[cond] * layout.perturbed]) if layout.perturbed else residual


def total(found: Sequence[Residuals]) -> Residuals | None:
    """The sum, in order; None of nothing."""
    if not found:
        return None
    first, *rest = found
    down, mid = first.down, first.mid
    for other in rest:
        down = tuple(one + more for one, more in zip(down, other.down, strict=True))
        mid = mid + other.mid
    return type(first)(down, mid)
