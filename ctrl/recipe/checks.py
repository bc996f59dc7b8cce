"""Checks of arguments, shared by all values of a recipe, and their error messages."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn, TypeVar

from ctrl.caller import ends_at_caller, is_of_call, unknown_argument, wrong_call
from ctrl.images import Picture
from ctrl.prompts import parse
from ctrl.recipe.foreign import argument_hint, value_hint

MAX_PROMPT = 20_000  # characters
MAX_ENTRIES = 16
PICTURE = {"picture": True}  # metadata of a field that holds pictures
PER_PICTURE = {"per picture": True}  # metadata of a field in which recipes of one batch may differ
T = TypeVar("T")


def suggest_arguments(cls: type[T]) -> type[T]:
    """Let the constructor's error for an unknown argument suggest the right name.

    A subclass's docstring is completed by the list of arguments in its parent's.
    """
    make: Any = cls.__init__
    names = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]  # a dataclass

    @ends_at_caller
    @functools.wraps(make)
    def checked(self: T, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in names:
                raise TypeError(_unknown(type(self), name, names))
        try:
            make(self, *args, **kwargs)
        except TypeError as error:
            if not is_of_call(error, sys._getframe().f_code):
                raise
            raise TypeError(wrong_call(type(self).__name__, make, (self, *args), kwargs) or str(error)) from None

    cls.__init__ = checked  # type: ignore[assignment]  # it takes what the old one takes
    cls.__setattr__ = _frozen  # type: ignore[method-assign]  # it refuses what the old one refuses
    parent = cls.__mro__[1].__doc__ or ""
    if dataclasses.is_dataclass(cls.__mro__[1]) and "\n    - `" in parent:
        arguments = parent[parent.index("\n    - `") :].rpartition("\n\n")[0]
        cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n{arguments}\n    "
    return cls


@ends_at_caller
def _frozen(self: object, name: str, value: object) -> NoReturn:
    """What setting a field of a value does."""
    kind = type(self).__name__
    other = f"recipe.replace({name}=...)" if kind == "Recipe" else f"dataclasses.replace(value, {name}=...)"
    raise dataclasses.FrozenInstanceError(f"a {kind} is a value and cannot be changed; {other} makes another.")


def _unknown(cls: type, name: str, names: Sequence[str]) -> str:
    """The error message for an argument that the constructor of `cls` does not have."""
    owner = cls.__name__
    hint = next(filter(None, (argument_hint(base.__name__, name) for base in cls.__mro__)), None)
    if hint is not None:
        return f"{owner} has no argument {name!r}; {hint}; it takes {', '.join(names)}."
    return unknown_argument(owner, name, names)


def set_field(value: object, name: str, to: object) -> None:
    """Set a field of a frozen value; for __post_init__, which normalises the arguments."""
    object.__setattr__(value, name, to)


def field_values(value: Any) -> tuple[Any, ...]:
    """The fields of a dataclass, in their order."""
    return tuple(getattr(value, field.name) for field in dataclasses.fields(value))


def keyword_only(cls: type) -> inspect.Signature:
    """The signature of a method that takes a constructor's arguments, each by its name, and returns such a value."""
    kinds, given = inspect.Parameter, inspect.signature(cls).parameters.values()
    named = [parameter.replace(kind=kinds.KEYWORD_ONLY, default=...) for parameter in given]
    return inspect.Signature([kinds("self", kinds.POSITIONAL_OR_KEYWORD), *named], return_annotation=cls.__name__)


def rebuilt(value: T, cls: type[T] | None = None, /, **changes: Any) -> T:
    """A copy of a valid value with some fields set to valid values; cheap, since nothing is checked again."""
    new = object.__new__(cls or type(value))
    for field in dataclasses.fields(value):  # type: ignore[arg-type]  # every T here is a dataclass
        set_field(new, field.name, changes.get(field.name, getattr(value, field.name)))
    return new


def number(name: str, value: object, low: float, high: float) -> float:
    """A finite number between bounds."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number from {low:g} to {high:g}, got {value!r:.60}.")
    try:
        as_float = float(value) + 0.0  # which makes 0.0 of -0.0
    except OverflowError:
        as_float = math.inf
    if not math.isfinite(as_float) or not low <= as_float <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {as_float:g}.")
    return as_float


def integer(name: str, value: object, low: int, high: int) -> int:
    """A whole number between bounds; 20.0 is one."""
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        value = int(float(value))
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number from {low} to {high}, got {value!r:.60}.")
    whole = int(value)
    if not low <= whole <= high:
        got = f"{whole}" if whole.bit_length() < 128 else f"one of {whole.bit_length()} bits"
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {got}.")
    return whole


def switch(name: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r:.60}.")
    return value


def text(name: str, value: object) -> str:
    """A string that can be encoded as UTF-8, of bounded length."""
    if not isinstance(value, str):
        advice = "; make one recipe a prompt" if isinstance(value, list | tuple) else ""
        raise TypeError(f"{name} must be a string, got {type(value).__name__}{advice}.")
    if len(value) > MAX_PROMPT:
        raise ValueError(f"{name} has {len(value)} characters; at most {MAX_PROMPT} are accepted.")
    for index, letter in enumerate(value):
        if "\ud800" <= letter <= "\udfff":
            raise ValueError(f"{name} is not valid Unicode at character {index}: a lone surrogate; remove it.")
    return value


def prompt(name: str, value: object) -> str:
    """A string with valid word weights, `(word:1.2)`."""
    parse(text(name, value))
    return str(value)


def name(argument: str, value: object, of: str) -> str:
    """A short name of a part of the model."""
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise TypeError(f"{argument} must be the name of {of}, got {value!r:.60}.")
    return text(argument, value)


def one_of(name: str, value: object, names: Sequence[str]) -> str:
    """One of these names."""
    if isinstance(value, str) and value in names:
        return value
    hint = value_hint(name, value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__))
    if hint is not None:
        raise ValueError(f"{name} {value!r:.60} is unknown; {hint}; there is {', '.join(names)}.")
    near = difflib.get_close_matches(str(value)[:60], names, 1)
    hint = f"did you mean {near[0]!r}? There is" if near else "there is"
    raise ValueError(f"{name} {value!r:.60} is unknown; {hint} {', '.join(names)}.")


def all_of(name: str, values: Any, kind: type[T] | tuple[type[T], ...], what: str) -> tuple[T, ...]:
    """A few values of one kind."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise TypeError(f"{name} must be a list of {what}, got {type(values).__name__}; write [{name[:-1]}].")
    for at, value in enumerate(values):
        if not isinstance(value, kind):
            raise TypeError(f"{name}[{at}] must be {what}, got {type(value).__name__}.")
    if len(values) > MAX_ENTRIES:
        raise ValueError(f"{name} has {len(values)} entries; at most {MAX_ENTRIES} are accepted.")
    return tuple(values)


def optional(name: str, value: object, kind: type) -> None:
    """A value of this kind, or None."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be {kind.__name__}(...) or None, got {type(value).__name__}.")


def mask(value: Any, name: str = "mask") -> Picture | None:
    """A soft mask in grey, or None."""
    return None if value is None else Picture.mask(value, name=name)


def in_order(parts: Sequence[T], key: Callable[[T], Any]) -> tuple[T, ...]:
    """The parts that act somewhere, sorted: a sum of floats depends on its order, and a recipe must not."""
    return tuple(sorted((part for part in parts if _acts(part)), key=key))


def _acts(part: Any) -> bool:
    """Whether its weight is not 0 and its mask, if it has one, not black."""
    mask = getattr(part, "mask", None)  # `Words` are known in a run only
    return getattr(part, "weight", 0.0) != 0 and not (isinstance(mask, Picture) and mask.range == (0, 0))


def check_callback(name: str, function: object, *given: str) -> None:
    """Raise a TypeError for what cannot be called with the arguments that are `given`; None is no function to call."""
    if function is None:
        return
    if not callable(function):
        raise TypeError(f"{name} must be a function of {', '.join(given)}, got {function!r:.60}.")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions have no signature
        return
    try:
        signature.bind(*given)
    except TypeError:
        wanted = f"{len(given)} arguments, " if len(given) > 1 else "one argument, "
        raise TypeError(f"{name} must be a function of {wanted}{', '.join(given)}, and it takes {signature}.") from None
