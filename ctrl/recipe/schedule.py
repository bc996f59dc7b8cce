"""Schedules: weights that change over the steps of a run."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ctrl.caller import ends_at_caller
from ctrl.recipe.checks import number, one_of, rebuilt, set_field, suggest_arguments

By = Literal["steps", "noise"]
BY = get_args(By)
MAX_POINTS = 1000


@suggest_arguments
@dataclass(frozen=True)
class Schedule:
    """A weight over the run: straight lines between `points` inside a window, 0 outside it.

    `points` are pairs (position, value) with rising positions: 0 is the first step of the window, 1 its last. The
    window goes from `start` to `until`, fractions of the run. By "steps", step i of N is inside when i / N ≥
    `start` and (i + 1) / N ≤ `until`, as diffusers has it for `control_guidance_start` and
    `control_guidance_end`. By "noise" it is inside when its timestep is between those of the fractions,
    (1 − start) · 999 and (1 − until) · 999, as ComfyUI has it: then the window stands for the same noise
    whatever the sampler and its spacing.
    """

    points: Sequence[tuple[float, float]]
    start: float = 0.0
    until: float = 1.0
    by: By = "steps"

    def __post_init__(self) -> None:
        set_field(self, "points", _points(self.points))
        set_field(self, "start", number("start", self.start, 0, 1))
        set_field(self, "until", number("until", self.until, 0, 1))
        one_of("by", self.by, BY)
        if self.start >= self.until:
            raise ValueError(f"start must come before until, got start={self.start:g}, until={self.until:g}.")

    def at(self, index: int, count: int, times: Sequence[float] | None = None) -> float:
        """The weight at evaluation `index` of `count`; `times` are their noise times, 1 for pure noise, 0 for none."""
        inside = self.steps(count, times)
        if index not in inside:
            return 0.0
        return self._between((index - inside[0]) / max(1, len(inside) - 1))

    def steps(self, count: int, times: Sequence[float] | None = None) -> range:
        """The evaluations inside the window; empty if it contains none."""
        if self.by == "steps":
            first = bisect_left(range(count), self.start, key=lambda i: i / count)
            end = bisect_right(range(count), self.until, key=lambda i: (i + 1) / count)
            return range(first, end)
        if times is None:
            raise ValueError("a window by noise needs the noise times of the run's steps.")
        inside = [i for i, time in enumerate(times) if 1 - self.until <= time <= 1 - self.start]
        return range(inside[0], inside[-1] + 1) if inside else range(0)

    @property
    def highest(self) -> float:
        """Its largest value."""
        return max(value for _, value in self.points)

    def _repr_svg_(self) -> str:
        """A plot of the weight over the run, the first step on the left; the baseline is 0."""
        top, span = max(self.highest, 1e-9), self.until - self.start
        inside = [(self.start + at * span, value) for at, value in self.points]
        ends = [(self.start, inside[0][1]), (self.until, inside[-1][1])]
        points = [(0.0, 0.0), (self.start, 0.0), ends[0], *inside, ends[1], (self.until, 0.0), (1.0, 0.0)]
        line = " ".join(f"{4 + 152 * x:.1f},{36 - 32 * value / top:.1f}" for x, value in points)
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" width="160" height="40" viewBox="0 0 160 40">'
            f"<title>0 to {self.highest:g}, {self.start:g} to {self.until:g} of the run by {self.by}</title>"
            f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
        )

    def _between(self, position: float) -> float:
        left = max((p for p in self.points if p[0] <= position), default=self.points[0])
        right = min((p for p in self.points if p[0] >= position), default=self.points[-1])
        if left[1] == right[1] or left[0] >= right[0]:
            return left[1]
        return left[1] + (position - left[0]) / (right[0] - left[0]) * (right[1] - left[1])


@ends_at_caller
def hold(value: float, *, start: float = 0.0, until: float = 1.0, by: By = "steps") -> Schedule:
    """`value` inside the window from `start` to `until` (fractions of the run), 0 outside."""
    return Schedule(((0.0, value),), start, until, by)


@ends_at_caller
def ramp(first: float, last: float, *, start: float = 0.0, until: float = 1.0, by: By = "steps") -> Schedule:
    """A straight line from `first` to `last` over the window, 0 outside."""
    return Schedule(((0.0, first), (1.0, last)), start, until, by)


@ends_at_caller
def curve(*points: tuple[float, float], start: float = 0.0, until: float = 1.0, by: By = "steps") -> Schedule:
    """Straight lines between (position, value) pairs over the window, 0 outside: `curve((0, 1), (1, 0))`."""
    return Schedule(points, start, until, by)


def weight_at(weight: float | Schedule, index: int, count: int, times: Sequence[float] | None = None) -> float:
    """The value of a weight at evaluation `index` of `count`."""
    return weight.at(index, count, times) if isinstance(weight, Schedule) else weight


Weigh = Callable[[float | Schedule], float | Schedule]  # `simplified`, or the value of a weight at a step


def highest(weight: float | Schedule) -> float:
    """The largest value of a weight."""
    return weight.highest if isinstance(weight, Schedule) else weight


def values_of(weight: float | Schedule) -> str:
    """The values of a weight in words: "0.5", or "1 to 0" for a schedule."""
    values = [value for _, value in weight.points] if isinstance(weight, Schedule) else [weight]
    return " to ".join(f"{value:g}" for value in dict.fromkeys(values))


def simplified(weight: float | Schedule) -> float | Schedule:
    """A number for a schedule that is the same number in every step; any other weight as it is."""
    if not isinstance(weight, Schedule):
        return weight
    values = {value for _, value in weight.points}
    if len(values) > 1:
        return weight
    (value,) = values
    whole_run = (weight.start, weight.until) == (0.0, 1.0)
    return value if whole_run or value == 0 else rebuilt(weight, points=((0.0, value),))


def as_number(weight: float | Schedule) -> float:
    """A weight from `Recipe.at`, which has a number for every schedule; a TypeError for a schedule."""
    if isinstance(weight, Schedule):
        raise TypeError("a schedule is a number at one step only; take the recipe's `at(index, times)` first.")
    return weight


def weight(name: str, value: object, high: float = 10.0) -> float | Schedule:
    """A number or a schedule of numbers, from 0 to `high`."""
    if not isinstance(value, Schedule):
        return number(name, value, 0, high)
    number(name, value.highest, 0, high)
    return value


def _points(points: object) -> tuple[tuple[float, float], ...]:
    if not isinstance(points, list | tuple) or not 0 < len(points) <= MAX_POINTS:
        raise TypeError(f"points must be 1 to {MAX_POINTS} pairs (position, value), got {points!r:.60}.")
    checked = []
    for point in points:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise TypeError(f"points must be pairs (position, value), got {point!r:.60}.")
        checked.append((number("position", point[0], 0, 1), number("value", point[1], 0, 100)))
    if any(left[0] >= right[0] for left, right in itertools.pairwise(checked)):
        raise ValueError(f"points must have rising positions, got {[point[0] for point in checked]!r:.80}.")
    return tuple(checked)
