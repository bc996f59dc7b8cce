"""How the predictions of a step's branches become one."""

from __future__ import annotations

from torch import Tensor


def rows(guidance: float) -> int:
    """Rows of a picture in the U-Net's batch: 2 with guidance, 1 when it is off (at 1 or below)."""
    return 2 if guidance > 1.0 else 1


def cfg(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598), all (N, C, h, w), in diffusers' order of operations."""
    return uncond + guidance * (cond - uncond)
