"""What a picture costs here and in diffusers: `python tests/benchmarks/parity.py [--rounds 9] [--device cuda]`.

Both sides run the same weights in one process, on the tiny model of the tests and on the package's own. Counts are
exact: evaluations of the U-Net and the ControlNet in a run, and what each further step takes in aten operations and in
numbers read back as Python's. Times are ratios of paired runs, which take turns; the last column pairs our side
with itself and says how far a ratio can be believed. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ctrl
from ctrl.model.loading.load import ATELIER

sys.path.insert(0, str(Path(__file__).parents[1]))

from beside import Beside, beside, each_step
from tiny import build

BELIEVED = 0.05  # a ratio of our side to itself that may be further from 1 says that the machine was too busy


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, and the interval that holds it in 95 of 100 resamplings."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(pairs: Sequence[float]) -> Ratio:
        """That of these ratios; the same interval every time."""
        draw = random.Random(0)
        medians = sorted(statistics.median(draw.choices(pairs, k=len(pairs))) for _ in range(2000))
        return Ratio(statistics.median(pairs), medians[50], medians[-51])

    @property
    def steady(self) -> bool:
        """Whether a ratio of like to like may count as 1."""
        return max(1 - self.low, self.high - 1) <= BELIEVED

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Row:
    """One configuration of one model. Pairs are (ours, diffusers')."""

    model: str
    work: str
    unet: tuple[int, int]
    controlnet: tuple[int, int]
    operations: tuple[float, float]
    reads: tuple[float, float]
    equal: bool
    milliseconds: tuple[float, float]
    ratio: Ratio
    control: Ratio

    def __str__(self) -> str:
        pairs = (self.unet, self.controlnet, self.operations, self.reads)
        counts = " | ".join(f"{ours:g} / {theirs:g}" for ours, theirs in pairs)
        times = " / ".join(f"{each:.1f}" for each in self.milliseconds)
        equal = "0" if self.equal else "not 0"
        verdict = "" if self.control.steady else " inconclusive"
        cells = (self.model, self.work, counts, equal, times, f"{self.ratio}{verdict}", str(self.control))
        return f"| {' | '.join(cells)} |"


HEAD = """\
| model | work | U-Net | ControlNet | aten ops a step | reads a step | difference | ms a step | ours : diffusers | \
ours : ours |
|---|---|---|---|---|---|---|---|---|---|"""


def works(model: ctrl.Model, steps: int) -> dict[str, ctrl.Recipe]:
    """The configurations that are measured."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    pose = ctrl.Pose(ctrl.Picture.of(ctrl.Skeleton.named("waving").draw(*model.size)), 0.8)
    style = ctrl.Style(pixels, 0.6)
    plain = ctrl.Recipe("a red ball", negative="blue", steps=steps, seed=7)
    return {
        "plain": plain,
        "without guidance": plain.replace(guidance=1.0),
        "ControlNet": plain.replace(controls=[pose]),
        "IP-Adapter": plain.replace(styles=[style]),
        "both": plain.replace(controls=[pose], styles=[style]),
    }


@dataclass(frozen=True)
class Bench:
    """Both sides of one model, and how they are timed."""

    name: str
    sides: Beside
    rounds: int
    clock: Callable[[], float]

    def row(self, work: str, recipe: ctrl.Recipe) -> Row:
        """What this recipe takes on both sides."""
        sides = self.sides
        ours, theirs = sides.ours, sides.theirs
        net = sides.both.controlnet
        steps = [each_step(lambda steps, run=run: run(recipe.replace(steps=steps))) for run in (ours, theirs)]
        times, their_times, again = self._times(recipe)
        return Row(
            self.name,
            work,
            (calls(ours, recipe, sides.model.unet), calls(theirs, recipe, sides.pipe(recipe).unet)),
            (calls(ours, recipe, net), calls(theirs, recipe, net)),
            (steps[0].total(), steps[1].total()),
            (steps[0]["_local_scalar_dense"], steps[1]["_local_scalar_dense"]),
            torch.equal(ours(recipe), theirs(recipe)),
            (1000 * statistics.median(times), 1000 * statistics.median(their_times)),
            Ratio.of([one / other for one, other in zip(times, their_times, strict=True)]),
            Ratio.of([one / other for one, other in zip(again, times, strict=True)]),
        )

    def _times(self, recipe: ctrl.Recipe) -> list[tuple[float, ...]]:
        """Seconds a step of our side, diffusers' and ours again; who begins a round takes turns."""
        order = (self.sides.ours, self.sides.theirs, self.sides.ours)
        found = []
        for number in range(self.rounds):
            taken = {}
            for place in range(3):
                at = (place + number) % 3
                taken[at] = self._seconds(order[at], recipe)
            found.append((taken[0], taken[1], taken[2]))
        return list(zip(*found, strict=True))

    def _seconds(self, run: Callable[..., Any], recipe: ctrl.Recipe) -> float:
        """Seconds of a step, from the end of the first, which prepares, to the end of the last."""
        ends = []

        def on_step(index: int) -> None:
            if index in (0, recipe.steps - 1):
                if self.sides.model.device.type == "cuda":
                    torch.cuda.synchronize()
                ends.append(self.clock())

        run(recipe, on_step)
        return (ends[1] - ends[0]) / (recipe.steps - 1)


def calls(run: Callable[..., Any], recipe: ctrl.Recipe, module: torch.nn.Module) -> int:
    """How often a run calls a module."""
    with counted(module) as seen:
        run(recipe)
    return len(seen)


@contextmanager
def counted(module: torch.nn.Module):
    seen: list[None] = []
    handle = module.register_forward_pre_hook(lambda *_: seen.append(None))
    try:
        yield seen
    finally:
        handle.remove()


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of runs a row")
    parser.add_argument("--steps", type=int, default=6, help="steps of a timed run, 2 or more")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=("wall", "process"), default="wall", help="process: only this one's CPU time"
    )
    parser.add_argument("--models", nargs="+", choices=("tiny", "atelier"), default=("tiny", "atelier"))
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = {"wall": time.perf_counter, "process": time.process_time}[options.clock]
    rows = []
    if not options.json:
        print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            sides = beside(build(Path(folder) / name) if name == "tiny" else ATELIER, device=options.device)
            bench = Bench(name, sides, options.rounds, clock)
            for work, recipe in works(sides.model, options.steps).items():
                rows.append(bench.row(work, recipe))
                if not options.json:
                    print(rows[-1], flush=True)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    gpu = torch.cuda.get_device_name() if options.device.startswith("cuda") else "no GPU"
    where = f"{os.cpu_count()} CPU cores ({platform.machine()}), torch threads: {options.threads}, {gpu}, load {load}"
    if options.json:
        print(json.dumps({"where": where, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        how = f"float32, dpm++ 2m, {options.steps} steps, {options.rounds} rounds, {options.clock} time"
        print(f"\nours / diffusers; {how}; {where}.")


if __name__ == "__main__":
    main()
