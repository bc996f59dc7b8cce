"""How a model comes in: what to load from where, looked at before it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ctrl.model.files import check_index, device_named, find_file, find_folder
from ctrl.model.model import CONTROLS, Model

ATELIER = Path(__file__).parent.parent / "atelier" / "weights"


def load(
    source: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    controlnets: Mapping[str, str | Path] | None = None,
    ip_adapter: str | Path | None = None,
    lora: str | Path | None = None,
) -> Model:
    """A model from a folder in diffusers' layout or a hub id; without `source`, the atelier model.

    Folders named controlnet_pose, controlnet_depth and controlnet_edges, ip_adapter/ip_adapter.safetensors
    and lora/pytorch_lora_weights.safetensors are found by themselves; for another model give `controlnets`
    (kind to folder or hub id), `ip_adapter` (a safetensors file, with its image_encoder folder beside it)
    and `lora` (a safetensors file). `device` "auto" is the GPU if there is one; `dtype` is float32 if not
    given, float16 for a given source on CUDA. Only safetensors are read and no code of the model's is run;
    an incomplete or foreign file raises a ValueError, a missing one a FileNotFoundError.
    """
    place = device_named(device)
    if dtype is None:
        dtype = torch.float16 if place.type == "cuda" and source is not None else torch.float32
    if source is None and not ATELIER.is_dir():
        raise FileNotFoundError("the atelier model's weights are missing from this installation; install it anew.")
    folder = find_folder("source", ATELIER if source is None else source, revision)
    check_index(folder)
    nets = {kind: folder / f"controlnet_{kind}" for kind in CONTROLS}
    nets = {kind: path for kind, path in nets.items() if path.is_dir()}
    for kind, given in (controlnets or {}).items():
        if kind not in CONTROLS:
            raise ValueError(f"controlnets has the kind {kind!r}; there is {', '.join(CONTROLS)}.")
        nets[kind] = find_folder(f"controlnets[{kind!r}]", given, None)
    return Model(
        folder,
        device=place,
        dtype=dtype,
        controlnets=nets,
        ip_adapter=find_file("ip_adapter", ip_adapter, folder / "ip_adapter" / "ip_adapter.safetensors"),
        lora=find_file("lora", lora, folder / "lora" / "pytorch_lora_weights.safetensors"),
    )
