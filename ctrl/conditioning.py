"""Recipe and model to tensors: everything of a run that is the same at every step.

N is the number of pictures made at once, from recipes of one `shape`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.images import Picture
from ctrl.notes import notes
from ctrl.recipe import MAX_SIDE, Control, Guidance, Recipe, Region, Schedule, Style

if TYPE_CHECKING:
    from ctrl.model import Model, StyleReference, Text, Words


@dataclass(frozen=True, eq=False)
class ControlInput:
    """One control of every picture: `hint` (N, 3, H, W) and `mask` (N, 1, H, W) in [0, 1]; `how` is the recipe's."""

    how: Control
    hint: Tensor
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class StyleInput:
    """One style of every picture, made for this run; `weight` is the recipe's."""

    weight: float | Schedule
    reference: StyleReference


@dataclass(frozen=True, eq=False)
class RegionInput:
    """One region of every picture: what its prompts say, and where, (N, 1, H, W) in [0, 1]."""

    words: Words
    mask: Tensor


@dataclass(frozen=True, eq=False)
class StartInput:
    """What N pictures start from: `pixels` (N, 3, H, W) in [-1, 1], and where they may change, (N, 1, h, w)."""

    pixels: Tensor
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What steers N pictures; `notes` are for each recipe's owner. `map` (N, 1, h, w) is where guidance acts."""

    width: int
    height: int
    cond: Words
    uncond: Words
    regions: tuple[RegionInput, ...]
    controls: tuple[ControlInput, ...]
    styles: tuple[StyleInput, ...]
    start: StartInput | None
    guidance: Guidance
    map: Tensor | None
    notes: tuple[tuple[str, ...], ...]


def shape(recipe: Recipe) -> tuple[Any, ...]:
    """What recipes must share to run in one batch: everything but prompts, seeds and pixels."""
    guidance = Guidance.of(recipe.guidance)
    plain = (guidance.weight, guidance.rescale, guidance.rescale_in, guidance.apg, guidance.zero, guidance.perturb)
    how = (recipe.steps, recipe.sampler, recipe.spacing, recipe.loras, recipe.width, recipe.height)
    start = (recipe.image is None, recipe.mask is None, recipe.image is None or recipe.strength)
    controls = tuple((c.kind, c.weight, c.mode, c.uncond, c.blocks, c.mask is None) for c in ordered(recipe.controls))
    styles = tuple(
        (s.weight, s.blocks, s.combine, s.adapter, len(s.pictures), s.mask is None, s.negative is None)
        for s in ordered(recipe.styles)
    )
    return (how, start, (*plain, guidance.map is None), len(_acting(recipe)), controls, styles)


def length(model: Model, recipe: Recipe) -> int:
    """How many chunks its longest text has, and so all of them: what recipes must share too to run in one batch."""
    return max(model.chunks(prompt) for prompt in _read(recipe))


def ordered(parts: Sequence[Any]) -> list[Any]:
    """Controls or styles in an order of their own, since a sum of floats depends on its order."""
    return sorted(parts, key=lambda part: part.rank)


@torch.no_grad()
def condition(model: Model, recipes: Sequence[Recipe]) -> Conditioning:
    """The tensors for recipes of one `shape`; a ValueError says what the model cannot do."""
    size = width, height = _size(model, recipes[0])
    controls = [_control(model, parts, size) for parts in _columns([ordered(r.controls) for r in recipes])]
    embedded = cache(model.embedded)  # what several styles show goes through the image encoder once
    styles = [_style(model, parts, size, embedded) for parts in _columns([ordered(r.styles) for r in recipes])]
    prompts, negatives, regions = _texts(model, recipes)
    latent = (height // model.factor, width // model.factor)
    start = _start(model, recipes, size, latent)
    guidance = Guidance.of(recipes[0].guidance)
    maps = _masks(model, [Guidance.of(r.guidance).map for r in recipes], size)
    said = zip(recipes, prompts, negatives, regions, strict=True)
    return Conditioning(
        width,
        height,
        model.words(prompts),
        model.words(negatives),
        tuple(
            _region(model, parts, size)
            for parts in _columns(
                [list(zip(_acting(recipe), own, strict=True)) for recipe, own in zip(recipes, regions, strict=True)]
            )
        ),
        tuple(controls),
        tuple(styles),
        start,
        guidance,
        None if maps is None else F.interpolate(maps, size=latent, mode="area"),
        tuple(notes(model, recipe, (prompt, negative, *own), size) for recipe, prompt, negative, own in said),
    )


def _columns(rows: Sequence[list[Any]]) -> list[tuple[Any, ...]]:
    """The first part of every recipe, the second of every recipe, …"""
    return list(zip(*rows, strict=True))


def _size(model: Model, recipe: Recipe) -> tuple[int, int]:
    if recipe.width is None or recipe.height is None:
        if max(model.size) > MAX_SIDE:
            own = f"{model.size[0]}×{model.size[1]}"
            raise ValueError(f"the model's own size is {own}, and at most {MAX_SIDE} is drawn; give width and height.")
        return model.size
    for name, size in (("width", recipe.width), ("height", recipe.height)):
        if size % model.factor:
            near = max(1, round(size / model.factor)) * model.factor
            raise ValueError(f"{name} must be a multiple of {model.factor} for this model, got {size}; try {near}.")
    return recipe.width, recipe.height


def _texts(model: Model, recipes: Sequence[Recipe]) -> tuple[list[Text], list[Text], list[list[Text]]]:
    """Prompts, negative prompts and regions' prompts, each encoded once, all as long as the longest."""
    wanted = [_read(recipe) for recipe in recipes]
    found = {prompt: model.encode_text(prompt) for prompt in dict.fromkeys(chain(*wanted))}
    level = dict(zip(found, model.levelled(list(found.values())), strict=True))
    negatives = [model.negative(negative, level[negative]) for _, negative, *_ in wanted]
    regions = [[level[prompt] for prompt in prompts] for _, _, *prompts in wanted]
    return [level[prompt] for prompt, *_ in wanted], negatives, regions


def _read(recipe: Recipe) -> list[str]:
    """The prompt, the negative prompt and the regions'. Without guidance no negative prompt: it would only lengthen."""
    weight = Guidance.of(recipe.guidance).weight
    guided = (weight.highest if isinstance(weight, Schedule) else weight) > 1
    return [recipe.prompt, recipe.negative if guided else "", *(region.prompt for region in _acting(recipe))]


def _acting(recipe: Recipe) -> list[Region]:
    """The regions that have a weight; the others are not even read, since a long one would lengthen the rest."""
    return [region for region in recipe.regions if region.weight != 0]


def _region(model: Model, parts: Sequence[tuple[Region, Text]], size: tuple[int, int]) -> RegionInput:
    masks = _masks(model, [region.mask for region, _ in parts], size)
    assert masks is not None  # a region has one
    weights = torch.tensor([region.weight for region, _ in parts], device=masks.device, dtype=masks.dtype)
    return RegionInput(model.words([text for _, text in parts]), masks * weights[:, None, None, None])


def _control(model: Model, parts: Sequence[Control], size: tuple[int, int]) -> ControlInput:
    first = parts[0]
    model.check_control(first.kind)  # to refuse before the run begins
    if first.blocks is not None and len(first.blocks) != (wanted := model.residual_count(first.kind)):
        raise ValueError(
            f"blocks must hold {wanted} weights for this model's {first.kind} ControlNet, got {len(first.blocks)}."
        )
    hints = np.stack([part.hint(*size) for part in parts])  # (N, H, W, 3)
    hint = torch.from_numpy(hints.transpose(0, 3, 1, 2).copy()).to(model.device, model.dtype)
    return ControlInput(first, hint, _masks(model, [part.mask for part in parts], size))


def _style(model: Model, parts: Sequence[Style], size: tuple[int, int], embedded: Callable[..., Tensor]) -> StyleInput:
    first = parts[0]
    against = [() if part.negative is None else (part.negative,) for part in parts]
    reference = model.style(
        torch.stack([embedded(part.pictures, first.adapter) for part in parts]),
        torch.stack([embedded(pictures, first.adapter) for pictures in against]),
        blocks=first.blocks,
        combine=first.combine,
        adapter=first.adapter,
        mask=_masks(model, [part.mask for part in parts], size),
    )
    return StyleInput(first.weight, reference)


def _start(
    model: Model, recipes: Sequence[Recipe], size: tuple[int, int], latent: tuple[int, int]
) -> StartInput | None:
    pictures = [recipe.image.fit(*size) for recipe in recipes if recipe.image is not None]
    if not pictures:
        return None
    coloured = [one if one.ndim == 3 else np.repeat(one[..., None], 3, axis=2) for one in pictures]
    # Not copied: a convolution rounds otherwise over colours that lie side by side, as they do in diffusers.
    pixels = torch.from_numpy(np.stack(coloured).transpose(0, 3, 1, 2))
    masks = _masks(model, [recipe.mask for recipe in recipes], size)
    shrunk = None if masks is None else F.interpolate(masks, size=latent).to(model.dtype)  # nearest, as diffusers does
    return StartInput((2.0 * pixels - 1.0).to(model.device, model.dtype), shrunk)


def _masks(model: Model, masks: Sequence[Picture | None], size: tuple[int, int]) -> Tensor | None:
    fitted = [mask.fit(*size) for mask in masks if mask is not None]
    if not fitted:
        return None
    return torch.from_numpy(np.stack(fitted)[:, None]).to(model.device)  # float32, as diffusers keeps its masks
