"""At which steps of a run the parts of a recipe act."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctrl.recipe import Blend, Guidance, Recipe, highest, weight_at, words_of

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
    guidance = Guidance.of(recipe.canonical.guidance)
    steps = [at for at in range(len(times)) if not guidance.at(at, times).zero_init]
    return tuple(_activity(name, part, weight, times, steps) for name, part, weight in _parts(recipe))


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


def _activity(name: str, part: Any, weight: Any, times: Sequence[float], steps: Sequence[int]) -> Activity:
    """Of a part that can act in these `steps` only."""
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
    seen = _unhidden(part, weights)
    weights = [one if index in steps and index in seen else 0.0 for index, one in enumerate(weights)]
    return Activity(name, tuple(weights), reason or ("" if any(weights) else "no step is left for it to act in"))


def _unhidden(part: Any, weights: Sequence[float]) -> Sequence[int]:
    """The steps in which its mask is not black: one of words may be, up to its start and until a step made its map."""
    words = words_of(getattr(part, "map" if isinstance(part, Guidance) else "mask", None))
    steps = range(len(weights))
    if words is None or words.before != "nowhere":
        return steps
    return [at for at in steps if words.at(at, len(weights)).acts and any(weights[:at])]
