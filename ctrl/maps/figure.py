"""Maps as figures of matplotlib, made without pyplot: no state is left behind, and threads may draw."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

from PIL import Image

from ctrl.maps.colours import table


def figure(drawn: Image.Image, name: str, unit: str, ends: tuple[float, float], colours: str) -> Any:
    """A Figure of a drawn map and its scale, from one of two `ends` to the other. An ImportError without matplotlib."""
    try:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap, Normalize
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "figure() needs matplotlib: pip install 'ctrl-diffusion[figures]', in a checkout pip install '.[figures]'; "
            "overlay() does without."
        ) from None
    made: Any = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = made.subplots()
    axes.imshow(drawn)
    axes.set_axis_off()
    axes.set_title(name, fontsize=10)
    scale = ScalarMappable(Normalize(*ends), ListedColormap(table(colours) / 255))
    made.colorbar(scale, ax=axes, label=unit, shrink=0.85)
    made._repr_png_ = partial(_png, made)  # without pyplot, IPython knows no other way to show it
    return made


def _png(made: Any) -> bytes:
    buffer = io.BytesIO()
    made.savefig(buffer, format="png")
    return buffer.getvalue()
