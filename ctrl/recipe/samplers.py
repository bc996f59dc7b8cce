"""The names of samplers and of timestep spacings."""

from __future__ import annotations

from typing import Literal, get_args

Sampler = Literal[
    "ddpm", "ddim", "pndm", "euler", "euler a", "heun", "dpm++ 2m", "dpm++ 2m sde", "dpm++ sde", "unipc", "lcm", "tcd",
    "flow euler",
]  # fmt: skip
Spacing = Literal["default", "karras", "exponential", "trailing"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
ONE_A_STEP = (*(set(SAMPLERS) - {"heun", "pndm"}),)  # samplers that evaluate the model once a step
