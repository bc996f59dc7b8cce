"""Edits of self-attention in some rows of the batch: the perturbed networks of PAG and SEG.

They belong at self-attention, `At(edit, where=blocks, kind="self")`. Rows they do not name stay bit-equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention.terms import Call, Edit, Term
from ctrl.recipe import PAG, SEG

MAX_SIGMA = 9999.9  # a blur beyond this is the mean, as in the code of SEG's authors


@dataclass(frozen=True, eq=False)
class IdentityAttention:
    """The perturbation of PAG (arXiv 2403.17377): each place attends to itself alone."""

    rows: tuple[int, ...]

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the attention map of the rows made the identity."""
        return [replace(term, identity=(*term.identity, *self.rows)) for term in terms]


@dataclass(frozen=True, eq=False)
class BlurredQueries:
    """The perturbation of SEG (arXiv 2408.00760): queries blurred by a Gaussian over the picture.

    `sigma` is in places of the layer; beyond 9999.9, as at infinity, every query is the mean of all.
    """

    rows: tuple[int, ...]
    sigma: float = math.inf

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma must be a number above 0, or infinity for the mean, got {self.sigma!r}.")

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the queries of the rows blurred."""
        return [replace(term, q=self._blurred(term.q, call)) for term in terms]

    def _blurred(self, q: Tensor, call: Call) -> Tensor:
        some = torch.stack([q[row] for row in self.rows]).float()  # (n, heads, height·width, d)
        if self.sigma > MAX_SIGMA:
            some = some.mean(2, keepdim=True).expand_as(some)
        else:
            image = some.transpose(2, 3).reshape(-1, 1, call.height, call.width)
            image = _smooth(_smooth(image, self.sigma).transpose(2, 3), self.sigma).transpose(2, 3)
            some = image.reshape(some.transpose(2, 3).shape).transpose(2, 3)
        q = q.clone()
        for row, blurred in zip(self.rows, some, strict=True):
            q[row] = blurred
        return q


def _smooth(image: Tensor, sigma: float) -> Tensor:
    """(n, 1, H, W) blurred along W, reflected at the edges: ⌈6σ⌉ taps made odd, but none past the far edge."""
    side = image.shape[-1]
    taps = min(math.ceil(6 * sigma) // 2 * 2 + 1, side + 1 - side % 2)
    half = taps // 2
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1, device=image.device) / sigma) ** 2)
    padded = F.pad(image, (half, half, 0, 0), mode="reflect")
    return F.conv2d(padded, (kernel / kernel.sum()).view(1, 1, 1, -1))


def perturbation(term: PAG | SEG, rows: tuple[int, ...]) -> Edit:
    """The edit that a guidance term asks for, in these rows."""
    match term:
        case PAG():
            return IdentityAttention(rows)
        case SEG(sigma=sigma):
            return BlurredQueries(rows, sigma or math.inf)
