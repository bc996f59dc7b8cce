"""LoRAs (arXiv 2106.09685): a second view of a module, with the low-rank changes merged into the weights they touch."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ctrl.model.files import read_tensors


def with_lora(unet: Any, file: Path) -> Any:
    """A second U-Net that shares every tensor with the first but those the LoRA touches, merged."""
    shared = {id(tensor): tensor for tensor in [*unet.parameters(), *unet.buffers()]}
    view = copy.deepcopy(unet, memo=shared)
    modules = dict(view.named_modules())
    for name, delta in _lora_deltas(file, list(modules)).items():
        weight = modules[name].weight
        merged = weight.float() + delta.to(weight.device).view(weight.shape)
        modules[name].weight = nn.Parameter(merged.to(weight.dtype), requires_grad=False)
    return view


def _lora_deltas(file: Path, modules: Sequence[str]) -> dict[str, Tensor]:
    """Module name to α/r · B·A in float32 (LoRA, arXiv 2106.09685); diffusers', PEFT's or kohya's names."""
    tensors, metadata = read_tensors(file)
    kohya = {"lora_unet_" + name.replace(".", "_"): name for name in modules}
    noted = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    for variant in ("use_rslora", "use_dora", "alpha_pattern"):
        if noted.get(f"unet.{variant}"):
            raise ValueError(f"{file.name} is a LoRA with {variant}, which ctrl does not merge.")
    deltas = {}
    for down, up in (("lora_A", "lora_B"), ("lora.down", "lora.up"), ("lora_down", "lora_up")):
        for key in [key for key in tensors if key.endswith(f".{down}.weight")]:
            base = key.removesuffix(f".{down}.weight")
            name = kohya.get(base, base.removeprefix("unet."))
            if name not in modules or f"{base}.{up}.weight" not in tensors:
                raise ValueError(f"{file.name} is no LoRA for this U-Net: it changes {base}.")
            a, b = tensors.pop(key).float(), tensors.pop(f"{base}.{up}.weight").float()
            alpha = tensors.pop(f"{base}.alpha", None)
            strength = float(alpha) if alpha is not None else float(noted.get("unet.lora_alpha") or a.shape[0])
            deltas[name] = strength / a.shape[0] * (b.flatten(1) @ a.flatten(1))
    if tensors or not deltas:
        raise ValueError(f"{file.name} is no LoRA that ctrl can read; it holds {next(iter(tensors), 'nothing')}.")
    return deltas
