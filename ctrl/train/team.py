"""Several processes that train one model: `torchrun --nproc-per-node 2 -m ctrl.train.denoiser ...`.

Each draws its own part of the batch, gradients are averaged, and the first process alone writes. On two CPU cores two
processes of one thread do nearly twice the work; two threads of one process do less than one.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Team:
    """Which of how many processes this one is; alone, everything here does nothing."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def join() -> Team:
        """The team torchrun started this process in, or a team of one."""
        if "WORLD_SIZE" not in os.environ:
            return Team()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(dist.destroy_process_group)  # its threads abort a process that ends with them running
        return Team(dist.get_rank(), dist.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The first process's value."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the team."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
