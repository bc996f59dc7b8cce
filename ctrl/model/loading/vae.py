"""A VAE to take in place of a model's: a folder of diffusers' or one file by its original names."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from ctrl.caller import warn_caller
from ctrl.model.loading.configs import checked
from ctrl.model.loading.families import Family
from ctrl.model.loading.files import guess_file_kind, read_tensors
from ctrl.model.loading.folder import vae_dtype
from ctrl.model.loading.libraries import classes
from ctrl.model.loading.original_names import TensorPicker, vae_name, vae_part
from ctrl.model.loading.pretrained import build, described, fill_from, on_meta
from ctrl.model.loading.shapes import vae_config

PREFIX = "first_stage_model."
IGNORED = ("loss.", "model_ema.")


def read_vae(place: Path, family: Family, *, scale: float, device: torch.device, dtype: torch.dtype) -> Any:
    """The VAE in a folder with config.json or in a .safetensors file, for a model of this family.

    A file says nothing of its scaling: it is the family's. `scale` is the model's own; a folder that says another is
    probably of another family, with a warning. What is none, or not whole, raises a ValueError.
    """
    if place.is_dir():
        vae = described(classes().vae, place)
        if abs(vae.config.scaling_factor - scale) > 1e-6:
            own = vae.config.scaling_factor
            warn_caller(
                f"the VAE in {place.name!r} scales latents by {own:g}, and the model's by {scale:g}: is it its?"
            )
        return fill_from(place, vae, vae_dtype(vae.config, dtype, family), device)
    tensors, _ = read_tensors(place)
    if any(key.startswith(PREFIX) for key in tensors):
        tensors = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items() if key.startswith(PREFIX)}
    if "encoder.conv_in.weight" not in tensors or "encoder.down.0.block.0.conv1.weight" not in tensors:
        raise ValueError(f"{place.name} is no VAE by the original names: {guess_file_kind(tensors, not_a='a VAE')}.")
    config = vae_config(tensors, place.name, size=family.size, scaling_factor=family.scaling_factor)
    config = checked(classes().vae, config, place.name)
    picker = TensorPicker(tensors, set())
    picked = picker.take(on_meta(classes().vae, config, place.name).state_dict(), partial(vae_name, config=config))
    parts = {key: vae_part(key, tensor) for key, tensor in picked.items()}
    if left := [key for key in picker.left() if not key.startswith(IGNORED)]:
        raise ValueError(f"{place.name} has {len(left)} tensors that a VAE has no place for, such as {left[0]}.")
    kind = vae_dtype(config, dtype, family)
    return build(classes().vae, config, parts, name=place.name, dtype=kind, device=device)
