"""ctrl: steer a latent diffusion model by prompt, pose, depth, edges and style, and see why.

Importing this package is quick and does nothing: torch and diffusers load in the first call that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ctrl.images import Picture, PictureLike
from ctrl.recipe import (
    APG,
    PAG,
    SEG,
    CFGZero,
    Change,
    Control,
    Depth,
    Edges,
    Guidance,
    Lora,
    Pose,
    Recipe,
    Region,
    Schedule,
    Style,
    curve,
    hold,
    ramp,
)
from ctrl.skeleton import People, Skeleton

if TYPE_CHECKING:
    from ctrl import detect
    from ctrl.live import Live
    from ctrl.maps import Watch, watching
    from ctrl.model import Hub, Model, load
    from ctrl.sampling import Shot, Step, sample, sample_many, steps
    from ctrl.sweeps import Sweep, sweep

__version__ = "0.1.0"
__all__ = [
    "APG",
    "PAG",
    "SEG",
    "CFGZero",
    "Change",
    "Control",
    "Depth",
    "Edges",
    "Guidance",
    "Hub",
    "Live",
    "Lora",
    "Model",
    "People",
    "Picture",
    "PictureLike",
    "Pose",
    "Recipe",
    "Region",
    "Schedule",
    "Shot",
    "Skeleton",
    "Step",
    "Style",
    "Sweep",
    "Watch",
    "curve",
    "detect",
    "hold",
    "load",
    "ramp",
    "sample",
    "sample_many",
    "steps",
    "sweep",
    "watching",
]


def __getattr__(name: str) -> Any:
    if name in ("Hub", "Model", "load"):
        return getattr(import_module("ctrl.model"), name)
    if name in ("Shot", "Step", "sample", "sample_many", "steps"):
        return getattr(import_module("ctrl.sampling"), name)
    if name == "Live":
        return getattr(import_module("ctrl.live"), name)
    if name in ("Sweep", "sweep"):
        return getattr(import_module("ctrl.sweeps"), name)
    if name in ("Watch", "watching"):
        return getattr(import_module("ctrl.maps"), name)
    if name == "detect":
        return import_module("ctrl.detect")
    raise AttributeError(f"module 'ctrl' has no attribute {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return __all__
