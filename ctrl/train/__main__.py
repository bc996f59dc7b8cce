"""The whole recipe, from an empty folder to weights: `python -m ctrl.train --minutes 25 --device cuda`.

Stages run in order, each with its share of the minutes; a stage that has spent its share is passed over, so the same
command takes up after a kill where it was. The result lies in runs/release, in the package's layout. On two CPU cores
the same recipe takes hours: `--minutes 400 --device cpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ctrl.train import clip, codec, controls, decoder, denoiser, eyes, lcm, pool, release, style
from ctrl.train.loop import Budget
from ctrl.train.options import Options, parse


@dataclass(frozen=True)
class Stage:
    """A stage, its share of the time, and its batch on a CPU and on a GPU."""

    run: Callable[[Options], None]
    share: float
    small: int
    large: int


STAGES = (
    Stage(codec.main, 0.20, 8, 64),
    Stage(decoder.main, 0.07, 8, 64),
    Stage(clip.main, 0.09, 128, 256),
    Stage(denoiser.main, 0.38, 32, 256),
    Stage(controls.main, 0.05, 32, 128),  # each of three
    Stage(style.main, 0.04, 32, 128),
    Stage(lcm.main, 0.04, 32, 128),
    Stage(eyes.main, 0.03, 32, 128),
)


def main() -> None:
    """Run every stage."""
    options = parse(__doc__, minutes=25, batch=0)
    if options.budget.minutes is None:
        raise SystemExit("the whole recipe takes --minutes; --steps is for one stage")
    drawn = pool.fill(options.pool, options.count, options.size, options.device, workers=2)
    for stage in STAGES:
        batch = stage.large if options.device.startswith("cuda") else stage.small
        budget = Budget(minutes=stage.share * options.budget.minutes)
        stage.run(replace(options, batch=batch, budget=budget))
    release.gather(options.runs / "weights", options.runs / "release")
    release.card(options.runs, options.runs / "release", options.size, drawn.ready)


if __name__ == "__main__":
    main()
