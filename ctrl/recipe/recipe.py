"""The recipe: everything that decides a picture, as one frozen, validated value.

A recipe holds no file names. Its pictures are pixels, so it is complete as JSON, inside a PNG and as Python.
Recipes that are read are untrusted input: sizes are limited and every field is checked by the constructor.
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

SHORT = {"dpm++": "dpm++ 2m"}  # short names of samplers
Unmasked = Literal["pixels", "latents"]
UNMASKED: tuple[Unmasked, ...] = get_args(Unmasked)
PNG = b"\x89PNG"  # how its files begin
KEYWORD = "ctrl-recipe"  # of the PNG text chunk


@suggest_arguments
@dataclass(frozen=True)
class Recipe:
    """Everything that decides a picture.

    - `prompt` may weight words, `(word:1.2)`; `negative` is the negative prompt, without effect where guidance
      is off.
    - `regions` are prompts for parts of the picture, `controls` maps it should follow, `styles` references for its
      look: up to 16 of each. Their order does not matter; weight 0 or `on=False` is the same as leaving one out.
    - `guidance` is a weight, a `Schedule` of weights or a `Guidance`; at 1 or below it is off.
    - `sampler` and `spacing` by their usual names; `steps` as the sampler counts them;
      `seed` is the seed of all random numbers of the run.
    - `image` is the picture to start from, and `strength`, 0 to 1, how much of it is changed: image to image. With a
      `mask`, white where it may change, the rest stays: inpainting. With `unmasked` "pixels" the rest keeps the image's
      own pixels; with "latents" it goes through the VAE, which changes it a little, as in diffusers.
    - `loras` are merged into the model for this run; `fast()` adds the LCM-LoRA and its settings.
    - `width` and `height` are in pixels, None for the model's own size.

    Recipes are equal, and hash equally, when they make equal pictures on every model; see `canonical`.
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
            raise ValueError("mask is the part of image that may change, and there is no image; give image=... too.")

    def replace(self, **changes: Unpack[Changes]) -> Recipe:
        """The same recipe but for `changes`, the constructor's arguments by their names."""
        current = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Recipe(**(current | dict(changes)))

    def fast(self) -> Recipe:
        """The same recipe in four steps by the LCM-LoRA (arXiv 2311.05556), without guidance."""
        others = tuple(lora for lora in self.loras if lora.name != "lcm")
        return self.replace(sampler="lcm", spacing="default", loras=(*others, Lora("lcm")), steps=4, guidance=1.0)

    @cached_property
    def canonical(self) -> Recipe:
        """The recipe without the settings that have no effect: equal recipes have equal canonical ones.

        Parts that are off or have weight 0 are removed, with the settings that depend on them (without guidance: the
        negative prompt, a style's `negative`, a control's `uncond`, guidance's map, APG and CFG-Zero*). Regions,
        controls, styles, LoRAs and perturbations are sorted by content, a schedule that never changes is a number,
        and `guidance` is a `Guidance`.
        """
        return self._effective(simplified, Guidance.of(self.guidance).effective(simplified))

    def at(self, index: int, times: Sequence[float]) -> Recipe:
        """The recipe of evaluation `index` of a run, counted from 0: all that the step depends on, and nothing else.

        `times` are the noise times of the run's evaluations, `model.times(...)`: 1 for pure noise, 0 for none.
        It is `canonical` with a number for every schedule, without the parts that have no effect in this step.
        In a step of zero-init (`guidance.zero_init`), prompts, regions, controls, styles and LoRAs are all removed.
        The settings of the whole run stay: sampler, spacing, steps, seed, size, image, strength and mask.

        Equal recipes at a step make equal steps of equal latents and solver states, so two runs first differ in the
        first step at which `at` does. Raises an IndexError if the run has no such evaluation.
        """
        if not 0 <= index < len(times):
            raise IndexError(f"index must be from 0 to {len(times) - 1}, the run's last evaluation, got {index}.")
        whole = rebuilt(self.canonical, unmasked=Recipe.unmasked)  # `unmasked` acts on the finished picture only
        guidance = Guidance.of(whole.guidance).at(index, times)
        if guidance.zero_init:
            none: dict[str, Any] = dict.fromkeys(("regions", "controls", "styles", "loras"), ())
            return rebuilt(whole, prompt="", negative="", guidance=guidance, **none)
        return whole._effective(lambda weight: weight_at(weight, index, len(times), times), guidance)

    def _effective(self, weigh: Weigh, guidance: Guidance) -> Recipe:
        guided = highest(guidance.weight) > 1
        controls = [part.effective(weigh, guided=guided) for part in self.controls if part.on]
        styles = [part.effective(weigh, guided=guided) for part in self.styles if part.on]
        return rebuilt(
            self,
            negative=self.negative if guided else "",
            regions=in_order([part for part in self.regions if part.on], key=attrgetter("sort_key")),
            controls=in_order(controls, key=attrgetter("sort_key")),
            styles=in_order(styles, key=attrgetter("sort_key")),
            loras=effective(self.loras),
            guidance=guidance,
            strength=Recipe.strength if self.image is None else self.strength,
            unmasked=Recipe.unmasked if self.mask is None else self.unmasked,
        )

    def diff(self, other: Recipe, model: HasTimes | None = None) -> Difference:
        """The changes from this recipe to the other: `Change`s, each a sentence and the first step it affects.

        With `model`, steps are those of its sampler; without it, changes whose first step depends on the sampler
        say so.
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
        """The recipe as ASCII JSON, with its pictures and the parts that are switched off."""
        return as_json.to_json(self)

    def to_parts(self) -> tuple[str, tuple[Picture, ...]]:
        """The recipe as JSON without its pictures, and the pictures, each once, for a file that stores both."""
        return as_json.to_parts(self)

    @classmethod
    def from_json(cls, given: str, pictures: Mapping[str, bytes] = MappingProxyType({})) -> Recipe:
        """The recipe written by `to_json`; anything else raises a ValueError.

        `pictures` are files, by the sha256 under which the JSON of `to_parts` names them.
        """
        return as_json.from_json(given, Recipe, pictures)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The recipe in a picture by `Shot.save`, in a JSON file, or from another program's picture.

        It reads PNG, JPEG and WebP by AUTOMATIC1111, Forge, Civitai, ComfyUI, InvokeAI and others. Settings that
        have no counterpart here are left out, each with a warning.
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
            description = "a PNG without a recipe" if data.startswith(PNG) else "not a PNG, JPEG or WebP with a recipe"
            raise ValueError(f"{path.name!r} is {description}; Shot.save writes one into a PNG.")
        arguments, notes = arguments_of(generation)
        for note in notes:
            warnings.warn(f"{path.name}: {note}", stacklevel=2)
        return cls(**arguments)

    def code(self, path: str | Path | None = None) -> str:
        """Python that makes this recipe; run after `import ctrl`, it ends with `recipe` equal to this one.

        With a `path` that ends in .py, the code is written there and its pictures next to it, as PNGs. Without one the
        pictures are base64 in the code, up to 128 KiB in all; a ValueError for more asks for the path.
        """
        return as_code.to_code(self) if path is None else as_code.write_code(self, Path(path))


# The arguments that completion offers between the brackets of `recipe.replace()` in a notebook.
Recipe.replace.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # as functools.wraps sets it
    [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=...) if parameter.name != "self" else parameter
        for parameter in inspect.signature(Recipe.__init__).parameters.values()
    ],
    return_annotation="Recipe",
)
