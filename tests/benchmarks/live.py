"""From a slider to a picture, beside a blocking handler: `python tests/benchmarks/live.py [--gestures 12]`.

Both sides run the atelier's weights in one process and are shown the same gestures by turns. A gesture is a drag of a
guidance slider: some events at even times. The blocking handler calls diffusers' pipeline for the latest event whenever
it is free, as a notebook does whose front end sends one change at a time. Times are ratios of ours to its on the same
gesture. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import ctrl
from ctrl.model.loading.load import ATELIER

sys.path.insert(0, str(Path(__file__).parents[1]))

from beside import Beside, beside

PROMPT = "a figure waving in a red shirt and blue trousers, on grass, at sunset, comic book"
EVENTS, EVERY = 10, 0.05  # of a drag, and the seconds between them
WAIT = 300.0


@dataclass(frozen=True)
class Seen:
    """Of one gesture: seconds from its first event to a picture and from its last to the final one; evaluations."""

    first: float
    final: float
    evaluations: int


class Count:
    """Evaluations of a U-Net since it was last asked."""

    def __init__(self, unet: Any) -> None:
        self.made = 0
        unet.register_forward_pre_hook(self._one)

    def _one(self, *_: object) -> None:
        self.made += 1

    def take(self) -> int:
        """How many there were."""
        made, self.made = self.made, 0
        return made


def blocking(both: Beside, moves: Sequence[ctrl.Recipe], count: Count) -> Seen:
    """The latest event is handled whenever the handler is free."""
    begin, first, at = time.perf_counter(), None, -1
    count.take()
    while at < len(moves) - 1:
        at = min(len(moves) - 1, int((time.perf_counter() - begin) / EVERY))
        picture(both, moves[at])
        first = time.perf_counter() - begin if first is None else first
    last = begin + (len(moves) - 1) * EVERY
    assert first is not None
    return Seen(first, time.perf_counter() - last, count.take())


def picture(both: Beside, recipe: ctrl.Recipe) -> Any:
    """What a handler calls."""
    pipe = both.pipe(recipe)
    (control,) = recipe.controls
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        recipe.prompt,
        guidance_scale=recipe.guidance,
        num_inference_steps=recipe.steps,
        generator=torch.Generator().manual_seed(recipe.seed),
        image=Image.fromarray(control.picture.draw(*both.model.size)),
    ).images[0]


class Side:
    """Our side: a live session, and when its frames came."""

    def __init__(self, model: ctrl.Model, recipe: ctrl.Recipe) -> None:
        self.came: list[tuple[float, Any]] = []
        self.live = ctrl.Live(model, recipe, lambda frame: self.came.append((time.perf_counter(), frame)))
        self.live.wait(WAIT)

    def gesture(self, moves: Sequence[ctrl.Recipe], count: Count) -> Seen:
        """The same events, as they come."""
        self.came.clear()
        count.take()
        begin = time.perf_counter()
        for at, move in enumerate(moves):
            time.sleep(max(0.0, begin + at * EVERY - time.perf_counter()))
            self.live.update(move)
        self.live.wait(WAIT)
        last = begin + (len(moves) - 1) * EVERY
        return Seen(self.came[0][0] - begin, self.came[-1][0] - last, count.take())

    def move(self, recipe: ctrl.Recipe) -> float:
        """Seconds from one move to its exact picture."""
        begin = time.perf_counter()
        self.live.update(recipe)
        self.live.wait(WAIT)
        return time.perf_counter() - begin


def seconds(make: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    make()
    return time.perf_counter() - begin


def p(values: Sequence[float]) -> str:
    """The median and the 95th percentile."""
    return f"p50 {np.quantile(values, 0.5):.3f}   p95 {np.quantile(values, 0.95):.3f}"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gestures", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    both = beside(ATELIER)
    recipe = ctrl.Recipe(PROMPT, seed=7, controls=[ctrl.Pose("waving")], steps=20)
    counts = Count(both.controlled.unet), Count(both.model.unet)
    picture(both, recipe)
    side, rng = Side(both.model, recipe), np.random.default_rng(0)
    theirs, ours, ages = [], [], []
    for _ in range(given.gestures):
        ends = rng.uniform(2, 12, 2)
        moves = [recipe.replace(guidance=float(one)) for one in np.linspace(*ends, EVENTS)]
        theirs.append(blocking(both, moves, counts[0]))
        ours.append(side.gesture(moves, counts[1]))
        ages += [frame.age for _, frame in side.came]
    block = statistics.median(seconds(lambda: picture(both, recipe)) for _ in range(3))
    kinked = [recipe.replace(guidance=ctrl.curve((0, 6), (0.5, 6), (1, float(end)))) for end in (2, 3, 4, 5)]
    side.move(kinked[0])
    middle = [side.move(one) / block for one in kinked[1:]]
    again = [side.move(one) / block for one in kinked[:-1]]
    fast = [recipe.fast().replace(seed=seed) for seed in range(6)]
    quick = [side.move(one) for one in fast]
    side.live.close()
    pairs = list(zip(ours, theirs, strict=True))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {given.threads} threads")
    print(f"load average at the end {os.getloadavg()[0]:.1f}; one blocking call {block:.2f} s")
    print(f"first picture, ratio                 {p([mine.first / other.first for mine, other in pairs])}")
    print(f"last event to exact picture, ratio   {p([mine.final / other.final for mine, other in pairs])}")
    means = [statistics.mean(one.evaluations for one in side) for side in (ours, theirs)]
    print(f"evaluations a gesture                {means[0]:.1f}, blocking {means[1]:.1f}")
    print(f"age of frames in seconds             {p(ages)}")
    print(f"move from the middle, of one call    {p(middle)}")
    print(f"value seen before, of one call       {p(again)}")
    print(f"exact pictures a second, LCM, 4 steps {1 / statistics.median(quick[1:]):.1f}")


if __name__ == "__main__":
    main()
