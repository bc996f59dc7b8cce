"""Watching the runs of a live session: whether a run can be watched, and what its maps depend on."""

from __future__ import annotations

from collections.abc import Hashable

from ctrl.maps import Watch
from ctrl.sampling.numbers import unweighted
from ctrl.sampling.run import Run


def watched(run: Run, watch: Watch | None) -> tuple[Run, tuple[str, ...]]:
    """The run with its attention watched; or, where that is impossible, the run unchanged and a note that says why."""
    if watch is None:
        return run, ()
    try:
        return run.watched(watch), ()
    except ValueError as error:  # the picture can be made all the same
        return run, (f"attention was not recorded: {error}",)


def reads_of(run: Run) -> Hashable:
    """What the maps of a run depend on apart from the recipe at each step; None for a run that is not watched.

    It is the watch, the whole of the prompts, the order in which parts are numbered, and the sites.
    """
    collector = run.collector
    if collector is None:
        return None
    texts = tuple(collector.texts[0].items())
    return collector.watch, texts, unweighted(run.recipes[0]), tuple(site.name for site in run.places)
