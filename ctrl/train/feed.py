"""Data ahead: worker processes draw, word and paint the batches of steps to come while the device learns.

What a step draws depends on the step's number alone, so neither workers nor kills change a bit of it. Workers are
forked: they have at once whatever the stage has read, and they never touch the device.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ctrl.train.team import Team

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Batch:
    """What one step learns from: a frozen dataclass of tensors, or of dataclasses of them, made on the CPU."""

    def to(self, device: torch.device) -> Self:
        """The same on a device; from pinned memory the copies are not waited for."""
        return each(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same in memory a GPU copies from by itself; DataLoader asks for it."""
        return each(self, Tensor.pin_memory)


B = TypeVar("B", bound=Batch)
D = TypeVar("D", bound="DataclassInstance")
Draw = Callable[[torch.Generator], B]  # everything random from the generator, everything else from disk and memory


def each(value: D, change: Callable[[Tensor], Tensor]) -> D:
    """A dataclass of tensors, or of dataclasses of them, with every tensor changed."""
    return replace(value, **{field.name: _changed(getattr(value, field.name), change) for field in fields(value)})


def _changed(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return change(part) if isinstance(part, Tensor) else each(part, change)


def workers_for(device: str) -> int:
    """How many workers serve a device: none the CPU, which they would compete for."""
    if not device.startswith("cuda") or not hasattr(os, "fork"):
        return 0
    return max(1, min(12, (os.cpu_count() or 1) - 2))


@dataclass(frozen=True)
class Steps(Dataset[B], Generic[B]):
    """The batch of every step, by its number; each member of a team has its own."""

    draw: Draw[B]
    seed: int
    team: Team

    def __getitem__(self, step: int) -> B:
        """Draw the batch of a step."""
        own = step * self.team.size + self.team.rank
        return self.draw(torch.Generator().manual_seed((self.seed << 20) + own))  # it hears the low 32 bits alone


def feed(steps: Steps[B], first: int, device: torch.device, workers: int) -> Generator[B]:
    """The batches of step `first` and all that follow, on the device, without end; close it to end the workers.

    With no workers each is drawn when it is asked for. What workers have ready is in /dev/shm, two batches each.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a forked tokenizer has no threads to share work with
    loader: DataLoader[B] = DataLoader(
        steps,
        batch_size=None,
        sampler=itertools.count(first),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_alone,
        generator=torch.Generator(),  # or it would draw from the global one
    )
    batches: Any = iter(loader)
    try:
        for batch in batches:
            yield batch.to(device)
    finally:
        if workers:
            batches._shutdown_workers()  # they would live as long as an exception's traceback


def _alone(_: int) -> None:
    cv2.setNumThreads(0)  # a forked pool of threads has none: waiting for it would be for ever
