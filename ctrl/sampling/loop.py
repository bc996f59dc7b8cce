"""The loop: a generator over diffusers' schedulers that evaluates every schedule at every step.

On the same weights and seed it is bit-equal in float32 to diffusers' pipelines wherever they do the same thing: rows
are (uncond, cond), residuals are scaled, then summed, guidance is u + w · (c − u).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ctrl.caller import each_ends_at_caller, ends_at_caller
from ctrl.maps import Probe, Watch
from ctrl.memory import Memory
from ctrl.recipe import Recipe
from ctrl.recipe.checks import check_callback, integer, switch
from ctrl.sampling.batches import batches, count_of
from ctrl.sampling.checkpoint import Checkpoint
from ctrl.sampling.progress import Advance, bar
from ctrl.sampling.run import Run
from ctrl.sampling.shot import Shot, Step
from ctrl.sampling.walk import finish, prepare, walk

if TYPE_CHECKING:
    from ctrl.model import Model

MAX_BATCH = 1024


@ends_at_caller
def steps(
    model: Model,
    recipe: Recipe,
    *,
    after: Step | Checkpoint | None = None,
    memory: Memory | None = None,
    watch: Watch | None = None,
    probes: Sequence[Probe] = (),
) -> Iterator[Step]:
    """Run `recipe` step by step. Stop by `break`: between steps the model is unchanged.

    - `after` is a step, or its checkpoint, of a run with the same sampler, steps, seed, size and image: the run resumes
      with the step after it, to the same bits. Prompts, controls, styles and guidance may differ.
    - `memory` caches encoded prompts and pictures for other runs; without it nothing outlives the run.
    - `watch` selects the attention to record; `Step.attention` then has what was recorded so far.
    - `probes` read or change what goes through the transformer blocks of the U-Net, see `ctrl.Probe`.

    A recipe that the model cannot run raises a ValueError here, before the first step; latents that stop being
    finite raise a FloatingPointError.
    """
    _check(model, recipe)
    run = prepare(model, [recipe], memory, watch=Watch.of(watch), probes=_probes(probes))
    return each_ends_at_caller(walk(run, model, _checkpoint(after, recipe)))


@ends_at_caller
def sample(
    model: Model,
    recipe: Recipe,
    on_step: Callable[[Step], None] | None = None,
    *,
    progress: bool = True,
    after: Step | Checkpoint | None = None,
    memory: Memory | None = None,
    watch: Watch | None = None,
    probes: Sequence[Probe] = (),
) -> Shot:
    """Run `recipe` to its picture; `on_step` is called after every step, and its exceptions end the run.

    `progress` shows a bar on stderr, in a log one line at the end. `after`, `memory` and `probes` are those of
    `steps`; with `watch`, `Shot.attention` holds the recorded attention.
    """
    _check(model, recipe)
    check_callback("on_step", on_step, "a Step")
    checkpoint, began = _checkpoint(after, recipe), time.perf_counter()
    run = prepare(model, [recipe], memory, watch=Watch.of(watch), probes=_probes(probes))
    done = 0 if checkpoint is None else checkpoint.index + 1
    with bar(run.count, "step", shown=switch("progress", progress), done=done) as advance:
        (shot,) = _drain(run, model, _each(on_step, advance), checkpoint)
    return replace(shot, seconds=time.perf_counter() - began)


@ends_at_caller
def sample_many(
    model: Model,
    recipes: Sequence[Recipe],
    *,
    batch: int = 16,
    watch: Watch | None = None,
    progress: bool = True,
) -> list[Shot]:
    """The shots of many recipes, in their order, up to `batch` at once.

    Recipes that differ only in prompts, seeds and pixels run as one batch, each from its own seed, if their prompts
    have the same number of chunks. Pictures agree with single runs up to the rounding of batched sums. `watch` and
    `progress` are those of `sample`, with one bar for all pictures.
    """
    if not isinstance(recipes, Sequence):
        raise TypeError(f"recipes must be a list of recipes, got {type(recipes).__name__}; write [recipe].")
    for at, recipe in enumerate(recipes):
        _check(model, recipe, f"recipes[{at}]")
    batch = integer("batch", batch, 1, MAX_BATCH)
    watched, parts, shots = Watch.of(watch), batches(model, recipes, batch), dict[int, Shot]()
    count = sum(count_of(model, recipes[part[0]]) for part in parts)
    with bar(count, "step", shown=switch("progress", progress), title=f"{len(recipes)} pictures") as advance:
        for part in parts:
            began = time.perf_counter()
            run = prepare(model, [recipes[at] for at in part], None, watch=watched)
            made = _drain(run, model, lambda step: advance())
            seconds = time.perf_counter() - began
            shots |= {at: replace(shot, seconds=seconds) for at, shot in zip(part, made, strict=True)}
    return [shots[at] for at in range(len(recipes))]


def _check(model: object, recipe: object, name: str = "recipe") -> None:
    from ctrl.model import Model

    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model, got {type(model).__name__}; ctrl.load() makes one.")
    if not isinstance(recipe, Recipe):
        raise TypeError(f"{name} must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")


def _probes(probes: object) -> tuple[Probe, ...]:
    if not isinstance(probes, Sequence) or not all(isinstance(probe, Probe) for probe in probes):
        raise TypeError(f"probes must be a list of ctrl.Probe, got {probes!r:.60}.")
    return tuple(probes)


def _checkpoint(after: object, recipe: Recipe) -> Checkpoint | None:
    checkpoint = after.checkpoint if isinstance(after, Step) else after
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"after must be a Step or its checkpoint, got {type(after).__name__}.")
    checkpoint.check(recipe)
    return checkpoint


def _each(on_step: Callable[[Step], None] | None, advance: Advance) -> Callable[[Step], None]:
    """A function that calls `on_step`, then advances the bar."""

    def after_step(step: Step) -> None:
        if on_step is not None:
            on_step(step)
        advance()

    return after_step


def _drain(
    run: Run, model: Model, on_step: Callable[[Step], object] | None = None, after: Checkpoint | None = None
) -> list[Shot]:
    latents = None if after is None else after.latents
    for step in walk(run, model, after):
        if on_step is not None:
            on_step(step)
        latents = step.latents
    assert latents is not None  # a run has a step
    return finish(run, model, latents)
