"""The recipe: everything that decides a picture, as one frozen, validated value.

A recipe names no file. Its pictures are pixels, so it can travel whole: as JSON, inside a PNG, as Python.
Reading one is parsing untrusted input: sizes are capped and every field passes the constructor's validator.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

from ctrl.images import MAX_SIDE, WHITE, Picture, PictureLike, local_file, png_pictures, png_text, read_generation
from ctrl.recipe import as_code, as_json, show
from ctrl.recipe.checks import (
    PER_PICTURE,
    PICTURE,
    all_of,
    field_values,
    in_order,
    integer,
    mask,
    number,
    one_of,
    prompt,
    rebuilt,
    set_field,
    suggest_arguments,
)
from ctrl.recipe.controls import Control
from ctrl.recipe.diff import Difference, HasTimes, diff
from ctrl.recipe.generation import arguments_of
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.loras import Lora, effective
from ctrl.recipe.regions import Region
from ctrl.recipe.samplers import SAMPLERS, SPACINGS, Sampler, Spacing
from ctrl.recipe.schedule import Schedule, Weigh, highest, simplified, weight, weight_at
from ctrl.recipe.styles import Style

if TYPE_CHECKING:
    from ctrl.recipe.changes import Changes

SHORT = {"dpm++": "dpm++ 2m"}  # what is meant by a bare name
Unmasked = Literal["pixels", "latents"]
UNMASKED: tuple[Unmasked, ...] = get_args(Unmasked)
PNG = b"\x89PNG"  # how its files begin
KEYWORD = "ctrl-recipe"  # of the PNG text chunk


@suggest_arguments
@dataclass(frozen=True)
class Recipe:
    """Everything that decides a picture.

    - `prompt` may weigh words, `(word:1.2)`; `negative` is what to lead away from, without effect where guidance
      is off.
    - `regions` are prompts for parts of the picture, `controls` maps it should follow, `styles` references for its
      look: any number up to 16 of each. Their order does not matter; weight 0 and `on=False` are as not given.
    - `guidance` is a weight, a `Schedule` of weights or a `Guidance`; at 1 or below it is off.
    - `sampler` and `spacing` by their usual names; `steps` as the sampler counts them;
      `seed` is of the noise it begins with.
    - `image` is where to start from, and `strength`, 0 to 1, how much of it is made anew: image to image. With a
      `mask`, white where it may change, the rest stays: inpainting. With `unmasked` "pixels" the rest keeps the image's
      own pixels; with "latents" it goes through the VAE, which changes it a little, as in diffusers.
    - `loras` are merged into the model for this run; `fast()` sets what goes with the LCM-LoRA.
    - `width` and `height` are in pixels, None for the model's own size.

    Recipes are equal, and hash equally, when they make equal pictures on every model: `canonical` says what counts.
    A wrong argument raises a ValueError or TypeError in one sentence.
    """

    prompt: str = field(metadata=PER_PICTURE)
    negative: str = field(default="", metadata=PER_PICTURE)
    regions: Sequence[Region] = ()
    controls: Sequence[Control] = ()
    styles: Sequence[Style] = ()
    guidance: float | Schedule | Guidance = 6.0
    steps: int = 20
    sampler: Sampler | Literal["dpm++"] = "dpm++ 2m"
    spacing: Spacing = "default"
    seed: int = field(default=0, metadata=PER_PICTURE)
    image: PictureLike | None = field(default=None, metadata=PICTURE)
    strength: float = 0.8
    mask: PictureLike | None = field(default=None, metadata=PICTURE)
    unmasked: Unmasked = "pixels"
    loras: Sequence[Lora] = ()
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        prompt("prompt", self.prompt)
        prompt("negative", self.negative)
        set_field(self, "regions", all_of("regions", self.regions, Region, "Region"))
        set_field(self, "controls", all_of("controls", self.controls, Control, "Pose, Depth, Edges or Control"))
        set_field(self, "styles", all_of("styles", self.styles, Style, "Style"))
        set_field(self, "loras", all_of("loras", self.loras, Lora, "Lora"))
        if not isinstance(self.guidance, Guidance):
            set_field(self, "guidance", weight("guidance", self.guidance, 100))
        set_field(self, "steps", integer("steps", self.steps, 1, 1000))
        set_field(self, "seed", integer("seed", self.seed, 0, 2**63 - 1))
        if isinstance(self.sampler, str):
            set_field(self, "sampler", SHORT.get(self.sampler, self.sampler))
        one_of("sampler", self.sampler, SAMPLERS)
        one_of("spacing", self.spacing, SPACINGS)
        self._check_image()
        for side in ("width", "height"):
            if (size := getattr(self, side)) is not None:
                set_field(self, side, integer(side, size, 8, MAX_SIDE))
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together; give both, or neither for the model's own size.")

    def _check_image(self) -> None:
        if self.image is not None:
            set_field(self, "image", Picture.of(self.image, name="image", background=WHITE))
        set_field(self, "strength", number("strength", self.strength, 0, 1))
        set_field(self, "mask", mask(self.mask))
        one_of("unmasked", self.unmasked, UNMASKED)
        if self.mask is not None and self.image is None:
            raise ValueError("mask says which part of image is made anew, and there is no image; give image=... too.")

    def replace(self, **changes: Unpack[Changes]) -> Recipe:
        """The same recipe but for `changes`, the constructor's arguments by their names."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Recipe(**(own | dict(changes)))

    def fast(self) -> Recipe:
        """The same recipe in four steps by the LCM-LoRA (arXiv 2311.05556), without guidance."""
        others = tuple(lora for lora in self.loras if lora.name != "lcm")
        return self.replace(sampler="lcm", spacing="default", loras=(*others, Lora("lcm")), steps=4, guidance=1.0)

    @cached_property
    def canonical(self) -> Recipe:
        """What of the recipe has an effect, in one spelling: recipes with the same are equal.

        What is off or has weight 0 is removed, with what has no effect without it (without guidance: the negative
        prompt, a style's `negative`, a control's `uncond`, guidance's map, APG and CFG-Zero*). Regions, controls,
        styles, LoRAs and perturbations stand in an order of their own, a schedule that never changes is a number,
        and `guidance` is a `Guidance`.
        """
        return self._effective(simplified, Guidance.of(self.guidance).effective(simplified))

    def at(self, index: int, times: Sequence[float]) -> Recipe:
        """The recipe of evaluation `index` of a run, counted from 0: all that the step depends on, and nothing else.

        `times` are the noise times of the run's evaluations, `model.times(...)`: 1 for pure noise, 0 for none.
        It is `canonical` with a number for every schedule, so that nothing is left that has no effect in this step.
        While CFG-Zero* holds the step still (`guidance.zero_init`), no prompt and nothing that acts on the model is
        left. What holds for the whole run stays: sampler, spacing, steps, seed, size, image, strength and mask.

        Equal recipes at a step make equal steps of equal latents and solver states, so two runs first differ in the
        first step at which `at` does. Raises an IndexError where the run has no such evaluation.
        """
        if not 0 <= index < len(times):
            raise IndexError(f"index must be from 0 to {len(times) - 1}, the run's last evaluation, got {index}.")
        whole = rebuilt(self.canonical, unmasked=Recipe.unmasked)  # which is of the finished picture
        guidance = Guidance.of(whole.guidance).at(index, times)
        if guidance.zero_init:
            none: dict[str, Any] = dict.fromkeys(("regions", "controls", "styles", "loras"), ())
            return rebuilt(whole, prompt="", negative="", guidance=guidance, **none)
        return whole._effective(lambda weight: weight_at(weight, index, len(times), times), guidance)

    def _effective(self, weigh: Weigh, guidance: Guidance) -> Recipe:
        guided = highest(guidance.weight) > 1
        controls = [one.effective(weigh, guided=guided) for one in self.controls if one.on]
        styles = [one.effective(weigh, guided=guided) for one in self.styles if one.on]
        return rebuilt(
            self,
            negative=self.negative if guided else "",
            regions=in_order([one for one in self.regions if one.on], key=attrgetter("sort_key")),
            controls=in_order(controls, key=attrgetter("sort_key")),
            styles=in_order(styles, key=attrgetter("sort_key")),
            loras=effective(self.loras),
            guidance=guidance,
            strength=Recipe.strength if self.image is None else self.strength,
            unmasked=Recipe.unmasked if self.mask is None else self.unmasked,
        )

    def diff(self, other: Recipe, model: HasTimes | None = None) -> Difference:
        """What changes from this recipe to the other: `Change`s, each a sentence and the first step it affects.

        Given the `model`, steps are those of its sampler; without it a change whose first
        step only the sampler knows says so.
        """
        return diff(self, other, model)

    def __repr__(self) -> str:
        return as_code.brief(self)

    def __str__(self) -> str:
        return show.recipe_text(self)

    def _repr_html_(self) -> str:
        return show.recipe_html(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and field_values(self.canonical) == field_values(other.canonical)

    def __hash__(self) -> int:
        return int(self.hash[:15], 16)

    @cached_property
    def hash(self) -> str:
        """64 hexadecimal digits, the same for equal recipes in every process and on every machine."""
        return as_json.fingerprint(self.canonical)

    def to_json(self) -> str:
        """The recipe as ASCII JSON, pictures included, and what is switched off too."""
        return as_json.to_json(self)

    def to_parts(self) -> tuple[str, tuple[Picture, ...]]:
        """The recipe as JSON without its pictures, and these, each once: for a file that carries them beside it."""
        return as_json.to_parts(self)

    @classmethod
    def from_json(cls, given: str, pictures: Mapping[str, bytes] = MappingProxyType({})) -> Recipe:
        """The recipe written by `to_json`; anything else raises a ValueError.

        `pictures` are files by the sha256 under which the JSON of `to_parts` names them.
        """
        return as_json.from_json(given, Recipe, pictures)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The recipe in a picture by `Shot.save`, in a JSON file, or as far as another program's picture says it.

        Read are PNG, JPEG and WebP of AUTOMATIC1111, Forge, Civitai, ComfyUI, InvokeAI and others. What such a
        picture says that has no counterpart here is left out, each with a warning.
        """
        path = local_file(path, "path", "a PNG or JSON file")
        data = path.read_bytes()
        if data.lstrip()[:1] == b"{":
            return cls.from_json(data.decode("utf-8", "replace"))
        written = png_text(data, KEYWORD) if data.startswith(PNG) else None
        if written is not None:
            return cls.from_json(written, png_pictures(data))
        generation = read_generation(data) if data.startswith((PNG, b"\xff\xd8\xff", b"RIFF")) else None
        if generation is None:
            what = "a PNG without a recipe" if data.startswith(PNG) else "not a PNG, JPEG or WebP with a recipe"
            raise ValueError(f"{path.name!r} is {what}; Shot.save writes one into a PNG.")
        arguments, notes = arguments_of(generation)
        for note in notes:
            warnings.warn(f"{path.name}: {note}", stacklevel=2)
        return cls(**arguments)

    def code(self, path: str | Path | None = None) -> str:
        """Python that makes this recipe; run after `import ctrl`, it ends with `recipe` equal to this one.

        Given a `path` that ends in .py, it is written there and its pictures, as PNGs, beside it. Without one they
        stand in the code as base64, up to 128 KiB in all; beyond, a ValueError asks for the path.
        """
        return as_code.to_code(self) if path is None else as_code.write_code(self, Path(path))


# What completion offers between the brackets of `recipe.replace()` in a notebook.
Recipe.replace.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # as functools.wraps sets it
    [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=...) if one.name != "self" else one
        for one in inspect.signature(Recipe.__init__).parameters.values()
    ],
    return_annotation="Recipe",
)
