"""The rows of a batch: the branch of each row, and tensors with one entry for each row.

R is the number of rows of a batch, N the number of pictures made at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Branch = Literal["uncond", "cond", "perturbed"]
# What a control adds to a U-Net, each (R, C_i, h_i, w_i), shallowest first: a ControlNet to the skip connections and
# then to the middle, a T2I-Adapter inside the down blocks.
Residuals: TypeAlias = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Branches:
    """The predictions of one step, each (N, C, h, w); `uncond` is None if guidance is off."""

    cond: Tensor
    uncond: Tensor | None = None
    perturbed: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a batch: blocks of `pictures` rows in diffusers' order, uncond, cond, perturbed.

    It is a value, so that it can be part of a cache key.
    """

    pictures: int
    guided: bool
    perturbed: int = 0

    def __len__(self) -> int:
        return self.pictures * len(self.branches)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branch of each block of rows: "uncond" if guided, "cond", then "perturbed" for each of those."""
        uncond: list[Branch] = ["uncond"] * self.guided
        perturbed: list[Branch] = ["perturbed"] * self.perturbed
        return (*uncond, "cond", *perturbed)

    @property
    def uncond(self) -> tuple[int, ...]:
        """The rows of the negative prompt; none if guidance is off."""
        return tuple(range(self.pictures if self.guided else 0))

    @property
    def prompted(self) -> tuple[int, ...]:
        """The rows that read the prompt: cond and every perturbed branch."""
        return tuple(range(len(self.uncond), len(self)))

    @property
    def cond(self) -> tuple[int, ...]:
        """The rows of the prompt in the unperturbed network."""
        return self.prompted[: self.pictures]

    def branch(self, number: int) -> tuple[int, ...]:
        """The rows of perturbed branch `number`, from 0."""
        start = (number + 1) * self.pictures
        return self.prompted[start : start + self.pictures]

    def stack(self, cond: Tensor, uncond: Tensor) -> Tensor:
        """(R, …) inputs of all rows from (N, …) ones: perturbed rows get what cond gets."""
        return torch.cat([uncond] * self.guided + [cond] * (1 + self.perturbed))

    def split(self, prediction: Tensor) -> Branches:
        """The branches of an (R, C, h, w) prediction."""
        parts = prediction.split(self.pictures)
        first = int(self.guided)
        return Branches(parts[first], parts[0] if self.guided else None, tuple(parts[first + 1 :]))


@dataclass(frozen=True, eq=False)
class PromptRows:
    """Encoded prompts as rows.

    `embeds` is (R, T, D); `pooled` (R, P), None if the model uses none; `weights` (R, T), how strongly each token
    acts, None if every one is 1.
    """

    embeds: Tensor
    pooled: Tensor | None = None
    weights: Tensor | None = None

    @staticmethod
    def stack(rows: Rows, cond: PromptRows, uncond: PromptRows) -> PromptRows:
        """The prompts of all rows, from those of the N rows of cond and of uncond."""

        def both(cond: Tensor | None, uncond: Tensor | None) -> Tensor | None:
            known = cond if cond is not None else uncond
            if known is None:
                return None
            filled = [torch.ones_like(known) if half is None else half for half in (cond, uncond)]
            return rows.stack(*filled)

        weights = both(cond.weights, uncond.weights)
        return PromptRows(rows.stack(cond.embeds, uncond.embeds), both(cond.pooled, uncond.pooled), weights)


def summed(residuals: Sequence[Residuals]) -> Residuals | None:
    """The sum of the residuals of several controls of one sort, in their order; None if there are none."""
    if not residuals:
        return None
    total, *rest = residuals
    for other in rest:
        total = tuple(one + more for one, more in zip(total, other, strict=True))
    return total
