"""Knobs for the parts of a recipe, as ordinary ipywidgets: a slider or a curve, and a switch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ipywidgets

from ctrl import Blend, Guidance, Recipe, Schedule, SeedBlend, hold
from widgets.curve import CurvePad
from widgets.settings import HIGHEST

SAFE = 2**53 - 1  # the largest whole number that a browser keeps
TRAITS = ("value", "points", "start", "until", "by")
LABEL = {"description_width": "7em"}


@dataclass(frozen=True, eq=False)
class Knob:
    """One part of a recipe: the `row` to show, its `widgets`, the `value` they hold, and the recipe with it.

    `traits` are those that the value depends on. `note` is a sentence about a value that has no effect, else "".
    `another` makes the knob to put in its place once its button asked for a curve, or for a slider again.
    """

    row: ipywidgets.Widget
    widgets: Sequence[ipywidgets.Widget]
    value: Callable[[], Any]
    apply: Callable[[Recipe, Any], Recipe]
    traits: Sequence[str] = TRAITS
    note: Callable[[Any], str] = lambda _value: ""
    another: Callable[[], Knob | None] = lambda: None

    def observe(self, moved: Callable[..., None]) -> None:
        """Call `moved` at every change."""
        for widget in self.widgets:
            widget.observe(moved, names=[name for name in self.traits if widget.has_trait(name)])

    def follow(self, recipe: Recipe) -> None:
        """Show what else of a recipe concerns it: a curve has its steps."""
        for widget in self.widgets:
            if isinstance(widget, CurvePad):
                widget.steps = recipe.steps


def size(widget: ipywidgets.Widget, sizes: dict[str, str]) -> None:
    """Set fields of a widget's own layout; another layout in its place would leave the first one open."""
    for name, value in sizes.items():
        setattr(widget.layout, name, value)


def knobs(recipe: Recipe) -> Iterator[Knob]:
    """Guidance, the weight of every prompt of a blend and of every part, steps and seed."""
    weights = [_guidance(recipe), *_blended(recipe, "prompt"), *_blended(recipe, "negative")]
    for name in HIGHEST:
        weights += [weight_knob(recipe, name, at) for at in range(len(getattr(recipe, name)))]
    yield from (*weights, _steps(recipe), seed_knob(recipe))
    if isinstance(recipe.seed, SeedBlend):
        yield _seed_blend(recipe.seed)


def _guidance(recipe: Recipe) -> Knob:
    given = recipe.guidance
    weight = given.weight if isinstance(given, Guidance) else given

    def apply(recipe: Recipe, value: tuple[Any, bool]) -> Recipe:
        weight = value[0] if value[1] else 1.0
        if isinstance(recipe.guidance, Guidance):
            return recipe.replace(guidance=replace(recipe.guidance, weight=weight))
        return recipe.replace(guidance=weight)

    return _switched("guidance", weight, (0.0, 20.0, 100.0), recipe.steps, apply, on=True, curves=True)


def weight_knob(recipe: Recipe, name: str, at: int) -> Knob:
    """The weight and the switch of part `at` of a recipe's `name`: "controls", "styles", "regions" or "loras"."""

    def apply(recipe: Recipe, value: tuple[Any, bool]) -> Recipe:
        parts: list[Any] = list(getattr(recipe, name))
        parts[at] = replace(parts[at], weight=value[0], on=value[1])
        changes: Any = {name: parts}
        return recipe.replace(**changes)

    parts, high = getattr(recipe, name), HIGHEST[name]
    label = _label(name, parts[at]) + (f" {at + 1}" if len(parts) > 1 else "")
    low = -high if name in ("directions", "loras") else 0.0
    curves = name in ("controls", "styles")
    return _switched(label, parts[at].weight, (low, high, 10.0), recipe.steps, apply, on=parts[at].on, curves=curves)


def _blended(recipe: Recipe, name: str) -> Iterator[Knob]:
    """The weights of a prompt's blend; none for a plain prompt."""

    def apply(at: int, recipe: Recipe, value: tuple[Any, bool]) -> Recipe:
        pairs = list(getattr(recipe, name).pairs)
        pairs[at] = (pairs[at][0], value[0] if value[1] else 0.0)
        changes: Any = {name: Blend(pairs)}
        return recipe.replace(**changes)

    prompt = getattr(recipe, name)
    for at, (text, weight) in enumerate(prompt.pairs if isinstance(prompt, Blend) else ()):
        yield _switched(text, weight, (0.0, 1.0, 10.0), recipe.steps, partial(apply, at), on=True)


def _seed_blend(seed: SeedBlend) -> Knob:
    slider = ipywidgets.FloatSlider(seed.weight, min=0, max=1, step=0.01, description="seed blend", style=LABEL)

    def apply(recipe: Recipe, value: float) -> Recipe:
        now = recipe.seed
        return recipe.replace(seed=replace(now, weight=value)) if isinstance(now, SeedBlend) else recipe

    return Knob(slider, (slider,), lambda: slider.value, apply)


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
    curves: bool = False,
) -> Knob:
    """A weight and its switch; `bounds` are the slider's ends, and the highest value of a curve.

    With `curves` a button makes a curve of the slider, and a slider at its highest value of the curve.
    """
    low, high, limit = bounds
    hand: Any
    if isinstance(weight, Schedule):
        hand = CurvePad(weight, steps=steps, limit=limit, label=label)
        size(hand, {"flex": "1 1 auto", "min_width": "0"})
    else:
        low, high = min(low, weight), max(high, weight)
        hand = ipywidgets.FloatSlider(weight, min=low, max=high, step=0.05, description=label, style=LABEL)
    switch = ipywidgets.Checkbox(on, description="on", indent=False, tooltip=f"{label} on", layout={"width": "4em"})

    curved = isinstance(weight, Schedule)
    other = _curve_button(label, curved) if curves else None

    def value() -> tuple[float | Schedule, bool]:
        now = hand.schedule if curved else hand.value
        if other is not None and other.value != curved:
            now = now.highest if curved else hold(now)
        return now, switch.value

    def another() -> Knob | None:
        if other is None or other.value == curved:
            return None
        now, still = value()
        return _switched(label, now, bounds, steps, apply, on=still, curves=curves)

    widgets = (hand, switch) if other is None else (hand, switch, other)
    return Knob(ipywidgets.HBox(widgets), widgets, value, apply, another=another)


def _curve_button(label: str, curved: bool) -> ipywidgets.ToggleButton:  # noqa: FBT001  # its value
    tooltip = f"{label} as a curve over the steps"
    return ipywidgets.ToggleButton(curved, description="curve", tooltip=tooltip, layout={"width": "5em"})


def _steps(recipe: Recipe) -> Knob:
    slider = ipywidgets.IntSlider(recipe.steps, min=1, max=max(50, recipe.steps), description="steps", style=LABEL)
    return Knob(slider, (slider,), lambda: slider.value, lambda recipe, value: recipe.replace(steps=value))


def seed_knob(recipe: Recipe) -> Knob:
    """The seed, to type or to draw."""
    first = recipe.seed.first if isinstance(recipe.seed, SeedBlend) else recipe.seed
    field = ipywidgets.BoundedIntText(
        first, min=0, max=max(SAFE, first), description="seed", style=LABEL, layout={"width": "15em"}
    )
    another = ipywidgets.Button(description="another", tooltip="Another seed", layout={"width": "7em"})

    def draw(_button: object) -> None:
        field.value = random.randrange(2**32)

    another.on_click(draw)
    row = ipywidgets.HBox([field, another])

    def apply(recipe: Recipe, value: int) -> Recipe:
        now = recipe.seed
        return recipe.replace(seed=replace(now, first=value) if isinstance(now, SeedBlend) else value)

    return Knob(row, (field, another), lambda: field.value, apply)
