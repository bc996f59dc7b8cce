"""At which steps of a run the parts of a recipe act."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctrl.recipe import Blend, Guidance, Recipe, Words, highest, weight_at, words_of
from ctrl.sampling.word_masks import words_in

if TYPE_CHECKING:
    from ctrl.model import Model


@dataclass(frozen=True)
class Activity:
    """A part of a recipe by its `name`, such as "controls[0]", its weight at each step, and why it never acts."""

    name: str
    weights: tuple[float, ...]
    reason: str = ""

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps, counted from 0, at which it acts."""
        return tuple(index for index, weight in enumerate(self.weights) if weight != 0)


def activity(model: Model, recipe: Recipe) -> tuple[Activity, ...]:
    """The parts of a recipe and where they act, in the recipe's order; guidance acts where its weight is over 1."""
    strength = 1.0 if recipe.image is None else recipe.strength
    times = model.times(recipe.sampler, recipe.spacing, recipe.steps, strength=strength)
    maps = _maps(recipe, times)
    return tuple(_activity(name, part, weight, times, maps) for name, part, weight in _parts(recipe))


def _maps(recipe: Recipe, times: Sequence[float]) -> dict[int, frozenset[Hashable]]:
    """For each step that is not one of zero-init: the words that already have a map."""
    guidance, there, maps = Guidance.of(recipe.canonical.guidance), frozenset[Hashable](), {}
    for at in range(len(times)):
        if not guidance.at(at, times).zero_init:
            maps[at] = there
            there |= {words.asked for words in words_in(recipe.at(at, times))}
    return maps


def _parts(recipe: Recipe) -> Iterator[tuple[str, Any, Any]]:
    guidance = Guidance.of(recipe.guidance)
    yield "guidance", guidance, guidance.weight
    for number, one in enumerate(guidance.perturb):
        yield f"guidance.perturb[{number}]", one, one.weight
    if guidance.nag is not None:
        yield "guidance.nag", guidance.nag, guidance.nag.weight
    if recipe.edit is not None:
        for name, weight in recipe.edit.weights.items():
            yield f"edit.{name}", recipe.edit, weight
    if recipe.aligned is not None:
        yield "aligned", recipe.aligned, recipe.aligned.weight
    for name in ("prompt", "negative"):
        prompt = getattr(recipe, name)
        for number, (_, weight) in enumerate(prompt.pairs if isinstance(prompt, Blend) else ()):
            yield f"{name}.parts[{number}]", prompt, weight
    for name in ("directions", "controls", "styles", "regions", "loras"):
        for number, part in enumerate(getattr(recipe, name)):
            yield f"{name}[{number}]", part, part.weight


def _activity(
    name: str, part: Any, weight: Any, times: Sequence[float], maps: Mapping[int, frozenset[Hashable]]
) -> Activity:
    on = getattr(part, "on", True)
    weights = [weight_at(weight, index, len(times), times) if on else 0.0 for index in range(len(times))]
    if name == "guidance":
        weights = [one if one > 1 else 0.0 for one in weights]
    reason = ""
    if not on:
        reason = "it is switched off"
    elif highest(weight) == 0:
        reason = "its weight is 0"
    elif not any(weights):
        reason = "guidance is off up to 1" if name == "guidance" else "its window is narrower than a step"
    words = words_of(getattr(part, "map" if isinstance(part, Guidance) else "mask", None))
    for index in range(len(times)):
        if index not in maps or _hidden(words, index, len(times), maps[index]):
            weights[index] = 0.0
    hidden = "its mask, or zero-init, leaves no step for it to act in"
    return Activity(name, tuple(weights), reason or ("" if any(weights) else hidden))


def _hidden(words: Words | None, index: int, count: int, maps: frozenset[Hashable]) -> bool:
    """Whether a mask of words is black at a step: up to its start, and while there is no map of them."""
    if words is None or words.before != "nowhere":
        return False
    return not words.at(index, count).acts or words.asked not in maps
