"""Recipe and model to tensors: everything of a run that is the same at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ctrl.images import Picture
from ctrl.recipe import Control, Recipe, Schedule, Style

if TYPE_CHECKING:
    from ctrl.model import Model


@dataclass(frozen=True, eq=False)
class ControlInput:
    """One control of every picture in the batch: `hint` (N, 3, H, W) and `mask` (N, 1, H, W), in [0, 1]."""

    kind: str
    weight: float | Schedule
    hint: Tensor
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class StyleInput:
    """One style of every picture in the batch: `embeds` (N, E) and `mask` (N, 1, H, W) in [0, 1]."""

    weight: float | Schedule
    embeds: Tensor
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What steers N pictures: `cond` and `uncond` are (N, T, D), `notes` are for each recipe's owner."""

    width: int
    height: int
    cond: Tensor
    uncond: Tensor
    controls: tuple[ControlInput, ...]
    styles: tuple[StyleInput, ...]
    notes: tuple[tuple[str, ...], ...]


def shape(recipe: Recipe) -> tuple[Any, ...]:
    """What recipes must share to run in one batch."""
    controls = tuple((c.kind, c.weight, c.mask is None) for c in ordered(recipe.controls))
    styles = tuple((s.weight, s.mask is None) for s in ordered(recipe.styles))
    how = (recipe.steps, recipe.sampler, recipe.guidance, recipe.lora, recipe.width, recipe.height)
    return (*how, controls, styles)


def ordered(parts: Sequence[Any]) -> list[Any]:
    """Controls or styles in an order of their own, since a sum of floats depends on its order."""
    return sorted(parts, key=lambda part: part.rank)


@torch.no_grad()
def condition(model: Model, recipes: Sequence[Recipe]) -> Conditioning:
    """The tensors for recipes of one `shape`; a ValueError says what the model cannot do."""
    first = recipes[0]
    width, height = _size(model, first)
    if first.lora is not None:
        _ = model.unet_with_lora  # to refuse before the run begins
    texts = {prompt: model.encode_text(prompt) for r in recipes for prompt in (r.prompt, r.negative)}
    controls = zip(*(ordered(r.controls) for r in recipes), strict=True)
    styles = zip(*(ordered(r.styles) for r in recipes), strict=True)
    return Conditioning(
        width,
        height,
        torch.cat([texts[r.prompt].states for r in recipes]),
        torch.cat([texts[r.negative].states for r in recipes]),
        tuple(_control(model, parts, width, height) for parts in controls),
        tuple(_style(model, parts, width, height) for parts in styles),
        tuple(_notes(r, texts[r.prompt].cut, texts[r.negative].cut, (width, height)) for r in recipes),
    )


def _size(model: Model, recipe: Recipe) -> tuple[int, int]:
    if recipe.width is None or recipe.height is None:
        return model.size
    for name, size in (("width", recipe.width), ("height", recipe.height)):
        if size % model.factor:
            near = max(1, round(size / model.factor)) * model.factor
            raise ValueError(
                f"{name} must be a multiple of {model.factor} for this model, got {size}; try {near}."
            )
    return recipe.width, recipe.height


def _control(model: Model, parts: Sequence[Control], width: int, height: int) -> ControlInput:
    kind = parts[0].kind
    model.controlnet(kind)  # to refuse before the run begins
    hints = np.stack([part.hint(width, height) for part in parts])  # (N, H, W, 3)
    hint = torch.from_numpy(hints.transpose(0, 3, 1, 2).copy()).to(model.device, model.dtype)
    return ControlInput(
        kind, parts[0].weight, hint, _mask(model, [part.mask for part in parts], width, height)
    )


def _style(model: Model, parts: Sequence[Style], width: int, height: int) -> StyleInput:
    _ = model.style  # to refuse before the run begins
    embeds = torch.cat([model.encode_style(part.picture.image) for part in parts])
    return StyleInput(parts[0].weight, embeds, _mask(model, [part.mask for part in parts], width, height))


def _mask(model: Model, masks: Sequence[Picture | None], width: int, height: int) -> Tensor | None:
    fitted = [mask.fit(width, height) for mask in masks if mask is not None]
    if not fitted:
        return None
    return torch.from_numpy(np.stack(fitted)[:, None]).to(model.device, model.dtype)


def _notes(recipe: Recipe, cut: str, negative_cut: str, size: tuple[int, int]) -> tuple[str, ...]:
    notes = []
    for name, words in (("prompt", cut), ("negative", negative_cut)):
        if words:
            notes.append(f"the {name} was too long for the text encoder; it did not see: {words!r}")
    off = not isinstance(recipe.guidance, Schedule) and recipe.guidance <= 1
    if off and recipe.negative:
        notes.append(f"guidance {recipe.guidance:g} is off, so the negative prompt has no effect")
    parts: list[Control | Style] = [*recipe.controls, *recipe.styles]
    for part in parts:
        name = type(part).__name__
        if isinstance(part.weight, Schedule):
            active = len(part.weight.steps(recipe.steps))
            if active == 0:
                notes.append(f"{name} acts in 0 of {recipe.steps} steps: its window is narrower than a step")
        if isinstance(part.picture, Picture):
            notes += _picture_notes(name, part, size)
    return tuple(notes)


def _picture_notes(name: str, part: Control | Style, size: tuple[int, int]) -> list[str]:
    width, height = part.picture.size
    notes = []
    if part.picture.came_as != (width, height):
        came = part.picture.came_as
        notes.append(f"{name}: the picture was reduced from {came[0]}×{came[1]} to {width}×{height}")
    if isinstance(part, Control):
        if abs(width * size[1] - height * size[0]) > max(size):
            notes.append(f"{name}: the picture of {width}×{height} was stretched to {size[0]}×{size[1]}")
        if size[0] >= 4 * width:
            notes.append(f"{name}: the picture of {width}×{height} was enlarged to {size[0]}×{size[1]}")
    return notes
