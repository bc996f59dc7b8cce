"""Which of many recipes run together, as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctrl.conditioning import gated
from ctrl.recipe import Blend, Recipe, Schedule, batch_shape, prompts_of
from ctrl.sampling.beside import ReferenceRun, SourceRun

if TYPE_CHECKING:
    from ctrl.model import Model


def count_of(model: Model, recipe: Recipe) -> int:
    """How many evaluations its run takes."""
    strength = 1.0 if recipe.image is None else recipe.strength
    return len(model.times(recipe.sampler, recipe.spacing, recipe.steps, strength=strength))


def batches(model: Model, recipes: Sequence[Recipe], batch: int) -> list[list[int]]:
    """The places of recipes that can run together, up to `batch` in each."""
    groups: dict[object, list[int]] = {}
    for at, recipe in enumerate(recipes):
        groups.setdefault((batch_shape(recipe), _lengths(model, recipe)), []).append(at)
    return [members[start : start + batch] for members in groups.values() for start in range(0, len(members), batch)]


def _lengths(model: Model, recipe: Recipe) -> tuple[tuple[int, int], ...]:
    """The number of chunks of its longest prompt, without and with the negative prompt; where they change, by step.

    Those of the runs beside it follow.
    """
    whole = recipe.canonical
    beside = [*ReferenceRun.recipes([whole]), *SourceRun.recipes([whole])]
    others = [length for other in beside for length in _lengths(model, other)]
    blends = [prompt for prompt in (whole.prompt, whole.negative) if isinstance(prompt, Blend)]
    changes = [blend.changes for blend in blends] + [isinstance(part.weight, Schedule) for part in whole.directions]
    if not any(changes):
        return (_length(model, whole), *others)
    strength = 1.0 if whole.image is None else whole.strength
    times = model.times(whole.sampler, whole.spacing, whole.steps, strength=strength)
    return (*(_length(model, whole.at(index, times)) for index in range(len(times))), *others)


def _length(model: Model, recipe: Recipe) -> tuple[int, int]:
    prompts = [recipe.prompt, *(region.prompt for region in gated(recipe))]
    texts = [text for prompt in prompts for text in prompts_of(prompt)]
    texts += [text for part in recipe.directions for text in (part.source, part.target)]
    longest = max(map(model.text.chunks, texts))
    return longest, max(longest, *map(model.text.chunks, prompts_of(recipe.negative)))
