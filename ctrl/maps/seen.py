"""What a collector has added up by the end of a step, as a value from which a later run goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ctrl.maps.between import Between
from ctrl.maps.check import Check
from ctrl.maps.history import History
from ctrl.maps.influence import Influence
from ctrl.maps.sums import Sum, Sums


@dataclass(frozen=True, eq=False)
class Seen:
    """The attention recorded after a step; the fields are those of a `Collector`."""

    sums: Sums
    between: Between
    history: History
    check: Check
    influence: Influence | None
    calls: dict[str, int]
    steps: dict[int, None]
    rows: tuple[str, ...]
    pictures: dict[str, int]
    missed: dict[str, str]
    checked: set[tuple[str, str]]

    def copy(self) -> Seen:
        """A copy that shares nothing which a collector adds to. Steps of a history are complete, and shared."""
        total, places = self.between.total, dict(self.between.places)
        return replace(
            self,
            sums=_copied(self.sums),
            between=replace(self.between, total=None if total is None else total.clone(), places=places),
            history=History(dict(self.history.steps), step=self.history.step),
            check=replace(self.check, differences=[*self.check.differences], sites=[*self.check.sites]),
            influence=None if self.influence is None else _influence(self.influence),
            calls=dict(self.calls),
            steps=dict(self.steps),
            pictures=dict(self.pictures),
            missed=dict(self.missed),
            checked=set(self.checked),
        )


def _copied(sums: Sums) -> Sums:
    return Sums({key: Sum(one.total.clone(), one.weight) for key, one in sums.sums.items()})


def _influence(influence: Influence) -> Influence:
    """A copy without the layers of the network that were read for it, which are not kept beyond a run."""
    return replace(
        influence,
        by_step=None if influence.by_step is None else dict(influence.by_step),
        sums=_copied(influence.sums),
        errors=[*influence.errors],
        dtypes={*influence.dtypes},
        _layers={},
        _pending=None,
    )
