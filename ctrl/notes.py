"""Warnings attached to a shot: everything that was cut, ignored, resized or without effect, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctrl.images import Picture, PictureLike, map_notes
from ctrl.prompts import prompt_notes
from ctrl.recipe import Control, Guidance, Recipe, Schedule, Style

if TYPE_CHECKING:
    from ctrl.model import Model, Text


def notes(model: Model, recipe: Recipe, texts: Sequence[Text], size: tuple[int, int]) -> tuple[str, ...]:
    """The notes on a run of this recipe; `texts` are its encoded prompt, negative prompt and regions' prompts.

    Parts that are switched off have no notes.
    """
    controls = [control for control in recipe.controls if control.on]
    styles = [style for style in recipe.styles if style.on]
    times = _times(model, recipe)
    sentences = [*_cut(texts), *_syntax(recipe), *_guidance(recipe), *_windows(recipe, times)]
    parts: list[Control | Style] = [*controls, *styles]
    for part in parts:
        sentences += _part(part, size)
    for style in styles:
        if _acts(style.weight, times):
            sentences += model.ip_adapter(style.adapter).notes(style.pictures)
    if recipe.image is not None:
        sentences += _picture("image", Picture.of(recipe.image), size, resize="stretch")
    elif recipe.strength != Recipe.strength:
        sentences.append(f"strength {recipe.strength:g} has no effect without an image")
    sentences += _mask("mask", recipe.mask, "the image stays as it is")
    sentences += _mask("guidance's map", Guidance.of(recipe.guidance).map, "guidance has no effect")
    for region in recipe.regions:
        sentences += _mask("Region's mask", region.mask, "the region has no effect") if region.on else []
    return (*sentences, *_loras(model, recipe))


def _times(model: Model, recipe: Recipe) -> list[float]:
    """The noise times of the run's evaluations."""
    strength = 1.0 if recipe.image is None else recipe.strength
    return model.times(recipe.sampler, recipe.spacing, recipe.steps, strength=strength)


def _cut(texts: Sequence[Text]) -> list[str]:
    names = ("prompt", "negative", *["region's prompt"] * (len(texts) - 2))
    return [
        f"the {name} was too long for the text encoder; it did not see: {text.cut!r}"
        for name, text in zip(names, texts, strict=True)
        if text.cut
    ]


def _syntax(recipe: Recipe) -> list[str]:
    """Notes on syntax of other programs in the prompts, which is plain text here."""
    prompts = [("prompt", recipe.prompt), ("negative prompt", recipe.negative)]
    prompts += [("region's prompt", region.prompt) for region in recipe.regions if region.on]
    return [f"the {name}: {note}" for name, prompt in prompts for note in prompt_notes(prompt)]


def _guidance(recipe: Recipe) -> list[str]:
    guidance = Guidance.of(recipe.guidance)
    weight = guidance.weight.highest if isinstance(guidance.weight, Schedule) else guidance.weight
    if weight > 1:
        return []
    sentences = [f"guidance {weight:g} is off, as it is up to 1"] if 0 < weight < 1 else []
    if recipe.negative:
        sentences.append(f"guidance {weight:g} is off, so the negative prompt has no effect")
    if guidance.apg or guidance.zero or guidance.map is not None:
        sentences.append(f"guidance {weight:g} is off, so apg, zero and map have no effect")
    return sentences


def _windows(recipe: Recipe, times: Sequence[float]) -> list[str]:
    """Notes on weights that act in none of the run's steps."""
    guidance = Guidance.of(recipe.guidance)
    steered: list[Control | Style] = [*recipe.controls, *recipe.styles]
    parts = [*guidance.perturb, *(part for part in steered if part.on)]
    weights = [("guidance", guidance.weight), *((type(part).__name__, part.weight) for part in parts)]
    sentences = [
        f"{name} acts in 0 of {len(times)} steps: its window is narrower than a step"
        for name, weight in weights
        if isinstance(weight, Schedule) and not weight.steps(len(times), times)
    ]
    if guidance.zero is not None and guidance.zero.steps >= len(times):
        sentences.append(f"CFGZero holds all {len(times)} steps still, so the model is never asked")
    return sentences


def _acts(weight: float | Schedule, times: Sequence[float]) -> bool:
    """Whether a weight is more than 0 in any step."""
    if not isinstance(weight, Schedule):
        return weight > 0
    return any(weight.at(index, len(times), times) > 0 for index in weight.steps(len(times), times))


def _part(part: Control | Style, size: tuple[int, int]) -> list[str]:
    name = type(part).__name__
    sentences = _mask(f"{name}'s mask", part.mask, f"{name} has no effect")
    if isinstance(part, Style):
        negative = [] if part.negative is None else [Picture.of(part.negative)]
        for picture in (*part.pictures, *negative):
            sentences += _remarks(name, picture)
    elif isinstance(part.picture, Picture):
        sentences += _picture(name, part.picture, size, part.resize)
        sentences += [f"{name}: the picture {note}" for note in map_notes(part.kind, part.picture)]
    return sentences


def _picture(name: str, picture: Picture, size: tuple[int, int], resize: str) -> list[str]:
    width, height = picture.size
    sentences = _remarks(name, picture)
    if abs(width * size[1] - height * size[0]) > max(size):
        how = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}[resize]
        sentences.append(f"{name}: the picture of {width}×{height} was {how} to {size[0]}×{size[1]}")
    if size[0] >= 4 * width:
        sentences.append(f"{name}: the picture of {width}×{height} was enlarged to {size[0]}×{size[1]}")
    return sentences


def _mask(name: str, picture: PictureLike | None, so: str) -> list[str]:
    if picture is None:
        return []
    mask = Picture.of(picture)
    return [*_remarks(name, mask), *([] if mask.pixels.any() else [f"{name} is black all over, so {so}"])]


def _loras(model: Model, recipe: Recipe) -> list[str]:
    """LoRAs that are listed more than once, or that the model does not have; with a weight those are refused."""
    loras = [lora for lora in recipe.loras if lora.on]
    sentences = []
    for name in dict.fromkeys(lora.name for lora in loras):
        weights = [lora.weight for lora in loras if lora.name == name]
        if len(weights) > 1:
            total = f"{sum(weights):g}"
            sentences.append(f"LoRA {name!r} is listed {len(weights)} times, which amounts to a weight of {total}")
        if name not in model.loras:
            sentences.append(f"the model has no LoRA {name!r}; at weight 0 it is not needed")
    return sentences


def _remarks(name: str, picture: Picture) -> list[str]:
    """Notes on changes to a picture when it was read."""
    return [f"{name}: the picture {remark}" for remark in picture.remarks]
