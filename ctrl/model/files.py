"""A model on disk, as far as diffusers is not needed: folders, JSON, safetensors, adapters.

Everything here is untrusted until it was looked at: only safetensors and JSON are read, and a file that
does not fit the model is refused before anything is changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

PARTS = (("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL"), ("text_encoder", "CLIPTextModel"))
STYLE_TOKENS = 4  # of an IP-Adapter with one linear projection


def device_named(name: str) -> torch.device:
    """The device; "auto" is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:0 or mps, got {name!r}.") from None


def find_folder(name: str, source: str | Path, revision: str | None) -> Path:
    """A local folder, or a hub repository's snapshot; what looks like a path is never asked of the hub."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    text = str(source)
    if isinstance(source, Path) or text.startswith((".", "~", "/", "\\")) or text.count("/") != 1 or path.exists():
        raise FileNotFoundError(f"{name} must be a folder or a hub id like 'owner/name'; {text!r} is no folder.")
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.safetensors"]
    unwanted = [
        "*fp16*",
        "*non_ema*",
        "*pruned*",
        "safety_checker/*",
    ]  # the same weights once more, or unused
    try:
        got = snapshot_download(text, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{name} {text!r} could not be fetched from the hub ({type(error).__name__}); "
            "check its name, the revision and the connection."
        ) from error
    return Path(got)


def find_file(name: str, given: str | Path | None, default: Path) -> Path | None:
    """The safetensors file given, or the default if it is there."""
    if given is None:
        return default if default.is_file() else None
    path = Path(given).expanduser()
    if not path.is_file() or path.suffix != ".safetensors":
        raise FileNotFoundError(f"{name} must be a .safetensors file, and {str(given)!r} is none.")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent.name!r} has no {path.name}: it is no model in diffusers' layout.")
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.parent.name}/{path.name} is not JSON: {error}.") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path.parent.name}/{path.name} must hold an object, got {type(read).__name__}.")
    return read


def check_index(folder: Path) -> None:
    """Refuse a folder whose parts are of classes that ctrl does not load."""
    index = read_json(folder / "model_index.json")
    if "text_encoder_2" in index:
        raise ValueError(f"{folder.name!r} is an SDXL model; ctrl steers Stable Diffusion 1.x and 2.x so far.")
    for part, kind in PARTS:
        pair = index.get(part)
        if not isinstance(pair, list) or len(pair) != 2 or pair[1] != kind:
            raise ValueError(f"{folder.name!r} has {pair!r} as its {part}; ctrl steers models with a {kind}.")


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and what its header notes."""
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file.name} cannot be read as safetensors: {error}.") from error
