"""The loop: a generator over diffusers' schedulers that evaluates every schedule at every step.

On the same weights and seed it is bit-equal in float32 to diffusers' pipelines wherever they do the same thing: rows
are (uncond, cond), residuals are scaled, then summed, guidance is u + w · (c − u).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ctrl.attention import Observer
from ctrl.guidance import GuidanceState, guide
from ctrl.images import Picture
from ctrl.maps import Watch
from ctrl.memory import Memory
from ctrl.notes import notes
from ctrl.recipe import Recipe, batch_shape
from ctrl.recipe.checks import integer
from ctrl.rows import Branches
from ctrl.sampling.checkpoint import Checkpoint
from ctrl.sampling.inpainting import with_original
from ctrl.sampling.looking import look
from ctrl.sampling.run import Run
from ctrl.sampling.shot import Shot, Step

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.model import Model

MAX_BATCH = 1024


def steps(
    model: Model,
    recipe: Recipe,
    *,
    after: Step | Checkpoint | None = None,
    memory: Memory | None = None,
    watch: Watch | None = None,
) -> Iterator[Step]:
    """Run `recipe` step by step. Stop by `break`: between steps the model is unchanged.

    - `after` is a step, or its checkpoint, of a run with the same sampler, steps, seed, size and image: the run resumes
      with the step after it, to the same bits. Prompts, controls, styles and guidance may differ.
    - `memory` caches encoded prompts and pictures for other runs; without it nothing outlives the run.
    - `watch` selects the attention to record; `Step.attention` then has what was recorded so far.

    A recipe that the model cannot run raises a ValueError here, before the first step; latents that stop being
    finite raise a FloatingPointError.
    """
    _check(model, recipe)
    return walk(prepare(model, [recipe], memory, watch=Watch.of(watch)), model, _checkpoint(after, recipe))


def sample(
    model: Model,
    recipe: Recipe,
    on_step: Callable[[Step], None] | None = None,
    *,
    after: Step | Checkpoint | None = None,
    memory: Memory | None = None,
    watch: Watch | None = None,
) -> Shot:
    """Run `recipe` to its picture; `on_step` is called after every step, and its exceptions end the run.

    `after` and `memory` are those of `steps`; with `watch`, `Shot.attention` holds the recorded attention.
    """
    _check(model, recipe)
    _check_callback(on_step)
    run = prepare(model, [recipe], memory, watch=Watch.of(watch))
    return _drain(run, model, _checkpoint(after, recipe), on_step)[0]


def sample_many(model: Model, recipes: Sequence[Recipe], *, batch: int = 16) -> list[Shot]:
    """The shots of many recipes, in their order, up to `batch` at once.

    Recipes that differ only in prompts, seeds and pixels run as one batch, each from its own seed, if their prompts
    have the same number of chunks. Pictures agree with single runs up to the rounding of batched sums.
    """
    if not isinstance(recipes, Sequence):
        raise TypeError(f"recipes must be a list of recipes, got {type(recipes).__name__}; write [recipe].")
    for at, recipe in enumerate(recipes):
        _check(model, recipe, f"recipes[{at}]")
    batch = integer("batch", batch, 1, MAX_BATCH)
    groups: dict[object, list[int]] = {}
    for at, recipe in enumerate(recipes):
        groups.setdefault((batch_shape(recipe), _lengths(model, recipe)), []).append(at)
    shots: dict[int, Shot] = {}
    for members in groups.values():
        for start in range(0, len(members), batch):
            part = members[start : start + batch]
            together = [recipes[at] for at in part]
            shots |= zip(part, _drain(prepare(model, together, None), model), strict=True)
    return [shots[at] for at in range(len(recipes))]


def _lengths(model: Model, recipe: Recipe) -> tuple[int, int]:
    """The number of chunks of its longest prompt, without and with the negative prompt."""
    recipe = recipe.canonical
    regions = [region.prompt for region in recipe.regions]
    longest = max(model.text.chunks(prompt) for prompt in (recipe.prompt, *regions))
    return longest, max(longest, model.text.chunks(recipe.negative))


def _check(model: object, recipe: object, name: str = "recipe") -> None:
    from ctrl.model import Model

    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model, got {type(model).__name__}; ctrl.load() makes one.")
    if not isinstance(recipe, Recipe):
        raise TypeError(f"{name} must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")


def _check_callback(on_step: object) -> None:
    if on_step is None:
        return
    if not callable(on_step):
        raise TypeError(f"on_step must be a function of a Step, got {on_step!r:.60}.")
    try:
        signature = inspect.signature(on_step)
    except ValueError:  # some built-in functions have no signature
        return
    try:
        signature.bind("a step")
    except TypeError:
        raise TypeError(f"on_step must be a function of one argument, a Step, and it takes {signature}.") from None


def prepare(
    model: Model,
    recipes: Sequence[Recipe],
    memory: Memory | None,
    observers: Sequence[Observer] = (),
    watch: Watch | None = None,
) -> Run:
    """A run of recipes of one `batch_shape`, ready to begin; a ValueError if the model cannot run them."""
    memory = Memory(limit=None) if memory is None else memory
    memory.begin_run()
    for style in recipes[0].styles:
        if style.on and style.adapter is not None:
            model.ip_adapter(style.adapter)  # a name that the model does not have is refused, at weight 0 too
    adapted = model.with_loras([(lora.name, *lora.weights) for lora in recipes[0].canonical.loras])
    return Run.of(adapted, recipes, memory, observers, watch)


def _checkpoint(after: object, recipe: Recipe) -> Checkpoint | None:
    checkpoint = after.checkpoint if isinstance(after, Step) else after
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"after must be a Step or its checkpoint, got {type(after).__name__}.")
    checkpoint.check(recipe)
    return checkpoint


def _drain(
    run: Run, model: Model, after: Checkpoint | None = None, on_step: Callable[[Step], None] | None = None
) -> list[Shot]:
    latents = None if after is None else after.latents
    for step in walk(run, model, after):
        if on_step is not None:
            on_step(step)
        latents = step.latents
    assert latents is not None  # a run has a step
    return finish(run, model, latents)


@torch.no_grad()
def walk(run: Run, model: Model, after: Checkpoint | None, known: Branches | None = None) -> Iterator[Step]:
    """The steps of a run, from the one after a checkpoint on; `known` are the predictions of the first of them."""
    begun = run.begin()
    first, latents, state = (0, begun.latents, GuidanceState()) if after is None else after.resume(run.solver)
    for index in range(first, run.count):
        moment = run.moments[index]
        sample = run.solver.scale(moment.rows.stack(latents, latents), index)  # (R, C, h, w)
        branches = known if known and index == first else moment.rows.split(moment.predict(sample))
        prediction, state = guide(branches, moment.guidance, moment.guidance_map, moment.space(sample), state)
        if prediction is branches.cond:  # the solver keeps this tensor, and the caller may keep `branches`
            prediction = prediction.clone()
        latents, denoised = run.solver.step(prediction, index, latents)
        latents = run.restore_unmasked(latents, begun, index)
        _check_finite(latents, index, run.count)
        checkpoint = Checkpoint.of(run.recipes[0], index, latents.clone(), run.solver.state(), state)
        yield Step(index, run.count, latents.clone(), denoised.clone(), branches, checkpoint, model, look(run))


def finish(run: Run, model: Model, latents: Tensor) -> list[Shot]:
    """The pictures of the last latents of a run."""
    images = [_restored(image, recipe) for image, recipe in zip(model.decode(latents), run.recipes, strict=True)]
    sentences = [notes(model, recipe, run.given.texts(recipe), run.given.size) for recipe in run.recipes]
    looks = [look(run, index) for index in range(len(images))]
    attention = [None if over is None else over(image) for over, image in zip(looks, images, strict=True)]
    parts = zip(images, run.recipes, sentences, attention, strict=True)
    return [Shot(*own, model.family.key) for own in parts]


def _restored(image: Image, recipe: Recipe) -> Image:
    if recipe.image is None or recipe.mask is None or recipe.unmasked == "latents":
        return image
    return with_original(image, Picture.of(recipe.image), Picture.of(recipe.mask))


def _check_finite(latents: Tensor, index: int, count: int) -> None:
    if not torch.isfinite(latents).all():
        raise FloatingPointError(f"the latents stopped being finite at step {index + 1} of {count}.")
