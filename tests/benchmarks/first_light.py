"""How long until there is a picture: `python tests/benchmarks/first_light.py [--readme README.md]`.

Each figure is the median of fresh processes on this machine. Imports, loading and pictures are apart, because a
notebook pays for the first two once. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

PROBE = """
import json, time
start = time.perf_counter()
import ctrl
named = time.perf_counter()
model = ctrl.load(device="cpu")
loaded = time.perf_counter()
recipe = ctrl.Recipe("a figure waving in a red shirt, on grass, at sunset",
                     controls=[ctrl.Pose(ctrl.Skeleton.named("waving"))], steps=20, seed=7)
ctrl.sample(model, recipe)
first = time.perf_counter()
ctrl.sample(model, recipe.replace(seed=8))
second = time.perf_counter()
ctrl.sample(model, recipe.fast())
third = time.perf_counter()
ctrl.sample(model, recipe.fast().replace(seed=8))
fast = time.perf_counter()
shot = ctrl.steps(model, recipe)
latents = next(iter(shot)).latents
model.decode(latents)
decoding = time.perf_counter()
model.decode(latents)
decoded = time.perf_counter()
times = [named - start, loaded - named, first - loaded, second - first, fast - third, decoded - decoding]
print(json.dumps(times))
"""
ROWS = (
    "`import ctrl`",
    "`ctrl.load()`, torch and diffusers imported on the way",
    "first picture: 20 steps, guidance, one control",
    "every picture after it",
    "`--fast` picture: 4 steps, one control",
    "of it, decoding the latents",
)
BEGIN, END = "<!-- timed:begin -->", "<!-- timed:end -->"


def measure(runs: int, threads: int) -> list[float]:
    """The median seconds of each row over fresh processes."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    found = []
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return [statistics.median(column) for column in zip(*found, strict=True)]


def main() -> None:
    """Print the table, and put it into the README if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--readme", type=Path)
    options = parser.parse_args()
    seconds = measure(options.runs, options.threads)
    lines = ["| what | seconds |", "|---|---|"]
    lines += [f"| {row} | {value:.2f} |" for row, value in zip(ROWS, seconds, strict=True)]
    where = f"{os.cpu_count()} CPU cores ({platform.machine()}), torch threads: {options.threads}, no GPU"
    text = "\n".join(
        [
            *lines,
            "",
            f"Median of {options.runs} fresh processes; {where}. "
            "`python tests/benchmarks/first_light.py` measures yours.",
        ]
    )
    print(text)
    if options.readme:
        page = options.readme.read_text()
        head, tail = page.split(BEGIN)[0], page.split(END)[1]
        options.readme.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


if __name__ == "__main__":
    main()
