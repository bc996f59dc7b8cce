"""The solver: one of diffusers' schedulers, fresh for one run.

The numbers are those of diffusers' pipelines: a scheduler is made from the model's configuration by `from_config`, cut
as `get_timesteps` cuts it for image to image, and given the generators where it draws noise.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ctrl.model.samplers import predicts, scheduled
from ctrl.predictions import Kind, Level


@dataclass(frozen=True, eq=False)
class SolverState:
    """What a solver remembers after some steps: the `next` one's index, what moved in its scheduler, random states.

    A value: it can be kept, pickled, and resumed from any number of times.
    """

    next: int
    moved: Mapping[str, Any]
    random: tuple[Tensor, ...]


class Solver:
    """A fresh scheduler for one run of N pictures, with the N CPU generators that hold their randomness.

    `timesteps` are those of the model's evaluations: more than the steps for "heun" and "pndm", fewer where the run
    starts from a picture. Pure noise is multiplied with `init_sigma` before the first. `kind` is what the model
    predicts.
    """

    def __init__(
        self, scheduler: Any, steps: int, generators: list[torch.Generator], *, strength: float, kind: Kind
    ) -> None:
        self._scheduler = scheduler
        self._random = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
        self.kind, self._reads = kind, predicts(scheduler.config)
        self._begin = _begin(steps, strength, kind) * scheduler.order
        self._next, self._generators = 0, generators
        self.timesteps: Tensor = scheduler.timesteps[self._begin :]
        self._placed = dict(vars(scheduler))  # its attributes before the first step
        self.init_sigma = 1.0 if kind == "flow" else float(scheduler.init_noise_sigma)

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
        scheduler, kind = scheduled(sampler, spacing, config, steps, device, strength)
        return cls(scheduler, steps, generators, strength=strength, kind=kind)

    @property
    def times(self) -> list[float]:
        """The noise times of the evaluations, 1 for pure noise and 0 for none."""
        return [self.level(index).time for index in range(len(self.timesteps))]

    def scale(self, latents: Tensor, index: int) -> Tensor:
        """The latents scaled as the model reads them at step `index`."""
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
        """The next latents and this step's estimate of the clean ones, x₀, all (N, C, h, w).

        A ValueError says so when `index` is not the next one, since schedulers remember the steps before.
        """
        if index != self._next:
            raise ValueError(f"index must be {self._next}, the next step of this run; got {index}: make a new Solver.")
        level, sample = self.level(index), self.scale(latents, index)
        converted = level.convert(prediction, sample, have=self.kind, want=self._reads).to(prediction.dtype)
        self._place(index)
        out = self._scheduler.step(converted, self.timesteps[index], latents, **self._random)
        self._next += 1
        for name in ("pred_original_sample", "denoised"):
            if getattr(out, name, None) is not None:
                return out.prev_sample, getattr(out, name)
        clean = level.convert(prediction, sample, have=self.kind, want="sample")
        return out.prev_sample, clean.to(prediction.dtype)

    def state(self) -> SolverState:
        """A copy of everything that later steps depend on."""
        # Lists are appended to in place; every other attribute that changed is a new object since the first step.
        moved = {
            name: value
            for name, value in vars(self._scheduler).items()
            if isinstance(value, list) or value is not self._placed.get(name)
        }
        random = tuple(generator.get_state() for generator in self._generators)
        return SolverState(self._next, copy.deepcopy(moved), random)

    def resume(self, state: SolverState) -> None:
        """Go on from a state, which a solver for the same steps gave; it can be resumed from again."""
        vars(self._scheduler).update(copy.deepcopy(dict(state.moved)))
        for generator, random in zip(self._generators, state.random, strict=True):
            generator.set_state(random)
        self._next = state.next

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
        """Set the scheduler's step index: it would search by timestep, and two steps may share one."""
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self._begin + index)
            self._scheduler._step_index = self._begin + index  # counts for more than the former after a step


def _begin(steps: int, strength: float, kind: Kind) -> int:
    """The step a run of this strength begins with, as diffusers' pipelines count (Stable Diffusion 3 rounds up)."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1; got {strength}.")
    begin = int(steps - steps * strength) if kind == "flow" else steps - int(steps * strength)
    if begin == steps:
        raise ValueError(f"strength {strength} of {steps} steps is less than one of them; take more of either.")
    return begin
