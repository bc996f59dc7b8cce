"""Progress of runs on stderr: a tqdm bar on a terminal and in a notebook, one line at the end in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Advance = Callable[[], object]  # called after each unit


@contextmanager
def bar(total: int, unit: str, *, shown: bool, done: int = 0, title: str = "") -> Iterator[Advance]:
    """Show progress from `done` to `total` units. With `shown` False, or without a stderr, nothing is written."""
    if not shown or sys.stderr is None:
        yield lambda: None
    elif _redraws(sys.stderr):
        from tqdm.auto import tqdm

        with tqdm(total=total, initial=done, unit=unit, desc=title or None) as drawn:
            yield drawn.update
    else:
        began = time.perf_counter()
        yield lambda: None
        _log(f"{title}{': ' if title else ''}{total}/{total} {unit}s in {time.perf_counter() - began:.1f} s")


def _redraws(stream: Any) -> bool:
    """Whether a stream shows a line that is drawn again and again: a terminal's, or that of a Jupyter kernel."""
    if type(stream).__module__.startswith("ipykernel."):
        return True
    return not getattr(stream, "closed", False) and hasattr(stream, "isatty") and bool(stream.isatty())


def _log(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)  # noqa: T201  # the log of a script
    except (OSError, ValueError):
        return  # a closed stderr or a full disk must not cost the picture
