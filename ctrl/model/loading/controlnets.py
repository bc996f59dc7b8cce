"""ControlNets of both layouts, for the U-Net they will act on.

A ControlNet is a copy of a U-Net's encoder. A single file does not state its architecture, so it is built like the
U-Net's; a folder of diffusers' must fit it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctrl.model.loading.configs import BLOCKS, checked
from ctrl.model.loading.control_modules import OneKind, Pooled, reading_rgb
from ctrl.model.loading.families import union_modes
from ctrl.model.loading.files import guess_file_kind, read_json, read_tensors, read_weights
from ctrl.model.loading.original_names import TensorPicker, controlnet_name
from ctrl.model.loading.pretrained import build, on_meta

MARKS = {"lora_controlnet", "difference"}  # empty tensors: what the others are added to is the U-Net
PREFIX = "control_model."  # in the original layout, if anything
ENTRY = "controlnet_cond_embedding.conv_in.weight"
FITTING = (
    "cross_attention_dim",
    "block_out_channels",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
    "in_channels",
)


def controlnet(kind: str, given: Path | nn.Module, unet: Any, mode: int | None = None) -> Any:
    """The ControlNet of a `kind` for this U-Net, on its device and in its dtype.

    `given` is a folder in diffusers' layout, a .safetensors file in the original or diffusers' names, a folder that
    holds one such file, or the module itself, which is taken as it is. `mode` is the number of this kind in one that
    serves many, by default the published union's. One that does not fit the U-Net, is not whole, or is of a form that
    cannot be followed raises a ValueError.
    """
    if isinstance(given, nn.Module):
        net: Any = given
        _check_module(kind, net, unet)
        _fit(kind, net.config, unet)
    elif (given / "config.json").is_file():
        net = _of_folder(kind, given, unet)
    else:
        net = _of_file(kind, _only_file(given), unet)
    _check_residuals(kind, net, unet)
    if (channels := net.config.get("conditioning_channels", 3)) != 3:
        raise ValueError(f"the {kind} ControlNet reads maps of {channels} channels, and ctrl shows it 3.")
    net, mode = reading_rgb(net), _mode(kind, net, mode)
    if net.config.get("global_pool_conditions"):
        if mode is not None:
            raise ValueError(f"the {kind} ControlNet serves many kinds and pools its residuals: ctrl does not do both.")
        return Pooled(net)
    return net if mode is None else OneKind(net, mode)


def _mode(kind: str, net: Any, mode: int | None) -> int | None:
    """The number of this kind in a ControlNet that serves many, None in one that serves one."""
    many = getattr(net.config, "num_control_type", None)
    if many is None:
        if mode is not None:
            raise ValueError(f"the {kind} ControlNet serves one kind, and the number of its kind is {mode}.")
        return None
    named = union_modes(net.config)
    chosen = named.get(kind) if mode is None else mode
    if chosen is None or not 0 <= chosen < many:
        reason = f"the number of its kind is {mode}" if mode is not None else f"{kind!r} is none that is known"
        raise ValueError(f"the {kind} ControlNet serves {many} kinds, and {reason}: {', '.join(named)}.")
    return chosen


def _only_file(place: Path) -> Path:
    if place.is_file():
        return place
    inside = sorted(place.glob("*.safetensors"))
    if len(inside) != 1:
        raise FileNotFoundError(f"{place.name!r} has no config.json and {len(inside)} .safetensors files, not one.")
    return inside[0]


def _of_folder(kind: str, folder: Path, unet: Any) -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

    config = read_json(folder / "config.json")
    net, named = ControlNetModel, config
    if "num_control_type" in config:  # the published ones call their class ControlNetModel_Union
        net, named = ControlNetUnionModel, {**config, "_class_name": ControlNetUnionModel.__name__}
    kept = checked(net, named, folder.name)
    _fit(kind, kept, unet)
    return build(net, kept, read_weights(folder), name=repr(folder.name), dtype=unet.dtype, device=unet.device)


def _check_module(kind: str, net: Any, unet: Any) -> None:
    """Refuse a module that is no ControlNet, or does not live where the U-Net does."""
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

    if not isinstance(net, ControlNetModel | ControlNetUnionModel):
        raise TypeError(f"the {kind} ControlNet must be a ControlNetModel or its folder, got a {type(net).__name__}.")
    if (net.dtype, net.device) != (unet.dtype, unet.device):
        raise ValueError(
            f"the {kind} ControlNet is in {net.dtype} on {net.device} and the U-Net in {unet.dtype} on {unet.device}; "
            f"give it as net.to(device={str(unet.device)!r}, dtype={unet.dtype})."
        )


def _check_residuals(kind: str, net: Any, unet: Any) -> None:
    """Refuse, by a ValueError, a ControlNet whose residuals are not what the U-Net's skips are."""
    skips = [unet.conv_in.out_channels]
    for block in unet.down_blocks:
        skips += [resnet.out_channels for resnet in block.resnets]
        skips += [sampler.out_channels for sampler in block.downsamplers or ()]
    got = [conv.out_channels for conv in net.controlnet_down_blocks]
    if got != skips:
        raise ValueError(
            f"the {kind} ControlNet was made for another model: it adds to {len(got)} skips, of {got} channels, "
            f"and there are {len(skips)} here, of {skips}."
        )


def _fit(kind: str, config: Mapping[str, Any], unet: Any) -> None:
    """Refuse, by a ValueError, a ControlNet that was made for another U-Net."""
    wanted = _read_by_controlnets(unet)
    for field in FITTING:
        got, want = (_plain(fields.get(field)) for fields in (config, wanted))
        if field in config and got != want:
            raise ValueError(f"the {kind} ControlNet was made for another model: its {field} is {got}, not {want}.")


def _read_by_controlnets(unet: Any) -> dict[str, Any]:
    """The U-Net's configuration; of an inpainting U-Net, ControlNets read the latents alone."""
    return {**unet.config, "in_channels": unet.config["out_channels"]}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _of_file(kind: str, file: Path, unet: Any) -> Any:
    """The ControlNet in one file, of the sizes of the U-Net: its own weights, or what they add to the U-Net's."""
    tensors, _ = read_tensors(file)
    if any(key.startswith(PREFIX) for key in tensors):  # the file may hold the model it was trained on too
        tensors = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items() if key.startswith(PREFIX)}
    original = "input_hint_block.0.weight" in tensors
    if not original and ENTRY not in tensors:
        looks = guess_file_kind(tensors, not_a="a ControlNet,")
        raise ValueError(f"{file.name} is no ControlNet by diffusers' or the original names: {looks}.")
    net, by_shapes = _class(tensors)
    known = list(inspect.signature(net.__init__).parameters)[1:]
    own = _read_by_controlnets(unet)
    config = {field: own[field] for field in known if field in own} | by_shapes
    first = tensors["input_hint_block.0.weight" if original else ENTRY]
    config |= {"conditioning_embedding_out_channels": _hints(tensors, original=original),
               "conditioning_channels": first.shape[1] if first.ndim == 4 else 3}  # fmt: skip
    shapes = {name: tuple(tensor.shape) for name, tensor in on_meta(net, config, file.name).state_dict().items()}
    rename: Callable[[str], str] = partial(controlnet_name, config=config) if original else str
    picker = TensorPicker(tensors, {key for key in MARKS if key in tensors})
    picked = picker.take(shapes, rename)
    if MARKS & tensors.keys():
        picked = completed(picked, shapes, picker, rename, unet.state_dict())
    odd = [name for name, shape in shapes.items() if name not in picked or tuple(picked[name].shape) != shape]
    if odd := [*odd, *picker.left()]:
        raise ValueError(
            f"the {kind} ControlNet in {file.name} was made for another model, or is not whole: {len(odd)} of its "
            f"tensors, such as {odd[0]}, are not what this U-Net's would be."
        )
    return build(net, config, picked, name=file.name, dtype=unet.dtype, device=unet.device)


def _class(tensors: Mapping[str, Tensor]) -> tuple[Any, dict[str, Any]]:
    """diffusers' class of a ControlNet with these tensors, and the configuration that follows from their shapes."""
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

    kinds, projects = tensors.get("task_embedding"), tensors.get("spatial_ch_projs.weight")
    if kinds is None or projects is None or kinds.ndim != 2 or projects.ndim != 2:
        return ControlNetModel, {}
    layers = {key.split(".")[1] for key in tensors if key.startswith("transformer_layes.")}
    return ControlNetUnionModel, {
        "num_control_type": kinds.shape[0],
        "num_trans_channel": kinds.shape[1],
        "num_trans_layer": min(len(layers), BLOCKS),
        "num_proj_channel": projects.shape[0],
    }


def completed(
    picked: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    picker: TensorPicker,
    rename: Callable[[str], str],
    base: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """All tensors of a ControlNet that is written as what it adds to the U-Net's `base`.

    A "difference" is added whole; a Control-LoRA (huggingface.co/stabilityai/control-lora) as up · down, and a layer
    that it does not have is the U-Net's own.
    """
    complete = dict(picked)
    for name in shapes:
        shared = base.get(name)
        if shared is None:
            continue
        if "difference" in picker.tensors:
            if name in picked:
                complete[name] = shared.float() + picked[name].to(shared.device, torch.float32)
        elif name not in picked:
            start = rename(name).removesuffix(".weight")
            pair = picker.take(("up", "down"), f"{start}.{{}}".format)
            if len(pair) == 2:
                up, down = (pair[part].to(shared.device, torch.float32).flatten(1) for part in ("up", "down"))
                complete[name] = shared.float() + (up @ down).reshape(shared.shape)
            else:
                complete[name] = shared
    return complete


def _hints(tensors: Mapping[str, Tensor], *, original: bool) -> tuple[int, ...]:
    """The channels of the layers that read the hint, by their shapes: of every other convolution."""
    channels: list[int] = []
    while len(channels) < BLOCKS:
        at = len(channels)
        ours = f"controlnet_cond_embedding.blocks.{2 * at - 1}.weight" if at else ENTRY
        weight = tensors.get(f"input_hint_block.{4 * at}.weight" if original else ours)
        if weight is None:
            break
        channels.append(weight.shape[0])
    return tuple(channels)
