"""The recipe: everything that decides a picture, as one frozen, validated value.

A recipe holds no file names. Its pictures are pixels, so it is complete as JSON, inside a PNG and as Python.
Recipes that are read are untrusted input: sizes are limited and every field is checked by the constructor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Unpack

from ctrl.caller import ends_at_caller
from ctrl.images import MAX_SIDE, Picture, PictureLike, local_file, png_pictures, png_text
from ctrl.recipe import as_code, as_json, show
from ctrl.recipe.aligned import StyleAligned
from ctrl.recipe.begins import Unmasked, check_image
from ctrl.recipe.blends import Blend, blend
from ctrl.recipe.blends import effective as effective_prompt
from ctrl.recipe.changing import at_every_step
from ctrl.recipe.checks import (
    PER_PICTURE,
    PICTURE,
    all_of,
    field_values,
    in_order,
    integer,
    keyword_only,
    one_of,
    optional,
    rebuilt,
    set_field,
    suggest_arguments,
)
from ctrl.recipe.controls import Control
from ctrl.recipe.diff import Difference, HasTimes, diff
from ctrl.recipe.directions import Direction
from ctrl.recipe.edits import Edit
from ctrl.recipe.generation import PNG, arguments_in
from ctrl.recipe.guidance import Guidance
from ctrl.recipe.loras import Lora, effective, without_tags
from ctrl.recipe.masks import at_step
from ctrl.recipe.regions import Region
from ctrl.recipe.samplers import SAMPLERS, SPACINGS, Sampler, Spacing
from ctrl.recipe.schedule import Schedule, Weigh, highest, simplified, weight, weight_at
from ctrl.recipe.seeds import SeedBlend, seed
from ctrl.recipe.styles import Style

if TYPE_CHECKING:
    from ctrl.recipe.changes import Changes

SHORT = {"dpm++": "dpm++ 2m"}  # short names of samplers
KEYWORD = "ctrl-recipe"  # of the PNG text chunk


@suggest_arguments
@dataclass(frozen=True)
class Recipe:
    """Everything that decides a picture.

    - `prompt` may weight words, `(word:1.2)`; `negative` is the negative prompt, without effect where guidance
      is off and has no `NAG`. Either may be a `Blend` of several prompts. Of AUTOMATIC1111's syntax they read
      `((word))`, `[word]`, BREAK and `[from:to:0.5]`, and the prompt `<lora:name:0.8>` where the model has it.
    - `directions` move the prompt's embedding from one text towards another, up to 16.
    - `regions` are prompts for parts of the picture, `controls` maps it should follow, `styles` references for its
      look: up to 16 of each. Their order does not matter; weight 0 or `on=False` is the same as leaving one out.
    - `guidance` is a weight, a `Schedule` of weights or a `Guidance`; at 1 or below it is off.
    - `sampler` and `spacing` by their usual names; `steps` as the sampler counts them;
      `seed` is the seed of all random numbers of the run, or a `SeedBlend` of two.
    - `image` is the picture to start from, and `strength`, 0 to 1, how much of it is changed: image to image. With a
      `mask`, white where it may change, the rest stays: inpainting. With `unmasked` "pixels" the rest keeps the image's
      own pixels; with "latents" it goes through the VAE, which changes it a little, as in diffusers.
    - `loras` are merged into the model for this run; `fast()` adds the LCM-LoRA and its settings.
    - `edit` makes it an edit of another prompt's picture, `aligned` gives it the style of another recipe's.
    - `width` and `height` are in pixels, None for the model's own size.

    Recipes are equal, and hash equally, when they make equal pictures on every model; see `canonical`.
    A wrong argument raises a ValueError or TypeError in one sentence.
    """

    prompt: str | Blend = field(metadata=PER_PICTURE)
    negative: str | Blend = field(default="", metadata=PER_PICTURE)
    regions: Sequence[Region] = ()
    controls: Sequence[Control] = ()
    styles: Sequence[Style] = ()
    guidance: float | Schedule | Guidance = 6.0
    steps: int = 20
    sampler: Sampler | Literal["dpm++"] = "dpm++ 2m"
    spacing: Spacing = "default"
    seed: int | SeedBlend = field(default=0, metadata=PER_PICTURE)
    image: PictureLike | None = field(default=None, metadata=PICTURE)
    strength: float = 0.8
    mask: PictureLike | None = field(default=None, metadata=PICTURE)
    unmasked: Unmasked = "pixels"
    loras: Sequence[Lora] = ()
    directions: Sequence[Direction] = field(default=(), metadata=PER_PICTURE)
    edit: Edit | None = None
    aligned: StyleAligned | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        blend("prompt", self.prompt)
        blend("negative", self.negative)
        set_field(self, "regions", all_of("regions", self.regions, Region, "Region"))
        set_field(self, "controls", all_of("controls", self.controls, Control, "Pose, Depth, Edges or Control"))
        set_field(self, "styles", all_of("styles", self.styles, Style, "Style"))
        set_field(self, "loras", all_of("loras", self.loras, Lora, "Lora"))
        set_field(self, "directions", all_of("directions", self.directions, Direction, "Direction"))
        if not isinstance(self.guidance, Guidance):
            set_field(self, "guidance", weight("guidance", self.guidance, 100))
        set_field(self, "steps", integer("steps", self.steps, 1, 1000))
        self._check_beside()
        set_field(self, "seed", seed(self.seed))
        if isinstance(self.sampler, str):
            set_field(self, "sampler", SHORT.get(self.sampler, self.sampler))
        one_of("sampler", self.sampler, SAMPLERS)
        one_of("spacing", self.spacing, SPACINGS)
        check_image(self)
        for side in ("width", "height"):
            if (size := getattr(self, side)) is not None:
                set_field(self, side, integer(side, size, 8, MAX_SIDE))
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together; give both, or neither for the model's own size.")

    def _check_beside(self) -> None:
        optional("edit", self.edit, Edit)
        optional("aligned", self.aligned, StyleAligned)
        prompt, _ = self.prompts_read
        if self.edit is not None and self.edit.acts and isinstance(prompt, Blend):
            raise ValueError("edit takes a prompt that is text, and this one is a Blend; give one prompt, or no edit.")

    @ends_at_caller
    def replace(self, **changes: Unpack[Changes]) -> Recipe:
        """The same recipe but for `changes`, the constructor's arguments by their names."""
        current = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Recipe(**(current | dict(changes)))

    def fast(self) -> Recipe:
        """The same recipe in four steps by the LCM-LoRA (arXiv 2311.05556), without guidance."""
        others = tuple(lora for lora in self.loras if lora.name != "lcm")
        aligned = self.aligned
        if aligned is not None:
            aligned = rebuilt(aligned, reference=aligned.reference.fast())
        loras = (*others, Lora("lcm"))
        return self.replace(sampler="lcm", spacing="default", loras=loras, steps=4, guidance=1.0, aligned=aligned)

    @cached_property
    def prompts_read(self) -> tuple[str | Blend, str | Blend]:
        """The prompt without tags of LoRAs, and the negative prompt; one that changes during the run is a `Blend`."""
        return at_every_step(without_tags(self.prompt)[0], self.steps), at_every_step(self.negative, self.steps)

    @cached_property
    def canonical(self) -> Recipe:
        """The recipe without the settings that have no effect: equal recipes have equal canonical ones.

        Parts that are off or have weight 0 are removed, with the settings that depend on them (without guidance: the
        negative prompt, a style's `negative`, a control's `uncond`, guidance's map, APG and CFG-Zero*). Regions,
        controls, styles, LoRAs, directions, perturbations and the prompts of a blend are sorted by content, a schedule
        that never changes is a number, a blend of one is a plain prompt or seed, `guidance` is a `Guidance`, prompts
        are `prompts_read` in one spelling, and the reference of `aligned` is as it runs: with this recipe's sampler and
        size.
        """
        return self._effective(simplified, Guidance.of(self.guidance).effective(simplified))

    @ends_at_caller
    def at(self, index: int, times: Sequence[float]) -> Recipe:
        """The recipe of evaluation `index` of a run, counted from 0: all that the step depends on, and nothing else.

        `times` are the noise times of the run's evaluations, `model.times(...)`: 1 for pure noise, 0 for none.
        It is `canonical` with a number for every schedule, without the parts that have no effect in this step; `Words`
        have `start` 0 where their mask acts and 1 where it does not yet.
        In a step of zero-init (`guidance.zero_init`), prompts, directions, regions, controls, styles and LoRAs are all
        removed.
        The settings of the whole run stay: sampler, spacing, steps, seed, size, image, strength and mask; so do `edit`
        and `aligned`, whose other runs go along at every step.

        Equal recipes at a step make equal steps of equal latents and solver states, so two runs first differ in the
        first step at which `at` does. Raises an IndexError if the run has no such evaluation.
        """
        if not 0 <= index < len(times):
            raise IndexError(f"index must be from 0 to {len(times) - 1}, the run's last evaluation, got {index}.")
        whole = rebuilt(self.canonical, unmasked=Recipe.unmasked)  # `unmasked` acts on the finished picture only
        guidance = Guidance.of(whole.guidance).at(index, times)
        parts = {name: getattr(whole, name) for name in ("regions", "controls", "styles")}
        masks = {name: tuple(at_step(part, index, len(times)) for part in own) for name, own in parts.items()}
        edit = None if whole.edit is None else at_step(whole.edit, index, len(times))
        masked = rebuilt(whole, edit=edit, **masks)
        now = masked._effective(lambda weight: weight_at(weight, index, len(times), times), guidance)
        if not guidance.zero_init:
            return now
        none: dict[str, Any] = dict.fromkeys(("directions", "regions", "controls", "styles", "loras"), ())
        return rebuilt(now, prompt="", negative="", **none)

    def _effective(self, weigh: Weigh, guidance: Guidance) -> Recipe:
        guided = highest(guidance.weight) > 1
        controls = [part.effective(weigh, guided=guided) for part in self.controls if part.on]
        styles = [part.effective(weigh, guided=guided) for part in self.styles if part.on]
        directions = [part.effective(weigh) for part in self.directions if part.on]
        regions = [part.effective for part in self.regions if part.on]
        prompt, negative = self.prompts_read
        return rebuilt(
            self,
            prompt=effective_prompt(prompt, weigh),
            negative=effective_prompt(negative, weigh) if guided or guidance.nag is not None else "",
            directions=in_order(directions, key=attrgetter("sort_key")),
            seed=self.seed.effective if isinstance(self.seed, SeedBlend) else self.seed,
            regions=in_order(regions, key=attrgetter("sort_key")),
            controls=in_order(controls, key=attrgetter("sort_key")),
            styles=in_order(styles, key=attrgetter("sort_key")),
            loras=effective((*self.loras, *without_tags(self.prompt)[1])),
            edit=self.edit.effective(weigh) if self.edit is not None and self.edit.acts else None,
            aligned=self.aligned.effective(weigh, self) if self.aligned is not None and self.aligned.acts else None,
            guidance=guidance,
            strength=Recipe.strength if self.image is None else self.strength,
            unmasked=Recipe.unmasked if self.mask is None else self.unmasked,
        )

    @ends_at_caller
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
    @ends_at_caller
    def from_json(cls, given: str, pictures: Mapping[str, bytes] = MappingProxyType({})) -> Recipe:
        """The recipe written by `to_json`; anything else raises a ValueError.

        `pictures` are files, by the sha256 under which the JSON of `to_parts` names them.
        """
        return as_json.from_json(given, Recipe, pictures)

    @classmethod
    @ends_at_caller
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
        return cls(**arguments_in(data, path.name))

    @ends_at_caller
    def code(self, path: str | Path | None = None, *, inline: bool = False) -> str:
        """Python that makes this recipe; run after `import ctrl`, it ends with `recipe` equal to this one.

        With a `path` that ends in .py, the code is written there and its pictures next to it, as PNGs. Without one
        nothing is written: pictures of up to 4 KiB in all are base64 in the code, larger ones appear as the files
        that a call with a path writes, or with `inline` as base64 too.
        """
        return as_code.to_code(self, inline=inline) if path is None else as_code.write_code(self, Path(path))


# The arguments that completion offers between the brackets of `recipe.replace()` in a notebook.
Recipe.replace.__signature__ = keyword_only(Recipe)  # type: ignore[attr-defined]  # as functools.wraps sets it
