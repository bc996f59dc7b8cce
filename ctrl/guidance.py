"""Guidance: combine the predictions of a step's branches into one. Functions of tensors, independent of any model.

A step has up to three kinds of branch: uncond (the negative prompt), cond (the prompt) and perturbed (the
prompt in a network whose self-attention is perturbed). Every prediction is (N, C, h, w). A feature that is
off costs nothing: its branch is not run, and `guide` with everything off returns cond itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.predictions import Kind, Level
from ctrl.recipe import APG, Guidance, Within, as_number
from ctrl.rows import Branches


@dataclass(frozen=True, eq=False)
class Space:
    """The space of a step's predictions: their kind, the model's input `sample` and its noise level."""

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
class GuidanceState:
    """State carried from step to step: APG's running sum of differences, (N, C, h, w)."""

    average: Tensor | None = None


def weight_map(weight: float, mask: Tensor, size: tuple[int, int]) -> Tensor:
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
    """Move each picture's standard deviation by the fraction φ towards cond's (arXiv 2305.08891, section 3.4).

    Over C, h and w, in diffusers' order of operations. diffusers rescales the model's prediction; ComfyUI
    rescales v for every model, so an ε model gives different pictures at the same φ.
    """
    over = list(range(1, guided.ndim))
    matched = guided * (cond.std(dim=over, keepdim=True) / guided.std(dim=over, keepdim=True))
    return phi * matched + (1 - phi) * guided


def apg(
    cond: Tensor, uncond: Tensor, weight: float | Tensor, how: APG, average: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Adaptive projected guidance, and the running sum to hand to the next step (None before the first).

    Algorithm 1 of arXiv 2410.02416, cond + (w − 1) · Δ, which at w = 1 is cond whatever the settings. diffusers
    gives the same with `use_original_formulation` and w − 1; its default, uncond + w · Δ, is not cond at w = 1.
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


def optimized_scale(cond: Tensor, uncond: Tensor) -> Tensor:
    """uncond times the scale that makes it closest to cond, ⟨cond, uncond⟩ / ‖uncond‖² (CFG-Zero*, 2503.18886).

    Per picture, in the space of the prediction as the paper and diffusers have it.
    """
    c, u = cond.flatten(1).float(), uncond.flatten(1).float()
    scale = (c * u).sum(dim=1, keepdim=True) / ((u**2).sum(dim=1, keepdim=True) + 1e-8)
    return uncond * scale.to(cond.dtype).view(-1, *(1 for _ in cond.shape[1:]))


def zero_init(cond: Tensor) -> Tensor:
    """The prediction of CFG-Zero*'s zero-init: zeros for every kind of prediction, as in diffusers.

    For a flow that is a velocity of zero: a first-order solver leaves the latents as they are for this step.
    For v it means x0 = α · sample, nearly the same at high noise. For ε it means that there is no noise: the
    latents keep the value x0 + (σ/α) · noise while the noise level falls. The paper shows flows only; for x0
    it would mean a blank picture.
    """
    return torch.zeros_like(cond)


def perturb(guided: Tensor, cond: Tensor, perturbed: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """guided + Σ s · (cond − perturbed): PAG (arXiv 2403.17377), SEG (arXiv 2408.00760), or both.

    `guided` is cond itself where classifier-free guidance is off.
    """
    for branch, scale in zip(perturbed, scales, strict=True):
        guided = guided + scale * (cond - branch)
    return guided


def guide(
    branches: Branches, guidance: Guidance, mask: Tensor | None, space: Space, state: GuidanceState
) -> tuple[Tensor, GuidanceState]:
    """The prediction (N, C, h, w) the solver gets, and the state for the next step.

    `guidance` is that of one step (`Recipe.at`), `mask` its map as a (1 or N, 1, H, W) tensor. The order is CFG-Zero*,
    classifier-free guidance or APG, perturbed branches, rescale. A run begins with `GuidanceState()`, a value that can
    be kept at any step to resume from. Without uncond it does not change. Rescale also acts if only perturbed branches
    guide.
    """
    cond = guided = branches.cond
    if guidance.zero_init:
        return zero_init(cond), state
    if branches.uncond is not None:
        uncond = optimized_scale(cond, branches.uncond) if guidance.zero else branches.uncond
        height, width = cond.shape[-2:]
        number = as_number(guidance.weight)
        weight = number if mask is None else weight_map(number, mask, (height, width))
        if guidance.apg is None:
            guided = cfg(cond, uncond, weight)
        else:
            pair = space.into(cond, "x0"), space.into(uncond, "x0")
            guided, average = apg(*pair, weight, guidance.apg, state.average)
            guided, state = space.back(guided, "x0"), replace(state, average=average)
    guided = perturb(guided, cond, branches.perturbed, [as_number(term.weight) for term in guidance.perturb])
    if guidance.rescale and guided is not cond:
        pair = space.into(guided, guidance.rescale_in), space.into(cond, guidance.rescale_in)
        guided = space.back(rescale(*pair, guidance.rescale), guidance.rescale_in)
    return guided.to(cond.dtype), state
