"""`Watch`: what to keep of a run's attention, as a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ctrl.attention import Site
from ctrl.maps.checks import whole

UP = "up_blocks"
FEW = 5  # as many steps are read of a short run, or all
APART = 4  # steps, at least, from one reading of self-attention to the next: it is the larger part of the work


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What to keep of a run's attention. Watching changes no bit of the picture.

    - `words`: words and phrases to keep; None keeps every token of the prompt, the negative prompt and the regions.
    - `components`: "unet" and kinds of ControlNets, such as "pose"; None for all.
    - `layers`: names of blocks, such as "mid_block" or "up_blocks.1"; None for the up blocks of the U-Net and all of a
      ControlNet, which has none.
    - `smallest`, `largest`: cells along the shorter side of the layers that count.
    - `heads`: the numbers of the heads that count; None for all. Sites with fewer heads leave out what they lack.
    - `steps`: the part of the run to watch, such as (0.5, 1.0) for its second half.
    - `every`: read one step in so many, counted back from the last of that part, and its first; 1 for all steps. Of a
      short run more are read, five at least. Means over steps interpolate linearly over those that are not read.
    - `self_attention`: also keep where each place attends, on a grid of at most 512 places. It is that of all heads of
      the U-Net's finest layers of that size, whatever `layers`, sizes and `heads` choose of cross-attention.
    - `history`: read all steps, and also keep each, as bytes, for a strip, a GIF or a scrubber.
    - `influence`: read all steps, and also split what each place is made of by words, pictures, controls and the model
      itself. It takes about as long again as the cross-attention it watches.

    The default layers and steps were chosen on the atelier, see `ctrl.maps`: other models may differ.
    """

    words: tuple[str, ...] | None = None
    components: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None
    smallest: int = 8
    largest: int = 64
    heads: tuple[int, ...] | None = None
    steps: tuple[float, float] = (0.0, 1.0)
    every: int = 4
    self_attention: bool = True
    history: bool = False
    influence: bool = False

    def __post_init__(self) -> None:
        for name in ("words", "components", "layers"):
            object.__setattr__(self, name, names_of(name, getattr(self, name)))
        object.__setattr__(self, "heads", _numbers(self.heads))
        for name, unit in (("smallest", "cells"), ("largest", "cells"), ("every", "steps")):
            whole(name, getattr(self, name), unit)
        if self.smallest > self.largest:
            raise ValueError(f"smallest must not exceed largest, got {self.smallest} and {self.largest}.")
        object.__setattr__(self, "steps", part_of(self.steps))
        for name in ("self_attention", "history", "influence"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}.")

    @staticmethod
    def of(given: object) -> Watch | None:
        """The watch a caller gave; True is the default one, None and False are none."""
        if given is None or given is False:
            return None
        if given is True:
            return Watch()
        if not isinstance(given, Watch):
            raise TypeError(f"watch must be a ctrl.Watch, such as ctrl.Watch(history=True), got {given!r:.60}.")
        return given

    def why_not(self, site: Site) -> str | None:
        """Why a cross-attention is left out by its name; None if it is not."""
        if self.components is not None and site.component not in self.components:
            return f"component {site.component!r} is not watched"
        names = self.layers
        if names is None:
            names = (UP,) if site.component == "unet" else ("",)
        if any(not name or _within(site, name) for name in names):
            return None
        return f"not in {', '.join(names)}"

    def check(self, sites: Sequence[Site]) -> None:
        """Refuse, by a ValueError, to watch nothing of these cross-attentions, and blocks in which there are none."""
        if not sites:
            raise ValueError("watch: there is no cross-attention to read, since no network here reads a text.")
        runs = tuple(dict.fromkeys(site.component for site in sites))
        if self.components is not None and not set(self.components) & set(runs):
            given, there = ", ".join(self.components), ", ".join(runs)
            raise ValueError(f"components: no network that runs here is named {given}; there is {there}.")
        there = ", ".join(dict.fromkeys(site.path.split(".attentions.")[0] for site in sites))
        for name in self.layers or ():
            if not any(_within(site, name) for site in sites):
                raise ValueError(f"layers: no cross-attention is in {name!r}; there is some in {there}.")
        if all(self.why_not(site) is not None for site in sites):
            raise ValueError(f"layers: the ones asked for have no cross-attention here; there is some in {there}.")

    def fits(self, height: int, width: int) -> bool:
        """Whether layers of this size count."""
        return self.smallest <= min(height, width) <= self.largest

    def acts(self, step: int, count: int) -> bool:
        """Whether evaluation `step` of `count` is read."""
        return step in self.weights(count)

    def reads_self_attention(self, step: int, count: int) -> bool:
        """Whether the self-attention of evaluation `step` of `count` is read, where `self_attention` is on."""
        return step in self._between(count)

    @lru_cache(maxsize=8)  # noqa: B019  # a watch is a small value
    def weights(self, count: int) -> Mapping[int, float]:
        """The evaluations that are read, of `count`, and their weights in a mean over all steps.

        The sum of the weights is the number of steps; those that are not read are interpolated linearly.
        """
        part = self._part(count)
        every = 1 if self.history or self.influence else max(1, min(self.every, len(part) // (FEW - 1)))
        read = sorted({*part[:1], *part[::-1][::every]})
        gaps = [1, *(after - before for before, after in pairwise(read)), 1]
        return {step: (before + after) / 2 for step, (before, after) in zip(read, pairwise(gaps), strict=False)}

    @lru_cache(maxsize=8)  # noqa: B019  # the same
    def _between(self, count: int) -> frozenset[int]:
        """The evaluations at which self-attention is read: of those read the first and the last, and some between."""
        read = [*self.weights(count)]
        chosen = read[:1]
        for step in read:
            if step - chosen[-1] >= APART:
                chosen.append(step)
        return frozenset((*chosen, *read[-1:]))

    def _part(self, count: int) -> range:
        start, until = self.steps
        first = math.ceil(start * count)
        return range(min(first, count - 1) if until == 1 else first, math.ceil(until * count))


def _within(site: Site, block: str) -> bool:
    return f"{site.path}.".startswith(f"{block}.")


def names_of(name: str, given: object) -> tuple[str, ...] | None:
    """The names that the argument `name` gives, one or a list of them; None for None, and a TypeError for all else."""
    if given is None:
        return None
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else ()
    if not names or not all(isinstance(one, str) and one for one in names):
        raise TypeError(f"{name} must be a list of names, or None for the default; got {given!r:.60}.")
    return names


def _numbers(given: object) -> tuple[int, ...] | None:
    if given is None:
        return None
    numbers = (given,) if isinstance(given, int) else tuple(given) if isinstance(given, Sequence) else ()
    if not numbers or any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in numbers):
        raise TypeError(f"heads must be a list of numbers from 0, or None for all; got {given!r:.60}.")
    return numbers


def part_of(given: object) -> tuple[float, float]:
    """The part of a run that the argument `steps` gives; a TypeError for no pair, a ValueError for another order."""
    try:
        start, until = (float(one) for one in given)  # type: ignore[attr-defined]  # what is no pair is refused below
    except (TypeError, ValueError):
        raise TypeError(f"steps must be a pair such as (0.5, 1.0), parts of the run, got {given!r:.60}.") from None
    if not 0 <= start < until <= 1:
        raise ValueError(f"steps must be a pair 0 ≤ start < until ≤ 1, parts of the run, got {given!r}.")
    return start, until
