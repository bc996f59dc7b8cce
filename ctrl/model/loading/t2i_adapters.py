"""T2I-Adapters of every published form, for the U-Net they will act on.

A folder of diffusers', or one file by diffusers' or by the original names (github.com/TencentARC/T2I-Adapter).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ctrl.model.loading.configs import BLOCKS, checked
from ctrl.model.loading.files import read_json, read_tensors
from ctrl.model.loading.original_names import TensorPicker
from ctrl.model.loading.pretrained import build, described, fill_from, on_meta
from ctrl.model.t2i_adapter import T2IAdapter

CONFIG, CLASS = "config.json", "T2IAdapter"
RESNETS = 2  # of a level in every full adapter's file
LIGHT, FULL, XL = "light_adapter", "full_adapter", "full_adapter_xl"


def is_t2i_adapter(place: Any) -> bool:
    """Whether a place or a module holds a T2I-Adapter, by its configuration or by the names of its tensors."""
    if isinstance(place, nn.Module):
        return type(place).__name__ == CLASS
    if (place / CONFIG).is_file():
        return bool(read_json(place / CONFIG).get("_class_name") == CLASS)
    file = _only_file(place)
    names = [] if file is None else [key.removeprefix("adapter.") for key in read_tensors(file)[0]]
    return any(name.startswith("body.0.") for name in names)


def _only_file(place: Path) -> Path | None:
    """The file itself, or the one .safetensors in a folder."""
    inside = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    return inside[0] if len(inside) == 1 else None


def t2i_adapter(kind: str, place: Path | nn.Module, unet: Any, vae_scale_factor: int = 8) -> T2IAdapter:
    """The T2I-Adapter for this U-Net, on its device and in its dtype; a ValueError says that it does not fit."""
    from diffusers.models.adapter import T2IAdapter as Net

    if isinstance(place, nn.Module):
        net: Any = place
        if (net.dtype, net.device) != (unet.dtype, unet.device):
            raise ValueError(
                f"the {kind} T2I-Adapter is in {net.dtype} on {net.device} and the U-Net in {unet.dtype} on "
                f"{unet.device}; give it as net.to(device={str(unet.device)!r}, dtype={unet.dtype})."
            )
    elif (place / CONFIG).is_file() or (file := _only_file(place)) is None:
        net = fill_from(place, described(Net, place), unet.dtype, unet.device)
    else:
        net = _of_file(file, Net, unet)
    _fit(kind, net, unet, vae_scale_factor)
    return T2IAdapter(kind, net)


def _fit(kind: str, net: Any, unet: Any, vae_scale_factor: int) -> None:
    """Refuse, by a ValueError, an adapter whose residuals are not what the U-Net's down blocks give."""
    read = net.config.in_channels
    if read not in (1, 3):
        raise ValueError(f"the {kind} T2I-Adapter reads maps of {read} channels, and ctrl shows it 1 or 3.")
    got, wanted = _adds(net), _wanted(unet, vae_scale_factor)
    if any(own != theirs for own, theirs in zip(got, wanted, strict=False)):  # it may be of fewer blocks, or of more
        raise ValueError(
            f"the {kind} T2I-Adapter was made for another model: it adds to blocks of {_listed(got)}, and the U-Net's "
            f"are of {_listed(wanted)}."
        )


def _adds(net: Any) -> list[tuple[int, int]]:
    """The channels of each residual, and how many pixels one of its cells is wide."""
    width, found = int(net.downscale_factor), []
    for block in net.adapter.body:
        width *= 1 if block.downsample is None else 2
        last = block.out_conv.out_channels if hasattr(block, "out_conv") else block.resnets[-1].block2.out_channels
        found.append((last, width))
    return found


def _wanted(unet: Any, vae_scale_factor: int) -> list[tuple[int, int]]:
    """The same of what the U-Net's down blocks add a residual to: before they shrink it where they have attention."""
    width, found = vae_scale_factor, []
    for block in unet.down_blocks:
        after = width * (2 if block.downsamplers else 1)
        found.append((block.resnets[-1].out_channels, width if getattr(block, "has_cross_attention", False) else after))
        width = after
    return found


def _listed(blocks: list[tuple[int, int]]) -> str:
    return ", ".join(f"{channels} channels at 1/{width}" for channels, width in blocks)


def _of_file(file: Path, kind: Any, unet: Any) -> Any:
    tensors = {key.removeprefix("adapter."): tensor for key, tensor in read_tensors(file)[0].items()}
    config = checked(kind, _config(tensors, file.name, xl=unet.config.addition_embed_type is not None), file.name)
    picker = TensorPicker(tensors, set())
    original = "body.0.block1.weight" in tensors or "body.0.body.0.block1.weight" in tensors
    names = on_meta(kind, config, file.name).state_dict()
    light = config["adapter_type"] == LIGHT
    picked = picker.take(names, partial(_original, light=light) if original else _bare)
    if left := picker.left():
        raise ValueError(f"{file.name} has {len(left)} tensors that a T2I-Adapter has no place for, such as {left[0]}.")
    return build(kind, config, picked, name=file.name, dtype=unet.dtype, device=unet.device)


def _config(tensors: Mapping[str, Tensor], where: str, *, xl: bool) -> dict[str, Any]:
    """The configuration by the shapes of a file: its form, its channels, and how it folds its maps' pixels."""
    light = "conv_in.weight" not in tensors
    levels = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("body."))
    first = tensors.get("body.0.in_conv.weight" if light else "conv_in.weight")
    if first is None or first.ndim != 4:
        raise ValueError(f"{where} is a damaged T2I-Adapter: it has no first convolution.")
    folded = first.shape[1]  # the channels of the maps, times the pixels that are folded into one
    pixels = next((n for n in (3, 1) if math.isqrt(folded // n) ** 2 * n == folded), 3)
    flat = "body.0.block1.weight" in tensors  # the original names of a full one count its resnets through
    blocks = range(0, levels, RESNETS) if flat else range(min(levels, BLOCKS))
    inner = "block2.weight" if flat else "out_conv.weight" if light else "resnets.0.block2.weight"
    lasts = [tensors.get(f"body.{at}.{inner}") for at in blocks]
    part = "body.0.body" if "body.0.body.0.block1.weight" in tensors else "body.0.resnets"
    resnets = RESNETS if flat else len({name.split(".")[3] for name in tensors if name.startswith(f"{part}.")})
    channels = [last.shape[0] for last in lasts if last is not None]
    return {
        "in_channels": pixels,
        "channels": channels[:-1] if light else channels,  # a light one's last level is as wide as the one before
        "num_res_blocks": resnets,
        "downscale_factor": math.isqrt(folded // pixels),
        "adapter_type": LIGHT if light else XL if xl else FULL,
    }


def _bare(name: str) -> str:
    return name.removeprefix("adapter.")


def _original(name: str, *, light: bool) -> str:
    """The original name of a parameter of diffusers' T2IAdapter."""
    match _bare(name).split("."):
        case ["body", level, "resnets", number, *rest] if light:
            return ".".join(["body", level, "body", number, *rest])
        case ["body", level, "resnets", number, *rest]:
            return ".".join(["body", str(int(level) * RESNETS + int(number)), *rest])
        case ["body", level, "in_conv", kind] if not light:
            return f"body.{int(level) * RESNETS}.in_conv.{kind}"
        case parts:
            return ".".join(parts)
