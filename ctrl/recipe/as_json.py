"""Recipes as JSON: every value under its class's name, with all its fields; and back.

The input is untrusted: classes are looked up among the annotations of a recipe's fields, fields among the constructor's
arguments, and every value is checked by its constructor. Pictures must be in the recipe itself: file names are refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from ctrl.images import Picture
from ctrl.recipe.masks import Words
from ctrl.skeleton import People, Skeleton

VERSION = 2
MAX_TEXT = 64 * 2**20  # characters
MAX_DEPTH = 16
MAX_VALUES = 10**6  # of lists, of objects and in them; more would be memory many times the text's
MAX_DIGITS = 40  # of a whole number
T = TypeVar("T")


def to_json(recipe: Any) -> str:
    """See `Recipe.to_json`."""
    return json.dumps({"ctrl": VERSION, **_write(recipe, _png)}, allow_nan=False)


def fingerprint(recipe: Any) -> str:
    """See `Recipe.hash`; pictures count by their pixels, whatever the PNG's compression."""
    written = json.dumps({"ctrl": VERSION, **_write(recipe, _digest)}, allow_nan=False, sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()


def to_parts(recipe: Any) -> tuple[str, tuple[Picture, ...]]:
    """The recipe as JSON that names its pictures by their sha256, and the pictures, each once."""
    pictures: dict[str, Picture] = {}

    def refer(picture: Picture) -> dict[str, str]:
        pictures[picture.sha256] = picture
        return _digest(picture)

    return json.dumps({"ctrl": VERSION, **_write(recipe, refer)}, allow_nan=False), tuple(pictures.values())


def from_json(text: str, cls: type[T], pictures: Mapping[str, bytes] = MappingProxyType({})) -> T:
    """A value of class `cls`, the recipe's; see `Recipe.from_json`. `pictures` are those it names, by sha256."""
    if not isinstance(text, str):
        raise TypeError(f"a recipe's JSON must be a string, got {type(text).__name__}.")
    if len(text) > MAX_TEXT:
        raise ValueError(f"the recipe has {len(text)} characters; at most {MAX_TEXT} are read.")
    if (many := sum(map(text.count, ",[{"))) > MAX_VALUES:
        raise ValueError(f"the recipe holds some {many} values; at most {MAX_VALUES} are read.")
    try:
        parsed = json.loads(text, parse_constant=_no_constant, parse_int=_integer, object_pairs_hook=_no_twins)
    except RecursionError:
        raise ValueError("the recipe is nested too deeply to be one.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the recipe is not JSON: {error}.") from error
    if not isinstance(parsed, dict) or "ctrl" not in parsed:
        raise ValueError("this JSON is not a recipe: it has no 'ctrl' version.")
    version = parsed.pop("ctrl")
    if version != VERSION or isinstance(version, bool):
        raise ValueError(
            f"the recipe has version {version!r:.40}; this ctrl reads {VERSION}: use the one it came from."
        )
    try:
        recipe = _Reader(_classes(cls), pictures).value(parsed)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(recipe, cls):
        raise ValueError(f"this JSON is a {type(recipe).__name__} and not a recipe.")
    return recipe


def changed(value: Any) -> list[tuple[str, Any]]:
    """The constructor's fields of a value that differ from their defaults, in their order."""
    pairs = [(field, getattr(value, field.name)) for field in _fields(value)]
    return [(field.name, current) for field, current in pairs if not _same(current, field.default)]


def _fields(kind: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(kind) if field.init]


def _same(value: Any, default: Any) -> bool:
    """Whether a value is its default, in type too: 1, 1.0 and True are different."""
    return type(value) is type(default) and bool(value == default)


def _png(picture: Picture) -> dict[str, str]:
    return {"is": "Picture", "png": picture.to_base64(), "sha256": picture.sha256}


def _digest(picture: Picture) -> dict[str, str]:
    return {"is": "Picture", "sha256": picture.sha256}


def _write(value: Any, picture: Callable[[Picture], Any]) -> Any:
    if isinstance(value, tuple):
        return [_write(entry, picture) for entry in value]
    if isinstance(value, Picture):
        return picture(value)
    if isinstance(value, Skeleton):
        return {"is": "Skeleton", **value.to_dict()}
    if dataclasses.is_dataclass(value):
        return {"is": type(value).__name__, **{f.name: _write(getattr(value, f.name), picture) for f in _fields(value)}}
    return value


def _classes(root: type) -> dict[str, type]:
    """The classes of the values in a recipe, by name: those in its fields' annotations, and in theirs."""
    classes: dict[str, type] = {}
    waiting: list[Any] = [root]
    while waiting:
        cls = waiting.pop(0)
        waiting += get_args(cls)
        if (
            dataclasses.is_dataclass(cls)
            and isinstance(cls, type)
            and cls not in (*classes.values(), Picture, Skeleton)
        ):
            classes[cls.__name__] = cls
            waiting += [*get_type_hints(cls).values(), *cls.__subclasses__()]
    return classes


@dataclass(frozen=True)
class _Reader:
    """Builds values of `classes`; `pictures` are files, by the sha256 under which the recipe names them."""

    classes: Mapping[str, type]
    pictures: Mapping[str, bytes]
    decoded: dict[str, Picture] = field(default_factory=dict)  # once each: a recipe may name one very often

    def value(self, read: Any, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("the recipe is nested too deeply to be one.")
        if isinstance(read, list):
            return tuple(self.value(entry, depth + 1) for entry in read)
        if not isinstance(read, dict):
            return read
        name = read.pop("is", None)
        if name == "Picture":
            return self.picture(read)
        if name == "Skeleton":
            return Skeleton.from_dict(read)
        if not isinstance(name, str) or name not in self.classes:
            names = ", ".join(self.classes)
            raise ValueError(f"the recipe holds a value of class {name!r:.60}; there is {names}, Picture and Skeleton.")
        return _build(self.classes[name], {key: self.value(entry, depth + 1) for key, entry in read.items()})

    def picture(self, read: dict[str, Any]) -> Picture:
        digest = read.get("sha256")
        if isinstance(digest, str) and "png" not in read and digest in self.pictures:
            if digest not in self.decoded:
                self.decoded[digest] = Picture.from_encoded(self.pictures[digest])
            picture = self.decoded[digest]
        else:
            _only(read, {"png", "sha256"}, "a picture")
            picture = Picture.from_base64(read["png"])
        if picture.sha256 != digest:
            raise ValueError("a picture in the recipe is not the one it was saved with: its sha256 differs.")
        return picture


def _build(cls: type, arguments: dict[str, Any]) -> Any:
    """Call the constructor. It would open a picture given as a file name, so these are refused here."""
    for argument in _fields(cls):
        value = arguments.get(argument.name)
        pictures = value if isinstance(value, tuple) else (value,)
        if "picture" in argument.metadata and not all(
            isinstance(picture, Picture | Skeleton | People | Words | None) for picture in pictures
        ):
            raise ValueError(f"{argument.name} must be a picture in the recipe itself, got {value!r:.60}.")
    return cls(**arguments)


def _only(read: dict[str, Any], names: set[str], what: str) -> None:
    if read.keys() != names:
        odd = sorted(read.keys() ^ names)
        raise ValueError(f"{what} has wrong or missing fields: {', '.join(map(repr, odd))[:200]}.")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the recipe holds a whole number of {len(digits)} digits; at most {MAX_DIGITS} are read.")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"the recipe holds {name}; numbers must be finite.")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("the recipe names a field twice.")
    return read
