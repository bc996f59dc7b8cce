"""T2I-Adapters (arXiv 2302.08453): controls that run once a picture, since they read neither latents nor time.

A folder of diffusers', or one file by diffusers' or by the original names (github.com/TencentARC/T2I-Adapter).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctrl.model.loading.configs import BLOCKS, checked
from ctrl.model.loading.files import read_json, read_tensors
from ctrl.model.loading.original_names import TensorPicker
from ctrl.model.loading.pretrained import build, described, fill_from, on_meta

CONFIG, CLASS = "config.json", "T2IAdapter"
RESNETS = 2  # of a level in every full adapter's file
LIGHT, FULL, XL = "light_adapter", "full_adapter", "full_adapter_xl"


@dataclass(frozen=True, eq=False)
class T2IAdapter:
    """A T2I-Adapter of one kind; `net` is diffusers' module."""

    kind: str
    net: Any

    @torch.no_grad()
    def residuals(self, hint: Tensor) -> tuple[Tensor, ...]:
        """What it adds inside the U-Net's down blocks, for maps (R, 3, H, W) in [0, 1], one tensor a block.

        They are the U-Net's `down_intrablock_additional_residuals`, the same at every step and for every row; each
        call of the U-Net needs a list and tensors of its own, which it adds to in place. An adapter of grey maps is
        shown the first channel.
        """
        shown = hint[:, : self.net.config.in_channels].to(self.net.device, self.net.dtype)
        return tuple(self.net(shown))


def is_t2i_adapter(place: Any) -> bool:
    """Whether a place or a module holds a T2I-Adapter, by its configuration or by the names of its tensors."""
    if isinstance(place, nn.Module):
        return type(place).__name__ == CLASS
    if (place / CONFIG).is_file():
        return bool(read_json(place / CONFIG).get("_class_name") == CLASS)
    if not place.is_file():
        return False
    names = [key.removeprefix("adapter.") for key in read_tensors(place)[0]]
    return any(name.startswith("body.0.") for name in names)


def t2i_adapter(kind: str, place: Path | nn.Module, unet: Any) -> T2IAdapter:
    """The T2I-Adapter for this U-Net, on its device and in its dtype; a ValueError says that it does not fit."""
    from diffusers.models.adapter import T2IAdapter as Net

    if isinstance(place, nn.Module):
        net: Any = place
        if (net.dtype, net.device) != (unet.dtype, unet.device):
            raise ValueError(
                f"the {kind} T2I-Adapter is in {net.dtype} on {net.device} and the U-Net in {unet.dtype} on "
                f"{unet.device}; give it as net.to(device={str(unet.device)!r}, dtype={unet.dtype})."
            )
    elif place.is_dir():
        net = fill_from(place, described(Net, place), unet.dtype, unet.device)
    else:
        net = _of_file(place, Net, unet)
    channels, wanted = list(net.config.channels), list(unet.config.block_out_channels)
    if net.config.adapter_type == LIGHT:
        channels.append(channels[-1])
    if channels[: len(wanted)] != wanted or net.config.in_channels not in (1, 3):
        raise ValueError(
            f"the {kind} T2I-Adapter was made for another model: it adds to blocks of {channels} channels and reads "
            f"maps of {net.config.in_channels}, and the U-Net's are of {wanted}, and its maps of 1 or 3."
        )
    return T2IAdapter(kind, net)


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
