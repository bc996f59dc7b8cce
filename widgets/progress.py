"""How far a picture is: what the line under it shows of a session's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrl.live import State

RUNS = ("running", "drafting")
REFUSED, FAILED = "This change was not taken.", "The picture could not be made."  # alerts


def runs(progress: Mapping[str, Any]) -> bool:
    """Whether a picture is being made."""
    return progress.get("phase") in RUNS


def reason_of(state: State) -> str:
    """Why a run failed, as an alert says it beside what to do next."""
    return state.message.removesuffix("; change the recipe to go on")


def progress_of(state: State, before: Mapping[str, Any]) -> dict[str, Any]:
    """A state for the browser. A session that does not run counts nothing: the steps of the last run stay."""
    step, count = (state.step, state.count) if state.count else (before.get("step", 0), before.get("count", 0))
    return {
        "phase": state.phase,
        "step": step,
        "count": count,
        "rate": state.evaluations,
        "left": state.seconds_left,
        "message": state.message,
    }
