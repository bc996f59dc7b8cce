"""Samplers by their usual names: diffusers' schedulers, one fresh for each run.

The numbers are those of diffusers' own pipelines: a scheduler is made from the model's configuration by
`from_config`, cut by `get_timesteps` for image to image, and told the generators only where it draws noise. Two
names need a word:

- "dpm++ sde" is DPMSolverSinglestepScheduler with algorithm_type="sde-dpmsolver++" (DPM-Solver++, arXiv 2211.01095,
  single step, order 2), which spends one evaluation a step. DPMSolverSDEScheduler would need torchsde and draws from
  a Brownian tree of its own instead of the run's generators.
- "tcd" is stochastic with γ = 0.3, the default of TCDScheduler and of its paper (arXiv 2402.19159); diffusers'
  pipelines say eta=0 unless told otherwise, so there it is eta=0.3 that gives the same picture.

As in diffusers, "pndm", "heun" and "dpm++ sde" do not know rescale_betas_zero_snr, and "pndm" from strength < 1 ends
one step's noise early: its warm-up always counts the second timestep twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

SPACINGS = ("default", "karras", "exponential", "trailing")
KINDS = ("epsilon", "v_prediction", "sample")  # of a variance-preserving model; a flow model's is "flow"

_BY_SIGMA = ("default", "karras", "exponential")
_BY_TIME = ("default", "trailing")


@dataclass(frozen=True)
class Sampler:
    """A sampler's name, diffusers' class for it, and the spacings and predictions that the class can do."""

    name: str
    scheduler: str
    spacings: tuple[str, ...]
    kinds: tuple[str, ...] = KINDS
    options: Mapping[str, Any] = field(default_factory=dict)


TABLE = (
    Sampler("ddpm", "DDPMScheduler", _BY_TIME),
    Sampler("ddim", "DDIMScheduler", _BY_TIME),
    Sampler("pndm", "PNDMScheduler", _BY_TIME, ("epsilon", "v_prediction")),
    Sampler("euler", "EulerDiscreteScheduler", SPACINGS),
    Sampler("euler a", "EulerAncestralDiscreteScheduler", _BY_TIME, ("epsilon", "v_prediction")),
    Sampler("heun", "HeunDiscreteScheduler", SPACINGS),
    Sampler(
        "dpm++ 2m",
        "DPMSolverMultistepScheduler",
        SPACINGS,
        options={"algorithm_type": "dpmsolver++", "solver_order": 2},
    ),
    Sampler(
        "dpm++ 2m sde",
        "DPMSolverMultistepScheduler",
        SPACINGS,
        options={"algorithm_type": "sde-dpmsolver++", "solver_order": 2},
    ),
    Sampler(
        "dpm++ sde",
        "DPMSolverSinglestepScheduler",
        _BY_SIGMA,
        options={"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "lower_order_final": True},
    ),
    Sampler("unipc", "UniPCMultistepScheduler", SPACINGS),
    Sampler("lcm", "LCMScheduler", ("default",)),
    Sampler("tcd", "TCDScheduler", ("default",)),
    Sampler("flow euler", "FlowMatchEulerDiscreteScheduler", _BY_SIGMA, ("flow",)),
)
SAMPLERS = tuple(sampler.name for sampler in TABLE)


def supported(sampler: str, spacing: str) -> bool:
    """Whether this sampler can place its steps so; a ValueError names what is unknown."""
    if spacing not in SPACINGS:
        raise ValueError(f"spacing {spacing!r} is unknown; accepted: {', '.join(SPACINGS)}.")
    return spacing in _named(sampler).spacings


@dataclass(frozen=True)
class Level:
    """A noise level: what the model is shown is `alpha` · x₀ + `sigma` · noise.

    Variance-preserving models have alpha² + sigma² = 1 (v-prediction, arXiv 2202.00512), flow models alpha = 1 − sigma
    (arXiv 2209.03003). `time` goes from 0, clean, to 1, noise: the timestep over the last one trained on. Tensors are
    (N, C, h, w), `sample` is the model's input, and a kind is "epsilon", "v_prediction", "sample" or "flow".
    """

    alpha: float
    sigma: float
    time: float

    def denoised(self, prediction: Tensor, sample: Tensor, kind: str) -> Tensor:
        """The clean latents x₀ that a prediction of this kind stands for."""
        match kind:
            case "epsilon":
                return (sample - self.sigma * prediction) / self.alpha
            case "v_prediction":
                return self.alpha * sample - self.sigma * prediction
            case "sample":
                return prediction
            case "flow":
                return sample - self.sigma * prediction
        raise ValueError(f"kind {kind!r} is unknown; accepted: {', '.join(KINDS)}, flow.")

    def prediction(self, denoised: Tensor, sample: Tensor, kind: str) -> Tensor:
        """What a model of this kind would have to predict for these clean latents: the inverse of `denoised`."""
        match kind:
            case "epsilon":
                return (sample - self.alpha * denoised) / self.sigma
            case "v_prediction":
                return (self.alpha * sample - denoised) / self.sigma
            case "sample":
                return denoised
            case "flow":
                return (sample - denoised) / self.sigma
        raise ValueError(f"kind {kind!r} is unknown; accepted: {', '.join(KINDS)}, flow.")

    def convert(self, prediction: Tensor, sample: Tensor, *, have: str, want: str) -> Tensor:
        """A prediction of one kind as another; the same tensor where they agree."""
        if have == want:
            return prediction
        return self.prediction(self.denoised(prediction, sample, have), sample, want)

    def velocity(self, prediction: Tensor, sample: Tensor, kind: str) -> Tensor:
        """The prediction as a velocity: noise − x₀ of a flow model, alpha · noise − sigma · x₀ of any other."""
        return self.convert(prediction, sample, have=kind, want=_velocity(kind))

    def from_velocity(self, velocity: Tensor, sample: Tensor, kind: str) -> Tensor:
        """The prediction of this kind whose `velocity` this is."""
        return self.convert(velocity, sample, have=_velocity(kind), want=kind)


class Solver:
    """A fresh scheduler for one run of N pictures, with the CPU generators that hold their randomness, one for each.

    `timesteps` are those of the model's evaluations, more than `steps` for "heun" and "pndm", and fewer when
    `strength` < 1 starts the run from a picture. Pure noise is multiplied with `init_sigma` before the first.
    `kind` is what the model predicts. A step that is not the next one raises a ValueError.
    """

    def __init__(
        self,
        scheduler: Any,
        steps: int,
        device: torch.device | str,
        generators: list[torch.Generator],
        *,
        strength: float = 1.0,
        kind: str | None = None,
    ) -> None:
        scheduler.set_timesteps(steps, device=device)
        self._scheduler = scheduler
        self._random = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
        self._reads = _kind(scheduler.config)
        self.kind = kind or self._reads
        self._begin = _begin(steps, strength, self.kind) * scheduler.order
        self._next = 0
        self.timesteps: Tensor = scheduler.timesteps[self._begin :]
        self.init_sigma = float(scheduler.init_noise_sigma) if self.kind != "flow" else 1.0

    @classmethod
    def of(
        cls,
        sampler: str,
        spacing: str,
        config: Mapping[str, Any],
        steps: int,
        device: torch.device | str,
        generators: list[torch.Generator],
        *,
        strength: float = 1.0,
    ) -> Solver:
        """A solver for a model with this scheduler configuration.

        `steps` is of the whole way from noise; `strength` in (0, 1] is the part of it that is walked, as in diffusers'
        image to image. A ValueError says which of the arguments do not go together.
        """
        row = _named(sampler)
        if not supported(sampler, spacing):
            raise ValueError(f"sampler {row.name!r} has no {spacing!r} spacing; accepted: {', '.join(row.spacings)}.")
        kind = _kind(config)
        _check_model(row, config, kind)
        scheduler = _scheduler(row, spacing, config, kind)
        _check_steps(row, scheduler, steps, strength)
        solver = cls(scheduler, steps, device, generators, strength=strength, kind=kind)
        _check_levels(row, spacing, scheduler, steps)
        return solver

    def scale(self, latents: Tensor, index: int) -> Tensor:
        """The latents as the model wants them at step `index`."""
        if self.kind == "flow":
            return latents
        self._place(index)
        return self._scheduler.scale_model_input(latents, self.timesteps[index])

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        """Clean latents with the noise they have where step `index` begins; after the last step they have none."""
        if index == len(self.timesteps):
            return clean
        self._place(index)
        time = self.timesteps[index : index + 1]
        if self.kind == "flow":
            return self._scheduler.scale_noise(clean, time, noise)
        return self._scheduler.add_noise(clean, noise, time)

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The next latents and the clean ones this step believes in, all (N, C, h, w)."""
        if index != self._next:
            raise ValueError(f"index must be {self._next}, the next step of this run; got {index}: make a new Solver.")
        level, sample = self.level(index), self.scale(latents, index)
        self._place(index)
        given = level.convert(prediction, sample, have=self.kind, want=self._reads)
        out = self._scheduler.step(given, self.timesteps[index], latents, **self._random)
        self._next += 1
        for name in ("pred_original_sample", "denoised"):
            if getattr(out, name, None) is not None:
                return out.prev_sample, getattr(out, name)
        return out.prev_sample, level.denoised(prediction, sample, self.kind)

    def level(self, index: int) -> Level:
        """The noise in the model's input at step `index`."""
        last = self._scheduler.config.num_train_timesteps - 1
        time = min(float(self.timesteps[index]) / last, 1.0)
        if not hasattr(self._scheduler, "sigmas"):
            kept = float(self._scheduler.alphas_cumprod[int(self.timesteps[index])])
            return Level(kept**0.5, (1 - kept) ** 0.5, time)
        sigma = float(self._scheduler.sigmas[self._begin + index])
        if self.kind == "flow":
            return Level(1 - sigma, sigma, time)
        alpha = (sigma**2 + 1) ** -0.5
        return Level(alpha, sigma * alpha, time)

    def _place(self, index: int) -> None:
        """Tell the scheduler where it is, for it would otherwise search by timestep, and two steps may share one."""
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self._begin + index)
            self._scheduler._step_index = self._begin + index  # outranks the above once a step was taken


def scheduler_class(sampler: str) -> Any:
    """The class of diffusers that goes by this name."""
    return getattr(import_module("diffusers"), _named(sampler).scheduler)


def _named(sampler: str) -> Sampler:
    name = "dpm++ 2m" if sampler == "dpm++" else sampler  # its name in version 0.1
    for row in TABLE:
        if row.name == name:
            return row
    raise ValueError(f"sampler {sampler!r} is unknown; accepted: {', '.join(SAMPLERS)}.")


def _velocity(kind: str) -> str:
    return "flow" if kind == "flow" else "v_prediction"


def _kind(config: Mapping[str, Any]) -> str:
    """What a model with this configuration predicts."""
    kind = str(config.get("prediction_type", "epsilon"))
    if str(config.get("_class_name", "")).startswith("FlowMatch") or kind == "flow_prediction":
        return "flow"
    return kind


def _scheduler(row: Sampler, spacing: str, config: Mapping[str, Any], kind: str) -> Any:
    options = dict(row.options)
    if spacing != "default":
        options |= {"use_karras_sigmas": spacing == "karras", "use_exponential_sigmas": spacing == "exponential"}
        options |= {"use_beta_sigmas": False, "use_lu_lambdas": False}
    if spacing == "trailing":
        options["timestep_spacing"] = "trailing"
    if kind == "flow":
        options["shift"] = config.get("shift", config.get("flow_shift", 1.0))
    elif kind not in row.kinds:
        options["prediction_type"] = "epsilon"  # the class cannot read x₀; `step` turns it into ε
    return scheduler_class(row.name).from_config(dict(config), **options)


def _check_model(row: Sampler, config: Mapping[str, Any], kind: str) -> None:
    if kind not in (*KINDS, "flow"):
        raise ValueError(f"the model's prediction_type {kind!r} is unknown; accepted: {', '.join(KINDS)}.")
    if kind == "flow" and "flow" not in row.kinds:
        raise ValueError(f"sampler {row.name!r} is for noise-predicting models; this one matches flows: 'flow euler'.")
    if kind != "flow" and "flow" in row.kinds:
        raise ValueError(f"sampler {row.name!r} is for flow-matching models; this one predicts {kind}: try 'euler'.")
    name = str(config.get("_class_name", ""))
    odd = [key for key in ("use_dynamic_shifting", "invert_sigmas") if config.get(key)]
    if name.startswith("EDM"):
        odd.append(name)
    if config.get("timestep_type") == "continuous":
        odd.append("timestep_type='continuous'")
    if odd:
        raise ValueError(f"the model's scheduler has {odd[0]}, a noise schedule that sampler {row.name!r} cannot follow.")


def _check_steps(row: Sampler, scheduler: Any, steps: int, strength: float) -> None:
    most, least = int(scheduler.config.num_train_timesteps), 1
    if row.name in ("lcm", "tcd"):
        most = min(most, int(scheduler.config.original_inference_steps))
    if row.name == "pndm" and not scheduler.config.skip_prk_steps:
        least = 4  # Runge-Kutta on the first three
        if strength < 1:
            raise ValueError("sampler 'pndm' warms up from pure noise on this model, so strength must be 1; try 'ddim'.")
    if not least <= steps <= most:
        raise ValueError(f"sampler {row.name!r} takes {least} to {most} steps on this model; got {steps}.")


def _check_levels(row: Sampler, spacing: str, scheduler: Any, steps: int) -> None:
    times, last = scheduler.timesteps, scheduler.config.num_train_timesteps - ("flow" not in row.kinds)
    falling = not hasattr(scheduler, "sigmas") or bool((scheduler.sigmas[:: scheduler.order].diff() < 0).all())
    if falling and 0 <= float(times.min()) and float(times.max()) <= last:
        return
    raise ValueError(
        f"sampler {row.name!r} with {spacing!r} spacing cannot place {steps} steps on the model's timesteps "
        f"0 to {last} (it would go from {float(times.max()):g} to {float(times.min()):g}); take a few more or fewer."
    )


def _begin(steps: int, strength: float, kind: str) -> int:
    """The step that a run of this strength begins with, as the pipelines of diffusers count it."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1; got {strength}.")
    walked = min(steps * strength, steps)  # Stable Diffusion 3 rounds it up, the others down
    begin = int(steps - walked) if kind == "flow" else steps - int(walked)
    if begin == steps:
        raise ValueError(f"strength {strength} of {steps} steps is no step at all; it must be at least {1 / steps:.3g}.")
    return begin
