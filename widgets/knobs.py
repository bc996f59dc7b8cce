"""The parts of a recipe that a hand moves, as ordinary ipywidgets: a slider or a curve, and a switch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets

from ctrl import Guidance, Recipe, Schedule
from widgets.curve import CurvePad

SAFE = 2**53 - 1  # the largest whole number that a browser keeps
TRAITS = ("value", "points", "start", "until", "by")
LABEL = {"description_width": "7em"}


@dataclass(frozen=True, eq=False)
class Knob:
    """One part of a recipe: the `row` to show, its `widgets`, the `value` they hold, and the recipe with it."""

    row: ipywidgets.Widget
    widgets: Sequence[ipywidgets.Widget]
    value: Callable[[], Any]
    apply: Callable[[Recipe, Any], Recipe]

    def observe(self, moved: Callable[..., None]) -> None:
        """Call `moved` at every change."""
        for widget in self.widgets:
            widget.observe(moved, names=[name for name in TRAITS if widget.has_trait(name)])


def knobs(recipe: Recipe) -> Iterator[Knob]:
    """Guidance, the weight of every control, style, region and LoRA, steps and seed."""
    weights = [_guidance(recipe)]
    for name, high in (("controls", 2.0), ("styles", 2.0), ("regions", 1.0), ("loras", 2.0)):
        parts = getattr(recipe, name)
        for at, part in enumerate(parts):
            number = f" {at + 1}" if len(parts) > 1 else ""
            weights.append(_part(recipe, name, at, _label(name, part) + number, high))
    steps = _steps(recipe)
    for knob in weights:
        if isinstance(knob.widgets[0], CurvePad):
            ipywidgets.dlink((steps.row, "value"), (knob.widgets[0], "steps"))
    yield from (*weights, steps)
    yield _seed(recipe)


def _guidance(recipe: Recipe) -> Knob:
    given = recipe.guidance
    weight = given.weight if isinstance(given, Guidance) else given

    def apply(recipe: Recipe, value: tuple[Any, bool]) -> Recipe:
        weight = value[0] if value[1] else 1.0
        if isinstance(recipe.guidance, Guidance):
            return recipe.replace(guidance=replace(recipe.guidance, weight=weight))
        return recipe.replace(guidance=weight)

    return _switched("guidance", weight, (0.0, 20.0, 100.0), recipe.steps, apply, on=True)


def _part(recipe: Recipe, name: str, at: int, label: str, high: float) -> Knob:
    def apply(recipe: Recipe, value: tuple[Any, bool]) -> Recipe:
        parts: list[Any] = list(getattr(recipe, name))
        parts[at] = replace(parts[at], weight=value[0], on=value[1])
        changes: Any = {name: parts}
        return recipe.replace(**changes)

    part = getattr(recipe, name)[at]
    low = -high if name == "loras" else 0.0
    return _switched(label, part.weight, (low, high, 10.0), recipe.steps, apply, on=part.on)


def _label(name: str, part: Any) -> str:
    return {"controls": getattr(part, "kind", ""), "loras": getattr(part, "name", "")}.get(name) or name.removesuffix(
        "s"
    )


def _switched(
    label: str,
    weight: float | Schedule,
    bounds: tuple[float, float, float],
    steps: int,
    apply: Callable[[Recipe, Any], Recipe],
    *,
    on: bool,
) -> Knob:
    """A weight and its switch; `bounds` are the slider's ends, and the highest value of a curve."""
    low, high, limit = bounds
    hand: Any
    if isinstance(weight, Schedule):
        hand = CurvePad(weight, steps=steps, limit=limit, label=label)
        hand.layout = {"flex": "1 1 auto", "min_width": "0"}
    else:
        low, high = min(low, weight), max(high, weight)
        hand = ipywidgets.FloatSlider(weight, min=low, max=high, step=0.05, description=label, style=LABEL)
    switch = ipywidgets.Checkbox(on, description="on", indent=False, tooltip=f"{label} on", layout={"width": "4em"})

    def value() -> tuple[float | Schedule, bool]:
        return (hand.schedule if isinstance(hand, CurvePad) else hand.value), switch.value

    return Knob(ipywidgets.HBox([hand, switch]), (hand, switch), value, apply)


def _steps(recipe: Recipe) -> Knob:
    slider = ipywidgets.IntSlider(recipe.steps, min=1, max=max(50, recipe.steps), description="steps", style=LABEL)
    return Knob(slider, (slider,), lambda: slider.value, lambda recipe, value: recipe.replace(steps=value))


def _seed(recipe: Recipe) -> Knob:
    field = ipywidgets.BoundedIntText(
        recipe.seed, min=0, max=max(SAFE, recipe.seed), description="seed", style=LABEL, layout={"width": "15em"}
    )
    another = ipywidgets.Button(description="another", tooltip="Another seed", layout={"width": "7em"})

    def draw(_button: object) -> None:
        field.value = random.randrange(2**32)

    another.on_click(draw)
    row = ipywidgets.HBox([field, another])
    return Knob(row, (field, another), lambda: field.value, lambda recipe, value: recipe.replace(seed=value))
