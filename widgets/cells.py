"""Which cell made a panel, so that a cell that runs again closes the panel it made before."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Protocol


class Panel(Protocol):
    """A panel that can be closed."""

    def close(self) -> None:
        """Close the panel."""


_made: dict[str, tuple[str, weakref.WeakSet[Any]]] = {}  # by cell: the run of it, and the panels that run made


def retire_older(panel: Panel) -> None:
    """Close the panels that an earlier run of this cell made, and remember this one. Outside of notebooks, nothing."""
    if "marimo" in sys.modules and _follow_marimo(panel):
        return
    cell, run = _jupyter_cell()
    if not cell:
        return
    before, panels = _made.get(cell, (run, weakref.WeakSet()))
    if before != run:
        for older in list(panels):
            older.close()
        panels = weakref.WeakSet()
    panels.add(panel)
    _made[cell] = (run, panels)


def _jupyter_cell() -> tuple[str, str]:
    """The id of the running cell and the id of this run; empty strings where the front end does not give them."""
    ipython = sys.modules.get("IPython")
    shell: Any = None if ipython is None else ipython.get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else None
    if not isinstance(parent, dict):
        return "", ""
    cell = parent.get("metadata", {}).get("cellId", "")
    return str(cell), str(parent.get("header", {}).get("msg_id", ""))


class _Item:
    """What marimo calls when a cell runs again or is deleted."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    def create(self, context: object) -> None:
        """Nothing to make."""

    def dispose(self, context: object, deletion: bool) -> bool:  # noqa: FBT001  # marimo's own signature
        """Close the panel."""
        self.panel.close()
        return True


def _follow_marimo(panel: Panel) -> bool:
    """Have marimo close the panel with its cell; False outside of its cells."""
    from marimo._runtime.context import safe_get_context

    context: Any = safe_get_context()
    if context is None:
        return False
    context.cell_lifecycle_registry.add(_Item(panel))
    return True
