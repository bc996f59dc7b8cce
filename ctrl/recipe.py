"""The recipe: everything that decides a picture, as one frozen, validated value.

A recipe names no file. Its pictures are pixels, so it can travel whole: as JSON, inside a PNG, as Python.
Reading one is parsing untrusted input: sizes are capped and every field passes the constructor's validator.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from ctrl.images import BLACK, MAX_FILE, WHITE, Picture, png_text
from ctrl.skeleton import Skeleton

SAMPLERS = ("dpm++", "euler", "euler a", "ddim", "unipc", "lcm")
LORAS = ("lcm",)
KEYWORD = "ctrl-recipe"  # of the PNG text chunk
MAX_PROMPT = 20_000  # characters
Pixels = np.ndarray[Any, np.dtype[np.float32]]
T = TypeVar("T")


def _spelt(cls: type[T]) -> type[T]:
    """Let the constructor answer a misspelt argument with the nearest name."""
    make: Any = cls.__init__
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]

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


@_spelt
@dataclass(frozen=True)
class Schedule:
    """A number that depends on where in the run a step stands.

    From step i of N it goes in a straight line from `first` to `last` over the steps of the window and is 0
    outside it. A step is in the window when i / N ≥ `start` and (i + 1) / N ≤ `until`, as diffusers has it
    for `control_guidance_start` and `control_guidance_end`.
    """

    first: float
    last: float
    start: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        _set(self, "first", _number("first", self.first, 0, 100))
        _set(self, "last", _number("last", self.last, 0, 100))
        _set(self, "start", _number("start", self.start, 0, 1))
        _set(self, "until", _number("until", self.until, 0, 1))
        if self.start >= self.until:
            raise ValueError(f"start must come before until, got start={self.start:g}, until={self.until:g}.")

    def at(self, index: int, count: int) -> float:
        """The number at step `index` of `count`."""
        steps = self.steps(count)
        if index not in steps:
            return 0.0
        if self.first == self.last or len(steps) == 1:
            return self.first
        part = (index - steps[0]) / (len(steps) - 1)
        return self.first + part * (self.last - self.first)

    def steps(self, count: int) -> range:
        """The steps inside the window; empty when the window is narrower than a step."""
        inside = [i for i in range(count) if i / count >= self.start and (i + 1) / count <= self.until]
        return range(inside[0], inside[-1] + 1) if inside else range(0)


def hold(value: float, *, start: float = 0.0, until: float = 1.0) -> Schedule:
    """`value` inside the window from `start` to `until` (fractions of the run), 0 outside."""
    return Schedule(value, value, start, until)


def ramp(first: float, last: float, *, start: float = 0.0, until: float = 1.0) -> Schedule:
    """A straight line from `first` to `last` over the window, 0 outside."""
    return Schedule(first, last, start, until)


def weight_at(weight: float | Schedule, index: int, count: int) -> float:
    """What a weight amounts to at step `index` of `count`."""
    return weight.at(index, count) if isinstance(weight, Schedule) else weight


@_spelt
@dataclass(frozen=True)
class Control:
    """A map the picture should follow, through the ControlNet of its kind.

    `weight` multiplies the residuals, 0 to 10, a number or a schedule. `mask` is a soft picture, white where
    the control acts. Use the subclasses `Pose`, `Depth` and `Edges`.
    """

    picture: Any
    weight: float | Schedule = 1.0
    mask: Any = None

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not self.kind:
            raise TypeError("Control stands for its kinds; use Pose, Depth or Edges.")
        _set(self, "picture", self._read(self.picture))
        _set(self, "weight", _weight(self.weight))
        _set(self, "mask", _mask(self.mask))

    @property
    def rank(self) -> tuple[str, ...]:
        """Where this stands among others: by what it is, never by where the recipe lists it."""
        mask = "" if self.mask is None else self.mask.sha256
        return (self.kind, self.picture.sha256, repr(self.weight), mask)

    def hint(self, width: int, height: int) -> Pixels:
        """(height, width, 3) float32 in [0, 1]: what the ControlNet is shown."""
        pixels: Pixels = self.picture.fit(width, height)
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)

    def _read(self, picture: Any) -> Any:
        return Picture.of(picture, name=f"{type(self).__name__}'s picture", background=BLACK)


class Pose(Control):
    """The pose of a figure: a `Skeleton`, or a picture of one drawn in OpenPose's colours."""

    kind = "pose"

    def hint(self, width: int, height: int) -> Pixels:
        """(height, width, 3) float32 in [0, 1]: a skeleton is drawn at the size asked for."""
        if isinstance(self.picture, Skeleton):
            return self.picture.draw(width, height).astype(np.float32) / 255.0
        return super().hint(width, height)

    def _read(self, picture: Any) -> Any:
        return picture if isinstance(picture, Skeleton) else super()._read(picture)


class Depth(Control):
    """The depth of a scene: a grey picture, white near and black far."""

    kind = "depth"


class Edges(Control):
    """The outlines of a scene: white lines on black."""

    kind = "edges"


@_spelt
@dataclass(frozen=True)
class Style:
    """A reference picture whose style is followed, through the IP-Adapter (arXiv 2308.06721).

    `weight` multiplies what it adds to cross-attention, 0 to 10, a number or a schedule. `mask` is a soft
    picture, white where the style acts.
    """

    picture: Any
    weight: float | Schedule = 1.0
    mask: Any = None

    def __post_init__(self) -> None:
        _set(self, "picture", Picture.of(self.picture, name="Style's picture", background=WHITE))
        _set(self, "weight", _weight(self.weight))
        _set(self, "mask", _mask(self.mask))

    @property
    def rank(self) -> tuple[str, ...]:
        """Where this stands among others: by what it is, never by where the recipe lists it."""
        mask = "" if self.mask is None else self.mask.sha256
        return (self.picture.sha256, repr(self.weight), mask)


@_spelt
@dataclass(frozen=True)
class Recipe:
    """Everything that decides a picture; equal recipes on one model make equal pictures.

    `guidance` is classifier-free guidance (arXiv 2207.12598), a number or a schedule; at 1 or below it is off
    and `negative` has no effect. `width` and `height` are in pixels, None for the model's own size.
    `lora="lcm"` lays the model's LCM-LoRA over its U-Net; `fast()` sets what goes with it. A wrong argument
    raises a ValueError or TypeError in one sentence.
    """

    prompt: str
    negative: str = ""
    controls: tuple[Control, ...] = ()
    styles: tuple[Style, ...] = ()
    guidance: float | Schedule = 6.0
    steps: int = 20
    sampler: str = "dpm++"
    seed: int = 0
    width: int | None = None
    height: int | None = None
    lora: str | None = None

    def __post_init__(self) -> None:
        _text("prompt", self.prompt)
        _text("negative", self.negative)
        _set(self, "controls", _all_of("controls", self.controls, Control, "Pose, Depth or Edges"))
        _set(self, "styles", _all_of("styles", self.styles, Style, "Style"))
        if not isinstance(self.guidance, Schedule):
            _set(self, "guidance", _number("guidance", self.guidance, 0, 100))
        _set(self, "steps", _whole("steps", self.steps, 1, 1000))
        _set(self, "seed", _whole("seed", self.seed, 0, 2**63 - 1))
        _one_of("sampler", self.sampler, SAMPLERS)
        if self.lora is not None:
            _one_of("lora", self.lora, LORAS)
        for name in ("width", "height"):
            if (size := getattr(self, name)) is not None:
                _set(self, name, _whole(name, size, 8, 4096))
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together; give both, or neither for the model's own size.")

    def replace(self, **changes: Any) -> Recipe:
        """The same recipe but for `changes`."""
        return Recipe(**({f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | changes))

    def fast(self) -> Recipe:
        """The same recipe in four steps by the LCM-LoRA (arXiv 2311.05556), without guidance."""
        return self.replace(sampler="lcm", lora="lcm", steps=4, guidance=1.0)

    def to_json(self) -> str:
        """The recipe as ASCII JSON, pictures included."""
        from ctrl import recipe_text

        return recipe_text.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe written by `to_json`; anything else raises a ValueError."""
        from ctrl import recipe_text

        return recipe_text.from_json(text)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The recipe in a PNG written by `Shot.save`, or in a JSON file."""
        path = Path(path).expanduser()
        if not path.is_file():
            raise ValueError(f"path must be a PNG or JSON file, but there is no file {str(path)!r}.")
        if path.stat().st_size > MAX_FILE:
            raise ValueError(f"{path.name!r} has {path.stat().st_size} bytes; at most {MAX_FILE} are read.")
        data = path.read_bytes()
        text = data.decode("utf-8", "replace") if data.lstrip()[:1] == b"{" else png_text(data, KEYWORD)
        if text is None:
            raise ValueError(f"{path.name!r} is a PNG without a recipe; Shot.save writes one into it.")
        return cls.from_json(text)

    def code(self) -> str:
        """Python that makes this recipe; run after `import ctrl`, it ends with `recipe` equal to this one."""
        from ctrl import recipe_text

        return recipe_text.to_code(self)


def _set(value: object, name: str, to: object) -> None:
    object.__setattr__(value, name, to)  # only ever from __post_init__, to keep what was normalised


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}.")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {number:g}.")
    return number


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number from {low} to {high}, got {value!r}.")
    number = int(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {number}.")
    return number


def _weight(value: float | Schedule) -> float | Schedule:
    if isinstance(value, Schedule):
        _number("weight", max(value.first, value.last), 0, 10)
        return value
    return _number("weight", value, 0, 10)


def _mask(value: Any) -> Picture | None:
    return None if value is None else Picture.of(value, name="mask").grey()


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}; make one recipe a prompt.")
    if len(value) > MAX_PROMPT:
        raise ValueError(f"{name} has {len(value)} characters; at most {MAX_PROMPT} are accepted.")
    for at, letter in enumerate(value):
        if "\ud800" <= letter <= "\udfff":
            raise ValueError(f"{name} is not valid Unicode at character {at}: a lone surrogate; remove it.")


def _one_of(name: str, value: object, names: tuple[str, ...]) -> None:
    if value not in names:
        near = difflib.get_close_matches(str(value), names, 1)
        hint = f"did you mean {near[0]!r}? There is" if near else "there is"
        raise ValueError(f"{name} {value!r} is unknown; {hint} {', '.join(names)}.")


def _all_of(name: str, values: Any, kind: type[T], what: str) -> tuple[T, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} must be a list of {what}, got {type(values).__name__}; write [{name[:-1]}].")
    for at, value in enumerate(values):
        if not isinstance(value, kind):
            raise TypeError(f"{name}[{at}] must be {what}, got {type(value).__name__}.")
    if len(values) > 16:
        raise ValueError(f"{name} has {len(values)} entries; at most 16 are accepted.")
    return tuple(values)
