"""Front ends that drop updates from threads, and how a panel shows its pictures there."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrl import Live

Show = Callable[[Any], None]

PATIENCE = 0.5  # seconds without an event, after which the session is checked
RESTS = ("idle", "failed", "cancelled", "closed")
COLAB = (
    "Colab shows nothing that comes from a thread: each picture is made in the foreground here, other cells wait for "
    "it, and the stop button of the cell cancels it."
)
OLD = (
    "This kernel handles clicks between cells only: while a cell runs, what you do here waits. ipykernel 7.1 does not."
)


def notice() -> str:
    """The limits of this front end, in a sentence for the panel; empty where there are none."""
    if in_colab():
        return COLAB
    if "ipykernel" not in sys.modules:
        return ""
    try:
        return OLD if int(version("ipykernel").partition(".")[0]) < 7 else ""
    except (PackageNotFoundError, ValueError):
        return ""


def in_colab() -> bool:
    """Whether this is Google Colab, which drops updates from threads (googlecolab/colabtools#3373)."""
    return "google.colab" in sys.modules


class Background:
    """Shows frames and states at once, in the thread of the session's callbacks."""

    def relay(self, show: Show) -> Show:
        """`show` itself."""
        return show

    def follow(self, live: Live) -> None:
        """Does nothing: the thread of the callbacks shows the picture."""


class Foreground:
    """Shows frames and states in the thread that requests a picture; it waits until the session rests."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[Show, Any]] = queue.SimpleQueue()

    def relay(self, show: Show) -> Show:
        """A function that queues its argument for `show`, which `follow` calls."""
        return lambda event: self._events.put((show, event))

    def follow(self, live: Live) -> None:
        """Show frames and states as they come, until the session rests; an interrupt cancels the picture."""
        rests = False
        while not rests:
            try:
                show, event = self._events.get(timeout=PATIENCE)
                show(event)  # after a rest it may belong to a picture made ahead
                rests = getattr(event, "phase", "") in RESTS and event.recipe in ("", live.recipe.hash)
            except KeyboardInterrupt:
                live.cancel()
            except queue.Empty:  # an interrupt may have come while the last state was shown, or before the first
                rests = _settled(live) and self._events.empty()


def _settled(live: Live) -> bool:
    """Whether the picture requested last is finished, was stopped, or failed."""
    try:
        live.wait(0)
    except TimeoutError:
        return False
    except Exception:  # the state that was shown says what ended it
        return True
    return True


def front_end() -> Background | Foreground:
    """How this front end shows a live session."""
    return Foreground() if in_colab() else Background()
