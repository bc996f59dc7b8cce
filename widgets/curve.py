"""`CurvePad`: a `ctrl.Schedule` drawn as a curve over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ctrl import Schedule, hold
from widgets.leaf import Leaf, module, styles, traitlets


class CurvePad(Leaf):
    """A schedule as a curve whose points and window are dragged, with the steps at which it acts.

    Args:
        schedule: a `Schedule`, or a number for the same value in every step.
        steps: the number of evaluations of the run.
        limit: the largest value that may be set, 10 for weights of controls and styles, 100 for guidance.
        label: the name of the value, for the axis and for screen readers.
        times: the run's noise times, 1 for pure noise and 0 for none, one an evaluation. They are
            needed to show the steps of a window by noise.

    `schedule` is the curve as a value; assign another to draw it. `points`, `start`, `until` and `by` are the traits
    behind it, to observe; `moving` is true during a drag.

    Raises:
        TypeError: the schedule is neither a Schedule nor a number.
        ValueError: it goes above `limit`, or `times` are not one an evaluation.

    >>> pad = CurvePad(ctrl.ramp(9.0, 3.0), steps=20, limit=100, label="guidance")    # doctest: +SKIP
    >>> recipe.replace(guidance=pad.schedule)                                         # doctest: +SKIP
    """

    _esm = module("curve_plot.js", "curve_tools.js", "curve.js")
    _css = styles("curve.css")

    points = traitlets.List(traitlets.List(traitlets.Float()), help="[position, value]").tag(sync=True)
    start = traitlets.Float(0.0).tag(sync=True)
    until = traitlets.Float(1.0).tag(sync=True)
    by = traitlets.Enum(("steps", "noise"), default_value="steps").tag(sync=True)
    steps = traitlets.Int(20, min=1, max=1000).tag(sync=True)
    limit = traitlets.Float(10.0, min=0.001, max=100.0).tag(sync=True)
    label = traitlets.Unicode("weight").tag(sync=True)
    times = traitlets.List(traitlets.Float()).tag(sync=True)
    moving = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(
        self,
        schedule: Schedule | float = 1.0,
        *,
        steps: int = 20,
        limit: float = 10.0,
        label: str = "weight",
        times: Sequence[float] | None = None,
    ) -> None:
        noise = [] if times is None else [float(time) for time in times]
        if noise and len(noise) != steps:
            raise ValueError(f"times must be one an evaluation, got {len(noise)} for steps={steps}.")
        first = self._taken(schedule, limit)
        super().__init__(steps=steps, limit=limit, label=label, times=noise, **_traits(first))

    @property
    def schedule(self) -> Schedule:
        """The curve as a value."""
        by: Literal["steps", "noise"] = "noise" if self.by == "noise" else "steps"
        return Schedule(tuple((x, y) for x, y in self.points), self.start, self.until, by)

    @schedule.setter
    def schedule(self, schedule: Schedule | float) -> None:
        traits = _traits(self._taken(schedule, self.limit))
        with self.hold_sync(), self.hold_trait_notifications():
            for name, value in traits.items():
                setattr(self, name, value)

    @staticmethod
    def _taken(schedule: Schedule | float, limit: float) -> Schedule:
        if isinstance(schedule, bool) or not isinstance(schedule, Schedule | int | float):
            raise TypeError(f"schedule must be a Schedule or a number, got {type(schedule).__name__}.")
        checked = schedule if isinstance(schedule, Schedule) else hold(float(schedule))
        if checked.highest > limit:
            raise ValueError(
                f"schedule goes up to {checked.highest:g}, above limit={limit:g}; lower it or raise the limit."
            )
        return checked


def _traits(schedule: Schedule) -> dict[str, object]:
    points = [[x, y] for x, y in schedule.points]
    return {"points": points, "start": schedule.start, "until": schedule.until, "by": schedule.by}
