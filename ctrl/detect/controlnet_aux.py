"""The detectors of controlnet_aux, downloaded and loaded when first used.

controlnet_aux keeps its weights as pickles (.pth) in one repository of the hub and opens them by `torch.load`. torch's
default `weights_only=True` refuses everything but tensors, so no pickle can run code; where the environment switches
that default off, nothing is loaded. DWPose is left out: its weights are opened by mmengine,
which promises no such thing.
"""

from __future__ import annotations

import os
import ssl
import warnings
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np

from ctrl.detect.pixels import READ, resized, rgb, scaled
from ctrl.images import Picture
from ctrl.skeleton import Skeleton

Array = np.ndarray[Any, np.dtype[np.uint8]]

REPOSITORY = "lllyasviel/Annotators"
UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
PATIENCE = 2  # seconds to wait for an answer of the hub
SMALLEST = 64  # controlnet_aux rounds sizes to multiples of this, down to nothing below it


@dataclass(frozen=True)
class Tool:
    """One detector of controlnet_aux: the class that is it, and the files of the hub that it needs."""

    name: str
    cls: str
    files: tuple[str, ...]
    sizes: tuple[str, ...] = ("detect_resolution", "image_resolution")  # its arguments that take a size

    def depth(self, picture: Picture, size: int | None = None) -> Array:
        """A map (h, w) of the picture's size."""
        return resized(self._map(picture, size or READ), picture.size)

    def lines(self, picture: Picture, size: int | None) -> Array:
        """A map (h, w), `size` pixels along the shorter side, 512 by default."""
        return resized(self._map(picture, size or READ), scaled(picture.size, size or READ))

    def figures(self, picture: Picture, size: int | None = None) -> list[Skeleton]:
        """The figures in a picture, the largest first."""
        net = load(self)
        aux = import_module("controlnet_aux.util")
        return skeletons(net.detect_poses(aux.resize_image(rgb(picture), max(SMALLEST, size or READ))), picture.size)

    def _map(self, picture: Picture, size: int) -> Array:
        """(h', w') uint8, read at about `size` pixels along the shorter side."""
        net = load(self)
        size = max(SMALLEST, min(scaled(picture.size, size)))
        made = net(rgb(picture), output_type="np", **dict.fromkeys(self.sizes, size))
        return np.ascontiguousarray(np.asarray(made, np.uint8)[..., 0])


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


def skeletons(made: Any, size: tuple[int, int]) -> list[Skeleton]:
    """The figures a detector of poses returned, those of the largest extent in a picture of `size` first.

    A detector returns a Skeleton or a sequence of Skeletons or of controlnet_aux's poses, whose 18 keypoints are
    fractions of the picture's width and height, None where there is none.
    """
    figures = [_skeleton(item) for item in ([made] if isinstance(made, Skeleton) else made)]
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
    parts = {name: _part(getattr(made, name, None)) for name in ("left_hand", "right_hand", "face")}
    return Skeleton(np.array(points), np.array([joint is not None for joint in body.keypoints]), **parts)


def _part(keypoints: Any) -> Any:
    """(n, 2) of a hand or a face; what was not found is left of the picture, above it or None, and goes to (0, 0)."""
    if not keypoints:
        return None
    return np.array([(p.x, p.y) if p is not None and p.x > 0 and p.y > 0 else (0.0, 0.0) for p in keypoints])


@lru_cache(maxsize=2)
def load(tool: Tool) -> Any:
    """The detector itself, on the CPU; the two last used stay loaded.

    Raises an ImportError without controlnet_aux, a FileNotFoundError when the weights cannot be had, and a
    ValueError when they are no weights of this detector.
    """
    if not tool.files:
        return getattr(_library(tool), tool.cls)()
    if os.environ.get(UNSAFE, "0").lower() in ("1", "y", "yes", "true"):
        raise ValueError(
            f"detector {tool.name!r} is kept in pickles, which could run code while {UNSAFE} is set; unset it."
        )
    if find_spec("controlnet_aux") is None:
        raise _missing(tool, "it is not installed")
    folder = _fetch(tool)  # before the library, whose import takes many seconds
    aux = _library(tool)
    try:
        if tool is OPENPOSE:  # its from_pretrained would fetch hands and face too
            body = import_module("controlnet_aux.open_pose.body").Body(str(folder / tool.files[0]))
            return aux.OpenposeDetector(body)
        return getattr(aux, tool.cls).from_pretrained(str(folder))
    except Exception as error:
        raise ValueError(
            f"the weights of detector {tool.name!r} cannot be loaded from {str(folder)!r} ({type(error).__name__}); "
            "delete them, so that they are fetched again."
        ) from error


def _library(tool: Tool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm and torch complain of what controlnet_aux does on import
            return import_module("controlnet_aux")
    except ImportError as error:
        raise _missing(tool, str(error)) from error


def _missing(tool: Tool, reason: str) -> ImportError:
    return ImportError(
        f"detector {tool.name!r} needs controlnet_aux ({reason}); "
        'install it by `pip install ctrl-diffusion[detectors]`, in a checkout `pip install ".[detectors]"`.'
    )


def _fetch(tool: Tool) -> Path:
    """The folder of a detector's files: the hub's cache if they are there, else from the hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT

    cached = [try_to_load_from_cache(REPOSITORY, file) for file in tool.files]
    if all(isinstance(path, str) for path in cached):
        return Path(str(cached[0])).parent
    try:
        check_connection(ENDPOINT)  # the hub's own client tries again for half a minute
        fetched = [hf_hub_download(REPOSITORY, file) for file in tool.files]
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"the weights of detector {tool.name!r} ({', '.join(tool.files)} of {REPOSITORY}) are not in the hub's "
            f"cache and could not be fetched ({type(error).__name__}); check the connection."
        ) from error
    return Path(fetched[0]).parent


def check_connection(address: str) -> None:
    """Raise an OSError where nothing answers at an address within `PATIENCE`, through proxies that are set.

    In a thread, since looking up a name has no time limit.
    """
    outcome: Queue[OSError | None] = Queue()
    Thread(target=lambda: outcome.put(_connection_error(address)), daemon=True).start()
    try:
        error = outcome.get(timeout=PATIENCE)
    except Empty:
        raise TimeoutError(f"nothing answered at {address} within {PATIENCE} seconds") from None
    if error is not None:
        raise error


def _connection_error(address: str) -> OSError | None:
    try:
        with urlopen(Request(address, method="HEAD"), timeout=PATIENCE):
            return None
    except HTTPError:
        return None  # an error is an answer too
    except URLError as error:
        return None if isinstance(error.reason, ssl.SSLError) else error  # the hub's client may trust more certificates
    except (OSError, HTTPException) as error:
        return error if isinstance(error, OSError) else None
