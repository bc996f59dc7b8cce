"""Samplers by their usual names: which of diffusers' schedulers each is, and what can be asked of it.

Spacings are of Karras et al. (arXiv 2206.00364, "karras"; "exponential" is even in log σ) and Lin et al. (arXiv
2305.08891, "trailing").

- "dpm++ sde" is DPMSolverSinglestepScheduler with algorithm_type="sde-dpmsolver++" (arXiv 2211.01095, order 2), one
  evaluation a step. DPMSolverSDEScheduler would need torchsde and would not draw from the run's generators.
- "tcd" is stochastic with γ = 0.3, TCDScheduler's default (arXiv 2402.19159); a pipeline needs eta=0.3.
- "pndm" is of order 2 on ε and of order 1 on v, which diffusers averages before it is ε. At strength < 1 its warm-up
  takes the second timestep for a repeated one and the rest lags a step, in diffusers too.
- "pndm", "heun" and "dpm++ sde" ignore rescale_betas_zero_snr, in diffusers too.
- For a model that predicts x₀, "pndm" and "euler a" get the converted ε, because their classes do not support x₀.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from ctrl.images import why
from ctrl.predictions import KINDS, Kind

SPACINGS = ("default", "karras", "exponential", "trailing")


@dataclass(frozen=True)
class Sampler:
    """A sampler's name, diffusers' class for it, and the spacings and predictions the class can do."""

    name: str
    scheduler: str
    spacings: tuple[str, ...]
    kinds: tuple[Kind, ...] = KINDS[:3]
    options: Mapping[str, Any] = field(default_factory=dict)


_BY_SIGMA, _BY_TIME, _NOISE = SPACINGS[:3], ("default", "trailing"), KINDS[:2]
_SDE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
TABLE = (
    Sampler("ddpm", "DDPMScheduler", _BY_TIME),
    Sampler("ddim", "DDIMScheduler", _BY_TIME),
    Sampler("pndm", "PNDMScheduler", _BY_TIME, _NOISE),
    Sampler("euler", "EulerDiscreteScheduler", SPACINGS),
    Sampler("euler a", "EulerAncestralDiscreteScheduler", _BY_TIME, _NOISE),
    Sampler("heun", "HeunDiscreteScheduler", SPACINGS),
    Sampler("dpm++ 2m", "DPMSolverMultistepScheduler", SPACINGS, options=_SDE | {"algorithm_type": "dpmsolver++"}),
    Sampler("dpm++ 2m sde", "DPMSolverMultistepScheduler", SPACINGS, options=_SDE),
    Sampler("dpm++ sde", "DPMSolverSinglestepScheduler", _BY_SIGMA, options=_SDE | {"lower_order_final": True}),
    Sampler("unipc", "UniPCMultistepScheduler", SPACINGS),
    Sampler("lcm", "LCMScheduler", ("default",)),
    Sampler("tcd", "TCDScheduler", ("default",)),
    Sampler("flow euler", "FlowMatchEulerDiscreteScheduler", _BY_SIGMA, ("flow",)),
)


def scheduled(
    sampler: str, spacing: str, config: Mapping[str, Any], steps: int, device: torch.device | str, strength: float
) -> tuple[Any, Kind]:
    """A scheduler with its timesteps placed, for the model of this configuration; and what the model predicts.

    A ValueError says which of the arguments do not go together.
    """
    row, kind = _named(sampler), predicts(config)
    if spacing not in row.spacings:
        raise ValueError(f"sampler {row.name!r} has no {spacing!r} spacing; accepted: {', '.join(row.spacings)}.")
    _check_model(row, config, kind)
    try:
        scheduler = _scheduler(row, spacing, config, kind)
    except Exception as error:  # diffusers raises anything on a foreign configuration
        raise ValueError(f"sampler {row.name!r} cannot follow the model's noise schedule: {why(error)}.") from error
    _check_steps(row, scheduler, steps, strength)
    scheduler.set_timesteps(steps, device=device)
    _check_levels(row, spacing, scheduler, steps)
    return scheduler, kind


def predicts(config: Mapping[str, Any]) -> Kind:
    """What a model, or a scheduler, of this configuration predicts; a ValueError if it is nothing that is known."""
    stated = str(config.get("prediction_type", "epsilon"))
    if stated == "flow_prediction" or str(config.get("_class_name", "")).startswith("FlowMatch"):
        return "flow"
    for kind in KINDS:
        if kind == stated:
            return kind
    raise ValueError(f"the model's prediction_type {stated!r} is unknown; accepted: {', '.join(KINDS)}.")


def _named(sampler: str) -> Sampler:
    for row in TABLE:
        if row.name == sampler:
            return row
    raise ValueError(f"sampler {sampler!r} is unknown; accepted: {', '.join(row.name for row in TABLE)}.")


def _scheduler(row: Sampler, spacing: str, config: Mapping[str, Any], kind: Kind) -> Any:
    options = dict(row.options)
    if spacing != "default":
        options |= {"use_karras_sigmas": spacing == "karras", "use_exponential_sigmas": spacing == "exponential"}
        options |= {"use_beta_sigmas": False, "use_lu_lambdas": False}
    if spacing == "trailing":
        options["timestep_spacing"] = "trailing"
    if kind == "flow":
        options["shift"] = config.get("shift", config.get("flow_shift", 1.0))
    elif kind not in row.kinds:
        options["prediction_type"] = "epsilon"
    return getattr(import_module("diffusers"), row.scheduler).from_config(dict(config), **options)


def _check_model(row: Sampler, config: Mapping[str, Any], kind: Kind) -> None:
    if (kind == "flow") != (row.kinds == ("flow",)):
        wants, other = ("an ε, v or x₀", "flow euler") if kind == "flow" else ("a flow-matching", "euler")
        raise ValueError(f"sampler {row.name!r} is for {wants} model, and this one predicts {kind!r}; take {other!r}.")
    odd = [f"{key}={config[key]!r}" for key in ("use_dynamic_shifting", "invert_sigmas") if config.get(key)]
    odd += [f"timestep_type={name!r}" for name in [config.get("timestep_type")] if name == "continuous"]
    odd += [f"class {name}" for name in [str(config.get("_class_name", ""))] if name.startswith("EDM")]
    if odd:
        raise ValueError(f"the model's scheduler has {odd[0]}, a noise schedule sampler {row.name!r} cannot follow.")


def _check_steps(row: Sampler, scheduler: Any, steps: int, strength: float) -> None:
    least, most = 1, int(scheduler.config.num_train_timesteps)
    if row.name in ("lcm", "tcd"):
        most = min(most, int(scheduler.config.original_inference_steps))  # they are a part of the teacher's steps
    if row.name == "pndm" and not scheduler.config.skip_prk_steps:
        least = 4  # three are Runge-Kutta, and placed as if from pure noise
        if strength < 1:
            raise ValueError(f"sampler 'pndm' starts from noise on this model: strength must be 1, got {strength}.")
    if not least <= steps <= most:
        raise ValueError(f"sampler {row.name!r} takes {least} to {most} steps on this model; got {steps}.")


def _check_levels(row: Sampler, spacing: str, scheduler: Any, steps: int) -> None:
    first, last = float(scheduler.timesteps.max()), float(scheduler.timesteps.min())
    most = scheduler.config.num_train_timesteps - (row.name != "flow euler")
    drops = scheduler.sigmas[:: scheduler.order].diff() if hasattr(scheduler, "sigmas") else torch.tensor([-1.0])
    # The last may be of nothing: final_sigmas_type="sigma_min".
    falls = bool((drops[:-1] < 0).all() and (drops[-1:] <= 0).all())
    if not (falls and 0 <= last <= first <= most):
        raise ValueError(
            f"sampler {row.name!r} with {spacing!r} spacing cannot place {steps} steps on the timesteps 0 to {most} "
            f"of this model, which would go from {first:g} to {last:g}; take some more or fewer."
        )
