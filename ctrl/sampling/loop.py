"""The loop: a generator over diffusers' schedulers in which every number is read anew at every step.

On the same weights and seed it is bit-equal in float32 to diffusers' pipelines, plain, with ControlNets and
with an IP-Adapter: rows are (uncond, cond), residuals are scaled, then summed, and guidance is u + w · (c −
u).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention import Reference
from ctrl.conditioning import Conditioning, ControlInput, condition, shape
from ctrl.guidance import cfg, rows
from ctrl.images import png_with_text, save
from ctrl.recipe import KEYWORD, Recipe, weight_at

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.model import Model, Residuals


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a run: `latents` after it and the clean ones it believes in, both (N, C, h, w), to keep.

    `index` counts from 0 to `count` - 1, `progress` goes up to 1.
    """

    index: int
    count: int
    latents: Tensor
    denoised: Tensor
    model: Model = field(repr=False)

    @property
    def progress(self) -> float:
        """The part of the run that is done, in (0, 1]."""
        return (self.index + 1) / self.count

    def preview(self) -> Image:
        """What the picture would be if the run stopped believing here: one decoding."""
        return self.model.decode(self.denoised[:1])[0]


@dataclass(frozen=True)
class Shot:
    """What came of a recipe: the picture, the recipe, and what its owner should know."""

    image: Image
    recipe: Recipe
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write a PNG that carries the recipe, whole or not at all; `Recipe.load` reads it back."""
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"path must end in .png, since the recipe travels in a PNG; got {str(path)!r}.")
        save(path, png_with_text(self.image, KEYWORD, self.recipe.to_json()))

    def _repr_png_(self) -> bytes:
        return png_with_text(self.image, KEYWORD, self.recipe.to_json())


def steps(model: Model, recipe: Recipe) -> Iterator[Step]:
    """Run `recipe` step by step. Stopping is `break`: between steps the model is as it was before.

    What the model cannot do raises a ValueError here, before the first step; latents that stop being finite
    raise a FloatingPointError.
    """
    return _walk(model, [recipe], condition(model, [recipe]))


def sample(model: Model, recipe: Recipe, on_step: Callable[[Step], None] | None = None) -> Shot:
    """Run `recipe` to its picture; `on_step` is called after every step, and its exceptions end the run."""
    return _drain(model, [recipe], on_step)[0]


def sample_many(model: Model, recipes: Sequence[Recipe], *, batch: int = 16) -> list[Shot]:
    """The shots of many recipes, in their order, up to `batch` at once.

    Recipes that share steps, sampler, guidance, size and the kinds and weights of their controls and styles
    run as one batch, each from its own seed. Pictures agree with single runs up to the rounding of batched
    sums.
    """
    groups: dict[object, list[int]] = {}
    for at, recipe in enumerate(recipes):
        groups.setdefault(shape(recipe), []).append(at)
    shots: dict[int, Shot] = {}
    for members in groups.values():
        for start in range(0, len(members), batch):
            part = members[start : start + batch]
            shots |= zip(part, _drain(model, [recipes[at] for at in part], None), strict=True)
    return [shots[at] for at in range(len(recipes))]


def _drain(model: Model, recipes: Sequence[Recipe], on_step: Callable[[Step], None] | None) -> list[Shot]:
    conditioning = condition(model, recipes)
    for step in _walk(model, recipes, conditioning):
        if on_step is not None:
            on_step(step)
    images = model.decode(step.latents)
    return [Shot(*parts) for parts in zip(images, recipes, conditioning.notes, strict=True)]


@torch.no_grad()
def _walk(model: Model, recipes: Sequence[Recipe], given: Conditioning) -> Iterator[Step]:
    recipe = recipes[0]  # all share its shape
    generators = [torch.Generator().manual_seed(r.seed) for r in recipes]
    solver = model.solver(recipe.sampler, recipe.steps, generators)
    count = len(solver.timesteps)
    latents = model.noise(generators, given.width, given.height) * solver.init_sigma  # (N, C, h, w)
    for index, t in enumerate(solver.timesteps):
        guidance = weight_at(recipe.guidance, index, count)
        branches = rows(guidance)
        text = torch.cat([given.uncond, given.cond]) if branches == 2 else given.cond  # (R, T, D)
        sample = solver.scale(torch.cat([latents] * branches), index)  # (R, C, h, w)
        prediction = model.predict(
            sample,
            t,
            text,
            residuals=_residuals(model, given, sample, t, text, index, count),
            edits=_references(model, given, branches, index, count),
            lora=recipe.lora,
        )
        if branches == 2:
            uncond, cond = prediction.chunk(2)
            prediction = cfg(cond, uncond, guidance)
        latents, denoised = solver.step(prediction, index, latents)
        if not torch.isfinite(latents).all():
            raise FloatingPointError(f"the latents stopped being finite at step {index + 1} of {count}.")
        yield Step(index, count, latents.clone(), denoised.clone(), model)


def _residuals(
    model: Model, given: Conditioning, sample: Tensor, t: Tensor, text: Tensor, index: int, count: int
) -> Residuals | None:
    """Σ weight · mask · residual over the controls that act at this step; the others are not even asked."""
    total: Residuals | None = None
    for control in given.controls:
        weight = weight_at(control.weight, index, count)
        if weight == 0:
            continue
        branches = sample.shape[0] // control.hint.shape[0]
        found = model.residuals(control.kind, sample, t, text, torch.cat([control.hint] * branches))
        down = tuple(_weighed(part, weight, control, branches) for part in found.down)
        mid = _weighed(found.mid, weight, control, branches)
        if total is not None:
            down = tuple(one + other for one, other in zip(total.down, down, strict=True))
            mid = total.mid + mid
        total = type(found)(down, mid)
    return total


def _weighed(residual: Tensor, weight: float, control: ControlInput, branches: int) -> Tensor:
    residual = residual * weight
    if control.mask is None:
        return residual
    mask = F.interpolate(control.mask, size=residual.shape[-2:], mode="area")
    return residual * torch.cat([mask] * branches)


def _references(model: Model, given: Conditioning, branches: int, index: int, count: int) -> list[Reference]:
    """One term of attention for each style that acts at this step; uncond rows see no picture."""
    found = []
    for style in given.styles:
        weight = weight_at(style.weight, index, count)
        if weight == 0:
            continue
        embeds = style.embeds if branches == 1 else torch.cat([torch.zeros_like(style.embeds), style.embeds])
        mask = None if style.mask is None else torch.cat([style.mask] * branches)
        found.append(Reference(model.style.tokens(embeds), model.style.projections, weight, mask))
    return found
