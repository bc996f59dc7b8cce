"""Between pictures and what a latent diffusion model makes of them, through the model's public parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def encode(model: Any, pictures: Tensor) -> Tensor:
    """Latents (B, C, h, w), as the U-Net knows them, of pictures (B, 3, S, S) in [0, 1]."""
    given = pictures.to(model.device, model.dtype) * 2 - 1
    latents: Tensor = model.vae.encode(given).latent_dist.mode() * model.vae.config.scaling_factor
    return latents


@torch.no_grad()
def round_trip(model: Any, pictures: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) in [0, 1] through the codec and back, on the CPU."""
    scale = model.vae.config.scaling_factor
    parts = [model.vae.decode(encode(model, part) / scale).sample.float().cpu() for part in pictures.split(8)]
    return (torch.cat(parts) * 0.5 + 0.5).clamp(0, 1)


def noised(model: Any, latents: Tensor, time: float, seed: int) -> tuple[Tensor, Tensor]:
    """What the U-Net would be shown of clean latents at `time`, and the timestep. 0 is clean, 1 is noise."""
    steps = 50
    index = round((1 - time) * (steps - 1))
    solver = model.solver("euler", "default", steps, [])
    level = solver.level(index)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents)
    return level.alpha * latents + level.sigma * noise, solver.timesteps[index]
