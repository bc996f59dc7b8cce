"""Maps as figures of matplotlib, made without pyplot: no state is left behind, and threads may draw."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

from ctrl.maps.colours import table

if TYPE_CHECKING:
    from ctrl.maps.heat import HeatMap


def figure(heat: HeatMap, *, colours: str, most: float | None) -> Any:
    """A Figure: the map over the picture, and what share each colour stands for. An ImportError without matplotlib."""
    try:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap, Normalize
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "figure() needs matplotlib: pip install 'ctrl-diffusion[figures]', in a checkout pip install '.[figures]'; "
            "overlay() does without."
        ) from None
    top = float(heat.heat.max(initial=0)) if most is None else most
    made: Any = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = made.subplots()
    axes.imshow(heat.overlay(colours=colours, most=top))
    axes.set_axis_off()
    axes.set_title(heat.name, fontsize=10)
    scale = ScalarMappable(Normalize(0, top), ListedColormap(table(colours) / 255))
    made.colorbar(scale, ax=axes, label=heat.unit, shrink=0.85)
    made._repr_png_ = partial(_png, made)  # without pyplot, IPython knows no other way to show it
    return made


def _png(made: Any) -> bytes:
    buffer = io.BytesIO()
    made.savefig(buffer, format="png")
    return buffer.getvalue()
