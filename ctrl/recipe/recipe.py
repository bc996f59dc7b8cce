"""The recipe: everything that decides a picture, as one frozen, validated value.

A recipe names no file. Its pictures are pixels, so it can travel whole: as JSON, inside a PNG, as Python.
Reading one is parsing untrusted input: sizes are capped and every field passes the constructor's validator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ctrl.images import MAX_SIDE, WHITE, Picture, local_file, png_text
from ctrl.recipe.checks import Shown, all_of, keep, mask, name, number, one_of, prompt, rebuilt, spelt, whole
from ctrl.recipe.controls import Control
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.schedule import Schedule, weight
from ctrl.recipe.styles import Style

SAMPLERS = (
    "ddpm", "ddim", "pndm", "euler", "euler a", "heun", "dpm++ 2m", "dpm++ 2m sde", "dpm++ sde", "unipc", "lcm", "tcd",
    "flow euler",
)  # fmt: skip
SPACINGS = ("default", "karras", "exponential", "trailing")
SHORT = {"dpm++": "dpm++ 2m"}  # what is meant by a bare name
KEYWORD = "ctrl-recipe"  # of the PNG text chunk


@spelt
@dataclass(frozen=True)
class Region:
    """Words that hold for a part of the picture, beside the recipe's prompt.

    `mask` is a soft picture, white where they hold; where regions leave nothing uncovered the recipe's prompt is
    not read. `weight`, 0 to 1, is how far they displace it.
    """

    prompt: str
    mask: Shown
    weight: float = 1.0

    def __post_init__(self) -> None:
        prompt("prompt", self.prompt)
        if self.mask is None:
            raise TypeError("mask must be a picture of where the region is, got None; without one it is the prompt.")
        keep(self, "mask", mask(self.mask))
        keep(self, "weight", number("weight", self.weight, 0, 1))

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """Its place among other regions: by content, so that the order in the recipe does not matter."""
        return (self.prompt, self.mask.sha256, self.weight)


@spelt
@dataclass(frozen=True)
class Lora:
    """A LoRA of the model (arXiv 2106.09685) by its name, and how strongly it is laid over it, -10 to 10."""

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        name("name", self.name, "one of the model's LoRAs")
        keep(self, "weight", number("weight", self.weight, -10, 10))


@spelt
@dataclass(frozen=True)
class Recipe:
    """Everything that decides a picture; equal recipes on one model make equal pictures.

    - `prompt` may weigh words, `(word:1.2)`; `regions` hold in parts of the picture; `negative` is what to lead
      away from, without effect where guidance is off.
    - `controls` and `styles`, any number up to 16 of each; their order is of no consequence.
    - `guidance` is a weight, a `Schedule` of weights or a `Guidance`; at 1 or below it is off.
    - `sampler` and `spacing` by their usual names; `steps` as the sampler counts them.
    - `image` is where to start from, and `strength`, 0 to 1, how much of it is made anew: image to image. With a
      `mask`, white where it may change, the rest stays: inpainting.
    - `loras` are laid over the model for this run; `fast()` sets what goes with the LCM-LoRA.
    - `width` and `height` are in pixels, None for the model's own size.

    A wrong argument raises a ValueError or TypeError in one sentence.
    """

    prompt: str
    negative: str = ""
    regions: tuple[Region, ...] = ()
    controls: tuple[Control, ...] = ()
    styles: tuple[Style, ...] = ()
    guidance: float | Schedule | Guidance = 6.0
    steps: int = 20
    sampler: str = "dpm++ 2m"
    spacing: str = "default"
    seed: int = 0
    image: Shown = None
    strength: float = 0.8
    mask: Shown = None
    loras: tuple[Lora, ...] = ()
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        prompt("prompt", self.prompt)
        prompt("negative", self.negative)
        keep(self, "regions", all_of("regions", self.regions, Region, "Region"))
        keep(self, "controls", all_of("controls", self.controls, Control, "Pose, Depth, Edges or Control"))
        keep(self, "styles", all_of("styles", self.styles, Style, "Style"))
        keep(self, "loras", all_of("loras", self.loras, Lora, "Lora"))
        if not isinstance(self.guidance, Guidance):
            keep(self, "guidance", weight("guidance", self.guidance, 100))
        keep(self, "steps", whole("steps", self.steps, 1, 1000))
        keep(self, "seed", whole("seed", self.seed, 0, 2**63 - 1))
        if isinstance(self.sampler, str):
            keep(self, "sampler", SHORT.get(self.sampler, self.sampler))
        one_of("sampler", self.sampler, SAMPLERS)
        one_of("spacing", self.spacing, SPACINGS)
        self._check_image()
        for side in ("width", "height"):
            if (size := getattr(self, side)) is not None:
                keep(self, side, whole(side, size, 8, MAX_SIDE))
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together; give both, or neither for the model's own size.")

    def _check_image(self) -> None:
        if self.image is not None:
            keep(self, "image", Picture.of(self.image, name="image", background=WHITE))
        keep(self, "strength", number("strength", self.strength, 0, 1))
        keep(self, "mask", mask(self.mask))
        if self.mask is not None and self.image is None:
            raise ValueError("mask says which part of image is made anew, and there is no image; give image=... too.")

    def replace(self, **changes: Any) -> Recipe:
        """The same recipe but for `changes`."""
        return Recipe(**({f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | changes))

    def at(self, index: int, times: Sequence[float]) -> Recipe:
        """The recipe of evaluation `index` of a run, counted from 0: all that the step depends on, and nothing else.

        `times` are the noise times of the run's evaluations, `model.times(...)`: 1 for pure noise, 0 for none.
        Schedules are numbers; what is off is removed, with what has no effect without it (the negative prompt, a
        style's `negative`, a control's `uncond` where there is no guidance); controls, styles, regions and
        perturbations stand in an order of their own; `guidance` is a `Guidance`. While CFG-Zero* holds the step
        still (`guidance.zero_init`), no prompt and nothing that acts on the model is left. What holds for the whole
        run (sampler, spacing, steps, seed, size, image, strength, mask) stays.

        Equal recipes at a step make equal steps of equal latents and solver states, so two runs first differ in the
        first step at which `at` does. Raises an IndexError where the run has no such evaluation.
        """
        if not 0 <= index < len(times):
            raise IndexError(f"index must be from 0 to {len(times) - 1}, the run's last evaluation, got {index}.")
        guidance = Guidance.of(self.guidance).at(index, times)
        strength = Recipe.strength if self.image is None else self.strength
        if guidance.zero_init:
            gone: dict[str, Any] = dict.fromkeys(("regions", "controls", "styles", "loras"), ())
            return rebuilt(self, prompt="", negative="", guidance=guidance, strength=strength, **gone)
        guided = guidance.guided
        return rebuilt(
            self,
            negative=self.negative if guided else "",
            regions=_acting(_ordered(self.regions)),
            controls=_acting([control.at(index, times, guided=guided) for control in _ordered(self.controls)]),
            styles=_acting([style.at(index, times, guided=guided) for style in _ordered(self.styles)]),
            loras=_acting(self.loras),
            guidance=guidance,
            strength=strength,
        )

    def fast(self) -> Recipe:
        """The same recipe in four steps by the LCM-LoRA (arXiv 2311.05556), without guidance."""
        others = tuple(lora for lora in self.loras if lora.name != "lcm")
        return self.replace(sampler="lcm", spacing="default", loras=(*others, Lora("lcm")), steps=4, guidance=1.0)

    def diff(self, other: Recipe) -> tuple[Any, ...]:
        """What changes from this recipe to the other: `Change`s, each a sentence and the first step it affects."""
        from ctrl.recipe.diff import diff

        return diff(self, other)

    @cached_property
    def hash(self) -> str:
        """64 hexadecimal digits, the same for equal recipes in every process and on every machine."""
        from ctrl.recipe import text as written

        return written.fingerprint(self)

    def __hash__(self) -> int:
        return int(self.hash[:15], 16)

    def to_json(self) -> str:
        """The recipe as ASCII JSON, pictures included."""
        from ctrl.recipe import text as written

        return written.to_json(self)

    @classmethod
    def from_json(cls, given: str) -> Recipe:
        """The recipe written by `to_json`; anything else raises a ValueError."""
        from ctrl.recipe import text as written

        return written.from_json(given)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The recipe in a PNG written by `Shot.save`, or in a JSON file."""
        path = local_file(path, "path", "a PNG or JSON file")
        data = path.read_bytes()
        found = data.decode("utf-8", "replace") if data.lstrip()[:1] == b"{" else png_text(data, KEYWORD)
        if found is None:
            raise ValueError(f"{path.name!r} is a PNG without a recipe; Shot.save writes one into it.")
        return cls.from_json(found)

    def code(self) -> str:
        """Python that makes this recipe; run after `import ctrl`, it ends with `recipe` equal to this one."""
        from ctrl.recipe import code

        return code.to_code(self)


def _ordered(parts: Sequence[Any]) -> list[Any]:
    """In an order of their own: a sum of floats depends on its order, and a recipe must not."""
    return sorted(parts, key=lambda part: part.sort_key)


def _acting(parts: Sequence[Any]) -> tuple[Any, ...]:
    """Those that have a weight."""
    return tuple(part for part in parts if part.weight != 0)
