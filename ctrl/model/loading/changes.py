"""What a LoRA file adds to one weight: low-rank, Hadamard and Kronecker products, differences, and DoRA.

The forms are those of arXiv 2106.09685 (LoRA), 2108.06098 (LoHa), github.com/KohakuBlueleaf/LyCORIS (LoCon, LoKr) and
2402.09353 (DoRA). In shapes, r is the rank and (out, in, …) the weight's; … is empty or a convolution's kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

LOW_RANK = ("down", "up", "mid")
HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
KRONECKER = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
DIFFERENCE = ("diff",)
MAGNITUDE = ("dora_scale", "magnitude")  # LyCORIS' for either axis, PEFT's always for the outputs
NEEDED = (("down", "up"), HADAMARD[:4], DIFFERENCE)
PAIRS = (("lokr_w1", "lokr_w1_a", "lokr_w1_b"), ("lokr_w2", "lokr_w2_a", "lokr_w2_b"))  # the first, or the other two


@dataclass(frozen=True, eq=False)
class Change:
    """What is added to one weight: `strength` times the product of the `parts`, by the names above."""

    base: str
    parts: Mapping[str, Tensor]
    strength: float

    def delta(self, weight: Tensor) -> Tensor:
        """It, in float32 and in the weight's shape; a ValueError says that it is for a weight of another."""
        parts = {name: part.to(weight.device, torch.float32) for name, part in self.parts.items()}
        shapes = " times ".join(str(tuple(parts[name].shape)) for name in sorted(parts, reverse=True))  # up before down
        try:
            product = _product(parts)
        except RuntimeError as error:
            raise ValueError(f"the LoRA's change of {self.base} is {shapes}, which cannot be multiplied.") from error
        lengths = [part.numel() for name, part in parts.items() if name in MAGNITUDE]
        if product.numel() != weight.numel() or any(length not in weight.shape[:2] for length in lengths):
            raise ValueError(
                f"the LoRA's change of {self.base} is {shapes}, and the weight is {tuple(weight.shape)}: it was made "
                "for another model."
            )
        added = (self.strength * product).view(weight.shape)
        return _renormed(parts, weight.float(), added) if lengths else added


def rank(parts: Mapping[str, Tensor]) -> int:
    """The rank of the product, by which α is divided; 0 of one without: a difference, two whole factors."""
    for name in ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
        if name in parts:
            return parts[name].shape[0]
    return 0


def missing(parts: Mapping[str, Tensor]) -> str | None:
    """A part that its form lacks, if it lacks one."""
    if parts.keys() & {*KRONECKER}:
        for whole, *halves in PAIRS:
            if whole not in parts and (lacks := [half for half in halves if half not in parts]):
                return lacks[0]
        return None
    for form in NEEDED:
        if parts.keys() & {*form}:
            return next((name for name in form if name not in parts), None)
    return "down"


def _product(parts: Mapping[str, Tensor]) -> Tensor:
    if "diff" in parts:
        return parts["diff"]
    if "down" in parts:
        down, up = parts["down"], parts["up"]
        if "mid" in parts:  # (r, r, …) between (r, in) and (out, r): LoCon's Tucker core
            return _core(parts["mid"], up.flatten(1).T, down.flatten(1))
        return up.flatten(1) @ down.flatten(1)
    if "hada_w1_a" in parts:
        first, second = (
            _core(parts[f"hada_t{at}"], parts[f"hada_w{at}_a"], parts[f"hada_w{at}_b"])
            if f"hada_t{at}" in parts
            else parts[f"hada_w{at}_a"] @ parts[f"hada_w{at}_b"]
            for at in (1, 2)
        )
        return first * second
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_w2" in parts:
        second = parts["lokr_w2"]
    elif "lokr_t2" in parts:
        second = _core(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    return torch.kron(first.reshape(*first.shape, *(1 for _ in second.shape[2:])), second.contiguous())


def _core(core: Tensor, out: Tensor, into: Tensor) -> Tensor:
    """(out, in, …) of a core (r, r, …) with (r, out) before it and (r, in) after it."""
    return torch.einsum("pq...,po,qi->oi...", core, out, into)


def _renormed(parts: Mapping[str, Tensor], weight: Tensor, added: Tensor) -> Tensor:
    """What DoRA changes: its direction is that of the changed weight, its length along one axis is learnt."""
    changed = weight + added
    if "magnitude" in parts:
        axis, length = 0, parts["magnitude"].flatten()
    else:
        axis = 0 if parts["dora_scale"].shape[0] == weight.shape[0] else 1
        length = parts["dora_scale"].flatten()
    others = [at for at in range(weight.ndim) if at != axis]
    norm = changed.square().sum(dim=others, keepdim=True).sqrt()
    return changed * (length.reshape(norm.shape) / norm) - weight
