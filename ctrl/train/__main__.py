"""The whole recipe, from an empty folder to weights: `python -m ctrl.train --minutes 25 --device cuda`.

The minutes are those of the whole run: what rendering, encoding and the like take comes off what the stages share. A
stage that has spent its turn is passed over, so the same command takes up after a kill where it was; of a killed
rendering the time is not known. The result is in runs/release, in the package's layout. On two CPU cores the same
recipe takes hours: `--minutes 400 --device cpu`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ctrl.train import clip, codec, controls, decoder, denoiser, encoder, eyes, lcm, pool, release, style, texture
from ctrl.train.loop import Budget
from ctrl.train.options import Options, parse
from ctrl.train.turns import turn

AROUND = 0.5  # minutes that no clock here sees: importing torch before, gathering the weights after


@dataclass(frozen=True)
class Stage:
    """A stage, its share of the time, and its batch on a CPU and on a GPU."""

    name: str
    run: Callable[[Options], None]
    share: float
    small: int
    large: int
    kind: controls.Kind | None = None


STAGES = (  # the most to what was furthest from its goal: props in the prompt, thin lines through the codec, pose
    Stage("eyes", eyes.main, 0.03, 32, 128),
    Stage("codec", codec.main, 0.14, 8, 64),
    Stage("decoder", decoder.main, 0.05, 4, 32),
    Stage("texture", texture.main, 0.07, 4, 32),
    Stage("encoder", encoder.main, 0.03, 4, 32),
    Stage("clip", clip.main, 0.05, 128, 256),
    Stage("denoiser", denoiser.main, 0.38, 32, 512),
    Stage("pose", controls.main, 0.10, 32, 128, "pose"),
    Stage("depth", controls.main, 0.04, 32, 128, "depth"),
    Stage("edges", controls.main, 0.04, 32, 128, "edges"),
    Stage("style", style.main, 0.04, 32, 128),
    Stage("lcm", lcm.main, 0.03, 32, 128),
)


def main() -> None:
    """Run every stage."""
    options = parse(__doc__, minutes=25, batch=0)
    whole = options.budget.minutes
    if whole is None:
        raise SystemExit("the whole recipe takes --minutes; --steps is for one stage")
    began = time.monotonic()
    drawn = pool.fill(options.pool, options.count, options.size, options.device, workers=2)
    passed = AROUND + (time.monotonic() - began) / 60
    for number, stage in enumerate(STAGES):
        share = stage.share / sum(other.share for other in STAGES[number:])
        mine = turn(options.runs / "turns.csv", stage.name, whole, passed, share)
        batch = stage.large if options.device.startswith("cuda") else stage.small
        began = time.monotonic()
        stage.run(replace(options, batch=batch, kind=stage.kind, budget=Budget(minutes=mine.minutes)))
        passed = mine.began + max(mine.minutes, (time.monotonic() - began) / 60)
    release.gather(options.runs / "weights", options.runs / "release")
    release.card(options.runs, options.runs / "release", options.size, drawn.ready)


if __name__ == "__main__":
    main()
