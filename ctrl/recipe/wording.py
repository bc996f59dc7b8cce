"""The words for parts and values in a difference between recipes."""

from __future__ import annotations

import dataclasses
from typing import Any

from ctrl.images import Picture
from ctrl.recipe.as_code import brief
from ctrl.recipe.blends import Blend
from ctrl.recipe.masks import Words
from ctrl.recipe.schedule import Schedule, values_of
from ctrl.recipe.seeds import SeedBlend
from ctrl.skeleton import People, Skeleton


def window(weight: Any, steps: int) -> str:
    """The window of a schedule, as far as it is known without the sampler."""
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


def name_of(part: Any) -> str:
    """What a part is called."""
    name = type(part).__name__
    return f"{name} {part.kind!r}" if name == "Control" else f"{name} {part.name!r}" if name == "Lora" else name


def title_of(part: Any) -> str:
    """What a part is called that came or went; several regions are told apart by their words."""
    if type(part).__name__ != "Region":
        return name_of(part)
    text = str(part.prompt)
    return f"Region {text if len(text) <= 40 else text[:39] + '…'!r}"


def words_for(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Schedule):
        by = " by noise" if value.by == "noise" else ""
        return f"{values_of(value)} from {value.start:g} until {value.until:g}{by}"
    if isinstance(value, Blend | SeedBlend):
        return str(value)
    if isinstance(value, Words):
        return f"{value}, from {value.start:g} of the run on"
    if isinstance(value, Picture | Skeleton | People):
        return f"{type(value).__name__.lower()} {value.sha256[:8]}"
    if dataclasses.is_dataclass(value):
        return brief(value)
    if isinstance(value, tuple) and not all(isinstance(entry, str | float) for entry in value):
        return f"{len(value)} of them"
    return repr(value)
