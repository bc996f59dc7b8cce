"""Means and moves of encoded prompts, and noise between two noises, as tensors.

T are the tokens of a prompt. Sums are in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ctrl.model import PromptEmbeds


def blended(texts: Sequence[PromptEmbeds], weights: Sequence[float]) -> PromptEmbeds:
    """Σ wᵢ · textᵢ of texts of one length, whose weights add up to 1: of states, pooled states and word weights."""
    pooled = [text.pooled for text in texts if text.pooled is not None]
    words = [torch.ones_like(text.states[0, :, 0]) if text.weights is None else text.weights for text in texts]
    return replace(
        texts[0],
        states=_sum([text.states for text in texts], weights),
        pooled=_sum(pooled, weights) if pooled else None,
        weights=_sum(words, weights) if any(text.weights is not None for text in texts) else None,
    )


def moved(texts: Sequence[PromptEmbeds], weight: float) -> PromptEmbeds:
    """text + weight · (target − source) of `texts`, these three, of one length; the word weights stay those of text."""
    text, source, target = texts
    change = (1.0, weight, -weight)
    pooled = [each.pooled for each in (text, target, source) if each.pooled is not None]
    return replace(
        text,
        states=_sum([text.states, target.states, source.states], change),
        pooled=_sum(pooled, change) if pooled else None,
    )


def between(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """The noise at `weight` of the way from the first to the second, along a great circle (Shoemake 1985).

    sin((1 − w)·θ)/sin θ · first + sin(w·θ)/sin θ · second with θ the angle between the two; a straight line where they
    are parallel. Both are of one shape, and one picture's.
    """
    a, b = first.float(), second.float()
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    parallel = cosine.abs() > 1 - 1e-6
    sine = torch.where(parallel, 1.0, torch.sin(angle))
    ahead = torch.where(parallel, weight, torch.sin(weight * angle) / sine)
    behind = torch.where(parallel, 1 - weight, torch.sin((1 - weight) * angle) / sine)
    return (behind * a + ahead * b).to(first.dtype)


def _sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = weights[0] * tensors[0].float()
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total = total + weight * tensor.float()
    return total.to(tensors[0].dtype)
