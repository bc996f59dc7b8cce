"""The whole recipe, from an empty folder to weights: `python -m ctrl.train --minutes 25 --device cuda`.

Stages run in order, each with its share of the minutes; a stage that has spent its share is passed over, so the same
command takes up after a kill where it was. The result lies in runs/release, in the package's layout. On two CPU cores the same recipe takes hours: `--minutes 400 --device cpu`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ctrl.train import clip, codec, controls, decoder, denoiser, eyes, lcm, pool, release, style
from ctrl.train.loop import Budget
from ctrl.train.options import parse


@dataclass(frozen=True)
class Stage:
    """A stage, its share of the time, and its batch on a CPU and on a GPU."""

    name: str
    share: float
    small: int
    large: int


STAGES = (
    Stage("codec", 0.20, 8, 64),
    Stage("clip", 0.09, 256, 512),
    Stage("decoder", 0.07, 8, 64),
    Stage("denoiser", 0.38, 32, 256),
    Stage("controls", 0.05, 32, 128),  # each of three
    Stage("style", 0.04, 32, 128),
    Stage("lcm", 0.04, 32, 128),
    Stage("eyes", 0.03, 32, 128),
)
RUN = {  # a table of functions, so that the recipe reads as a list
    "codec": codec.main,
    "clip": clip.main,
    "decoder": decoder.main,
    "denoiser": denoiser.main,
    "controls": controls.main,
    "style": style.main,
    "lcm": lcm.main,
    "eyes": eyes.main,
}


def main() -> None:
    """Run every stage."""
    options = parse(__doc__, minutes=25, batch=0)
    assert options.budget.minutes is not None
    pool.fill(options.pool, options.count, options.size, options.device, workers=2)
    for stage in STAGES:
        batch = stage.large if options.device.startswith("cuda") else stage.small
        budget = Budget(minutes=stage.share * options.budget.minutes)
        RUN[stage.name](replace(options, batch=batch, budget=budget))
    release.gather(options.runs / "weights", options.runs / "release")
    release.card(
        options.runs,
        options.runs / "release",
        options.size,
        pool.open_pool(options.pool, options.count, options.size).ready,
    )


if __name__ == "__main__":
    main()
