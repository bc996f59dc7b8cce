"""What the owner of a picture should know: everything that was cut, ignored, reduced or stretched, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctrl.images import Picture, PictureLike
from ctrl.recipe import Control, Guidance, Recipe, Schedule, Style

if TYPE_CHECKING:
    from ctrl.model import Model, Text


def notes(model: Model, recipe: Recipe, said: Sequence[Text], size: tuple[int, int]) -> tuple[str, ...]:
    """The notes on a run of this recipe; `said` are its prompt, negative prompt and regions' as they were read."""
    found = []
    for name, text in zip(("prompt", "negative", *["region's prompt"] * (len(said) - 2)), said, strict=True):
        if text.cut:
            found.append(f"the {name} was too long for the text encoder; it did not see: {text.cut!r}")
    found += _guidance(recipe)
    found += _windows(model, recipe)
    parts: list[Control | Style] = [*recipe.controls, *recipe.styles]
    for part in parts:
        found += _part(part, size)
    for style in recipe.styles:
        found += model.ip_adapter(style.adapter).notes(style.pictures)
    if recipe.image is not None:
        found += _picture("image", Picture.of(recipe.image), size, resize="stretch")
    elif recipe.strength != Recipe.strength:
        found.append(f"strength {recipe.strength:g} has no effect without an image")
    found += _mask("mask", recipe.mask, "the image stays as it is")
    found += _mask("guidance's map", Guidance.of(recipe.guidance).map, "guidance has no effect")
    for region in recipe.regions:
        found += _mask("Region's mask", region.mask, "the region has no effect")
    return (*found, *_loras(model, recipe))


def _guidance(recipe: Recipe) -> list[str]:
    guidance = Guidance.of(recipe.guidance)
    weight = guidance.weight.highest if isinstance(guidance.weight, Schedule) else guidance.weight
    if weight > 1:
        return []
    said = [f"guidance {weight:g} is off, as it is up to 1"] if 0 < weight < 1 else []
    if recipe.negative:
        said.append(f"guidance {weight:g} is off, so the negative prompt has no effect")
    if guidance.apg or guidance.zero or guidance.map is not None:
        said.append(f"guidance {weight:g} is off, so what refines it has no effect")
    return said


def _windows(model: Model, recipe: Recipe) -> list[str]:
    """What acts in none of the run's steps, whose number and noise only the sampler knows."""
    guidance = Guidance.of(recipe.guidance)
    weighed: list[tuple[str, float | Schedule]] = [("guidance", guidance.weight)]
    weighed += [(type(part).__name__, part.weight) for part in (*guidance.perturb, *recipe.controls, *recipe.styles)]
    windows = [(name, one) for name, one in weighed if isinstance(one, Schedule) and (one.start, one.until) != (0, 1)]
    still = 0 if guidance.zero is None else guidance.zero.steps
    if not windows and not still:
        return []
    strength = 1.0 if recipe.image is None else recipe.strength
    times = model.times(recipe.sampler, recipe.spacing, recipe.steps, strength=strength)
    narrow = [name for name, window in windows if not window.steps(len(times), times)]
    found = [f"{name} acts in 0 of {len(times)} steps: its window is narrower than a step" for name in narrow]
    if still >= len(times):
        found.append(f"CFGZero holds all {len(times)} steps still, so the model is never asked")
    return found


def _part(part: Control | Style, size: tuple[int, int]) -> list[str]:
    name = type(part).__name__
    found = _mask(f"{name}'s mask", part.mask, f"{name} has no effect")
    if isinstance(part, Style):
        for picture in (*part.pictures, *([Picture.of(part.negative)] if part.negative is not None else [])):
            found += _entered(name, picture)
    elif isinstance(part.picture, Picture):
        found += _picture(name, part.picture, size, part.resize)
    return found


def _picture(name: str, picture: Picture, size: tuple[int, int], resize: str) -> list[str]:
    width, height = picture.size
    found = _entered(name, picture)
    if abs(width * size[1] - height * size[0]) > max(size):
        how = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}[resize]
        found.append(f"{name}: the picture of {width}×{height} was {how} to {size[0]}×{size[1]}")
    if size[0] >= 4 * width:
        found.append(f"{name}: the picture of {width}×{height} was enlarged to {size[0]}×{size[1]}")
    return found


def _mask(name: str, given: PictureLike | None, so: str) -> list[str]:
    if given is None:
        return []
    mask = Picture.of(given)
    return [*_entered(name, mask), *([] if mask.pixels.any() else [f"{name} is black all over, so {so}"])]


def _loras(model: Model, recipe: Recipe) -> list[str]:
    """What is laid over the model more than once, or is not there to be; with a weight that is refused."""
    found = []
    for name in dict.fromkeys(lora.name for lora in recipe.loras):
        weights = [lora.weight for lora in recipe.loras if lora.name == name]
        if len(weights) > 1:
            found.append(f"LoRA {name!r} is listed {len(weights)} times, which amounts to a weight of {sum(weights):g}")
        if name not in model.loras:
            found.append(f"the model has no LoRA {name!r}; at weight 0 it is not needed")
    return found


def _entered(name: str, picture: Picture) -> list[str]:
    """What was done to a picture on its way in."""
    return [f"{name}: the picture {remark}" for remark in picture.remarks]
