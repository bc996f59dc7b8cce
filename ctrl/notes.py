"""Warnings attached to a shot: everything that was cut, ignored, resized or without effect, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctrl.atelier.language import is_atelier, unknown_note
from ctrl.images import Picture, map_notes
from ctrl.prompts import prompt_notes, words_read
from ctrl.recipe import (
    Blend,
    Control,
    Direction,
    Guidance,
    MaskLike,
    Recipe,
    Region,
    Schedule,
    Style,
    Words,
    highest,
    prompts_of,
)
from ctrl.recipe.loras import without_tags

if TYPE_CHECKING:
    from ctrl.model import Model, PromptEmbeds


def notes(
    model: Model,
    recipe: Recipe,
    texts: Sequence[tuple[str, PromptEmbeds]],
    size: tuple[int, int],
    times: Sequence[float],
) -> tuple[str, ...]:
    """The notes on a run of this recipe at these noise `times`; `texts` are its encoded prompts (`Conditioning.read`).

    Parts that are switched off have no notes.
    """
    controls = [control for control in recipe.controls if control.on]
    styles = [style for style in recipe.styles if style.on]
    guiding = _distilled if model.denoiser.reads_guidance else _guidance
    sentences = [
        *_cut(texts),
        *_syntax(recipe, model.text.embeddings),
        *_atelier(model, recipe, size),
        *_nag(recipe),
        *guiding(recipe),
        *_windows(recipe, times),
    ]
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
    return (*sentences, *_late(recipe, len(times)), *_beside(recipe), *_loras(model, recipe))


def _cut(texts: Sequence[tuple[str, PromptEmbeds]]) -> list[str]:
    return [
        f"the {name} was too long for the text encoder; it did not see: {text.cut!r}"
        for name, text in texts
        if text.cut
    ]


def _syntax(recipe: Recipe, embeddings: Sequence[str]) -> list[str]:
    """Notes on syntax of other programs in the prompts: how it is read, or that it is plain text."""
    pairs = [(name, note) for name, prompt in _prompts(recipe) for note in prompt_notes(prompt, embeddings)]
    given = [("prompt", recipe.prompt), ("negative prompt", recipe.negative)]
    for (name, prompt), read in zip(given, recipe.prompts_read, strict=True):
        if isinstance(read, Blend) and isinstance(prompt, str):
            texts = ", ".join(f"{text!r:.60}" for text in prompts_of(read))
            pairs.append((name, f"it changes during the run, between {texts}"))
    return list(dict.fromkeys(f"the {name}: {note}" for name, note in pairs))


def _prompts(recipe: Recipe) -> list[tuple[str, str]]:
    """Every prompt, with the name it has in a note."""
    prompts = list(zip(("prompt", "negative prompt"), recipe.prompts_read, strict=True))
    prompts += [("region's prompt", region.prompt) for region in recipe.regions if region.on]
    pairs = [(name, text) for name, prompt in prompts for text in prompts_of(prompt)]
    for part in (part for part in recipe.directions if part.on):
        pairs += [("direction's source", part.source), ("direction's target", part.target)]
    edit = recipe.edit
    return pairs if edit is None or not edit.acts else [*pairs, ("edit's source", edit.source)]


def _atelier(model: Model, recipe: Recipe, size: tuple[int, int]) -> list[str]:
    """Notes on words and sizes that the atelier was not trained with."""
    tokenizer = model.parts.text_encoders[0].tokenizer
    if not is_atelier(tokenizer.get_vocab()):
        return []
    added, words = tokenizer.get_added_vocab(), model.text.embeddings
    pairs = [(name, unknown_note(words_read(prompt, words), added)) for name, prompt in _prompts(recipe)]
    sentences = [f"the {name}: {note}" for name, note in pairs if note is not None]
    if size != model.size:
        own, asked = ("{}×{}".format(*pair) for pair in (model.size, size))
        sentences.append(f"the atelier was trained at {own}; at {asked} it draws worse, and may repeat or cut things")
    return sentences


def _nag(recipe: Recipe) -> list[str]:
    nag = Guidance.of(recipe.guidance).nag
    return ["NAG has no effect at alpha 0"] if nag is not None and not nag.alpha else []


def _nag_acts(recipe: Recipe) -> bool:
    """Whether the negative prompt acts by NAG, which needs no guidance."""
    return Guidance.of(recipe.canonical.guidance).nag is not None


def _guidance(recipe: Recipe) -> list[str]:
    guidance = Guidance.of(recipe.guidance)
    weight = highest(guidance.weight)
    if weight > 1:
        return []
    sentences = [f"guidance {weight:g} is off, as it is up to 1"] if 0 < weight < 1 else []
    if recipe.negative and not _nag_acts(recipe):
        sentences.append(f"guidance {weight:g} is off, so the negative prompt has no effect")
    if guidance.apg or guidance.zero or guidance.map is not None:
        sentences.append(f"guidance {weight:g} is off, so apg, zero and map have no effect")
    return sentences


def _distilled(recipe: Recipe) -> list[str]:
    """Notes on what has no effect in a model that reads its guidance as an input."""
    guidance = Guidance.of(recipe.guidance)
    sentences = []
    if recipe.sampler != "lcm":
        sentences.append(f"this model was distilled for sampler 'lcm', and runs with {recipe.sampler!r}")
    if (weight := highest(guidance.weight)) < 1:
        sentences.append(f"guidance {weight:g} is taken for 1, the least that this model reads")
    if recipe.negative and not _nag_acts(recipe):
        sentences.append("this model reads its guidance, so the negative prompt has no effect")
    if guidance.apg or guidance.zero or guidance.map is not None:
        sentences.append("this model reads its guidance, so apg, zero and map have no effect")
    return sentences


def _windows(recipe: Recipe, times: Sequence[float]) -> list[str]:
    """Notes on weights that act in none of the run's steps."""
    guidance = Guidance.of(recipe.guidance)
    steered: list[Control | Style | Direction] = [*recipe.controls, *recipe.styles, *recipe.directions]
    perturb = guidance.perturb if guidance.nag is None else (*guidance.perturb, guidance.nag)
    parts = [*perturb, *(part for part in steered if part.on)]
    weights = [("guidance", guidance.weight), *((type(part).__name__, part.weight) for part in parts)]
    if recipe.edit is not None and recipe.edit.acts:
        weights += [(f"edit's {name}", weight) for name, weight in recipe.edit.weights.items()]
    weights += [("aligned", recipe.aligned.weight)] if recipe.aligned is not None and recipe.aligned.acts else []
    sentences = [
        f"{name} acts in 0 of {len(times)} steps: its window is narrower than a step"
        for name, weight in weights
        if isinstance(weight, Schedule) and not weight.steps(len(times), times)
    ]
    if guidance.zero is not None and guidance.zero.steps >= len(times):
        sentences.append(f"CFGZero holds all {len(times)} steps still, so the model is never asked")
    return sentences


def _beside(recipe: Recipe) -> list[str]:
    """Notes on the source of an edit and on the reference of an aligned style."""
    edit, aligned, sentences = recipe.edit, recipe.aligned, list[str]()
    if edit is not None and edit.on and not edit.acts:
        sentences.append("the edit has no effect: cross and self_attention are 0, and there is no blend or mask")
    if edit is not None and edit.acts:
        if edit.source == recipe.prompt:
            sentences.append("the edit's source is the prompt itself, so there is nothing to edit")
        sentences += _mask("the edit's mask", edit.mask, "the picture is the source's")
    if aligned is not None and aligned.acts:
        settings = [(name, getattr(aligned.reference, name), getattr(recipe, name)) for name in ("sampler", "steps")]
        sentences += [
            f"aligned's reference runs with the recipe's {name}, {own!r}, and not with its own, {its!r}"
            for name, its, own in settings
            if its != own
        ]
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


def _mask(name: str, given: MaskLike | None, so: str) -> list[str]:
    if given is None or isinstance(given, Words):
        return []
    mask = Picture.of(given)
    return [*_remarks(name, mask), *([] if mask.pixels.any() else [f"{name} is black all over, so {so}"])]


def _late(recipe: Recipe, count: int) -> list[str]:
    """Masks of words that start after the last of `count` evaluations."""
    parts: list[Region | Control | Style] = [*recipe.regions, *recipe.controls, *recipe.styles]
    masks = [*(part.mask for part in parts if part.on), Guidance.of(recipe.guidance).map]
    masks += [] if recipe.edit is None or not recipe.edit.on else [recipe.edit.mask]
    words = [mask for mask in masks if isinstance(mask, Words) and not mask.at(count - 1, count).acts]
    return [f"the mask {one} never acts: its start, {one.start:g}, is after the last of {count} steps" for one in words]


def _loras(model: Model, recipe: Recipe) -> list[str]:
    """LoRAs that are listed more than once, or that the model does not have; with a weight those are refused."""
    sentences = []
    for lora in without_tags(recipe.prompt)[1]:
        text = "" if lora.text is None else f", text={lora.text:g}"
        argument = f"loras=[ctrl.Lora({lora.name!r}, {lora.weight:g}{text})]"
        lacks = (
            f"has no effect: the model has no LoRA {lora.name!r}; load one by ctrl.load(..., lora=...) and give it as"
        )
        sentences.append(f"the prompt: {lora.tag!r} {'is read as' if lora.name in model.loras else lacks} {argument}")
    loras = [lora for lora in recipe.loras if lora.on]
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
