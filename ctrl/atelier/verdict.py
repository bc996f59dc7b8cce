"""Does one picture obey? What was asked of it beside what the eyes see in it, and a judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctrl.atelier.bench import Seen, share
from ctrl.atelier.metrics import pck
from ctrl.atelier.reading import compare, parse
from ctrl.skeleton import Skeleton

ENOUGH, ENOUGH_PCK = 0.75, 0.7  # of what a prompt states, of a skeleton's joints


@dataclass(frozen=True)
class Verdict:
    """Whether a picture obeys, None if nothing could be asked, and the reasons a line each."""

    obeys: bool | None
    lines: tuple[str, ...]


def judge(seen: Seen, prompt: str, skeletons: Sequence[Skeleton]) -> Verdict:
    """Judge the one picture in `seen` by its prompt and the skeletons of its pose controls.

    At least 3/4 of what the prompt states must be seen, and each skeleton's PCK at 10 % be at least 0.7.
    """
    answers = compare(parse(prompt), seen.words[0])
    lines, passed = [], []
    for answer in answers:
        mark = "yes" if answer.right else "NO "
        lines.append(f"{mark} {answer.what}: asked {answer.asked}, seen {answer.seen}")
    if answers:
        right = sum(answer.right for answer in answers)
        lines.append(f"{right} of {len(answers)} stated attributes are there; {ENOUGH:.0%} are needed")
        passed.append(share(answers) >= ENOUGH)
    for skeleton in skeletons:
        shown = np.asarray(skeleton.shown, dtype=bool)
        if shown.any():
            found = pck(seen.points[0], skeleton.points, shown)
            lines.append(f"pose: {found:.0%} of the skeleton's joints are in place; {ENOUGH_PCK:.0%} are needed")
            passed.append(found >= ENOUGH_PCK)
    if not passed:
        return Verdict(None, ("nothing can be checked: no words of the world's captions and no skeleton",))
    return Verdict(all(passed), tuple(lines))
