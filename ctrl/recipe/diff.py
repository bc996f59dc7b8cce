"""What changes between two recipes, in words, and the first step that can tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctrl.images import Picture
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.recipe import Recipe
from ctrl.recipe.schedule import Schedule, weight_at
from ctrl.skeleton import Skeleton


@dataclass(frozen=True)
class Change:
    """One difference: `words` say what changes and where, `step` is the first it can affect, counted from 0.

    `step` is None for a difference that affects none, such as a negative prompt without guidance.
    """

    words: str
    step: int | None

    def __str__(self) -> str:
        return self.words


def diff(old: Recipe, new: Recipe) -> tuple[Change, ...]:
    """See `Recipe.diff`. Where the number of steps, sampler or spacing changes, so does every step."""
    run = _Run(new.steps, restart=any(getattr(old, n) != getattr(new, n) for n in ("steps", "sampler", "spacing")))
    found: list[Change] = []
    for field in dataclasses.fields(Recipe):
        one, other = getattr(old, field.name), getattr(new, field.name)
        if one == other:
            continue
        if field.name in ("controls", "styles"):
            found += run.parts(one, other)
        elif field.name == "guidance":
            found += run.guidance(Guidance.of(one), Guidance.of(other))
        elif field.name == "negative":
            found.append(run.change("negative", one, other, run.guided(old, new)))
        else:
            found.append(run.change(field.name, one, other, range(run.count)))
    return tuple(found)


@dataclass(frozen=True)
class _Run:
    count: int
    restart: bool

    def change(self, name: str, one: Any, other: Any, steps: Sequence[int]) -> Change:
        return self._said(f"{name} {_words(one)} → {_words(other)}", steps)

    def guided(self, *recipes: Recipe) -> list[int]:
        """The steps in which any of the recipes has guidance."""
        weights = [Guidance.of(recipe.guidance).weight for recipe in recipes]
        return [i for i in range(self.count) if any(self._at(weight, i) > 1 for weight in weights)]

    def guidance(self, one: Guidance, other: Guidance) -> list[Change]:
        found = []
        for field in dataclasses.fields(Guidance):
            before, after = getattr(one, field.name), getattr(other, field.name)
            if before != after:
                name = "guidance" if field.name == "weight" else f"guidance's {field.name}"
                found.append(
                    self._weighed(name, before, after)
                    if field.name == "weight"
                    else self.change(name, before, after, range(self.count))
                )
        return found

    def parts(self, old: Sequence[Any], new: Sequence[Any]) -> list[Change]:
        """Controls or styles: those that stay are passed over, the others go in pairs as far as they match."""
        gone = [part for part in old if part not in new]
        come = [part for part in new if part not in old]
        found = []
        for part in list(gone):
            match = next((one for one in come if _name(one) == _name(part)), None)
            if match is not None:
                gone.remove(part)
                come.remove(match)
                found += self._fields(part, match)
        found += [self._said(f"{_name(part)} removed", self._active(part)) for part in gone]
        found += [self._said(f"{_name(part)} added, {self._window(part.weight)}", self._active(part)) for part in come]
        return found or [Change("the same controls or styles in another order: the picture stays", None)]

    def _fields(self, one: Any, other: Any) -> list[Change]:
        found, either = [], sorted({*self._active(one), *self._active(other)})
        for field in dataclasses.fields(one):
            before, after = getattr(one, field.name), getattr(other, field.name)
            if before != after:
                name = f"{_name(one)} {field.name}"
                weighed = field.name == "weight"
                found.append(
                    self._weighed(name, before, after) if weighed else self.change(name, before, after, either)
                )
        return found

    def _weighed(self, name: str, before: Any, after: Any) -> Change:
        steps = [i for i in range(self.count) if self._at(before, i) != self._at(after, i)]
        words = f"{name} {_words(before)} → {_words(after)}"
        return self._said(words + (f", {self._window(after)}" if isinstance(after, Schedule) else ""), steps)

    def _active(self, part: Any) -> list[int]:
        return [i for i in range(self.count) if self._at(part.weight, i) != 0]

    def _at(self, weight: float | Schedule, index: int) -> float:
        """By noise it is the run that knows the steps: until then every one is taken to be inside."""
        if isinstance(weight, Schedule) and weight.by == "noise":
            return weight.highest
        return weight_at(weight, index, self.count)

    def _window(self, weight: float | Schedule) -> str:
        if not isinstance(weight, Schedule):
            return f"active in all {self.count} steps" if weight else "active in no step"
        if weight.by == "noise":
            return f"active while the noise is between {weight.start:g} and {weight.until:g} of the way"
        steps = weight.steps(self.count)
        if not steps:
            return f"active in 0 of {self.count} steps"
        return f"active in steps {steps[0] + 1}–{steps[-1] + 1} of {self.count}"

    def _said(self, words: str, steps: Sequence[int]) -> Change:
        if self.restart:
            return Change(f"{words}: from step 1", 0)
        if not steps:
            return Change(f"{words}: no step is affected", None)
        return Change(f"{words}: from step {steps[0] + 1}", steps[0])


def _name(part: Any) -> str:
    name = type(part).__name__
    return f"Control {part.kind!r}" if name == "Control" else name


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Schedule):
        values = " to ".join(f"{number:g}" for number in dict.fromkeys(v for _, v in value.points))
        return f"{values} from {value.start:g} until {value.until:g}{' by noise' if value.by == 'noise' else ''}"
    if isinstance(value, Picture | Skeleton):
        return f"{type(value).__name__.lower()} {value.sha256[:8]}"
    if isinstance(value, tuple) and not all(isinstance(one, str | float) for one in value):
        return f"{len(value)} of them"
    return repr(value)
