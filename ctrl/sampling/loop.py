"""The loop: a generator over diffusers' schedulers in which every number is read anew at every step.

On the same weights and seed it is bit-equal in float32 to diffusers' pipelines wherever they do the same thing: rows
are (uncond, cond), residuals are scaled, then summed, guidance is u + w · (c − u).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ctrl.conditioning import condition, length, shape
from ctrl.guidance import State, guide
from ctrl.recipe import Recipe
from ctrl.recipe.checks import whole
from ctrl.sampling.run import Run
from ctrl.sampling.shot import Shot, Step

if TYPE_CHECKING:
    from ctrl.model import Model

MAX_BATCH = 1024


def steps(model: Model, recipe: Recipe) -> Iterator[Step]:
    """Run `recipe` step by step. Stopping is `break`: between steps the model is as it was before.

    What the model cannot do raises a ValueError here, before the first step; latents that stop being finite
    raise a FloatingPointError.
    """
    _check(model, recipe)
    return _walk(_prepared(model, [recipe]))


def sample(model: Model, recipe: Recipe, on_step: Callable[[Step], None] | None = None) -> Shot:
    """Run `recipe` to its picture; `on_step` is called after every step, and its exceptions end the run."""
    _check(model, recipe)
    _check_callback(on_step)
    return _drain(model, [recipe], on_step)[0]


def sample_many(model: Model, recipes: Sequence[Recipe], *, batch: int = 16) -> list[Shot]:
    """The shots of many recipes, in their order, up to `batch` at once.

    Recipes that differ in nothing but prompts, seeds and pixels run as one batch, each from its own seed, where their
    texts need as many chunks. Pictures agree with single runs up to the rounding of batched sums.
    """
    if not isinstance(recipes, Sequence):
        raise TypeError(f"recipes must be a list of recipes, got {type(recipes).__name__}; write [recipe].")
    for at, recipe in enumerate(recipes):
        _check(model, recipe, f"recipes[{at}]")
    batch = whole("batch", batch, 1, MAX_BATCH)
    groups: dict[object, list[int]] = {}
    for at, recipe in enumerate(recipes):
        groups.setdefault((shape(recipe), length(model, recipe)), []).append(at)
    shots: dict[int, Shot] = {}
    for members in groups.values():
        for start in range(0, len(members), batch):
            part = members[start : start + batch]
            shots |= zip(part, _drain(model, [recipes[at] for at in part], None), strict=True)
    return [shots[at] for at in range(len(recipes))]


def _check(model: object, recipe: object, name: str = "recipe") -> None:
    if not hasattr(model, "under"):
        raise TypeError(f"model must be a Model, got {type(model).__name__}; ctrl.load() makes one.")
    if not isinstance(recipe, Recipe):
        raise TypeError(f"{name} must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")


def _check_callback(on_step: object) -> None:
    if on_step is None:
        return
    if not callable(on_step):
        raise TypeError(f"on_step must be a function of a Step, got {on_step!r:.60}.")
    try:
        takes = inspect.signature(on_step)
    except ValueError:  # some built-in functions do not tell
        return
    try:
        takes.bind("a step")
    except TypeError:
        raise TypeError(f"on_step must be a function of one argument, a Step, and it takes {takes}.") from None


def _prepared(model: Model, recipes: Sequence[Recipe]) -> Run:
    laid = model.under([(lora.name, lora.weight) for lora in recipes[0].loras])
    return Run.of(laid, recipes, condition(laid, recipes))


def _drain(model: Model, recipes: Sequence[Recipe], on_step: Callable[[Step], None] | None) -> list[Shot]:
    run = _prepared(model, recipes)
    for step in _walk(run):
        if on_step is not None:
            on_step(step)
    images = model.decode(step.latents)
    return [Shot(*parts) for parts in zip(images, recipes, run.given.notes, strict=True)]


@torch.no_grad()
def _walk(run: Run) -> Iterator[Step]:
    latents, state = run.begin(), State()
    for index in range(run.count):
        now = run.at(index)
        sample = run.solver.scale(now.layout.stack(latents, latents), index)  # (R, C, h, w)
        prediction = now.predict(sample)
        prediction, state = guide(now.layout.split(prediction), now.how, now.space(sample), state)
        latents, denoised = run.solver.step(prediction, index, latents)
        latents = run.keep(latents, index)
        _check_finite(latents, index, run.count)
        yield Step(index, run.count, latents.clone(), denoised.clone(), run.model)


def _check_finite(latents: Tensor, index: int, count: int) -> None:
    if not torch.isfinite(latents).all():
        raise FloatingPointError(f"the latents stopped being finite at step {index + 1} of {count}.")
