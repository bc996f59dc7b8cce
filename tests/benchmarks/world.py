"""How fast the world is drawn: `python tests/benchmarks/world.py [--device cuda] [--batch 256]`.

Pictures a second, scenes drawn by lot and pictures brought to the CPU included; and what a picture takes in kernels
(aten operations that are no views) and in bytes that they read and write, which together bound what any machine can do.
Nothing here asserts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ctrl.atelier import world
from ctrl.atelier.scene import EVALUATION_SEEDS, sample

FIRST_SEED = EVALUATION_SEEDS + 10_000


class Traffic(TorchDispatchMode):
    """Kernels launched and bytes read or written. What is broadcast counts once, what shares memory is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.kernels += 1
            self.bytes += sum(_extent(leaf) for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor))
        return made


def _extent(tensor: Tensor) -> int:
    cells = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        cells *= length if stride else 1
    return cells


@dataclass(frozen=True)
class Draw:
    """A batch of pictures to be drawn."""

    batch: int
    size: int
    device: str

    def __call__(self) -> None:
        """Draw it and bring it to the CPU."""
        scenes = [sample(FIRST_SEED + i) for i in range(self.batch)]
        world.look(scenes, self.size, self.device).picture.mul(255).round().byte().cpu()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, help="2 on the CPU, where it stays in cache; 256 elsewhere")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw = Draw(options.batch or (2 if options.device == "cpu" else 256), options.size, options.device)
    draw()
    seconds = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        draw()
        seconds.append(time.perf_counter() - start)
    with Traffic() as traffic:
        draw()
    print(f"{draw.batch / statistics.median(seconds):.1f} pictures/s of {draw.size} px on {draw.device}, one process")
    print(f"{traffic.kernels / draw.batch:.1f} kernels and {traffic.bytes / draw.batch / 1e6:.0f} MB a picture")


if __name__ == "__main__":
    main()
