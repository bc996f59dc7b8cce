"""Modules of diffusers and transformers from a folder or from tensors: complete, finite, safetensors only.

Each is built without memory from a checked configuration, and filled with copies of checked tensors. So folders and
single files are loaded in the same way, no configuration decides what code is run, no weight is random, and a file that
changes later does not change the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctrl.caller import warn_caller
from ctrl.images import why
from ctrl.model.loading.configs import checked, checked_processor, checked_schedule
from ctrl.model.loading.files import read_json, read_weights

# The names of a VAE's attention before diffusers 0.16.
OLD_NAMES = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))


# diffusers' schedulers of models that predict noise, and what its SD 1 and 2 pipelines set in any of them.
SCHEDULERS = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
              "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
              "KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
              "DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler", "LCMScheduler",
              "TCDScheduler", "FlowMatchEulerDiscreteScheduler")  # fmt: skip
REPAIRS = {"steps_offset": 1, "clip_sample": False}


def described(kind: Any, folder: Path) -> Any:
    """The module of this `kind` that a folder's config.json describes, on the meta device."""
    return on_meta(kind, checked(kind, read_json(folder / "config.json"), folder.name), repr(folder.name))


def fill_from(folder: Path, module: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """The module with the weights of its folder."""
    return fill(module, read_weights(folder), name=repr(folder.name), dtype=dtype, device=device)


def build(
    kind: Any,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    """A module of this `kind` and configuration, filled."""
    return fill(on_meta(kind, config, name), tensors, name=name, dtype=dtype, device=device)


def fill(module: Any, tensors: Mapping[str, Tensor], *, name: str, dtype: torch.dtype, device: torch.device) -> Any:
    """The module with copies of these tensors, in evaluation mode and without gradients.

    A tensor that is missing, of another shape, not of floating-point numbers or not finite raises a ValueError that
    calls the module by `name`, and so does one too many in a part that the module has, since the configuration is of
    another model then; one of no part of it is left out with a warning.
    """
    kind = type(module).__name__
    wanted = module.state_dict()
    present = {_present(kind, key): tensor for key, tensor in tensors.items() if not key.endswith(".position_ids")}
    missing, strange = sorted(wanted.keys() - present.keys()), sorted(present.keys() - wanted.keys())
    if missing:
        raise ValueError(f"{name} lacks {len(missing)} tensors, such as {missing[0]}: it is incomplete.")
    children = tuple(f"{child}." for child, _ in module.named_children())
    if more := [key for key in strange if key.startswith(children)]:
        raise ValueError(f"{name} has {len(more)} tensors that its configuration has no place for, such as {more[0]}.")
    if strange:
        many = f"{len(strange)} tensors, such as {strange[0]}"
        warn_caller(f"{name} has {many}, that no {kind} has; they are left out.")
    ready = {key: _copied(present[key], key, name, shaped, dtype, device) for key, shaped in wanted.items()}
    module.load_state_dict(ready, assign=True)
    for part in module.modules():
        places = getattr(part, "position_ids", None)
        if isinstance(places, Tensor):  # counted, not learnt, and in no file
            part.position_ids = torch.arange(places.shape[-1], device=device)[None]
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise RuntimeError(f"the installed library gives a {kind} a buffer that ctrl does not know to fill.")
    return module.eval().requires_grad_(requires_grad=False)


def on_meta(kind: Any, config: Mapping[str, Any], name: str) -> nn.Module:
    """A module without memory: its names and shapes."""
    try:
        with torch.device("meta"):
            module: nn.Module = kind(kind.config_class(**config)) if hasattr(kind, "config_class") else kind(**config)
            return module
    except Exception as error:  # whatever the library's constructor stumbles over
        raise ValueError(f"the config.json of {name} describes no {kind.__name__}: {why(error)}.") from error


def _present(kind: str, key: str) -> str:
    """Today's name of a tensor that older releases called otherwise."""
    if kind == "CLIPTextModel":
        return key.removeprefix("text_model.")
    for old, name in OLD_NAMES if ".mid_block.attentions." in key else ():
        key = key.replace(f".{old}.", f".{name}.")
    return key


def _copied(tensor: Tensor, key: str, name: str, shaped: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if tensor.shape != shaped.shape:
        got, asked = tuple(tensor.shape), tuple(shaped.shape)
        raise ValueError(f"{name} has {key} of shape {got}, and its configuration asks for {asked}.")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} has {key} as {tensor.dtype}: ctrl reads no quantised weights.")
    # Contiguous, since a kernel may round otherwise over the strides of a tensor that was transposed.
    copy = tensor.to(device, dtype, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(copy).all():
        raise ValueError(f"{name} has NaN or infinite numbers in {key} (read as {dtype}): the file is damaged.")
    return copy


def read_schedule(folder: Path, *, repair: bool) -> dict[str, Any]:
    """The noise schedule of a model folder as a pipeline of diffusers' has it: of the class and with its defaults.

    Perhaps with the two repairs that its SD 1 and 2 pipelines make. A field that the file does not have takes
    the default of each sampler's class (diffusers notes such fields in `_use_default_values`).
    """
    read = read_json(folder / "scheduler_config.json", constant=float)  # DPM-Solver's has -Infinity
    config = checked_schedule(read, "scheduler_config.json")
    name = config.get("_class_name")
    if name in SCHEDULERS:
        try:
            kind = getattr(import_module("diffusers"), str(name))
            config = dict(kind.from_config(config).config)
        except Exception as error:  # whatever the library's constructor stumbles over
            raise ValueError(f"scheduler_config.json describes no {name} that can follow it: {why(error)}.") from error
    if repair:
        config |= {field: value for field, value in REPAIRS.items() if field in config}
    return config


def image_tower(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The CLIP image encoder that style references go through."""
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    return fill_from(folder, described(CLIPVisionModelWithProjection, folder), dtype, device)


def image_processor(folder: Path | None, encoder: Any) -> Any:
    """What resizes and normalises a picture for an image encoder: as its folder says, else in CLIP's usual way.

    Always the one that works on PIL, so that pictures do not depend on whether torchvision is installed.
    """
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    side, file = encoder.config.image_size, "preprocessor_config.json"
    if folder is not None and (folder / file).is_file():
        return CLIPImageProcessorPil(**checked_processor(read_json(folder / file), side, f"{folder.name}/{file}"))
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
