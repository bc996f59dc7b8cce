"""The command-line options of every stage."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ctrl.train.feed import workers_for
from ctrl.train.loop import Budget


@dataclass(frozen=True)
class Options:
    """Where a stage works, on what, and for how long."""

    runs: Path = Path("runs")
    size: int = 256  # of the pool's pictures, in pixels
    count: int = 16000
    batch: int = 32
    device: str = "cpu"
    budget: Budget = field(default_factory=lambda: Budget(minutes=1.0))
    seed: int = 0
    start: Path | None = None  # a weights folder to go on from; None is from nothing
    rate: float = 1.0  # times the stage's own learning rate
    kind: str | None = None  # of control; None is every kind
    workers: int = 0  # processes that prepare batches; 0 is in this one

    @property
    def pool(self) -> Path:
        """The folder of rendered pictures of this size."""
        return self.runs / f"pool{self.size}"

    @property
    def latents(self) -> Path:
        """The file of the latents of those pictures."""
        return self.runs / f"latents{self.size}.npy"


def parse(description: str | None, *, minutes: float, batch: int, kinds: tuple[str, ...] = ()) -> Options:
    """Read a stage's command line; `minutes` and `batch` are its own defaults, `kinds` what `--kind` may choose."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="checkpoints, samples and weights go here")
    parser.add_argument("--size", type=int, default=256, help="of the pool's pictures, in pixels")
    parser.add_argument("--count", type=int, default=16000, help="how many pictures the pool holds")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=minutes, help="training time of this stage, kills not counted")
    parser.add_argument("--steps", type=int, help="train so many steps instead")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--workers", type=int, help="processes that prepare data: 0 for a CPU, up to 12 for a GPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--weights",
        dest="start",
        metavar="FOLDER",
        type=Path,
        help="go on from the weights in this folder, not from nothing",
    )
    parser.add_argument("--rate", type=float, default=1.0, help="times the stage's own learning rate")
    if kinds:
        parser.add_argument("--kind", choices=kinds, help="one kind instead of all in turn")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    budget = Budget(minutes=chosen.minutes) if chosen.steps is None else Budget(steps=chosen.steps)
    return Options(
        runs=chosen.runs,
        size=chosen.size,
        count=chosen.count,
        batch=chosen.batch,
        device=chosen.device,
        budget=budget,
        seed=chosen.seed,
        start=chosen.start,
        rate=chosen.rate,
        kind=chosen.kind if kinds else None,
        workers=workers_for(chosen.device) if chosen.workers is None else chosen.workers,
    )
