"""Samplers by their usual names: diffusers' schedulers, one fresh for each run.

The numbers are those of diffusers' pipelines: a scheduler is made from the model's configuration by `from_config`, cut
as `get_timesteps` cuts it for image to image, and given the generators where it draws noise. Spacings are of Karras et
al. (arXiv 2206.00364, "karras"; "exponential" is even in log σ) and Lin et al. (arXiv 2305.08891, "trailing").

- "dpm++ sde" is DPMSolverSinglestepScheduler with algorithm_type="sde-dpmsolver++" (arXiv 2211.01095, order 2), one
  evaluation a step. DPMSolverSDEScheduler would need torchsde and would not draw from the run's generators.
- "tcd" is stochastic with γ = 0.3, TCDScheduler's default (arXiv 2402.19159); a pipeline has to be told eta=0.3.
- "pndm" is of order 2 on ε and of order 1 on v, which diffusers averages before it is ε. At strength < 1 its warm-up
  takes the second timestep for a repeated one and the rest lags a step, in diffusers too.
- "pndm", "heun" and "dpm++ sde" ignore rescale_betas_zero_snr, in diffusers too.
- What predicts x₀ has its ε given to "pndm" and "euler a", whose classes cannot read x₀.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ctrl.images import why

SPACINGS = ("default", "karras", "exponential", "trailing")
KINDS = ("epsilon", "v_prediction", "sample", "flow")  # of what a model predicts


@dataclass(frozen=True)
class Sampler:
    """A sampler's name, diffusers' class for it, and the spacings and predictions the class can do."""

    name: str
    scheduler: str
    spacings: tuple[str, ...]
    kinds: tuple[str, ...] = KINDS[:3]
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
SAMPLERS = tuple(row.name for row in TABLE)


def supported(sampler: str, spacing: str) -> bool:
    """Whether this sampler can place its steps so; a ValueError says which of the names is unknown."""
    if spacing not in SPACINGS:
        raise ValueError(f"spacing {spacing!r} is unknown; accepted: {', '.join(SPACINGS)}.")
    return spacing in _named(sampler).spacings


@dataclass(frozen=True)
class Level:
    """A noise level: the model's input is `alpha` · x₀ + `sigma` · noise.

    Models of ε, v (arXiv 2202.00512) and x₀ have alpha² + sigma² = 1, flow models (arXiv 2209.03003) alpha = 1 − sigma.
    `time` is the timestep over the last one trained on, 0 clean and 1 noise. Tensors are (N, C, h, w), `sample` is the
    model's input, and `kind` one of KINDS.
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
        raise ValueError(f"kind {kind!r} is unknown; accepted: {', '.join(KINDS)}.")

    def prediction(self, denoised: Tensor, sample: Tensor, kind: str) -> Tensor:
        """What a model of this kind would predict for these clean latents: the inverse of `denoised`."""
        match kind:
            case "epsilon":
                return (sample - self.alpha * denoised) / self.sigma
            case "v_prediction":
                return (self.alpha * sample - denoised) / self.sigma
            case "sample":
                return denoised
            case "flow":
                return (sample - denoised) / self.sigma
        raise ValueError(f"kind {kind!r} is unknown; accepted: {', '.join(KINDS)}.")

    def convert(self, prediction: Tensor, sample: Tensor, *, have: str, want: str) -> Tensor:
        """A prediction of one kind as another, such as a velocity ("v_prediction", or a flow's "flow") and back.

        The very tensor where the kinds agree.
        """
        if have == want:
            return prediction
        return self.prediction(self.denoised(prediction, sample, have), sample, want)


class Solver:
    """A fresh scheduler for one run of N pictures, with the N CPU generators that hold their randomness.

    `timesteps` are those of the model's evaluations: more than the steps for "heun" and "pndm", fewer where the run
    starts from a picture. Pure noise is multiplied with `init_sigma` before the first. `kind` is what the model
    predicts, one of KINDS.
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
        self.init_sigma = 1.0 if self.kind == "flow" else float(scheduler.init_noise_sigma)

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
        """A solver for the model with this scheduler configuration.

        `steps` are those from pure noise; `strength` in (0, 1] is the part of them that is walked, as in diffusers'
        image to image. A ValueError says which of the arguments do not go together.
        """
        row, kind = _named(sampler), _kind(config)
        if not supported(sampler, spacing):
            raise ValueError(f"sampler {row.name!r} has no {spacing!r} spacing; accepted: {', '.join(row.spacings)}.")
        _check_model(row, config, kind)
        try:
            scheduler = _scheduler(row, spacing, config, kind)
        except Exception as error:  # whatever diffusers makes of a configuration that is none of its own
            raise ValueError(f"sampler {row.name!r} cannot follow the model's noise schedule: {why(error)}.") from error
        _check_steps(row, scheduler, steps, strength)
        solver = cls(scheduler, steps, device, generators, strength=strength, kind=kind)
        _check_levels(row, spacing, scheduler, steps)
        return solver

    @property
    def times(self) -> list[float]:
        """The noise times of the evaluations, 1 for pure noise and 0 for none."""
        return [self.level(index).time for index in range(len(self.timesteps))]

    def scale(self, latents: Tensor, index: int) -> Tensor:
        """The latents as the model wants them at step `index`."""
        if self.kind == "flow":
            return latents
        self._place(index)
        return self._scheduler.scale_model_input(latents, self.timesteps[index])

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        """Clean latents with the noise they have where step `index` begins; past the last step they have none."""
        if index == len(self.timesteps):
            return clean
        self._place(index)
        time = self.timesteps[index : index + 1]
        if self.kind == "flow":
            return self._scheduler.scale_noise(clean, time, noise)
        return self._scheduler.add_noise(clean, noise, time)

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The next latents and the clean ones this step believes in, all (N, C, h, w).

        A ValueError says so when `index` is not the next one, since schedulers remember the steps before.
        """
        if index != self._next:
            raise ValueError(f"index must be {self._next}, the next step of this run; got {index}: make a new Solver.")
        level, sample = self.level(index), self.scale(latents, index)
        given = level.convert(prediction, sample, have=self.kind, want=self._reads)
        self._place(index)
        out = self._scheduler.step(given, self.timesteps[index], latents, **self._random)
        self._next += 1
        for name in ("pred_original_sample", "denoised"):
            if getattr(out, name, None) is not None:
                return out.prev_sample, getattr(out, name)
        return out.prev_sample, level.denoised(prediction, sample, self.kind)

    def level(self, index: int) -> Level:
        """The noise in the model's input at step `index`."""
        return self._levels[index]

    @cached_property
    def _levels(self) -> list[Level]:
        """Those of all steps, read at once: each reading of a number would wait for the device."""
        scheduler, times = self._scheduler, self.timesteps.tolist()
        last = scheduler.config.num_train_timesteps - 1
        if not hasattr(scheduler, "sigmas"):
            kept = scheduler.alphas_cumprod.tolist()
            pairs = [(kept[int(time)] ** 0.5, (1 - kept[int(time)]) ** 0.5) for time in times]
        else:
            sigmas = scheduler.sigmas[self._begin :].tolist()  # one more than there are steps
            alphas = [1 - sigma if self.kind == "flow" else (sigma**2 + 1) ** -0.5 for sigma in sigmas]
            pairs = [(a, s if self.kind == "flow" else s * a) for a, s in zip(alphas, sigmas, strict=True)]
        return [Level(*pair, min(time / last, 1.0)) for pair, time in zip(pairs, times, strict=False)]

    def _place(self, index: int) -> None:
        """Tell the scheduler where it is: it would search by timestep, and two steps may share one."""
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self._begin + index)
            self._scheduler._step_index = self._begin + index  # counts for more than the former after a step


def _named(sampler: str) -> Sampler:
    for row in TABLE:
        if row.name == sampler:
            return row
    raise ValueError(f"sampler {sampler!r} is unknown; accepted: {', '.join(SAMPLERS)}.")


def _kind(config: Mapping[str, Any]) -> str:
    kind = str(config.get("prediction_type", "epsilon"))
    flows = kind == "flow_prediction" or str(config.get("_class_name", "")).startswith("FlowMatch")
    return "flow" if flows else kind


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
        options["prediction_type"] = "epsilon"
    return getattr(import_module("diffusers"), row.scheduler).from_config(dict(config), **options)


def _check_model(row: Sampler, config: Mapping[str, Any], kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"the model's prediction_type {kind!r} is unknown; accepted: {', '.join(KINDS)}.")
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
        most = min(most, int(scheduler.config.original_inference_steps))  # they go along the teacher's own
    if row.name == "pndm" and not scheduler.config.skip_prk_steps:
        least = 4  # three are Runge-Kutta, and placed as if from pure noise
        if strength < 1:
            raise ValueError(f"sampler 'pndm' starts from noise on this model: strength must be 1, got {strength}.")
    if not least <= steps <= most:
        raise ValueError(f"sampler {row.name!r} takes {least} to {most} steps on this model; got {steps}.")


def _check_levels(row: Sampler, spacing: str, scheduler: Any, steps: int) -> None:
    first, last = float(scheduler.timesteps.max()), float(scheduler.timesteps.min())
    most = scheduler.config.num_train_timesteps - (row.name != "flow euler")
    falls = not hasattr(scheduler, "sigmas") or bool((scheduler.sigmas[:: scheduler.order].diff() < 0).all())
    if not (falls and 0 <= last <= first <= most):
        raise ValueError(
            f"sampler {row.name!r} with {spacing!r} spacing cannot place {steps} steps on the timesteps 0 to {most} "
            f"of this model, which would go from {first:g} to {last:g}; take some more or fewer."
        )


def _begin(steps: int, strength: float, kind: str) -> int:
    """The step a run of this strength begins with, as diffusers' pipelines count (Stable Diffusion 3 rounds up)."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1; got {strength}.")
    begin = int(steps - steps * strength) if kind == "flow" else steps - int(steps * strength)
    if begin == steps:
        raise ValueError(f"strength {strength} of {steps} steps is less than one of them; take more of either.")
    return begin
