"""How a run begins: its initial latents and noise, and what an inpainting U-Net reads beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ctrl.blending import between
from ctrl.recipe import SeedBlend

if TYPE_CHECKING:
    from ctrl.sampling.run import Run


@dataclass(frozen=True, eq=False)
class Begun:
    """The initial `latents` of a run, and the `noise` and `clean` latents that they are made of.

    All are (N, C, h, w); `clean` is None if it is not used. `hole` (N, 1 + C, h, w) is what an inpainting U-Net reads
    beside the latents: the mask, and the latents of the picture around it.
    """

    latents: Tensor
    noise: Tensor
    clean: Tensor | None
    hole: Tensor | None = None


def begin(run: Run) -> Begun:
    """Draw the initial latents, in diffusers' order: the clean latents, the noise, then what is around the mask."""
    clean = _clean(run) if _encodes(run) else None
    noise = _blended(run, run.model.noise(run.generators, *run.given.size))  # each picture's from its own generator
    hole = _hole(run) if _inpaints(run) else None
    if clean is None or _from_noise(run):
        return Begun(noise * run.solver.init_sigma, noise, clean, hole)
    return Begun(run.solver.add_noise(clean, noise, 0), noise, clean, hole)


def restore_unmasked(run: Run, latents: Tensor, begun: Begun, index: int) -> Tensor:
    """Inpainting: outside the mask, the original latents at the noise level after step `index`.

    A U-Net that reads the mask keeps them by itself.
    """
    if run.start is None or run.start.mask is None or begun.clean is None or begun.hole is not None:
        return latents
    mask = run.start.mask
    return (1 - mask) * run.solver.add_noise(begun.clean, begun.noise, index + 1) + mask * latents


def _inpaints(run: Run) -> bool:
    return run.model.denoiser.inpaints or (run.start is not None and run.start.mask is not None)


def _from_noise(run: Run) -> bool:
    """Whether the initial latents are noise alone, also where there is a picture."""
    return run.start is None or (_inpaints(run) and run.recipes[0].strength == 1.0)


def _encodes(run: Run) -> bool:
    """Whether the latents of the picture are used: an inpainting U-Net reads them by itself, where all is drawn."""
    return run.start is not None and not (_from_noise(run) and run.model.denoiser.inpaints)


def _clean(run: Run) -> Tensor:
    """The latents (N, C, h, w) of the pictures that the run starts from."""
    assert run.start is not None
    clean = run.model.encode(run.start.pixels, run.generators)
    # The U-Net rounds by the strides of its input: diffusers copies them for inpainting only.
    return clean.contiguous() if _inpaints(run) else clean


def _hole(run: Run) -> Tensor | None:
    """What an inpainting U-Net reads beside the latents.

    For others diffusers encodes the picture around the mask too, and does not use it: its draw is made here, so that a
    sampler which draws noise goes on with the same.
    """
    if not run.model.denoiser.inpaints:
        run.model.noise(run.generators, *run.given.size, dtype=run.model.encodes_in)
        return None
    mask, around = run.given.hole(run.recipes, run.start)
    return torch.cat([mask, run.model.encode(around, run.generators)], dim=1)


def _blended(run: Run, noise: Tensor) -> Tensor:
    """The noise (N, C, h, w) of the first seeds, on the way to that of the second where a seed is a blend."""
    seeds = [recipe.canonical.seed for recipe in run.recipes]
    if all(isinstance(seed, int) for seed in seeds):
        return noise
    rows = [
        between(row, _noise_of(run, seed.second, at), seed.weight) if isinstance(seed, SeedBlend) else row
        for at, (row, seed) in enumerate(zip(noise, seeds, strict=True))
    ]
    return torch.stack(rows)


def _noise_of(run: Run, seed: int, picture: int) -> Tensor:
    """The initial noise (C, h, w) that a plain run of one of the pictures draws from a seed."""
    generators = [torch.Generator().manual_seed(seed)]
    if run.start is not None and _encodes(run):  # its encoding draws first
        run.model.encode(run.start.pixels[picture : picture + 1], generators)
    return run.model.noise(generators, *run.given.size)[0]
