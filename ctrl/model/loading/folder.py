"""Parts from a folder in diffusers' layout or from a pipeline of diffusers', and whether they are of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ctrl.model.loading.files import check_index, read_json
from ctrl.model.loading.hub import Found, Hub
from ctrl.model.loading.libraries import classes
from ctrl.model.loading.pretrained import pretrained, read_schedule, read_tokenizer
from ctrl.model.parts import Parts, Tower

SPARE = 6  # numbers of SDXL's size conditioning


def parts_of_folder(found: Found, *, device: torch.device, dtype: torch.dtype) -> Parts:
    """The parts of a model in diffusers' layout: SD 1.x, SD 2.x or SDXL."""
    made = classes()
    name = found.place.repo if isinstance(found.place, Hub) else found.folder.resolve().name
    folder = found.folder
    index = check_index(read_json(folder / "model_index.json"), name)
    kinds = (("", made.tower), ("_2", made.projecting))
    towers = []
    for number, kind in kinds[: index.towers]:
        encoder = pretrained(kind, folder / f"text_encoder{number}", dtype, device)
        towers.append(Tower(read_tokenizer(folder / f"tokenizer{number}", encoder), encoder))
    parts = Parts(
        name,
        pretrained(made.unet, folder / "unet", dtype, device),
        pretrained(made.codec, folder / "vae", _codec_type(folder, dtype, towers=index.towers), device),
        tuple(towers),
        read_schedule(folder / "scheduler", towers=index.towers),
        index.zero_negative,
    )
    return fitting(parts)


def _codec_type(folder: Path, dtype: torch.dtype, *, towers: int) -> torch.dtype:
    """SDXL's codec overflows in float16 unless its configuration says otherwise, as diffusers reads it."""
    overflows = towers > 1 and read_json(folder / "vae" / "config.json").get("force_upcast", True)
    return torch.float32 if overflows and dtype == torch.float16 else dtype


def parts_of_pipeline(pipe: Any) -> Parts:
    """The parts of a pipeline of diffusers' that is of SD 1.x, SD 2.x or SDXL: its own modules, as they are.

    Nothing is copied and nothing changed: device, dtype and training flags stay, and what the pipeline's owner changes
    later, its scheduler apart, is changed here too. Attention must run under diffusers' default processors, or a
    ValueError says what to undo: an IP-Adapter loaded into the pipeline or its slicing would not be followed.
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
        has["vae"],
        tuple(towers),
        dict(has["scheduler"].config),
        len(towers) > 1 and bool(pipe.config.get("force_zeros_for_empty_prompt", True)),
        has.get("image_encoder"),
        has.get("feature_extractor"),
    )
    return fitting(parts)


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
