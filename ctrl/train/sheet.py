"""Sample sheets: what a stage has learnt so far, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def save_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """Write batches (n, 3, h, w) in [-1, 1] under one another."""
    stacked = torch.stack([row.clamp(-1, 1).add(1).mul(127.5).round().byte().cpu() for row in rows])
    r, n, _, h, w = stacked.shape
    Image.fromarray(stacked.permute(0, 3, 1, 4, 2).reshape(r * h, n * w, 3).numpy()).save(path)
