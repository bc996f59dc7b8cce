"""The detectors of controlnet_aux: found, fetched and loaded when first used, and asked for nothing but the map.

controlnet_aux keeps its weights as pickles (.pth) in one repository of the hub and opens them by `torch.load`. What a
pickle could run is ruled out by torch's own default, `weights_only=True`, which refuses everything but tensors; where
the environment switches that default off, nothing is loaded. DWPose is left out: its weights are opened by mmengine,
which promises no such thing.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ctrl.skeleton import Skeleton

Array = np.ndarray[Any, np.dtype[np.uint8]]

REPOSITORY = "lllyasviel/Annotators"
UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
SMALLEST = 64  # controlnet_aux rounds sizes to multiples of this, down to nothing below it


@dataclass(frozen=True)
class Tool:
    """One detector of controlnet_aux: the class that is it, and the files of the hub that it needs."""

    name: str
    cls: str
    files: tuple[str, ...]
    sizes: tuple[str, ...] = ("detect_resolution", "image_resolution")  # its arguments that take a size

    def map(self, pixels: Array, size: int) -> Array:
        """Pixels (h, w, 3) RGB, read at about `size` pixels along the shorter side, to a map (h', w') uint8."""
        net = load(self)
        made = net(pixels, output_type="np", **dict.fromkeys(self.sizes, max(SMALLEST, size)))
        return np.ascontiguousarray(np.asarray(made, np.uint8)[..., 0])

    def poses(self, pixels: Array, size: int) -> Any:
        """The figures in pixels (h, w, 3) RGB, as controlnet_aux has them: keypoints in fractions of the picture."""
        aux = import_module("controlnet_aux.util")
        net = load(self)
        return net.detect_poses(aux.resize_image(pixels, max(SMALLEST, size)))


OPENPOSE = Tool("openpose", "OpenposeDetector", ("body_pose_model.pth",))
DEPTH = (
    Tool("midas", "MidasDetector", ("dpt_hybrid-midas-501f0c75.pt",)),
    Tool("zoe", "ZoeDetector", ("ZoeD_M12_N.pt",)),
)
EDGES = (
    Tool("hed", "HEDdetector", ("ControlNetHED.pth",)),
    Tool("pidinet", "PidiNetDetector", ("table5_pidinet.pth",)),
)
LINE_ART = (
    Tool("lineart", "LineartDetector", ("sk_model.pth", "sk_model2.pth")),
    Tool("lineart_anime", "LineartAnimeDetector", ("netG.pth",)),
    Tool("lineart_standard", "LineartStandardDetector", (), ("detect_resolution",)),
)


def named(name: str) -> Tool:
    """The maker of maps of this name."""
    return next(tool for tool in (*DEPTH, *EDGES, *LINE_ART) if tool.name == name)


def skeletons(made: Any, size: tuple[int, int]) -> list[Skeleton]:
    """The figures a detector of poses returned, those of the largest extent in a picture of `size` first.

    A detector returns a Skeleton or a sequence of Skeletons or of controlnet_aux's poses, whose 18 keypoints are
    fractions of the picture's width and height, None where there is none.
    """
    figures = [_skeleton(one) for one in ([made] if isinstance(made, Skeleton) else made)]
    figures = [figure for figure in figures if figure.shown.any()]

    def extent(figure: Skeleton) -> float:
        return float(np.linalg.norm(np.ptp(figure.points[figure.shown] * size, axis=0)))

    return sorted(figures, key=extent, reverse=True)


def _skeleton(made: Any) -> Skeleton:
    if isinstance(made, Skeleton):
        return made
    body = getattr(made, "body", None)
    if body is None or len(body.keypoints) != 18:
        raise TypeError(
            f"detector must return a Skeleton or several, or controlnet_aux's poses, got {type(made).__name__}."
        )
    points = [(0.0, 0.0) if joint is None else (joint.x, joint.y) for joint in body.keypoints]
    return Skeleton(np.array(points), np.array([joint is not None for joint in body.keypoints]))


@lru_cache(maxsize=2)
def load(tool: Tool) -> Any:
    """The detector itself, on the CPU; the two last used stay loaded.

    Raises an ImportError without controlnet_aux, a FileNotFoundError when the weights cannot be had, and a
    ValueError when they are no weights of this detector.
    """
    aux = _library(tool)
    if not tool.files:
        return getattr(aux, tool.cls)()
    if os.environ.get(UNSAFE, "0").lower() in ("1", "y", "yes", "true"):
        raise ValueError(
            f"detector {tool.name!r} is kept in pickles, which could run code while {UNSAFE} is set; unset it."
        )
    folder = _fetch(tool)
    try:
        if tool is OPENPOSE:  # its from_pretrained would fetch hands and face too
            body = import_module("controlnet_aux.open_pose.body").Body(str(folder / tool.files[0]))
            return aux.OpenposeDetector(body)
        return getattr(aux, tool.cls).from_pretrained(str(folder))
    except Exception as error:
        raise ValueError(
            f"the weights of detector {tool.name!r} cannot be loaded from {str(folder)!r} ({type(error).__name__}); "
            "delete them, so that they are fetched anew."
        ) from error


def _library(tool: Tool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm and torch complain of what controlnet_aux does on import
            return import_module("controlnet_aux")
    except ImportError as error:
        raise ImportError(
            f"detector {tool.name!r} needs controlnet_aux ({error}); "
            "install it by `pip install ctrl-diffusion[detectors]`."
        ) from error


def _fetch(tool: Tool) -> Path:
    """The folder of a detector's files: the hub's cache if they are there, else from the hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = [try_to_load_from_cache(REPOSITORY, file) for file in tool.files]
    if all(isinstance(path, str) for path in cached):
        return Path(str(cached[0])).parent
    try:
        fetched = [hf_hub_download(REPOSITORY, file) for file in tool.files]
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"the weights of detector {tool.name!r} ({', '.join(tool.files)} of {REPOSITORY}) are not in the hub's "
            f"cache and could not be fetched ({type(error).__name__}); check the connection."
        ) from error
    return Path(fetched[0]).parent
