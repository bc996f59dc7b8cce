"""ctrl: steer a latent diffusion model by prompt, pose, depth, edges and style, and see why.

Importing this package is quick and does nothing: torch and diffusers load in the first call that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ctrl.images import Picture, PictureLike
from ctrl.recipe import (
    APG,
    NAG,
    PAG,
    SEG,
    Blend,
    CFGZero,
    Change,
    Control,
    Depth,
    Direction,
    Edges,
    Edit,
    Guidance,
    Inpaint,
    LocalBlend,
    Lora,
    Pose,
    Recipe,
    Region,
    Schedule,
    SeedBlend,
    Style,
    StyleAligned,
    Words,
    curve,
    hold,
    ramp,
)
from ctrl.skeleton import People, Skeleton

if TYPE_CHECKING:
    from ctrl import atelier, detect
    from ctrl.live import Live
    from ctrl.maps import Probe, Watch, watching
    from ctrl.model import Hub, Model, load
    from ctrl.sampling import Layer, Shot, Step, cause, faithfulness, sample, sample_many, steps
    from ctrl.sweeps import RayExecutor, Sweep, Unfinished, sweep

__version__ = "0.1.0"
__all__ = [
    "APG",
    "NAG",
    "PAG",
    "SEG",
    "Blend",
    "CFGZero",
    "Change",
    "Control",
    "Depth",
    "Direction",
    "Edges",
    "Edit",
    "Guidance",
    "Hub",
    "Inpaint",
    "Layer",
    "Live",
    "LocalBlend",
    "Lora",
    "Model",
    "People",
    "Picture",
    "PictureLike",
    "Pose",
    "Probe",
    "RayExecutor",
    "Recipe",
    "Region",
    "Schedule",
    "SeedBlend",
    "Shot",
    "Skeleton",
    "Step",
    "Style",
    "StyleAligned",
    "Sweep",
    "Unfinished",
    "Watch",
    "Words",
    "atelier",
    "cause",
    "curve",
    "detect",
    "faithfulness",
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
    if name in ("Layer", "Shot", "Step", "cause", "faithfulness", "sample", "sample_many", "steps"):
        return getattr(import_module("ctrl.sampling"), name)
    if name == "Live":
        return getattr(import_module("ctrl.live"), name)
    if name in ("RayExecutor", "Sweep", "Unfinished", "sweep"):
        return getattr(import_module("ctrl.sweeps"), name)
    if name in ("Probe", "Watch", "watching"):
        return getattr(import_module("ctrl.maps"), name)
    if name in ("atelier", "detect"):
        return import_module(f"ctrl.{name}")
    raise AttributeError(f"module 'ctrl' has no attribute {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return __all__
