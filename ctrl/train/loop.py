"""The one training loop every stage runs: a budget, a moving average, a checkpoint that survives any kill.

A stage gives its modules, its optimiser, a function that draws a step's batch (`feed`) and one that makes a loss of
it. What a step draws depends on the step's number alone, so a run that was killed and resumed ends bit-equal to one
that was not.
"""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ctrl.train.feed import B, Draw, Steps, feed
from ctrl.train.team import Team

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Budget:
    """How long a stage trains: so many steps, or so many minutes of its own time, kept across kills."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("a Budget takes either steps or minutes, and not both")

    def progress(self, step: int, seconds: float) -> float:
        """How much of it is spent, from 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        assert self.minutes is not None
        return min(1.0, seconds / max(1e-9, 60 * self.minutes))


class Average(Generic[M]):
    """An exponential moving average of a module's parameters and buffers, short at first and longer later."""

    def __init__(self, module: M, decay: float = 0.999) -> None:
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's present values."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_([*self.module.parameters()], [*module.parameters()], 1 - decay)
        if buffers := [*self.module.buffers()]:
            torch._foreach_copy_(buffers, [*module.buffers()])

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        return {"steps": self._steps, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take up where a checkpoint left off."""
        self._steps = state["steps"]  # type: ignore[assignment]  # a dictionary of several types
        self.module.load_state_dict(state["module"])  # type: ignore[arg-type]  # the same


def train(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    draw: Draw[B],
    loss: Callable[[B], Tensor],
    budget: Budget,
    *,
    seed: int = 0,
    workers: int = 0,
    average: Average[Any] | None = None,
    show: Callable[[Path, int], None] | None = None,
    warmup: int = 100,
    clip: float = 1.0,
    save_seconds: float = 60.0,
    show_seconds: float = 240.0,
) -> int:
    """Train until the budget is spent; returns the step reached.

    `draw(generator)` makes a step's batch on the CPU, in `workers` processes ahead of time; `loss(batch)` is taken on
    the module's device. `folder` gets checkpoint.pt (replaced whole, never half), loss.csv and what
    `show(folder, step)` draws. The learning rate of each parameter group warms up linearly, then follows a cosine down
    to a twentieth.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    step, spent = _resume(folder, module, optimizer, average)
    saved = shown = time.monotonic()
    began, device = saved - spent, _device(module)
    team = Team.join()
    team.agree(0.0)  # everyone has read the checkpoint
    bar = tqdm(desc=folder.name, initial=step, total=budget.steps, unit="step", mininterval=5, disable=not team.leads)
    curve: list[tuple[int, float, float]] = []
    recent = None
    with closing(feed(Steps(draw, seed, team), step, device, workers)) as batches:
        while (progress := team.agree(budget.progress(step, time.monotonic() - began))) < 1:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, (step + 1) / warmup) * _fall(progress)
            value = loss(next(batches))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            team.average([p.grad for p in trained if p.grad is not None])
            nn.utils.clip_grad_norm_(trained, clip)
            optimizer.step()
            if average:
                average.update(module)
            step += 1
            bar.update()
            recent = value.detach() if recent is None else recent.lerp(value.detach(), 0.02)
            if step % 50 == 0:  # the only time a step waits for the device
                curve.append((step, round(time.monotonic() - began, 1), float(recent)))
                bar.set_postfix(loss=f"{curve[-1][2]:.4f}")
                if not math.isfinite(curve[-1][2]):
                    raise FloatingPointError(f"{folder.name}: the loss is no longer finite at step {step}")
            if team.leads and time.monotonic() - saved > save_seconds:
                _save(folder, module, optimizer, average, step, time.monotonic() - began, curve)
                saved, curve = time.monotonic(), []
            if show and team.leads and time.monotonic() - shown > show_seconds:
                show(folder, step)
                shown = time.monotonic()
    bar.close()
    if team.leads:
        _save(folder, module, optimizer, average, step, time.monotonic() - began, curve)
    if show and team.leads:
        show(folder, step)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return step


def _fall(progress: float) -> float:
    """The cosine by which the learning rate falls, from 1 to a twentieth."""
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


@contextmanager
def bf16(device: torch.device) -> Iterator[None]:
    """Mixed precision for the forward pass, on a GPU and on a CPU that computes in bfloat16.

    A CPU that does not, such as one with AVX2 alone, keeps float32: convolutions would take tens of times as long.
    On the CPU attention is plain matrix products: going backward through the flash kernel takes twice as long there.
    """
    kernels = (
        [SDPBackend.MATH]
        if device.type == "cpu"
        else [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16(device)), sdpa_kernel(kernels):
        yield


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has kernels for bfloat16."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def parameters(*modules: nn.Module) -> Iterable[nn.Parameter]:
    """Every parameter that is being trained."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _resume(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average[Any] | None
) -> tuple[int, float]:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location=_device(module), weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    if average:
        average.load_state_dict(state["average"])
    return int(state["step"]), float(state["seconds"])


def _save(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average[Any] | None,
    step: int,
    seconds: float,
    curve: list[tuple[int, float, float]],
) -> None:
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    if average:
        state["average"] = average.state_dict()
    partial = folder / "checkpoint.part"
    torch.save(state, partial)
    partial.replace(folder / "checkpoint.pt")
    with (folder / "loss.csv").open("a", newline="") as file:
        csv.writer(file).writerows(curve)
