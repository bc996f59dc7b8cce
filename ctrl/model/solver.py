"""Samplers by their usual names: diffusers' schedulers, one fresh for each run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Solver:
    """A fresh scheduler for one run of N pictures, with the generators that hold their randomness."""

    def __init__(self, scheduler: Any, steps: int, device: torch.device, generators: list[torch.Generator]):
        scheduler.set_timesteps(steps, device=device)
        self._scheduler = scheduler
        self._generators = generators
        self._random = not type(scheduler).__name__.startswith("UniPC")
        self.timesteps: Tensor = scheduler.timesteps
        self.init_sigma = scheduler.init_noise_sigma

    def scale(self, latents: Tensor, index: int) -> Tensor:
        """The latents as the U-Net wants them at step `index`."""
        return self._scheduler.scale_model_input(latents, self.timesteps[index])

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The next latents and the clean ones this step believes in, all (N, C, h, w)."""
        random = {"generator": self._generators} if self._random else {}
        out = self._scheduler.step(prediction, self.timesteps[index], latents, **random)
        for name in ("pred_original_sample", "denoised"):
            if getattr(out, name, None) is not None:
                return out.prev_sample, getattr(out, name)
        return out.prev_sample, self._scheduler.model_outputs[-1]  # multistep solvers keep it there


def scheduler_class(sampler: str) -> Any:
    """The class of diffusers that goes by this name."""
    from diffusers.schedulers import scheduling_ddim as ddim
    from diffusers.schedulers import scheduling_dpmsolver_multistep as dpm
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral
    from diffusers.schedulers import scheduling_euler_discrete as euler
    from diffusers.schedulers import scheduling_lcm as lcm
    from diffusers.schedulers import scheduling_unipc_multistep as unipc

    match sampler:
        case "dpm++":
            return dpm.DPMSolverMultistepScheduler
        case "euler":
            return euler.EulerDiscreteScheduler
        case "euler a":
            return ancestral.EulerAncestralDiscreteScheduler
        case "ddim":
            return ddim.DDIMScheduler
        case "unipc":
            return unipc.UniPCMultistepScheduler
        case "lcm":
            return lcm.LCMScheduler
    raise ValueError(f"sampler {sampler!r} is unknown.")
