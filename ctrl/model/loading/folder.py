"""Parts from a folder in diffusers' layout, and whether parts are of one model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ctrl.model.loading.families import Family, family_of
from ctrl.model.loading.files import check_index, read_json, weight_paths
from ctrl.model.loading.libraries import classes
from ctrl.model.loading.pretrained import described, fill_from, read_schedule
from ctrl.model.loading.tokenizers import read_tokenizer
from ctrl.model.parts import Parts, TextEncoder

TIME_IDS = 6  # of SDXL: the sizes before and after the crop, and its corner
NUMBERS = ("", "_2")  # what ends the names of a text encoder's folders


def parts_of_folder(folder: Path, name: str, *, device: torch.device, dtype: torch.dtype) -> Parts:
    """The parts of a model in diffusers' layout: SD 1.x, SD 2.x or SDXL. Its small files are read first."""
    parts = described_parts(folder, name)
    numbers = NUMBERS[: len(parts.text_encoders)]
    for part in ("unet", "vae", *(f"text_encoder{number}" for number in numbers)):
        weight_paths(folder / part)
    vae_type = vae_dtype(parts.vae.config, dtype, family_of(parts.unet, len(numbers)))
    encoders = [
        fill_from(folder / f"text_encoder{number}", text_encoder.encoder, dtype, device)
        for number, text_encoder in zip(numbers, parts.text_encoders, strict=True)
    ]
    return replace(
        parts,
        unet=fill_from(folder / "unet", parts.unet, dtype, device),
        vae=fill_from(folder / "vae", parts.vae, vae_type, device),
        text_encoders=tuple(
            replace(row, encoder=encoder) for row, encoder in zip(parts.text_encoders, encoders, strict=True)
        ),
    )


def described_parts(folder: Path, name: str) -> Parts:
    """The parts of a model in diffusers' layout, with modules on the meta device: no weight was read."""
    made = classes()
    index = check_index(read_json(folder / "model_index.json"), name)
    encoders = [
        described(kind, folder / f"text_encoder{number}")
        for number, kind in list(zip(NUMBERS, (made.text_encoder, made.projecting), strict=True))[: index.text_encoders]
    ]
    text_encoders = [
        TextEncoder(read_tokenizer(folder / f"tokenizer{number}", encoder), encoder)
        for number, encoder in zip(NUMBERS, encoders, strict=False)
    ]
    unet, vae = described(made.unet, folder / "unet"), described(made.vae, folder / "vae")
    repair = family_of(unet, index.text_encoders).repairs_schedule
    if repair:
        _repair_size(unet, read_json(folder / "unet" / "config.json"))
    schedule = read_schedule(folder / "scheduler", repair=repair)
    return checked_parts(Parts(name, unet, vae, tuple(text_encoders), schedule, index.zero_negative))


def _repair_size(unet: Any, config: Mapping[str, Any]) -> None:
    """The first folders of SD 1 say 32 and mean 64: diffusers' pipelines correct what its releases before 0.9 wrote."""
    release = re.match(r"0\.([0-8])(\.|$)", str(config.get("_diffusers_version", "")))
    if release and isinstance(unet.config.sample_size, int) and unet.config.sample_size < 64:
        unet.register_to_config(sample_size=64)


def vae_dtype(config: Mapping[str, Any], dtype: torch.dtype, family: Family) -> torch.dtype:
    """The type of a VAE in a model of this `dtype`: SDXL's is float32 in a float16 model, where it would overflow.

    Its configuration can say otherwise (`force_upcast`); SD 1 and 2 do not ask it. As diffusers' pipelines have it.
    """
    upcast = family.upcast_vae and dtype == torch.float16 and config.get("force_upcast", True)
    return torch.float32 if upcast else dtype


def _check_statistics(name: str, vae: Any, family: Family) -> None:
    """Refuse a VAE whose latents are normalised in a way that the family's pipelines do not know."""
    statistics = [getattr(vae, field, None) for field in ("latents_mean", "latents_std")]
    if statistics == [None, None]:
        return
    if not family.reads_latent_statistics:
        raise ValueError(f"{name!r} has a VAE with latents_mean or latents_std, which {family.name} does not know.")
    if not all(isinstance(values, list | tuple) and len(values) == vae.latent_channels for values in statistics):
        raise ValueError(f"{name!r} has a VAE whose latents_mean and latents_std are not one number a channel.")


def checked_parts(parts: Parts) -> Parts:
    """The parts, if they are of one model; a ValueError says which of them are not."""
    unet, name = parts.unet.config, parts.name
    channels = parts.vae.config.latent_channels
    if unet.out_channels != channels:
        raise ValueError(
            f"{name!r} has a U-Net that answers with {unet.out_channels} channels, and its VAE's latents have "
            f"{channels}: they are not of one model."
        )
    if unet.in_channels not in (channels, inpaints := 2 * channels + 1):
        raise ValueError(
            f"{name!r} has a U-Net that reads {unet.in_channels} channels, and its VAE's latents have {channels}: it "
            f"edits by instruction or reads depth, which ctrl does not do; an inpainting one reads {inpaints}."
        )
    widths = [text_encoder.encoder.config.hidden_size for text_encoder in parts.text_encoders]
    if sum(widths) != unet.cross_attention_dim:
        raise ValueError(
            f"{name!r} has text encoders of width {' + '.join(map(str, widths))}, and its U-Net reads "
            f"{unet.cross_attention_dim}: they are not of one model."
        )
    family = family_of(parts.unet, len(parts.text_encoders))
    _check_statistics(name, parts.vae.config, family)
    added, classes_of = family.added, unet.class_embed_type or (unet.num_class_embeds and "classes")
    if unet.addition_embed_type != added or classes_of or unet.encoder_hid_dim_type is not None:
        kind = unet.addition_embed_type or classes_of or unet.encoder_hid_dim_type or "nothing"
        many = len(parts.text_encoders)
        raise ValueError(f"{name!r} has a U-Net conditioned by {kind} in addition to its {many} text encoders.")
    if added:
        pooled = parts.text_encoders[-1].encoder.config.projection_dim
        reads = unet.projection_class_embeddings_input_dim
        if reads != pooled + TIME_IDS * unet.addition_time_embed_dim:
            raise ValueError(
                f"{name!r} has a U-Net that reads {reads} added numbers, and gets {pooled} of the pooled text and "
                f"{TIME_IDS} times {unet.addition_time_embed_dim} of the size: they are not of one model."
            )
    return parts
