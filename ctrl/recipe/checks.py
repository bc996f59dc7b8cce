"""What every value of a recipe asks of its arguments, and the sentences it answers with."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeVar

from ctrl.images import Picture
from ctrl.prompts import parse

MAX_PROMPT = 20_000  # characters
MAX_ENTRIES = 16
Shown: TypeAlias = Any  # a field that takes a picture in any form it may come in
T = TypeVar("T")


def spelt(cls: type[T]) -> type[T]:
    """Let the constructor answer a misspelt argument with the nearest name."""
    make: Any = cls.__init__
    names = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]

    @functools.wraps(make)
    def checked(self: T, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                hint = f"did you mean {near[0]!r}? It takes" if near else "it takes"
                raise TypeError(f"{type(self).__name__} has no argument {name!r}; {hint} {', '.join(names)}.")
        make(self, *args, **kwargs)

    cls.__init__ = checked  # type: ignore[assignment]
    return cls


def keep(value: object, name: str, to: object) -> None:
    """Set a field of a frozen value; only ever from __post_init__, to keep what was normalised."""
    object.__setattr__(value, name, to)


def rebuilt(value: T, **changes: Any) -> T:
    """A copy of a valid value with fields set to valid values: cheap, since nothing is checked again."""
    new = object.__new__(type(value))
    for field in dataclasses.fields(value):  # type: ignore[arg-type]  # every T here is a dataclass
        keep(new, field.name, changes.get(field.name, getattr(value, field.name)))
    return new


def number(name: str, value: object, low: float, high: float) -> float:
    """A finite number between bounds."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number from {low:g} to {high:g}, got {value!r:.60}.")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or not low <= found <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {found:g}.")
    return found


def whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number between bounds; 20.0 is one."""
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        value = int(float(value))
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number from {low} to {high}, got {value!r:.60}.")
    found = int(value)
    if not low <= found <= high:
        got = f"{found}" if found.bit_length() < 128 else f"one of {found.bit_length()} bits"
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {got}.")
    return found


def text(name: str, value: object) -> str:
    """A string that can be written down."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}; make one recipe a prompt.")
    if len(value) > MAX_PROMPT:
        raise ValueError(f"{name} has {len(value)} characters; at most {MAX_PROMPT} are accepted.")
    for at, letter in enumerate(value):
        if "\ud800" <= letter <= "\udfff":
            raise ValueError(f"{name} is not valid Unicode at character {at}: a lone surrogate; remove it.")
    return value


def prompt(name: str, value: object) -> str:
    """A string whose weights, `(word:1.2)`, can be read."""
    parse(text(name, value))
    return str(value)


def name(argument: str, value: object, of: str) -> str:
    """A short name of something the model has."""
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise TypeError(f"{argument} must be the name of {of}, got {value!r:.60}.")
    return text(argument, value)


def one_of(name: str, value: object, names: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in names:
        near = difflib.get_close_matches(str(value)[:60], names, 1)
        hint = f"did you mean {near[0]!r}? There is" if near else "there is"
        raise ValueError(f"{name} {value!r:.60} is unknown; {hint} {', '.join(names)}.")
    return value


def all_of(name: str, values: Any, kind: type[T] | tuple[type[T], ...], what: str) -> tuple[T, ...]:
    """A few values of one kind."""
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} must be a list of {what}, got {type(values).__name__}; write [{name[:-1]}].")
    for at, value in enumerate(values):
        if not isinstance(value, kind):
            raise TypeError(f"{name}[{at}] must be {what}, got {type(value).__name__}.")
    if len(values) > MAX_ENTRIES:
        raise ValueError(f"{name} has {len(values)} entries; at most {MAX_ENTRIES} are accepted.")
    return tuple(values)


def mask(value: Any, name: str = "mask") -> Picture | None:
    """A soft picture in grey, or nothing."""
    return None if value is None else Picture.mask(value, name=name)
