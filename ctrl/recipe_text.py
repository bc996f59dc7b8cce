"""Recipes as text: JSON out, untrusted JSON in, Python code."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ctrl.images import Picture
from ctrl.recipe import Control, Depth, Edges, Pose, Recipe, Schedule, Style
from ctrl.skeleton import POSES, Skeleton

VERSION = 1
MAX_TEXT = 64 * 2**20  # characters
KINDS = (Pose, Depth, Edges)
_PLAIN = ("prompt", "negative", "steps", "sampler", "seed", "width", "height", "lora")


def to_json(recipe: Recipe) -> str:
    """See `Recipe.to_json`."""
    written: dict[str, Any] = {"ctrl": VERSION}
    written |= {name: getattr(recipe, name) for name in _PLAIN}
    written["guidance"] = _write_weight(recipe.guidance)
    written["controls"] = [{"kind": c.kind, **_write_part(c)} for c in recipe.controls]
    written["styles"] = [_write_part(s) for s in recipe.styles]
    return json.dumps(written, allow_nan=False)


def from_json(text: str) -> Recipe:
    """See `Recipe.from_json`."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"the recipe has {len(text)} characters; at most {MAX_TEXT} are read.")
    try:
        read = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_twins)
    except RecursionError:
        raise ValueError("the recipe is nested too deeply to be one.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the recipe is not JSON: {error}.") from error
    if not isinstance(read, dict) or "ctrl" not in read:
        raise ValueError("this JSON is not a recipe: it has no 'ctrl' version.")
    version = read.pop("ctrl")
    if version != VERSION:
        raise ValueError(f"the recipe has version {version!r}; this ctrl reads {VERSION}: update it.")
    _only(read, {*_PLAIN, "guidance", "controls", "styles"}, "the recipe")
    plain = {name: read[name] for name in _PLAIN}
    try:
        return Recipe(
            guidance=_read_weight(read["guidance"]),
            controls=tuple(_read_control(part) for part in _list(read["controls"])),
            styles=tuple(Style(**_read_part(part)) for part in _list(read["styles"])),
            **plain,
        )
    except TypeError as error:
        raise ValueError(str(error)) from error


def to_code(recipe: Recipe) -> str:
    """See `Recipe.code`."""
    pictures: list[Picture] = []
    lines = [repr(recipe.prompt)]
    blank = Recipe("")
    if recipe.negative:
        lines.append(f"negative={recipe.negative!r}")
    if recipe.controls:
        parts = (f"ctrl.{type(c).__name__}({_code_part(c, pictures)})" for c in recipe.controls)
        lines.append(f"controls=[{', '.join(parts)}]")
    if recipe.styles:
        parts = (f"ctrl.Style({_code_part(s, pictures)})" for s in recipe.styles)
        lines.append(f"styles=[{', '.join(parts)}]")
    lines.append(f"guidance={_code_weight(recipe.guidance)}")
    lines += [f"{name}={getattr(recipe, name)!r}" for name in ("steps", "sampler", "seed")]
    for name in ("width", "height", "lora"):
        if getattr(recipe, name) != getattr(blank, name):
            lines.append(f"{name}={getattr(recipe, name)!r}")
    head = [
        f'picture_{i} = ctrl.Picture.from_base64("{p.to_base64()}")  # {p.size[0]}×{p.size[1]}'
        for i, p in enumerate(pictures, 1)
    ]
    return "\n".join([*head, "recipe = ctrl.Recipe(", *(f"    {line}," for line in lines), ")"]) + "\n"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"the recipe holds {name}; numbers must be finite.")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("the recipe names a field twice.")
    return read


def _only(read: Any, names: set[str], what: str) -> None:
    if not isinstance(read, dict):
        raise ValueError(f"{what} must be a JSON object, got {type(read).__name__}.")
    if read.keys() != names:
        odd = sorted(read.keys() ^ names)
        raise ValueError(f"{what} has wrong or missing fields: {', '.join(map(repr, odd))}.")


def _list(read: Any) -> list[Any]:
    if not isinstance(read, list):
        raise ValueError(f"controls and styles must be lists, got {type(read).__name__}.")
    return read


def _write_weight(weight: float | Schedule) -> Any:
    if isinstance(weight, Schedule):
        return {"first": weight.first, "last": weight.last, "start": weight.start, "until": weight.until}
    return weight


def _read_weight(read: Any) -> Any:
    if not isinstance(read, dict):
        return read  # the constructors check it
    _only(read, {"first", "last", "start", "until"}, "a schedule")
    return Schedule(**read)


def _write_part(part: Control | Style) -> dict[str, Any]:
    return {
        "picture": _write_picture(part.picture),
        "weight": _write_weight(part.weight),
        "mask": None if part.mask is None else _write_picture(part.mask),
    }


def _write_picture(picture: Picture | Skeleton) -> dict[str, Any]:
    if isinstance(picture, Skeleton):
        return {"points": picture.points.tolist(), "shown": picture.shown.tolist()}
    return {"png": picture.to_base64(), "sha256": picture.sha256}


def _read_part(read: Any) -> dict[str, Any]:
    _only(read, {"picture", "weight", "mask"}, "a control or style")
    mask = None if read["mask"] is None else _read_picture(read["mask"])
    return {"picture": _read_picture(read["picture"]), "weight": _read_weight(read["weight"]), "mask": mask}


def _read_control(read: Any) -> Control:
    if not isinstance(read, dict):
        raise ValueError(f"a control must be a JSON object, got {type(read).__name__}.")
    kind = read.pop("kind", None)
    for control in KINDS:
        if kind == control.kind:
            return control(**_read_part(read))
    raise ValueError(f"a control has kind {kind!r}; there is {', '.join(c.kind for c in KINDS)}.")


def _read_picture(read: Any) -> Picture | Skeleton:
    if isinstance(read, dict) and "points" in read:
        _only(read, {"points", "shown"}, "a skeleton")
        return Skeleton(read["points"], read["shown"])
    _only(read, {"png", "sha256"}, "a picture")
    try:
        picture = Picture.from_base64(read["png"])
    except (OSError, SyntaxError, TypeError) as error:
        raise ValueError(f"a picture in the recipe cannot be read: {error}.") from error
    if picture.sha256 != read["sha256"]:
        raise ValueError("a picture in the recipe is not the one it was saved with: its sha256 differs.")
    return picture


def _code_weight(weight: float | Schedule) -> str:
    if not isinstance(weight, Schedule):
        return repr(weight)
    value = f"{weight.first!r}" if weight.first == weight.last else f"{weight.first!r}, {weight.last!r}"
    name = "hold" if weight.first == weight.last else "ramp"
    start = "" if weight.start == 0 else f", start={weight.start!r}"
    until = "" if weight.until == 1 else f", until={weight.until!r}"
    return f"ctrl.{name}({value}{start}{until})"


def _code_part(part: Control | Style, pictures: list[Picture]) -> str:
    words = [_code_picture(part.picture, pictures)]
    if part.weight != 1.0:
        words.append(f"weight={_code_weight(part.weight)}")
    if part.mask is not None:
        words.append(f"mask={_code_picture(part.mask, pictures)}")
    return ", ".join(words)


def _code_picture(picture: Picture | Skeleton, pictures: list[Picture]) -> str:
    if isinstance(picture, Skeleton):
        for name in POSES:
            if Skeleton.named(name) == picture:
                return f"ctrl.Skeleton.named({name!r})"
        shown = "" if picture.shown.all() else f", {picture.shown.tolist()}"
        return f"ctrl.Skeleton({picture.points.tolist()}{shown})"
    if picture not in pictures:
        pictures.append(picture)
    return f"picture_{pictures.index(picture) + 1}"
