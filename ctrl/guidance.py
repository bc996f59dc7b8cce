"""How the predictions of a step's branches become one: functions of tensors that know no model.

A step has up to three kinds of branch: uncond (the negative prompt), cond (the prompt) and perturbed (the
prompt in a network whose self-attention is spoilt). Every prediction is (N, C, h, w). What is off costs
nothing: a branch that is not there is not run, and `guide` with everything off hands cond back untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.predictions import Kind, Level

if TYPE_CHECKING:
    from ctrl.recipe import APG, Within


@dataclass(frozen=True, eq=False)
class Space:
    """Where a step's predictions live: what they are of the model's input `sample`, at its noise level."""

    sample: Tensor  # (N, C, h, w)
    level: Level
    kind: Kind

    def into(self, prediction: Tensor, within: Within) -> Tensor:
        """A prediction as a v or x0, in float32 at least; "prediction" leaves it as it is."""
        return self.level.convert(prediction, self.sample, have=self.kind, want=self._named(within))

    def back(self, value: Tensor, within: Within) -> Tensor:
        """The inverse of `into`."""
        return self.level.convert(value, self.sample, have=self._named(within), want=self.kind)

    def _named(self, within: Within) -> Kind:
        return self.kind if within == "prediction" else "v_prediction" if within == "v" else "sample"


@dataclass(frozen=True, eq=False)
class Branches:
    """The predictions of one step, each (N, C, h, w); `uncond` is None where guidance is off."""

    cond: Tensor
    uncond: Tensor | None = None
    perturbed: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which row of a batch is which: blocks of `pictures` rows in diffusers' order, uncond, cond, perturbed.

    A value, so that what is stacked for a layout can be kept by it for a whole run.
    """

    pictures: int
    guided: bool
    perturbed: int = 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.pictures * (self.guided + 1 + self.perturbed)

    @property
    def uncond(self) -> tuple[int, ...]:
        """The rows of the negative prompt; none where guidance is off."""
        return tuple(range(self.pictures if self.guided else 0))

    @property
    def prompted(self) -> tuple[int, ...]:
        """The rows that are shown the prompt: cond and every perturbed branch."""
        return tuple(range(len(self.uncond), self.rows))

    @property
    def cond(self) -> tuple[int, ...]:
        """The rows of the prompt in the network as it is."""
        return self.prompted[: self.pictures]

    def branch(self, number: int) -> tuple[int, ...]:
        """The rows of perturbed branch `number`, from 0."""
        start = (number + 1) * self.pictures
        return self.prompted[start : start + self.pictures]

    def stack(self, cond: Tensor, uncond: Tensor) -> Tensor:
        """(R, …) inputs of all rows from (N, …) ones: the perturbed rows are given what cond is given."""
        return torch.cat([uncond] * self.guided + [cond] * (1 + self.perturbed))

    def split(self, prediction: Tensor) -> Branches:
        """The branches of an (R, C, h, w) prediction."""
        parts = prediction.split(self.pictures)
        first = int(self.guided)
        return Branches(parts[first], parts[0] if self.guided else None, tuple(parts[first + 1 :]))


@dataclass(frozen=True, eq=False)
class How:
    """How one step is guided: plain numbers, schedules already evaluated.

    `map` (1 or N, 1, H, W) in [0, 1] spreads the weight over the picture, white all of it and black none.
    `optimal` scales uncond as CFG-Zero* does, and `silent` predicts zero, its zero-init. `perturbed` has a
    scale for each perturbed branch. `rescale` is φ of arXiv 2305.08891.
    """

    weight: float
    map: Tensor | None = None
    rescale: float = 0.0
    rescale_in: Within = "prediction"
    apg: APG | None = None
    optimal: bool = False
    silent: bool = False
    perturbed: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class State:
    """What guidance remembers of the steps before, in one run: APG's running sum of differences."""

    average: Tensor | None = None


def spread(weight: float, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """1 + mask · (weight − 1): a (1 or N, 1, h, w) float32 weight, full where the mask is 1 and off where 0."""
    mask = mask.to(torch.promote_types(mask.dtype, torch.float32))
    mask = F.interpolate(mask, size=size, mode="area") if mask.shape[-2:] != size else mask
    return weight * mask + (1 - mask)  # in this order a mask of ones gives the weight to the last bit


def cfg(cond: Tensor, uncond: Tensor, guidance: float | Tensor) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598), all (N, C, h, w), in diffusers' order of operations.

    `guidance` may be a float32 map (1 or N, 1, h, w): in half precision the product is then rounded once,
    just as a number's is.
    """
    return uncond + (guidance * (cond - uncond)).to(cond.dtype)


def rescale(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """Bring each picture's standard deviation φ of the way back to cond's (arXiv 2305.08891, section 3.4).

    Over C, h and w, in diffusers' order of operations. diffusers does it to what the model predicts; ComfyUI
    does it to v whatever the model predicts, which for an ε model makes other pictures at the same φ.
    """
    over = list(range(1, guided.ndim))
    matched = guided * (cond.std(dim=over, keepdim=True) / guided.std(dim=over, keepdim=True))
    return phi * matched + (1 - phi) * guided


def apg(
    cond: Tensor, uncond: Tensor, weight: float | Tensor, how: APG, average: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Adaptive projected guidance, and the running sum to hand to the next step (None before the first).

    Algorithm 1 of arXiv 2410.02416, cond + (w − 1) · Δ, which at w = 1 is cond whatever the settings. So does
    diffusers with `use_original_formulation` and w − 1; by default it does uncond + w · Δ, which is not.
    """
    over = list(range(1, cond.ndim))
    running = cond - uncond
    if average is not None and how.momentum:
        running = running + how.momentum * average
    step = running
    if how.threshold > 0:
        step = step * (how.threshold / step.norm(p=2, dim=over, keepdim=True)).clamp(max=1.0)
    if how.eta != 1.0:
        direction = cond / cond.norm(p=2, dim=over, keepdim=True).clamp(min=1e-12)
        step = step - (1 - how.eta) * (step * direction).sum(dim=over, keepdim=True) * direction
    return cond + ((weight - 1) * step).to(cond.dtype), running


def optimal(cond: Tensor, uncond: Tensor) -> Tensor:
    """uncond times the scale that brings it nearest to cond, ⟨cond, uncond⟩ / ‖uncond‖² (CFG-Zero*, 2503.18886).

    Per picture, in the space of the prediction as the paper and diffusers have it.
    """
    c, u = cond.flatten(1).float(), uncond.flatten(1).float()
    scale = (c * u).sum(dim=1, keepdim=True) / ((u**2).sum(dim=1, keepdim=True) + 1e-8)
    return uncond * scale.to(cond.dtype).view(-1, *(1 for _ in cond.shape[1:]))


def silence(cond: Tensor) -> Tensor:
    """The prediction of CFG-Zero*'s zero-init: zeros, whatever the model predicts, as diffusers has it.

    For a flow that is a velocity of zero: a first-order solver leaves the latents as they are for this step.
    For v it says x0 = α · sample, at high noise nearly the same. For ε it says that there is no noise: the
    latents keep their value in x0 + (σ/α) · noise while the noise level falls under them. The paper shows
    flows only; of x0 it would be a blank picture.
    """
    return torch.zeros_like(cond)


def perturb(guided: Tensor, cond: Tensor, perturbed: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """guided + Σ s · (cond − perturbed): PAG (arXiv 2403.17377), SEG (arXiv 2408.00760), or both.

    `guided` is cond itself where classifier-free guidance is off.
    """
    for branch, scale in zip(perturbed, scales, strict=True):
        guided = guided + scale * (cond - branch)
    return guided


def guide(branches: Branches, how: How, space: Space, state: State) -> tuple[Tensor, State]:
    """The prediction (N, C, h, w) the solver gets, and the state for the next step.

    In this order: CFG-Zero*, classifier-free guidance or APG, perturbed branches, rescale. A run begins with
    `State()`; being a value, it can be kept beside any step and gone on from. Without uncond the state stays
    as it was. Rescale acts on whatever was guided, also by perturbed branches alone.
    """
    cond = guided = branches.cond
    if how.silent:
        return silence(cond), state
    if branches.uncond is not None:
        uncond = optimal(cond, branches.uncond) if how.optimal else branches.uncond
        height, width = cond.shape[-2:]
        weight = how.weight if how.map is None else spread(how.weight, how.map, (height, width))
        if how.apg is None:
            guided = cfg(cond, uncond, weight)
        else:
            pair = space.into(cond, "x0"), space.into(uncond, "x0")
            guided, average = apg(*pair, weight, how.apg, state.average)
            guided, state = space.back(guided, "x0"), replace(state, average=average)
    guided = perturb(guided, cond, branches.perturbed, how.perturbed)
    if how.rescale and guided is not cond:
        pair = space.into(guided, how.rescale_in), space.into(cond, how.rescale_in)
        guided = space.back(rescale(*pair, how.rescale), how.rescale_in)
    return guided.to(cond.dtype), state
