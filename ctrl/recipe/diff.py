"""The changes between two recipes, in words, each with the first step it affects.

The step is found by comparing `Recipe.at` over a run. Each change is tried alone: applied to the old recipe
and reverted in the new one; its step is the earlier of the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ctrl.images import Picture
from ctrl.recipe.checks import rebuilt
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.samplers import ONE_A_STEP
from ctrl.recipe.schedule import Schedule
from ctrl.recipe.show import difference_html
from ctrl.skeleton import People, Skeleton

PARTS = ("regions", "controls", "styles", "loras")
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
    windows = [weight for weight in weights if isinstance(weight, Schedule)]
    counted = old.sampler in ONE_A_STEP and (old.image is None or old.strength == 1.0)
    if windows and (not counted or any(window.by == "noise" for window in windows)):
        return None
    return [1 - index / old.steps for index in range(old.steps)]


def _weights(recipe: Any, other: Any) -> list[Any]:
    """A recipe's weights that can decide when two differ: of guidance, and of parts that the other does not have."""
    canonical = recipe.canonical
    weights = [canonical.guidance.weight, *(term.weight for term in canonical.guidance.perturb)]
    pairs = [(getattr(canonical, name), getattr(other.canonical, name)) for name in PARTS]
    return weights + [part.weight for parts, others in pairs for part in parts if part not in others]


def _edits(old: Any, new: Any) -> Iterator[_Edit]:
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        if field.name in PARTS:
            yield from _part_edits(field.name, old, new)
        elif field.name == "guidance":
            yield from _guidance_edits(old, new)
        else:
            yield _edit(old, new, field.name, before, after, f"{field.name} {_words(before)} → {_words(after)}")


def _edit(old: Any, new: Any, name: str, before: Any, after: Any, words: str) -> _Edit:
    return _Edit(words, ((old, rebuilt(old, **{name: after})), (rebuilt(new, **{name: before}), new)))


def _guidance_edits(old: Any, new: Any) -> Iterator[_Edit]:
    old_guidance, new_guidance = Guidance.of(old.guidance), Guidance.of(new.guidance)
    for field in dataclasses.fields(Guidance):
        before, after = getattr(old_guidance, field.name), getattr(new_guidance, field.name)
        if before != after:
            name = "guidance" if field.name == "weight" else f"guidance's {field.name}"
            words = f"{name} {_words(before)} → {_words(after)}{_window(after, new.steps)}"
            applied = rebuilt(old_guidance, **{field.name: after})
            reverted = rebuilt(new_guidance, **{field.name: before})
            yield _Edit(words, ((old, rebuilt(old, guidance=applied)), (rebuilt(new, guidance=reverted), new)))


def _part_edits(name: str, old: Any, new: Any) -> Iterator[_Edit]:
    """Regions, controls, styles or LoRAs: equal ones are skipped; two of the same name are one changed part."""
    old_parts, new_parts = list(getattr(old, name)), list(getattr(new, name))
    removed, added = _without(old_parts, new_parts), _without(new_parts, old_parts)
    if not removed and not added:
        yield _edit(old, new, name, tuple(old_parts), tuple(new_parts), f"the same {name} in another order")
    for part in list(removed):
        match = next((candidate for candidate in added if _name(candidate) == _name(part)), None)
        if match is not None:
            removed.remove(part)
            added.remove(match)
            yield from _field_edits(name, old, new, part, match)
    for part in removed:
        yield _edit_list(name, old, new, part, None, f"{_name(part)} removed")
    for part in added:
        yield _edit_list(name, old, new, None, part, f"{_name(part)} added{_window(part.weight, new.steps)}")


def _field_edits(name: str, old: Any, new: Any, part: Any, match: Any) -> Iterator[_Edit]:
    for field in dataclasses.fields(part):
        before, after = getattr(part, field.name), getattr(match, field.name)
        if before != after:
            words = f"switched {'on' if after else 'off'}" if field.name == "on" else (
                f"{field.name} {_words(before)} → {_words(after)}{_window(after, new.steps)}"
            )  # fmt: skip
            applied, reverted = rebuilt(part, **{field.name: after}), rebuilt(match, **{field.name: before})
            yield _Edit(
                f"{_name(part)} {words}",
                (
                    (old, rebuilt(old, **{name: _put(getattr(old, name), part, applied)})),
                    (rebuilt(new, **{name: _put(getattr(new, name), match, reverted)}), new),
                ),
            )


def _edit_list(name: str, old: Any, new: Any, part: Any, match: Any, words: str) -> _Edit:
    """The edit that removes `part` (`match` is None), or adds `match` (`part` is None)."""
    applied = _put(getattr(old, name), part, match)
    reverted = _put(getattr(new, name), match, part)
    return _Edit(words, ((old, rebuilt(old, **{name: applied})), (rebuilt(new, **{name: reverted}), new)))


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


def _window(weight: Any, steps: int) -> str:
    """The window of a schedule, as far as it can be told without the sampler."""
    if not isinstance(weight, Schedule):
        return ""
    if weight.by == "noise":
        return f", active while the noise is between {weight.start:g} and {weight.until:g} of the way"
    inside = weight.steps(steps)
    return (
        f", active in steps {inside[0] + 1}–{inside[-1] + 1} of {steps}"
        if inside
        else f", active in 0 of {steps} steps"
    )


def _name(part: Any) -> str:
    name = type(part).__name__
    return f"{name} {part.kind!r}" if name == "Control" else f"{name} {part.name!r}" if name == "Lora" else name


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Schedule):
        values = " to ".join(f"{number:g}" for number in dict.fromkeys(v for _, v in value.points))
        return f"{values} from {value.start:g} until {value.until:g}{' by noise' if value.by == 'noise' else ''}"
    if isinstance(value, Picture | Skeleton | People):
        return f"{type(value).__name__.lower()} {value.sha256[:8]}"
    if isinstance(value, tuple) and not all(isinstance(entry, str | float) for entry in value):
        return f"{len(value)} of them"
    return repr(value)
