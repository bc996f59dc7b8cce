"""Daemon threads that are stopped and waited for when the interpreter ends.

A thread that the interpreter kills while it is inside torch aborts the process.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from threading import Thread
from weakref import WeakKeyDictionary, WeakMethod

PATIENCE = 5.0  # seconds that the end of the interpreter waits for all threads together

_stops: WeakKeyDictionary[Thread, WeakMethod[Callable[[], object]] | None] = WeakKeyDictionary()


def start(
    work: Callable[..., object], *arguments: object, name: str, stop: Callable[[], object] | None = None
) -> Thread:
    """Run `work(*arguments)` in a daemon thread of this name, and return the thread.

    `stop` is a method that asks the work to end and returns at once; None for work that ends by itself.
    """
    thread = Thread(target=work, args=arguments, name=name, daemon=True)
    _stops[thread] = None if stop is None else WeakMethod(stop)
    thread.start()
    return thread


@atexit.register
def _end() -> None:
    """Stop the threads that still run, and wait until they have ended, for `PATIENCE` at most."""
    until = time.monotonic() + PATIENCE
    running = [(thread, stop) for thread, stop in list(_stops.items()) if thread.is_alive()]
    for _, stop in running:
        if stop is not None and (method := stop()) is not None:
            method()
    for thread, _ in running:
        thread.join(max(until - time.monotonic(), 0))
