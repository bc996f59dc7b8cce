"""Latents as the U-Net makes them, of known pictures: noised part of the way and drawn again (arXiv 2108.01073).

The decoder's textures learn from these too: what the U-Net leaves unsure is seen sharp beside what it should have been.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctrl.train.base import Base
from ctrl.train.denoiser import captions, noise_schedule
from ctrl.train.loop import bf16
from ctrl.train.options import Options
from ctrl.train.rows import Rows

COUNT, TOGETHER = 448, 32  # pictures, each also in the mirror; how many are drawn at once
STARTS = (500, 400, 300, 200)  # timesteps of 1000 from which drawing begins, by turns
STEPS, GUIDANCE = 4, 4.0


@torch.no_grad()
def redrawn(options: Options, count: int = COUNT) -> np.ndarray:
    """Latents (count, 2, C, 16, 16) float16 of the pool's first pictures and their mirror images, made once."""
    path = options.latents.with_stem(f"{options.latents.stem}-redrawn")
    if path.exists():
        return np.asarray(np.load(path))
    base = Base.of(options)
    unet, empty = base.unet(), base.prompt_embeds([""])
    found = np.array(base.source.latents[:count])
    for turn, first in enumerate(range(0, count, TOGETHER)):
        for side in (False, True):
            index = list(range(first, min(count, first + TOGETHER)))
            rows, generator = Rows(index, [side] * len(index)), torch.Generator().manual_seed(2 * turn + side)
            text = base.prompt_embeds(captions(rows, generator, empty=0.0))
            start = STARTS[turn % len(STARTS)]
            made = again(unet, base.source.clean(rows).to(base.device), text, empty, start, generator)
            found[index, int(side)] = made.half().cpu().numpy()
    _keep(path, found)
    return found


def again(unet: Any, clean: Any, text: Any, empty: Any, start: int, generator: torch.Generator) -> torch.Tensor:
    """Clean latents (B, C, h, w) noised to a timestep and denoised in a few steps of DDIM under text (B, L, D)."""
    schedule: Any = noise_schedule()
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    alphas = schedule.alphas_cumprod
    times = [round(start * (STEPS - step) / STEPS) for step in range(STEPS)]
    latents = alphas[start].sqrt() * clean + (1 - alphas[start]).sqrt() * noise
    both = torch.cat([empty.expand_as(text), text])
    for now, then in zip(times, [*times[1:], 0], strict=True):
        with bf16(clean.device):
            v = unet(torch.cat([latents] * 2), torch.tensor(now, device=clean.device), both).sample.float()
        uncond, cond = v.chunk(2)
        v = uncond + GUIDANCE * (cond - uncond)
        a, s = alphas[now].sqrt(), (1 - alphas[now]).sqrt()
        picture, noise = a * latents - s * v, s * latents + a * v
        latents = alphas[then].sqrt() * picture + (1 - alphas[then]).sqrt() * noise if then else picture
    return latents


def _keep(path: Path, found: np.ndarray) -> None:
    partial = path.with_suffix(".part.npy")
    np.save(partial, found)
    partial.rename(path)
