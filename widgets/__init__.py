"""Panels for the notebook: each leaf is one anywidget with one plain ES module, no build step.

Importing this package loads nothing. A leaf's own module is imported when its name is first asked for;
without anywidget that raises an `ImportError` with the line that installs it.

Write `from widgets import FrameView`, not `import widgets`: half the world gives that name to ipywidgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widgets.attention import AttentionPanel
    from widgets.curve import CurvePad
    from widgets.frame import FrameView
    from widgets.gallery import Gallery
    from widgets.guidance import GuidancePanel
    from widgets.heat import TokenHeat
    from widgets.leaf_panels import DepthPanel, PosePanel, StylePanel
    from widgets.map import MapPad
    from widgets.pose import PosePad
    from widgets.shelf import StyleShelf
    from widgets.studio import Studio

_HOMES = {
    "AttentionPanel": "attention",
    "CurvePad": "curve",
    "DepthPanel": "leaf_panels",
    "FrameView": "frame",
    "Gallery": "gallery",
    "GuidancePanel": "guidance",
    "MapPad": "map",
    "PosePad": "pose",
    "PosePanel": "leaf_panels",
    "Studio": "studio",
    "StylePanel": "leaf_panels",
    "StyleShelf": "shelf",
    "TokenHeat": "heat",
}
__all__ = [
    "AttentionPanel",
    "CurvePad",
    "DepthPanel",
    "FrameView",
    "Gallery",
    "GuidancePanel",
    "MapPad",
    "PosePad",
    "PosePanel",
    "Studio",
    "StylePanel",
    "StyleShelf",
    "TokenHeat",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"widgets.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'widgets' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
