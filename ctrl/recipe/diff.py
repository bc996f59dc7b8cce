"""The changes between two recipes, in words, each with the first step it affects.

The step is found by comparing `Recipe.at` over a run. Each change is tried alone: applied to the old recipe
and reverted in the new one; its step is the earlier of the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ctrl.recipe.blends import Blend
from ctrl.recipe.checks import rebuilt
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.masks import Words
from ctrl.recipe.samplers import ONE_A_STEP
from ctrl.recipe.schedule import Schedule
from ctrl.recipe.show import difference_html
from ctrl.recipe.wording import name_of, title_of, window, words_for

PARTS = ("directions", "regions", "controls", "styles", "loras")
VALUES = ("edit", "aligned")
RUN = (
    "steps",
    "sampler",
    "spacing",
    "seed",
    "image",
    "strength",
    "mask",
    "width",
    "height",
)  # of the whole run
UNKNOWN = "the first step depends on the sampler: pass model="


class HasTimes(Protocol):
    """The part of a `Model` that a difference uses."""

    def times(self, sampler: str, spacing: str, steps: int, *, strength: float = ...) -> list[float]:
        """The noise times of a run's evaluations, 1 for pure noise and 0 for none."""


@dataclass(frozen=True)
class Change:
    """One difference: `words` describe it, `step` is the first step it can affect, counted from 0.

    Steps are evaluations of the model. `step` is None for a difference that affects none, such as a negative prompt
    without guidance, and for one whose first step only the sampler knows; the words say which.
    """

    words: str
    step: int | None

    def __str__(self) -> str:
        return self.words


class Difference(tuple[Change, ...]):
    """The changes from one recipe to another; a notebook shows them as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no difference"

    def _repr_html_(self) -> str:
        return difference_html(self)


@dataclass(frozen=True)
class _Edit:
    """One change as two pairs of recipes: the old one without and with it, the new one without and with it."""

    words: str
    pairs: tuple[tuple[Any, Any], tuple[Any, Any]]


def diff(old: Any, new: Any, model: HasTimes | None = None) -> Difference:
    """See `Recipe.diff`."""
    if type(new) is not type(old):
        raise TypeError(f"other must be a Recipe, got {type(new).__name__}.")
    if model is not None and not hasattr(model, "times"):
        raise TypeError(f"model must be a Model, got {type(model).__name__}; ctrl.load() makes one.")
    edits = list(_edits(old, new))
    if old == new:
        return Difference(_change(edit.words, None) for edit in edits)
    times = None if model is None else _times(new, model)
    steps = [_step(edit, times) for edit in edits]
    known = _known(old, new) if times is None else times
    if known is not None:
        steps = _together(steps, _first(old, new, known))
    return Difference(_change(edit.words, step) for edit, step in zip(edits, steps, strict=True))


def _together(steps: Sequence[int | str | None], first: int | None) -> list[int | str | None]:
    """The steps of changes to recipes that first differ at `first`: none is earlier, and at least one is `first`."""
    if first is None:
        return [None for _ in steps]
    later = [max(step, first) if isinstance(step, int) else step for step in steps]
    if first not in later:
        numbers = [step for step in later if isinstance(step, int)]
        later[later.index(min(numbers)) if numbers else 0] = first
    return later


def _times(recipe: Any, model: HasTimes) -> list[float]:
    strength = 1.0 if recipe.image is None else recipe.strength
    return model.times(recipe.sampler, recipe.spacing, recipe.steps, strength=strength)


def _change(words: str, step: int | str | None) -> Change:
    if words.startswith("unmasked ") and step is None:
        return Change(f"{words}: no step is affected, the finished picture is", None)
    if isinstance(step, str):
        return Change(f"{words}: {step}", None)
    return Change(f"{words}: no step is affected" if step is None else f"{words}: from step {step + 1}", step)


def _step(edit: _Edit, times: Sequence[float] | None) -> int | str | None:
    """The first step an edit affects; None for none, `UNKNOWN` where it depends on the sampler."""
    steps = []
    for before, after in edit.pairs:
        if before == after:
            continue
        if any(getattr(before, name) != getattr(after, name) for name in RUN):
            return 0
        known = times if times is not None else _known(before, after)
        if known is None:
            return UNKNOWN
        steps.append(_first(before, after, known))
    return min((step for step in steps if step is not None), default=None)


def _first(old: Any, new: Any, times: Sequence[float]) -> int | None:
    """The first evaluation in which two recipes with the same run settings differ."""
    return next((index for index in range(len(times)) if old.at(index, times) != new.at(index, times)), None)


def _known(old: Any, new: Any) -> list[float] | None:
    """Noise times that compare two recipes as the sampler's own would; None where the sampler's are needed.

    Windows by steps need only the number of evaluations, which is `steps` for most samplers; numbers need no times.
    """
    weights = [*_weights(old, new), *_weights(new, old)]
    windows = [weight for weight in weights if isinstance(weight, Schedule | Words)]
    counted = old.sampler in ONE_A_STEP and (old.image is None or old.strength == 1.0)
    if windows and (not counted or any(isinstance(window, Schedule) and window.by == "noise" for window in windows)):
        return None
    return [1 - index / old.steps for index in range(old.steps)]


def _weights(recipe: Any, other: Any) -> list[Any]:
    """A recipe's weights and masks that can decide when two differ: of guidance, and of parts that the other lacks."""
    canonical = recipe.canonical
    guidance = canonical.guidance
    weights = [guidance.weight, guidance.map, *(term.weight for term in guidance.perturb)]
    weights += [] if guidance.nag is None else [guidance.nag.weight]
    weights += [] if canonical.edit is None else [*canonical.edit.weights.values(), canonical.edit.mask]
    weights += [] if canonical.aligned is None else [canonical.aligned.weight]
    for name in ("prompt", "negative"):
        prompt = getattr(canonical, name)
        if isinstance(prompt, Blend) and prompt != getattr(other.canonical, name):
            weights += [weight for _, weight in prompt.pairs]
    pairs = [(getattr(canonical, name), getattr(other.canonical, name)) for name in PARTS]
    parts = [part for mine, others in pairs for part in mine if part not in others]
    return weights + [value for part in parts for value in (part.weight, getattr(part, "mask", None))]


def _edits(old: Any, new: Any) -> Iterator[_Edit]:
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        if field.name in PARTS:
            yield from _part_edits(field.name, old, new)
        elif field.name == "guidance":
            yield from _value_edits(old, new, field.name, Guidance.of(before), Guidance.of(after))
        elif field.name in VALUES and before is not None and after is not None:
            yield from _value_edits(old, new, field.name, before, after)
        else:
            yield _edit(old, new, field.name, before, after, f"{field.name} {words_for(before)} → {words_for(after)}")


def _edit(old: Any, new: Any, name: str, before: Any, after: Any, words: str) -> _Edit:
    """The edit that makes a field of the old recipe `after`, and makes that of the new one `before` again."""
    return _Edit(words, ((old, rebuilt(old, **{name: after})), (rebuilt(new, **{name: before}), new)))


def _value_edits(old: Any, new: Any, name: str, value: Any, other: Any) -> Iterator[_Edit]:
    """The fields in which two values of a field of recipes differ, such as their guidance."""
    for field in dataclasses.fields(value):
        before, after = getattr(value, field.name), getattr(other, field.name)
        if before != after:
            own = name if name == "guidance" and field.name == "weight" else f"{name}'s {field.name}"
            words = f"{own} {words_for(before)} → {words_for(after)}{window(after, new.steps)}"
            words = f"{name} switched {'on' if after else 'off'}" if field.name == "on" else words
            applied, reverted = rebuilt(value, **{field.name: after}), rebuilt(other, **{field.name: before})
            yield _edit(old, new, name, reverted, applied, words)


def _part_edits(name: str, old: Any, new: Any) -> Iterator[_Edit]:
    """Of the fields in `PARTS`: equal parts are skipped; two of the same name are one changed part."""
    old_parts, new_parts = list(getattr(old, name)), list(getattr(new, name))
    removed, added = _without(old_parts, new_parts), _without(new_parts, old_parts)
    if not removed and not added:
        yield _edit(old, new, name, tuple(old_parts), tuple(new_parts), f"the same {name} in another order")
    for part in list(removed):
        match = next((candidate for candidate in added if name_of(candidate) == name_of(part)), None)
        if match is not None:
            removed.remove(part)
            added.remove(match)
            yield from _field_edits(name, old, new, part, match)
    for part in removed:
        yield _edit_list(name, old, new, part, None, f"{title_of(part)} removed")
    for part in added:
        yield _edit_list(name, old, new, None, part, f"{title_of(part)} added{window(part.weight, new.steps)}")


def _field_edits(name: str, old: Any, new: Any, part: Any, match: Any) -> Iterator[_Edit]:
    for field in dataclasses.fields(part):
        before, after = getattr(part, field.name), getattr(match, field.name)
        if before != after:
            words = f"switched {'on' if after else 'off'}" if field.name == "on" else (
                f"{field.name} {words_for(before)} → {words_for(after)}{window(after, new.steps)}"
            )  # fmt: skip
            own, other = rebuilt(match, **{field.name: before}), rebuilt(part, **{field.name: after})
            reverted, applied = _put(getattr(new, name), match, own), _put(getattr(old, name), part, other)
            yield _edit(old, new, name, reverted, applied, f"{name_of(part)} {words}")


def _edit_list(name: str, old: Any, new: Any, part: Any, match: Any, words: str) -> _Edit:
    """The edit that removes `part` (`match` is None), or adds `match` (`part` is None)."""
    reverted, applied = _put(getattr(new, name), match, part), _put(getattr(old, name), part, match)
    return _edit(old, new, name, reverted, applied, words)


def _put(parts: Sequence[Any], out: Any, into: Any) -> tuple[Any, ...]:
    """The parts with `out` removed and `into` in its place; None for `out` adds only, None for `into` removes only."""
    if out is None:
        return (*parts, into)
    at = list(parts).index(out)
    return (*parts[:at], *([] if into is None else [into]), *parts[at + 1 :])


def _without(parts: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """The parts that are not among the others; equal parts are matched one to one."""
    unmatched = list(others)
    rest = []
    for part in parts:
        if part in unmatched:
            unmatched.remove(part)
        else:
            rest.append(part)
    return rest
