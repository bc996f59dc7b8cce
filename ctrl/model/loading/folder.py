"""Parts from a folder in diffusers' layout or from a pipeline of diffusers', and whether they are of one model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ctrl.model.loading.files import check_index, read_json, weight_paths
from ctrl.model.loading.libraries import classes
from ctrl.model.loading.pretrained import described, fill_from, read_schedule, read_tokenizer
from ctrl.model.parts import Parts, Tower

SPARE = 6  # numbers of SDXL's size conditioning
NUMBERS = ("", "_2")  # what ends the names of a text tower's folders


def parts_of_folder(folder: Path, name: str, *, device: torch.device, dtype: torch.dtype) -> Parts:
    """The parts of a model in diffusers' layout: SD 1.x, SD 2.x or SDXL. Its small files are read first."""
    parts = described_parts(folder, name)
    numbers = NUMBERS[: len(parts.towers)]
    for part in ("unet", "vae", *(f"text_encoder{number}" for number in numbers)):
        weight_paths(folder / part)
    vae_type = vae_dtype(parts.vae.config, dtype, towers=len(numbers))
    encoders = [
        fill_from(folder / f"text_encoder{number}", tower.encoder, dtype, device)
        for number, tower in zip(numbers, parts.towers, strict=True)
    ]
    return replace(
        parts,
        unet=fill_from(folder / "unet", parts.unet, dtype, device),
        vae=fill_from(folder / "vae", parts.vae, vae_type, device),
        towers=tuple(replace(tower, encoder=one) for tower, one in zip(parts.towers, encoders, strict=True)),
    )


def described_parts(folder: Path, name: str) -> Parts:
    """The parts of a model in diffusers' layout, with modules on the meta device: no weight was read."""
    made = classes()
    index = check_index(read_json(folder / "model_index.json"), name)
    encoders = [
        described(kind, folder / f"text_encoder{number}")
        for number, kind in list(zip(NUMBERS, (made.tower, made.projecting), strict=True))[: index.towers]
    ]
    towers = [
        Tower(read_tokenizer(folder / f"tokenizer{number}", encoder), encoder)
        for number, encoder in zip(NUMBERS, encoders, strict=False)
    ]
    unet, vae = described(made.unet, folder / "unet"), described(made.codec, folder / "vae")
    schedule = read_schedule(folder / "scheduler", towers=index.towers)
    return fitting(Parts(name, unet, vae, tuple(towers), schedule, index.zero_negative))


def vae_dtype(config: Mapping[str, Any], dtype: torch.dtype, *, towers: int) -> torch.dtype:
    """The type of a codec in a model of this `dtype`: SDXL's is float32 in a float16 model, where it would overflow.

    Its configuration can say otherwise (`force_upcast`); SD 1 and 2 do not ask it. As diffusers' pipelines have it.
    """
    upcast = towers > 1 and dtype == torch.float16 and config.get("force_upcast", True)
    return torch.float32 if upcast else dtype


def parts_of_pipeline(pipe: Any) -> Parts:
    """The parts of a pipeline of diffusers' that is of SD 1.x, SD 2.x or SDXL: its own modules, as they are.

    Nothing is changed: device, dtype and training flags stay, and what the pipeline's owner changes later, its
    scheduler apart, is changed here too. Only a codec that must be in float32 (`vae_dtype`) is copied. Attention must
    run under diffusers' default processors, or a ValueError says what to undo: an IP-Adapter loaded into the pipeline
    or its slicing would not be followed.
    """
    from diffusers.models.attention_processor import AttnProcessor2_0

    made = classes()
    has: dict[str, Any] = getattr(pipe, "components", {})
    name = type(pipe).__name__
    kinds = {"unet": made.unet, "vae": made.codec, "text_encoder": made.tower}
    if has.get("text_encoder_2") is not None:
        kinds["text_encoder_2"] = made.projecting
    for part, kind in kinds.items():
        if not isinstance(has.get(part), kind):
            got = type(has.get(part)).__name__
            raise ValueError(f"pipe, a {name}, has {got} as its {part}; ctrl adopts pipelines with a {kind.__name__}.")
    unet = has["unet"]
    if unet.encoder_hid_proj is not None:
        raise ValueError(
            "pipe has an IP-Adapter loaded; call pipe.unload_ip_adapter() and give its file as ip_adapter= instead."
        )
    odd = {type(one).__name__ for one in unet.attn_processors.values()} - {AttnProcessor2_0.__name__}
    if odd:
        raise ValueError(
            f"pipe's U-Net attends by {', '.join(sorted(odd))}, which ctrl cannot watch or steer; "
            "call pipe.unet.set_attn_processor(AttnProcessor2_0())."
        )
    places = {str(tensor.device) for part in kinds for tensor in has[part].parameters()}
    if len(places) > 1 or "meta" in places or any(hasattr(has[part], "_hf_hook") for part in kinds):
        raise ValueError(
            f"pipe's parts lie on {', '.join(sorted(places))} or are moved about by hooks; call "
            "pipe.remove_all_hooks() and pipe.to(device) first."
        )
    towers = [Tower(has["tokenizer"], has["text_encoder"])]
    if "text_encoder_2" in kinds:
        towers.append(Tower(has["tokenizer_2"], has["text_encoder_2"]))
    parts = Parts(
        name,
        unet,
        _upcast(has["vae"], vae_dtype(has["vae"].config, has["vae"].dtype, towers=len(towers))),
        tuple(towers),
        dict(has["scheduler"].config),
        len(towers) > 1 and bool(pipe.config.get("force_zeros_for_empty_prompt", True)),
        has.get("image_encoder"),
        has.get("feature_extractor"),
    )
    return fitting(parts)


def _upcast(module: Any, dtype: torch.dtype) -> Any:
    """The module if it is of this type, else a copy that is."""
    return module if module.dtype == dtype else copy.deepcopy(module).to(dtype).requires_grad_(requires_grad=False)


def fitting(parts: Parts) -> Parts:
    """The parts, if they are of one model; a ValueError says which of them are not."""
    unet, name = parts.unet.config, parts.name
    channels = parts.vae.config.latent_channels
    if unet.in_channels != channels:
        raise ValueError(
            f"{name!r} has a U-Net that reads {unet.in_channels} channels, and its codec's latents have {channels}: an "
            "inpainting or editing model, which ctrl does not run; it inpaints with the ordinary ones."
        )
    if unet.out_channels != channels:
        raise ValueError(f"{name!r} has a U-Net that answers with {unet.out_channels} channels, not {channels}.")
    widths = [tower.encoder.config.hidden_size for tower in parts.towers]
    if sum(widths) != unet.cross_attention_dim:
        raise ValueError(
            f"{name!r} has text encoders of width {' + '.join(map(str, widths))}, and its U-Net reads "
            f"{unet.cross_attention_dim}: they are not of one model."
        )
    added = "text_time" if len(parts.towers) > 1 else None
    if unet.addition_embed_type != added or unet.class_embed_type is not None or unet.encoder_hid_dim_type is not None:
        kind = unet.addition_embed_type or unet.class_embed_type or unet.encoder_hid_dim_type or "nothing"
        raise ValueError(f"{name!r} has a U-Net conditioned by {kind} beside its {len(parts.towers)} text encoders.")
    if added:
        pooled = parts.towers[-1].encoder.config.projection_dim
        reads = unet.projection_class_embeddings_input_dim
        if reads != pooled + SPARE * unet.addition_time_embed_dim:
            raise ValueError(
                f"{name!r} has a U-Net that reads {reads} numbers beside the text, and {pooled} of the pooled text and "
                f"{SPARE} times {unet.addition_time_embed_dim} of the size are given: they are not of one model."
            )
    return parts
