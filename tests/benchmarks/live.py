"""From a slider to a picture, beside a blocking handler: `python tests/benchmarks/live.py [--gestures 12]`.

A line is printed for every gesture as it ends, and targets in brackets. `--gestures 2` is a quick look, whose p95 is
about the worse of two. `--processor` is for a busy machine: it leaves the gestures out and counts the processor's time,
in one thread, for which other programs count little.

Both sides run the atelier's weights in one process and are shown the same gestures by turns. A gesture is a drag of a
guidance slider: some events at even times. The blocking handler calls diffusers' pipeline for the latest event whenever
it is free, as a notebook does whose front end sends one change at a time. Times are ratios of ours to its on the same
gesture. The two share their modules and never run at once, so neither waits for the other: the lock of our model is
free while diffusers runs, which knows of none. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import itertools
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
    """Calls of modules since it was last asked."""

    def __init__(self, *modules: Any) -> None:
        self.made = 0
        for module in modules:
            module.register_forward_pre_hook(self._one)

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

    def __init__(self, model: ctrl.Model, recipe: ctrl.Recipe, watch: ctrl.Watch | None = None) -> None:
        self.came: list[tuple[float, Any]] = []
        self.live = ctrl.Live(model, recipe, lambda frame: self.came.append((time.perf_counter(), frame)), watch=watch)
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
        return seconds(lambda: (self.live.update(recipe), self.live.wait(WAIT)))


clock: Callable[[], float] = time.perf_counter  # of single moves


def seconds(make: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = clock()
    make()
    return clock() - begin


def p(values: Sequence[float]) -> str:
    """The median and the 95th percentile."""
    return f"p50 {np.quantile(values, 0.5):.3f}   p95 {np.quantile(values, 0.95):.3f}"


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def gestures(both: Beside, side: Side, recipe: ctrl.Recipe, count: int) -> None:
    """Drags of the guidance slider, by turns."""
    counts = Count(both.controlled.unet), Count(both.model.unet)
    rng, theirs, ours, ages = np.random.default_rng(0), [], [], []
    for number in range(count):
        moves = [recipe.replace(guidance=float(one)) for one in np.linspace(*rng.uniform(2, 12, 2), EVENTS)]
        theirs.append(blocking(both, moves, counts[0]))
        ours.append(side.gesture(moves, counts[1]))
        ages += [frame.age for _, frame in side.came]
        say(f"gesture {number + 1}: first, final, evaluations: ours {ours[-1]}, blocking {theirs[-1]}")
    pairs = list(zip(ours, theirs, strict=True))
    say(f"first picture, ratio                 {p([mine.first / other.first for mine, other in pairs])}   (<= 0.10)")
    say(f"last event to exact picture, ratio   {p([mine.final / other.final for mine, other in pairs])}   (0.67, 0.55)")
    means = [statistics.mean(one.evaluations for one in side) for side in (ours, theirs)]
    say(f"evaluations a gesture                {means[0]:.1f}, blocking {means[1]:.1f}")
    say(f"age of frames in seconds             {p(ages)}")


def moves(both: Beside, side: Side, recipe: ctrl.Recipe, count: int) -> None:
    """Single moves, each beside one blocking call: cold, from the middle, and to a value seen before."""
    ends = np.linspace(2, 5, count + 1)
    kinked = [recipe.replace(guidance=ctrl.curve((0, 6), (0.5, 6), (1, float(end)))) for end in ends]
    cold, middle, again, runs = [], [], [], 0
    side.move(kinked[0])
    encoded = Count(*encoders(both.model))
    for before, one in itertools.pairwise(kinked):
        block = seconds(lambda: picture(both, recipe))
        encoded.take()
        middle.append(side.move(one) / block)
        again.append(side.move(before) / block)
        runs += encoded.take()
        cold.append(seconds(lambda one=one: ctrl.sample(both.model, one)) / block)
        say(f"move: blocking {block:.2f} s; middle {middle[-1]:.3f}, again {again[-1]:.4f}, cold {cold[-1]:.3f} of it")
    say(f"a picture of ours alone, of one call {p(cold)}   (the same work: what is not reuse)")
    say(f"move from the middle, of one call    {p(middle)}   (<= 0.5)")
    say(f"value seen before, of one call       {p(again)}   (<= 0.02)")
    say(f"runs of encoders in these moves      {runs}   (0)")


def attention(side: Side, recipe: ctrl.Recipe, count: int) -> None:
    """Moves of guidance with their attention, as the Studio's words take it, each beside one without."""
    watched = Side(side.live.model, recipe, ctrl.Watch(history=True))
    side.move(recipe)
    ratios = []
    for weight in np.linspace(12.5, 14, count):
        moved = recipe.replace(guidance=float(weight))
        plain = side.move(moved)
        ratios.append(watched.move(moved) / plain)
    watched.live.close()
    say(f"move with attention, of one without  {p(ratios)}   (a second run is 2)")


def encoders(model: ctrl.Model) -> list[Any]:
    """The first layers of what encodes a prompt and a control picture."""
    texts = [one.encoder.get_input_embeddings() for one in model.parts.text_encoders]
    return [*texts, model.controlnet("pose").module.controlnet_cond_embedding.conv_in]


def lcm(recipe: ctrl.Recipe, count: int) -> None:
    """Exact pictures a second in four steps, of another seed each."""
    fast = recipe.fast()
    side = Side(ctrl.load(device="cpu"), fast)
    times = [side.move(fast.replace(seed=100 + seed)) for seed in range(count)]
    say(f"exact pictures a second, LCM, 4 steps {1 / statistics.median(times):.1f}   (>= 5)")
    bare, ratios = floor(side, fast), []
    for seed in range(count):
        alone = seconds(bare)
        ratios.append(side.move(fast.replace(seed=500 + seed)) / alone)
    side.live.close()
    say(f"such a picture, of its bare networks {p(ratios)}   (1 is the floor)")


def floor(side: Side, recipe: ctrl.Recipe) -> Callable[[], None]:
    """A function that calls the networks of a picture as its run does, with nothing before, between or after them."""
    model, calls = side.live.model, []
    unet = model.with_loras([(lora.name, lora.weight) for lora in recipe.loras]).unet
    control = model.controlnet("pose").module

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((module, args, kwargs))

    hooks = [part.register_forward_pre_hook(note, with_kwargs=True) for part in (unet, control, model.vae.decoder)]
    side.move(recipe.replace(seed=499))
    for hook in hooks:
        hook.remove()
    embedding = control.controlnet_cond_embedding  # which runs once for all pictures

    @torch.no_grad()
    def bare() -> None:
        embedding.forward = lambda embedded: embedded
        for module, args, kwargs in calls:
            module(*args, **kwargs)
        del embedding.forward

    return bare


def main() -> None:
    """Print the figures, the targets beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gestures", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor", action="store_true")
    given = parser.parse_args()
    if given.processor:
        globals()["clock"], given.threads = time.process_time, 1
    torch.set_num_threads(given.threads)
    kind = "processor" if given.processor else "wall-clock"
    say(f"{platform.machine()}, {os.cpu_count()} cores, {given.threads} threads, {kind} time")
    both = beside(ATELIER)
    recipe = ctrl.Recipe(PROMPT, seed=7, controls=[ctrl.Pose("waving")], steps=20)
    picture(both, recipe)
    side = Side(both.model, recipe)
    if not given.processor:
        gestures(both, side, recipe, given.gestures)
    moves(both, side, recipe, min(given.gestures, 6))
    attention(side, recipe, min(given.gestures, 6))
    side.live.close()
    lcm(recipe, 3 * given.gestures)
    say(f"load average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
