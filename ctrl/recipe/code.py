"""Recipes as Python: what one would have typed, pictures as base64 above it."""

from __future__ import annotations

from typing import Any

from ctrl.images import Picture
from ctrl.recipe.recipe import Recipe
from ctrl.recipe.schedule import Schedule
from ctrl.recipe.text import changed
from ctrl.skeleton import POSES, Skeleton

BARE = ("prompt", "kind", "picture", "name")  # arguments that are typed without their names


def to_code(recipe: Recipe) -> str:
    """See `Recipe.code`."""
    pictures: list[Picture] = []
    lines = [f"    {line}," for line in _arguments(recipe, pictures)]
    head = [
        f'picture_{i} = ctrl.Picture.from_base64("{p.to_base64()}")  # {p.size[0]}×{p.size[1]}'
        for i, p in enumerate(pictures, 1)
    ]
    return "\n".join([*head, "recipe = ctrl.Recipe(", *lines, ")"]) + "\n"


def _arguments(value: Any, pictures: list[Picture]) -> list[str]:
    written = []
    for name, given in changed(value):
        code = _code(given, pictures)
        written.append(code if name in BARE else f"{name}={code}")
    return written


def _code(value: Any, pictures: list[Picture]) -> str:
    if isinstance(value, Picture):
        if value not in pictures:
            pictures.append(value)
        return f"picture_{pictures.index(value) + 1}"
    if isinstance(value, Skeleton):
        return _skeleton(value)
    if isinstance(value, Schedule):
        return _schedule(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_code(one, pictures) for one in value)}]"
    if hasattr(value, "__dataclass_fields__"):
        return f"ctrl.{type(value).__name__}({', '.join(_arguments(value, pictures))})"
    return repr(value)


def _skeleton(skeleton: Skeleton) -> str:
    for name in POSES:
        if Skeleton.named(name) == skeleton:
            return f"ctrl.Skeleton.named({name!r})"
    shown = "" if skeleton.shown.all() else f", {skeleton.shown.tolist()}"
    parts = "".join(f", {name}={part}" for name, part in skeleton.to_dict().items() if name not in ("points", "shown"))
    return f"ctrl.Skeleton({skeleton.points.tolist()}{shown}{parts})"


def _schedule(schedule: Schedule) -> str:
    """In the words of `hold`, `ramp` and `curve`."""
    window = [f"{name}={given!r}" for name, given in changed(schedule) if name != "points"]
    positions = [position for position, _ in schedule.points]
    if positions == [0.0]:
        return f"ctrl.hold({', '.join([repr(schedule.points[0][1]), *window])})"
    if positions == [0.0, 1.0]:
        return f"ctrl.ramp({', '.join([*(repr(value) for _, value in schedule.points), *window])})"
    return f"ctrl.curve({', '.join([*map(repr, schedule.points), *window])})"
