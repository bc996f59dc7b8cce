"""Panels for the notebook: each leaf is one anywidget with one plain `.js` module, no build step.

Importing this package loads nothing. A leaf's own module is imported when its name is first asked for;
without anywidget that raises an `ImportError` with the line that installs it.

Write `from widgets import FrameView`, not `import widgets`: half the world gives that name to ipywidgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widgets.frame import FrameView

__all__ = ["FrameView"]


def __getattr__(name: str) -> Any:
    if name == "FrameView":
        from widgets.frame import FrameView

        return FrameView
    raise AttributeError(f"module 'widgets' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
