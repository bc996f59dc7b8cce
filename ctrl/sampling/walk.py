"""A run from its preparation to its pictures: a generator that evaluates every schedule at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ctrl.attention import At, Observer, Record
from ctrl.guidance import GuidanceState, guide
from ctrl.images import Picture
from ctrl.maps import Probe, Watch, WordMaps
from ctrl.memory import Keep, Memory
from ctrl.notes import notes
from ctrl.recipe import Recipe, without_words
from ctrl.recipe.loras import of_model
from ctrl.rows import Branches
from ctrl.sampling.begin import begin, restore_unmasked
from ctrl.sampling.beside import Beside, ReferenceRun, SourceRun, blending_of
from ctrl.sampling.checkpoint import Checkpoint
from ctrl.sampling.inpainting import with_original
from ctrl.sampling.looking import look
from ctrl.sampling.run import Run
from ctrl.sampling.shot import Shot, Step

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.model import Model


def prepare(
    model: Model,
    recipes: Sequence[Recipe],
    memory: Memory | None,
    observers: Sequence[Observer] = (),
    watch: Watch | None = None,
    probes: Sequence[Probe] = (),
) -> Run:
    """A run of recipes of one `batch_shape`, ready to begin; a ValueError if the model cannot run them."""
    memory = Memory(limit=None) if memory is None else memory
    memory.begin_run()
    return _run(model, recipes, memory, observers, watch, probes)


def _run(
    model: Model,
    recipes: Sequence[Recipe],
    memory: Memory,
    observers: Sequence[Observer | At[Observer]],
    watch: Watch | None = None,
    probes: Sequence[Probe] = (),
) -> Run:
    """A run, and the runs beside it."""
    for style in recipes[0].styles:
        if style.on and style.adapter is not None:
            model.ip_adapter(style.adapter)  # a name that the model does not have is refused, at weight 0 too
    adapted = model.with_loras(of_model(recipes[0].canonical.loras, model.loras))
    beside: list[Beside] = []
    own = list(observers)
    if references := ReferenceRun.recipes(recipes):
        record = Record()
        run = _run(model, references, memory, [*observers, *record.observers("self")])
        beside.append(ReferenceRun(run, record))
    if sources := SourceRun.recipes(recipes):
        record, blending = Record(), blending_of(model, recipes, sources)
        seen = [*observers, *record.observers("cross", "self")]
        if blending is not None:
            own.append(blending.observer(0))
            seen.append(blending.observer(1))
        run = _run(model, sources, memory, seen)
        edits = [recipe.canonical.edit for recipe in recipes]
        mask = run.given.guidance_map([without_words(edit).mask for edit in edits if edit is not None])
        beside.append(SourceRun(run, record, blending, mask))
    return Run.of(adapted, recipes, memory, own, watch, probes, beside)


class Predicted(Protocol):
    """A step whose predictions are known."""

    @property
    def branches(self) -> Branches:
        """The model's predictions before guidance."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the step ended."""


@torch.no_grad()
def walk(
    run: Run, model: Model, after: Checkpoint | None, known: Predicted | None = None, keep: Keep | None = None
) -> Iterator[Step]:
    """The steps of a run, from the one after a checkpoint on.

    Of the first of them `known` has the predictions, and `keep` is a memory for runs that begin from the same latents.
    """
    begun = begin(run)
    fresh = 0, begun.latents, GuidanceState(), WordMaps()
    first, latents, state, seen = fresh if after is None else after.resume(run.solver)
    others = [_along(run, number, model, after) for number in range(len(run.beside))]
    for index in range(first, run.count):
        moment = run.moments[index]
        words = moment.words(seen)
        theirs = [_next(other, steps) for other, steps in zip(run.beside, others, strict=True)]
        sample = run.solver.scale(moment.rows.stack(latents, latents), index)  # (R, C, h, w)
        if known is not None and index == first:
            branches, seen = known.branches, known.checkpoint.words
        else:
            kept = keep if index == first else None
            branches = moment.rows.split(moment.predict(sample, words, hole=begun.hole, keep=kept))
            seen = words.after
        prediction, state = guide(branches, moment.guidance, moment.guidance_map(words), moment.space(sample), state)
        if prediction is branches.cond:  # the solver keeps this tensor, and the caller may keep `branches`
            prediction = prediction.clone()
        latents, denoised = run.solver.step(prediction, index, latents)
        for other, step in zip(run.beside, theirs, strict=True):
            latents = other.blended(latents, step.latents, index, words)
        latents = restore_unmasked(run, latents, begun, index)
        _check_finite(latents, index, run.count)
        along = [(step.checkpoint, other.state()) for other, step in zip(run.beside, theirs, strict=True)]
        checkpoint = Checkpoint.of(run.recipes[0], index, latents.clone(), run.solver.state(), state, seen, along)
        yield Step(index, run.count, latents.clone(), denoised.clone(), branches, checkpoint, model, look(run))


def _along(run: Run, number: int, model: Model, after: Checkpoint | None) -> Iterator[Step]:
    """The steps of a run beside another, from the other's next on."""
    other = run.beside[number]
    checkpoint, state = (None, None) if after is None else after.beside[number]
    other.resume(state)
    steps = walk(other.run, model, checkpoint)
    for _ in range(0 if after is not None else other.run.count - run.count):
        next(steps)
    return steps


def _next(beside: Beside, steps: Iterator[Step]) -> Step:
    beside.record.clear()
    return next(steps)


def finish(run: Run, model: Model, latents: Tensor) -> list[Shot]:
    """The pictures of the last latents of a run."""
    images = [_restored(image, recipe) for image, recipe in zip(model.decode(latents), run.recipes, strict=True)]
    sentences = notes_of(run, model)
    looks = [look(run, index) for index in range(len(images))]
    attention = [None if over is None else over(image) for over, image in zip(looks, images, strict=True)]
    parts = zip(images, run.recipes, sentences, attention, strict=True)
    return [Shot(*own, model.family.key) for own in parts]


def notes_of(run: Run, model: Model) -> tuple[tuple[str, ...], ...]:
    """The notes on each picture of a run, which need none of its steps."""
    given, times = run.given, run.solver.times
    sentences = [notes(model, recipe, given.read(recipe), given.size, times) for recipe in run.recipes]
    return tuple(own + _eager(run, model) for own in sentences)


def _eager(run: Run, model: Model) -> tuple[str, ...]:
    """A note on a compiled U-Net that did not run as its graph."""
    collector = run.collector
    influence = collector is not None and collector.influence is not None and any(one.controls for one in run.recipes)
    if not model.denoiser.compiled or not (influence or run.probes):
        return ()
    what = "influence of controls" if influence else "a probe"
    return (f"the compiled U-Net ran eagerly at the steps where {what} read its layers: a graph has no place for that",)


def _restored(image: Image, recipe: Recipe) -> Image:
    if recipe.image is None or recipe.mask is None or recipe.unmasked == "latents":
        return image
    return with_original(image, Picture.of(recipe.image), Picture.of(recipe.mask))


def _check_finite(latents: Tensor, index: int, count: int) -> None:
    if not torch.isfinite(latents).all():
        raise FloatingPointError(f"the latents stopped being finite at step {index + 1} of {count}.")
