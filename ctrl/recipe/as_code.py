"""Recipes as Python: the call that makes them, below a line for each picture that loads it.

A picture is a file next to the code. Where no file is written, tiny pictures are base64 in their line, and all others
are named as the files that `recipe.code("recipe.py")` writes.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrl.images import Picture, save
from ctrl.recipe.as_json import changed
from ctrl.recipe.blends import Blend
from ctrl.recipe.schedule import Schedule
from ctrl.skeleton import POSES, People, Skeleton

BARE = ("prompt", "kind", "picture", "name", "source", "target", "words")  # arguments typed without their names
MAX_BASE64 = 4096  # characters of a recipe's pictures that are put into code
NAME = Path("recipe.py")  # in code that is not written to a file


def to_code(recipe: Any, *, inline: bool = False) -> str:
    """See `Recipe.code`, without a path."""
    pictures, call = _call(recipe)
    texts = [picture.to_base64() for picture in pictures]
    if inline or sum(map(len, texts)) <= MAX_BASE64:
        return _code([f'ctrl.Picture.from_base64("{text}")' for text in texts], pictures, call)
    hint = f"# recipe.code({str(NAME)!r}) writes this code, and its pictures as files next to it\n"
    return hint + _code([f"ctrl.Picture.of({str(file)!r})" for file in _files(NAME, pictures)], pictures, call)


def write_code(recipe: Any, path: Path) -> str:
    """See `Recipe.code`, with a path; returns the code that is written."""
    if path.suffix != ".py":
        raise ValueError(f"path must end in .py, got {str(path)!r}.")
    pictures, call = _call(recipe)
    files = _files(path, pictures)
    for picture, file in zip(pictures, files, strict=True):
        buffer = io.BytesIO()
        picture.image.save(buffer, "PNG")
        save(file, buffer.getvalue())
    code = _code([f"ctrl.Picture.of({str(file)!r})" for file in files], pictures, call)
    save(path, code.encode())
    return code


def _files(path: Path, pictures: list[Picture]) -> list[Path]:
    """The files of the pictures in code at `path`."""
    return [path.with_name(f"{path.stem}_{number}.png") for number in range(1, len(pictures) + 1)]


def brief(value: Any) -> str:
    """A value in one line: the fields that are not their defaults, with the sizes of pictures in their place."""
    return _Writer("", lambda picture: f"<{picture.size[0]}×{picture.size[1]}>", repr).write(value)


def _call(recipe: Any) -> tuple[list[Picture], list[str]]:
    """The pictures, and the lines of the call that makes the recipe."""
    pictures: list[Picture] = []

    def name(picture: Picture) -> str:
        if picture not in pictures:
            pictures.append(picture)
        return f"picture_{pictures.index(picture) + 1}"

    return pictures, [f"    {line}," for line in _Writer("ctrl.", name, _points).arguments(recipe)]


def _code(loaders: list[str], pictures: list[Picture], call: list[str]) -> str:
    head = [
        f"picture_{number} = {loader}  # {picture.size[0]}×{picture.size[1]}"
        for number, (loader, picture) in enumerate(zip(loaders, pictures, strict=True), 1)
    ]
    return "\n".join([*head, "recipe = ctrl.Recipe(", *call, ")"]) + "\n"


def _points(skeleton: Skeleton) -> str:
    shown = "" if skeleton.shown.all() else f", {skeleton.shown.tolist()}"
    parts = "".join(f", {name}={part}" for name, part in skeleton.to_dict().items() if name not in ("points", "shown"))
    return f"ctrl.Skeleton({skeleton.points.tolist()}{shown}{parts})"


@dataclass(frozen=True)
class _Writer:
    """Writes values as code: `prefix` precedes names; `picture` and `skeleton` write pictures and unnamed poses."""

    prefix: str
    picture: Callable[[Picture], str]
    skeleton: Callable[[Skeleton], str]

    def write(self, value: Any) -> str:
        if isinstance(value, Picture):
            return self.picture(value)
        if isinstance(value, Skeleton):
            name = next((name for name in POSES if Skeleton.named(name) == value), None)
            return self.skeleton(value) if name is None else f"{self.prefix}Skeleton.named({name!r})"
        if isinstance(value, Schedule):
            return self.prefix + _schedule(value)
        if isinstance(value, Blend):
            parts = ", ".join(f"{text!r}: {self.write(weight)}" for text, weight in value.pairs)
            return f"{self.prefix}Blend({{{parts}}})"
        if isinstance(value, People):
            return self.write(value.skeletons)
        if isinstance(value, tuple):
            return f"[{', '.join(map(self.write, value))}]"
        if hasattr(value, "__dataclass_fields__"):
            return f"{self.prefix}{type(value).__name__}({', '.join(self.arguments(value))})"
        return repr(value)

    def arguments(self, value: Any) -> list[str]:
        pairs = [(name, self.write(argument)) for name, argument in changed(value)]
        names = [field.name for field in dataclasses.fields(value) if field.init]
        bare = [name in BARE and names[place] == name for place, (name, _) in enumerate(pairs)]
        count = (*bare, False).index(False)  # what is bare stands in its place, before all that is named
        return [code for _, code in pairs[:count]] + [f"{name}={code}" for name, code in pairs[count:]]


def _schedule(schedule: Schedule) -> str:
    """A schedule as a call of `hold`, `ramp` or `curve`."""
    window = [f"{name}={value!r}" for name, value in changed(schedule) if name != "points"]
    positions = [position for position, _ in schedule.points]
    if positions == [0.0]:
        return f"hold({', '.join([repr(schedule.points[0][1]), *window])})"
    if positions == [0.0, 1.0]:
        return f"ramp({', '.join([*(repr(value) for _, value in schedule.points), *window])})"
    return f"curve({', '.join([*map(repr, schedule.points), *window])})"
