"""Pictures to latents and back, through a VAE (diffusers' AutoencoderKL).

N are the pictures made at once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def encode(vae: Any, pixels: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Latents (N, C, h, w) of pictures (N, 3, H, W) in [-1, 1], drawn from the VAE's distribution of each.

    They are in the pictures' type, also of a VAE in another, and in that type they are scaled, as in diffusers.
    """
    drawn = [
        vae.encode(picture.to(vae.dtype)).latent_dist.sample(generator)
        for picture, generator in zip(pixels.split(1), generators, strict=True)  # strides and all
    ]
    latents = torch.cat(drawn).to(pixels.dtype)
    if (statistics := _statistics(vae, latents)) is not None:
        mean, std = statistics
        return (latents - mean) * vae.config.scaling_factor / std
    return vae.config.scaling_factor * latents


def in_float32(vae: Any) -> Any:
    """A copy of a VAE in float32, by which SDXL's pipelines encode (`force_upcast`)."""
    return copy.deepcopy(vae).to(torch.float32)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Pixels (N, 3, H, W) of (N, C, h, w) latents, about [-1, 1]."""
    latents = latents.to(vae.dtype)
    if (statistics := _statistics(vae, latents)) is not None:
        mean, std = statistics
        latents = latents * std / vae.config.scaling_factor + mean
    else:
        latents = latents / vae.config.scaling_factor
    pixels: Tensor = vae.decode(latents, return_dict=False)[0]
    return pixels


def _statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor] | None:
    """The mean and the deviation (1, C, 1, 1) of each channel of the latents, if the VAE's configuration has them."""
    statistics = [getattr(vae.config, field, None) for field in ("latents_mean", "latents_std")]
    if None in statistics:
        return None
    mean, std = (
        torch.tensor(values, device=latents.device, dtype=latents.dtype)[None, :, None, None] for values in statistics
    )
    return mean, std


def pictures(pixels: Tensor) -> list[Image.Image]:
    """Pictures of what was decoded, rounded as diffusers rounds them."""
    if not torch.isfinite(pixels).all():
        raise FloatingPointError("the decoded picture is not finite; load the model with dtype=torch.float32.")
    shown = (pixels * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
    return [Image.fromarray(picture) for picture in (shown * 255).round().astype(np.uint8)]
