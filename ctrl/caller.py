"""The line that called the package: errors about its arguments end there, and warnings point there.

Python starts a new traceback where an error without one is raised again, so such an error shows the caller's frames
alone: in a script, in a notebook and in a debugger. Errors of other libraries, and errors that no `raise` of this
package made, keep all their frames. `python -X dev` keeps the frames of every error.
"""

from __future__ import annotations

import difflib
import dis
import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

RAISE = dis.opmap["RAISE_VARARGS"]
PASS_ON = ("called", "checked")  # the functions that stand around others, here and in `ctrl.recipe`
WRONG_CALL = re.compile(r"[\w.<>]+\(\) (?:missing|takes|got) ")
PACKAGES = ("ctrl", "widgets")
EXAMPLES = {  # of calls that a newcomer gets wrong
    "sample": "ctrl.sample(ctrl.load(), ctrl.Recipe('a figure waving'))",
    "sample_many": "ctrl.sample_many(model, [recipe, recipe.replace(seed=1)])",
    "steps": "ctrl.steps(ctrl.load(), ctrl.Recipe('a figure waving'))",
    "sweep": "ctrl.sweep(model, recipe, {'seed': range(4)})",
    "replace": "recipe.replace(prompt='a figure walking')",
    "Recipe": "ctrl.Recipe('a figure waving', steps=20)",
    "Pose": "ctrl.Pose('waving')",
    "Control": "ctrl.Control('scribble', 'scribble.png')",
    "Region": "ctrl.Region('a cat', mask)",
}
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


def ends_at_caller(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose errors about its arguments, and interrupts, end in the line that called it.

    Called from within the package it changes nothing, since the error is on its way to the outermost function.
    Notebooks and pytest also leave its own frame out of tracebacks that stay whole.
    """

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            short = _is_short(error)
            if is_of_call(error, sys._getframe().f_code):
                error.args = (wrong_call(function.__name__, function, args, kwargs) or str(error),)
            if short and not _is_inner(sys._getframe(1)):
                _shorten(error)
            raise

    return called


def each_ends_at_caller(values: Iterator[R]) -> Iterator[R]:
    """The same values, with errors as `ends_at_caller` has them, in the line that asked for the next one."""
    __tracebackhide__ = True
    try:
        yield from values
    except (Exception, KeyboardInterrupt) as error:
        if not _is_inner(sys._getframe(1)) and _is_short(error):
            _shorten(error)
        raise


def constructor_ends_at_caller(cls: C) -> C:
    """A class whose constructor is as `ends_at_caller`."""
    made: Any = cls
    made.__init__ = ends_at_caller(made.__init__)
    return cls


def warn_caller(sentence: str) -> None:
    """Warn at the nearest line outside the package."""
    level = 1
    while _is_inner(sys._getframe(level)):
        level += 1
    warnings.warn(sentence, stacklevel=level + 1)


def unknown_argument(owner: str, name: str, names: Sequence[str]) -> str:
    """The sentence for an argument that `owner` does not have; `names` are those it has."""
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}? It takes" if near else "it takes"
    return f"{owner} has no argument {name!r}; {hint} {', '.join(names)}."


def wrong_call(owner: str, function: Callable[..., Any], args: Sequence[object], given: Mapping[str, object]) -> str:
    """The sentence for a call that does not fit a function's arguments, "" where it fits."""
    parameters = {name: one for name, one in inspect.signature(function).parameters.items() if name != "self"}
    example = f"; for example {EXAMPLES[owner]}" if owner in EXAMPLES else ""
    unknown = next((name for name in given if name not in parameters), None)
    if unknown is not None:
        return unknown_argument(owner, unknown, [*parameters]).rstrip(".") + f"{example}."
    places = [name for name, one in parameters.items() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    passed = len(args) - ("self" in inspect.signature(function).parameters)
    if passed > len(places):
        named = [name for name in parameters if name not in places]
        rest = f"; give the others by their names: {', '.join(named)}" if named else ""
        return f"{owner} takes {len(places)} arguments without a name, got {passed}{rest}{example}."
    absent = [
        name for name, one in parameters.items()
        if one.default is one.empty and name not in given and name not in places[:passed] and "VAR" not in one.kind.name
    ]  # fmt: skip
    return f"{owner} needs {' and '.join(absent)}; it takes {', '.join(parameters)}{example}." if absent else ""


def _shorten(error: BaseException) -> None:
    if not isinstance(error, RuntimeError):  # whose cause the caller may ask for
        error.__cause__ = None  # as `raise ... from None` does
    error.__traceback__ = None


def _is_short(error: BaseException) -> bool:
    """Whether an error is an interrupt, or raised by a `raise` of this package, an assertion excepted."""
    if isinstance(error, KeyboardInterrupt):
        return True
    last = _last(error)
    if last is None or isinstance(error, AssertionError) or sys.flags.dev_mode:
        return False
    code = last.tb_frame.f_code
    return _is_inner(last.tb_frame) and (code.co_code[last.tb_lasti] == RAISE or is_of_call(error, code))


def is_of_call(error: BaseException, code: CodeType) -> bool:
    """Whether a function that passes its arguments on was called with arguments that do not fit."""
    last = _last(error)
    passed_on = last is not None and last.tb_frame.f_code is code and code.co_name in PASS_ON
    return passed_on and isinstance(error, TypeError) and WRONG_CALL.match(str(error)) is not None


def _last(error: BaseException) -> TracebackType | None:
    """The traceback's last entry, of the frame that raised the error."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last


def _is_inner(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in PACKAGES
