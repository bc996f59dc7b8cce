"""Controls are residuals: Σ weight(t) · block · mask · branch · residual over the controls that act at a step.

A ControlNet's residuals are computed at each step, a T2I-Adapter's once for its picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention import At, Observer
from ctrl.conditioning import ControlInput
from ctrl.memory import Keep, Memory
from ctrl.recipe import Control, as_number, words_of
from ctrl.rows import Residuals, Rows
from ctrl.sampling.prompt import PromptRun
from ctrl.sampling.word_masks import StepWords

if TYPE_CHECKING:
    from ctrl.model import ControlNet, T2IAdapter


@dataclass(frozen=True, eq=False)
class ControlRun:
    """One control at one step: `now` has its weights as numbers (`Recipe.at`), `given` its pictures as tensors."""

    now: Control
    net: ControlNet | T2IAdapter
    given: ControlInput
    memory: Memory

    def residuals(
        self,
        rows: Rows,
        sample: Tensor,
        t: Tensor,
        prompt: PromptRun,
        observers: Sequence[Observer | At[Observer]],
        step: int,
        words: StepWords,
        keep: Keep | None = None,
    ) -> Residuals:
        """The weighted residuals for all rows of the U-Net's batch.

        `keep` is a memory for this sample and its prompts: without weights, the same residuals are computed once.
        """
        control_rows = self._control_rows(rows)

        def evaluate() -> Residuals:
            return self._unweighted(control_rows, rows, sample, t, prompt, observers, step, words)

        key = ("residuals", self.given.number, control_rows)
        residuals = evaluate() if keep is None else keep(key, evaluate)
        return self._over_all_rows(self._weighed(residuals, control_rows, words), control_rows, rows)

    def _control_rows(self, rows: Rows) -> Rows:
        """The rows its network runs on: if it does not act on the unconditional branch, the conditional ones only.

        A perturbed row reuses the residuals of its conditional row.
        """
        unconditional = self.now.branch_weights[0] != 0 and not self.net.pools
        return Rows(pictures=rows.pictures, guided=rows.guided and unconditional)

    def _unweighted(
        self,
        control_rows: Rows,
        rows: Rows,
        sample: Tensor,
        t: Tensor,
        prompt: PromptRun,
        observers: Sequence[Observer | At[Observer]],
        step: int,
        words: StepWords,
    ) -> Residuals:
        if self.given.inside is not None:
            return self._repeated(self.given.inside, control_rows)
        first = rows.pictures if rows.guided and not control_rows.guided else 0
        net = cast("ControlNet", self.net)
        return net.residuals(
            sample[first : first + len(control_rows)],
            t,
            prompt.rows(control_rows),
            self._embedded(control_rows),
            prompt.hooks(control_rows, self.given.revision, observers=observers, step=step, words=words),
        )

    def _embedded(self, control_rows: Rows) -> Tensor:
        """The hints of all rows, embedded by the ControlNet's first layers."""
        hint, key = self.given.hint, ("embedded hint", self.given.number, len(control_rows))
        net = cast("ControlNet", self.net)
        return self.memory(key, lambda: net.embed(torch.cat([hint] * (len(control_rows) // len(hint)))))

    def _repeated(self, inside: Residuals, control_rows: Rows) -> Residuals:
        """A T2I-Adapter's residuals of the pictures for all rows."""
        key, times = ("inside", self.given.number, len(control_rows)), len(control_rows) // len(inside[0])
        return self.memory(key, lambda: tuple(torch.cat([residual] * times) for residual in inside))

    def _weighed(self, residuals: Residuals, control_rows: Rows, words: StepWords) -> Residuals:
        """The residuals times weight and blocks, pooled where the network pools, times mask and branch weights."""
        uncond, asked = self.now.branch_weights[0], words_of(self.now.mask)
        made = None if asked is None else words.mask(asked)
        weighed = []
        for residual, weight in zip(residuals, self._weights(len(residuals), residuals[0].device), strict=True):
            residual = residual * weight
            if self.net.pools:
                residual = residual.mean((2, 3), keepdim=True).expand_as(residual)
            if self.given.mask is not None:
                residual = residual * self._mask(self.given.mask, residual)
            if made is not None:
                residual = residual * _fitted(made, residual)
            if control_rows.guided and uncond != 1:
                residual = residual * self._branch_weights(uncond, control_rows, residual)
            weighed.append(residual)
        return tuple(weighed)

    def _weights(self, count: int, device: torch.device) -> Sequence[float | Tensor]:
        """The weight of each residual, the deepest's last."""
        weight = as_number(self.now.weight)
        weights: Sequence[float | Tensor] = [weight] * count
        if self.now.shallow_weaker:
            weights = list(torch.logspace(-1, 0, count, device=device) * weight)  # 0.1 to 1, diffusers' guess mode
        if self.now.blocks is not None:
            weights = [weight * block for weight, block in zip(weights, self.now.blocks, strict=True)]
        return weights

    def _mask(self, mask: Tensor, residual: Tensor) -> Tensor:
        """(R, 1, h, w) for residuals (R, C, h, w)."""
        rows, _, *size = residual.shape
        key = ("control mask", self.given.number, rows, tuple(size))
        return self.memory(key, lambda: _fitted(mask, residual))

    def _branch_weights(self, uncond: float, control_rows: Rows, residual: Tensor) -> Tensor:
        """(R, 1, 1, 1): `uncond` for the rows of uncond, 1 for the others."""
        rows = [uncond] * control_rows.pictures + [1.0] * control_rows.pictures
        key = ("branch weights", uncond, control_rows, residual.dtype, str(residual.device))
        return self.memory(key, lambda: residual.new_tensor(rows)[:, None, None, None])

    def _over_all_rows(self, residuals: Residuals, control_rows: Rows, rows: Rows) -> Residuals:
        if control_rows == rows:
            return residuals
        return tuple(_spread(residual, control_rows, rows) for residual in residuals)


def _fitted(mask: Tensor, residual: Tensor) -> Tensor:
    """A mask (N, 1, H, W) for residuals (R, C, h, w)."""
    rows, _, *size = residual.shape
    shrunk = F.interpolate(mask.to(residual.device), size=size, mode="area")
    return torch.cat([shrunk] * (rows // len(shrunk))).to(residual.dtype)


def _spread(residual: Tensor, control_rows: Rows, rows: Rows) -> Tensor:
    """Residuals of a control's rows over all rows: zeros for uncond if not among them, cond's for perturbed."""
    cond = residual[-rows.pictures :]
    if rows.guided and not control_rows.guided:
        residual = torch.cat([torch.zeros_like(residual), residual])
    return torch.cat([residual, *[cond] * rows.perturbed]) if rows.perturbed else residual
