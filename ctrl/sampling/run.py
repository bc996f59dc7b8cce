"""One run: its initial latents and noise, and the inputs of each of its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ctrl.attention import At, BlurredQueries, Edit, IdentityAttention, Observer, Site, check_blocks, check_sites
from ctrl.conditioning import Conditioning, Start, size_of
from ctrl.guidance import Space
from ctrl.maps import Collector, Watch
from ctrl.memory import Memory
from ctrl.recipe import PAG, SEG, Guidance, Recipe, as_number
from ctrl.rows import Residuals, Rows, summed
from ctrl.sampling.looking import texts
from ctrl.sampling.numbers import numbers
from ctrl.sampling.prompt import PromptRun
from ctrl.sampling.residuals import ControlRun

if TYPE_CHECKING:
    from ctrl.model import Model, Solver, StyleReference


@dataclass(frozen=True, eq=False)
class Begun:
    """The initial `latents` of a run, and the `noise` and `clean` latents that they are made of.

    All are (N, C, h, w); `clean` is None if the run starts from noise alone.
    """

    latents: Tensor
    noise: Tensor
    clean: Tensor | None


@dataclass(frozen=True, eq=False)
class Run:
    """The recipes of one batch on one model, with their LoRAs already merged.

    All steps are prepared before the first, so that a recipe that the model cannot run is refused at once.
    """

    model: Model
    recipes: Sequence[Recipe]
    given: Conditioning
    start: Start | None
    solver: Solver
    generators: list[torch.Generator]
    observers: Sequence[Observer | At[Observer]]
    collector: Collector | None = None  # one of the observers

    @staticmethod
    def of(
        model: Model,
        recipes: Sequence[Recipe],
        memory: Memory,
        observers: Sequence[Observer | At[Observer]] = (),
        watch: Watch | None = None,
    ) -> Run:
        """A run that is ready to begin; a ValueError for recipes that the model cannot run."""
        first = recipes[0]  # all have the same settings, see `recipe.batch_shape`
        given = Conditioning(model, size_of(model, first), memory)
        generators = [torch.Generator().manual_seed(recipe.seed) for recipe in recipes]
        start = given.start(recipes)
        strength = 1.0 if start is None else first.strength
        solver = model.solver(first.sampler, first.spacing, first.steps, generators, strength=strength)
        run = Run(model, recipes, given, start, solver, generators, observers)
        for moment in run.moments:
            moment.check()
        check_sites(observers, run.places)
        return run if watch is None else run.watched(watch)

    @property
    def places(self) -> list[Site]:
        """The attention sites of all networks that the run uses."""
        nets = {control.net.kind: control.net for moment in self.moments for control in moment.controls}
        return [*self.model.denoiser.sites, *(site for net in nets.values() for site in net.sites)]

    def watched(self, watch: Watch) -> Run:
        """The same run with its attention watched."""
        prompts = [texts(self.model.text, recipe) for recipe in self.recipes]
        collector = Collector(watch, self.places, prompts, self.count)
        return replace(self, observers=(*self.observers, *collector.observers), collector=collector)

    @property
    def count(self) -> int:
        """How many evaluations the run takes."""
        return len(self.solver.timesteps)

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        """The inputs of each evaluation."""
        times = self.solver.times
        return tuple(
            Moment.of(self, index, [recipe.at(index, times) for recipe in self.recipes]) for index in range(self.count)
        )

    def begin(self) -> Begun:
        """Draw the initial latents, in diffusers' order: the clean latents before the noise."""
        clean = None if self.start is None else self._clean(self.start)
        noise = self.model.noise(self.generators, *self.given.size)  # each picture's from its own generator
        if clean is None or (self._inpaints and self.recipes[0].strength == 1.0):
            return Begun(noise * self.solver.init_sigma, noise, clean)
        return Begun(self.solver.add_noise(clean, noise, 0), noise, clean)

    def restore_unmasked(self, latents: Tensor, begun: Begun, index: int) -> Tensor:
        """Inpainting: outside the mask, the original latents at the noise level after step `index`."""
        if self.start is None or self.start.mask is None or begun.clean is None:
            return latents
        mask = self.start.mask
        return (1 - mask) * self.solver.add_noise(begun.clean, begun.noise, index + 1) + mask * latents

    @property
    def _inpaints(self) -> bool:
        return self.start is not None and self.start.mask is not None

    def _clean(self, start: Start) -> Tensor:
        """The latents (N, C, h, w) of the pictures that the run starts from."""
        clean = self.model.encode(start.pixels, self.generators)
        # The U-Net rounds by the strides of its input: diffusers copies them for inpainting only.
        return clean if start.mask is None else clean.contiguous()


@dataclass(frozen=True, eq=False)
class Moment:
    """One evaluation of a run: `steps` are its recipes at this step, the other fields their tensors."""

    run: Run
    index: int
    steps: Sequence[Recipe]
    prompt: PromptRun
    controls: Sequence[ControlRun]
    styles: Sequence[StyleReference]

    @staticmethod
    def of(run: Run, index: int, steps: Sequence[Recipe]) -> Moment:
        """Prepare a step, with tensors from the memory where it has them."""
        given, memory = run.given, run.given.memory
        regions = numbers(steps[0].regions, run.recipes[0].regions)
        prompt = PromptRun(given.prompts(steps), memory, regions)
        columns = zip(*(step.controls for step in steps), strict=True)
        controls = [
            ControlRun(column[0], run.model.controlnet(column[0].kind), given.control(column), memory)
            for column in columns
        ]
        columns = zip(*(step.styles for step in steps), strict=True)
        return Moment(run, index, steps, prompt, controls, [given.style(column) for column in columns])

    @property
    def now(self) -> Recipe:
        """The first recipe at this step; the others differ from it only in prompts and pictures."""
        return self.steps[0]

    @property
    def guidance(self) -> Guidance:
        """The guidance of this step."""
        return Guidance.of(self.now.guidance)

    @property
    def rows(self) -> Rows:
        """The rows of the U-Net's batch."""
        guidance = self.guidance
        return Rows(pictures=len(self.steps), guided=guidance.guided, perturbed=len(guidance.perturb))

    @property
    def guidance_map(self) -> Tensor | None:
        """Where guidance acts, (N, 1, h, w)."""
        column = [Guidance.of(step.guidance).map for step in self.steps]
        return self.run.given.guidance_map(column)

    def check(self) -> None:
        """Raise a ValueError for blocks that the model does not have."""
        blocks = [block for term in self.guidance.perturb for block in term.blocks]
        check_blocks(self.run.model.denoiser.sites, blocks, "self")

    def space(self, sample: Tensor) -> Space:
        """The noise level and kind of the step's predictions, for guidance that converts them."""
        solver = self.run.solver
        return Space(sample[: len(self.steps)], solver.level(self.index), solver.kind)

    def predict(self, sample: Tensor) -> Tensor:
        """The U-Net's predictions (R, C, h, w) of `sample`; zeros in a step of zero-init."""
        if self.guidance.zero_init:
            return torch.zeros_like(sample)
        run, rows, denoiser = self.run, self.rows, self.run.model.denoiser
        t = run.solver.timesteps[self.index]
        edits: list[Edit | At[Edit]] = [*self._styles(rows), *self._perturbations(rows)]
        revision = run.given.revision(denoiser)
        hooks = self.prompt.hooks(rows, revision, edits=edits, observers=run.observers, step=self.index)
        residuals = self._residuals(rows, sample, t)
        with self._influence(rows, residuals):
            return denoiser.predict(sample, t, self.prompt.rows(rows), summed(residuals), hooks)

    def _residuals(self, rows: Rows, sample: Tensor, t: Tensor) -> list[Residuals]:
        """The residuals of each ControlNet."""
        observers = self.run.observers
        return [control.residuals(rows, sample, t, self.prompt, observers, self.index) for control in self.controls]

    def _influence(self, rows: Rows, residuals: Sequence[Residuals]) -> AbstractContextManager[None]:
        """Records the influence of the ControlNets, if the run watches it."""
        collector = self.run.collector
        if collector is None or collector.influence is None or not collector.watch.acts(self.index, self.run.count):
            return nullcontext()
        places = numbers(self.now.controls, self.run.recipes[0].controls)
        parts = zip(self.controls, places, residuals, strict=True)
        named = {f"{control.now.kind} {place}": added for control, place, added in parts}
        return collector.influence.controls(self.run.model.unet, rows, named, self.index)

    def _styles(self, rows: Rows) -> list[Edit]:
        places = numbers(self.now.styles, self.run.recipes[0].styles)
        parts = zip(self.styles, self.now.styles, places, strict=True)
        return [reference.at(as_number(now.weight), rows, number) for reference, now, number in parts]

    def _perturbations(self, rows: Rows) -> list[At[Edit]]:
        return [
            At(_perturbation(term, rows.branch(number)), term.blocks, "self", "unet")
            for number, term in enumerate(self.guidance.perturb)
        ]


def _perturbation(term: PAG | SEG, rows: tuple[int, ...]) -> Edit:
    return IdentityAttention(rows) if isinstance(term, PAG) else BlurredQueries(rows, term.sigma or math.inf)
