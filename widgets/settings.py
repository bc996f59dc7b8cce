"""The settings of a recipe that a panel shows, as plain values: read from a recipe, and put back into one.

A weight that is a schedule is shown by its highest value and its window; moving them keeps the form of the curve.
What a panel has no knob for stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ctrl import Blend, Control, Guidance, Lora, Picture, Recipe, Region, Schedule, SeedBlend, hold

SCALARS = ("prompt", "negative", "steps", "sampler", "spacing", "seed", "strength")
GROUPS = ("controls", "regions", "loras")  # those whose parts have a row
MASKED = ("controls", "styles")
HIGHEST = {"directions": 2.0, "controls": 2.0, "styles": 2.0, "regions": 1.0, "loras": 2.0}  # where a slider ends
GUIDANCE, LIMITS = "guidance", {"guidance": 100.0, "controls": 10.0}  # the highest weight of a curve
EVERYWHERE, OWN = "", "its own mask"  # where a part acts, beside the names of regions
Weight = float | Schedule
Row = dict[str, Any]


def same(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes have the same settings, those without effect included, unlike `==`."""
    return all(getattr(one, field.name) == getattr(other, field.name) for field in fields(Recipe))


def scalar(recipe: Recipe, name: str) -> Any:
    """The value of one of SCALARS, as a knob shows it: a blend of prompts as text, of seeds as the first seed."""
    value = getattr(recipe, name)
    if isinstance(value, SeedBlend):
        return value.first
    return str(value) if isinstance(value, Blend) else value


def with_size(recipe: Recipe, width: int, height: int) -> Recipe:
    """The recipe with a size in pixels; with the model's own where a side is 0."""
    own = not (width and height)
    return recipe.replace(width=None if own else width, height=None if own else height)


def with_scalar(recipe: Recipe, name: str, value: Any) -> Recipe:
    """The recipe with another value of one of SCALARS; the one that its knob shows already changes nothing."""
    if value == scalar(recipe, name):
        return recipe
    if name == "seed" and isinstance(recipe.seed, SeedBlend):
        value = replace(recipe.seed, first=value)
    return changed(recipe, {name: value})


def rows(recipe: Recipe) -> list[Row]:
    """A row for guidance and for each control, region and LoRA: what its switch, sliders and choices show."""
    guidance = Guidance.of(recipe.guidance)
    first = {"name": GUIDANCE, "label": GUIDANCE, "on": height(guidance.weight) > 1, "top": 20.0}
    first |= _weight(guidance.weight) | {"where": where(recipe, guidance.map)}
    return [first, *(_row(recipe, group, at) for group in GROUPS for at in range(len(getattr(recipe, group))))]


def with_row(recipe: Recipe, row: Row) -> Recipe:
    """The recipe with a row's values; those that are as the recipe has them change nothing."""
    name = str(row["name"])
    was = next((one for one in rows(recipe) if one["name"] == name and one["label"] == row["label"]), None)
    moved = {} if was is None else {key: row[key] for key in row if row[key] != was[key]}
    if {"weight", "start", "until"} & moved.keys():
        within = (float(row.get("start", 0)), float(row.get("until", 1)))
        recipe = with_weight(recipe, name, weighed(weight_of(recipe, name), float(row["weight"]), within))
    changes: dict[str, Any] = {key: moved[key] for key in ("on", "mode", "resize") if key in moved and name != GUIDANCE}
    if "where" in moved and moved["where"] != OWN:
        changes["map" if name == GUIDANCE else "mask"] = mask_of(recipe, str(moved["where"]))
    return _part_with(recipe, name, changes) if changes else recipe


def weight_of(recipe: Recipe, name: str) -> Weight:
    """The weight of "guidance", or of a part by its name, such as "controls[0]"."""
    weight: Weight = Guidance.of(recipe.guidance).weight if name == GUIDANCE else part(recipe, name).weight
    return weight


def with_weight(recipe: Recipe, name: str, weight: Weight) -> Recipe:
    """The recipe with another weight of "guidance" or of a part; the rest of guidance stays."""
    if name == GUIDANCE and not isinstance(recipe.guidance, Guidance):
        return recipe.replace(guidance=plain(weight))
    return _part_with(recipe, name, {"weight": plain(weight)})


def part(recipe: Recipe, name: str) -> Any:
    """The part of this name, such as "controls[0]"."""
    group, at = place(name)
    return getattr(recipe, group)[at]


def place(name: str) -> tuple[str, int]:
    """The group and the number in it: ("controls", 0) for "controls[0]"."""
    group, _, number = name.removesuffix("]").partition("[")
    return group, int(number)


def without(recipe: Recipe, name: str) -> Recipe:
    """The recipe without the part of this name."""
    group, at = place(name)
    parts = list(getattr(recipe, group))
    del parts[at]
    return with_parts(recipe, group, parts)


def with_parts(recipe: Recipe, group: str, parts: Sequence[Any]) -> Recipe:
    """The recipe with other controls, styles, regions or LoRAs."""
    return changed(recipe, {group: parts})


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values of these fields."""
    changes: Any = values
    return recipe.replace(**changes)


def height(weight: Weight) -> float:
    """The highest value of a weight."""
    return weight.highest if isinstance(weight, Schedule) else weight


def weighed(weight: Weight, high: float, within: tuple[float, float]) -> Weight:
    """The weight raised or lowered to another highest value, in a window."""
    start, until = within
    if not isinstance(weight, Schedule):
        return high if within == (0.0, 1.0) else hold(high, start=start, until=until)
    top = weight.highest
    points = [(at, value * high / top if top else high) for at, value in weight.points]
    return plain(replace(weight, points=points, start=start, until=until))


def plain(weight: Weight) -> Weight:
    """A number for a schedule of one value over the whole run."""
    if not isinstance(weight, Schedule) or len(weight.points) > 1 or (weight.start, weight.until) != (0.0, 1.0):
        return weight
    return weight.points[0][1]


def mask_of(recipe: Recipe, name: str) -> Any:
    """The mask of the region of this name, or None for everywhere."""
    return next((region.mask for region in recipe.regions if str(region.prompt) == name), None)


def where(recipe: Recipe, mask: Any) -> str:
    """The name of the region with this mask, or one of EVERYWHERE and OWN."""
    if mask is None:
        return EVERYWHERE
    return next((str(region.prompt) for region in recipe.regions if region.mask == mask), OWN)


def with_masks(recipe: Recipe, masks: Mapping[str, Picture]) -> Recipe:
    """The recipe with regions of these names and masks; what acted in one that was painted or renamed follows it.

    Regions whose mask is made of `Words` stay.
    """
    old = {str(region.prompt): region for region in recipe.regions if isinstance(region.mask, Picture)}
    regions = [region for region in recipe.regions if not isinstance(region.mask, Picture)]
    gone = [region for name, region in old.items() if name not in masks]
    for name, mask in masks.items():
        renamed = next((region for region in gone if region.mask == mask), Region(name, mask))
        regions.append(replace(old[name], mask=mask) if name in old else replace(renamed, prompt=name))
    now = {
        name: masks.get(name, region.mask if region.mask in masks.values() else None) for name, region in old.items()
    }
    moved = [(region.mask, now[name]) for name, region in old.items() if region.mask != now[name]]

    def follow(mask: Any) -> Any:
        return next((new for before, new in moved if mask is not None and mask == before), mask)

    guidance = recipe.guidance
    if isinstance(guidance, Guidance):
        guidance = replace(guidance, map=follow(guidance.map))
    acting = {group: [replace(one, mask=follow(one.mask)) for one in getattr(recipe, group)] for group in MASKED}
    return changed(recipe, {"regions": regions, "guidance": guidance, **acting})


def _row(recipe: Recipe, group: str, at: int) -> Row:
    one = getattr(recipe, group)[at]
    row = {"name": f"{group}[{at}]", "label": _label(one), "on": one.on, "top": HIGHEST[group]}
    if not isinstance(one, Control):
        return row | {"weight": one.weight}
    return row | _weight(one.weight) | {"mode": one.mode, "resize": one.resize, "where": where(recipe, one.mask)}


def _label(one: Control | Region | Lora) -> str:
    return one.kind if isinstance(one, Control) else one.name if isinstance(one, Lora) else str(one.prompt)


def _weight(weight: Weight) -> Row:
    curved = isinstance(weight, Schedule) and len(weight.points) > 1
    start, until = (weight.start, weight.until) if isinstance(weight, Schedule) else (0.0, 1.0)
    return {"weight": height(weight), "start": start, "until": until, "curved": curved}


def _part_with(recipe: Recipe, name: str, changes: Mapping[str, Any]) -> Recipe:
    if name == GUIDANCE:
        guidance = replace(Guidance.of(recipe.guidance), **changes)
        return recipe.replace(guidance=guidance)
    group, at = place(name)
    parts = list(getattr(recipe, group))
    parts[at] = replace(parts[at], **changes)
    return with_parts(recipe, group, parts)
