"""One step of a run: its inputs as tensors, and the prediction that the model makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ctrl.attention import At, Edit, check_blocks, perturbation
from ctrl.conditioning import gated
from ctrl.guidance import Space
from ctrl.maps import WordMaps, probing
from ctrl.memory import Keep
from ctrl.recipe import Guidance, Recipe, Style, as_number, without_words, words_of
from ctrl.recipe.checks import rebuilt
from ctrl.rows import Residuals, Rows, summed
from ctrl.sampling.biased import biased
from ctrl.sampling.numbers import numbers
from ctrl.sampling.prompt import PromptRun
from ctrl.sampling.residuals import ControlRun
from ctrl.sampling.word_masks import StepWords

if TYPE_CHECKING:
    from ctrl.model import StyleReference
    from ctrl.sampling.run import Run


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
        regions = gated(steps[0])
        places = numbers(regions, run.recipes[0].regions)
        prompt = PromptRun(given.prompts(steps), memory, places, regions, biased(run, index, steps))
        columns = zip(*([part.around(step.mask) for part in step.controls] for step in steps), strict=True)
        controls = [
            ControlRun(column[0], net, given.control([*map(without_words, column)]), memory)
            for column in columns
            for net in [run.model.control(column[0].kind)]
        ]
        columns = zip(*(step.styles for step in steps), strict=True)
        styles = [given.style([*map(without_words, column)]) for column in columns]
        return Moment(run, index, steps, prompt, controls, styles)

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
        """The rows of the U-Net's batch; one that reads its guidance needs none of uncond."""
        guidance = self.guidance
        guided = guidance.guided and not self.run.model.denoiser.reads_guidance
        return Rows(pictures=len(self.steps), guided=guided, perturbed=len(guidance.perturb))

    def words(self, seen: WordMaps) -> StepWords:
        """The masks of this step that are words, after the maps `seen` before it."""
        return StepWords(self.now, len(self.steps), self.run.words, seen)

    def guidance_map(self, words: StepWords) -> Tensor | None:
        """Where guidance acts, (N, 1, h, w)."""
        asked = words_of(self.guidance.map)
        if asked is not None:
            mask = words.mask(asked)
            return None if mask is None else mask.to(self.run.model.device)
        column = [Guidance.of(step.guidance).map for step in self.steps]
        return self.run.given.guidance_map(column)

    def check(self) -> None:
        """Raise a ValueError for blocks that the model does not have, and for words that a prompt does not have."""
        blocks = [block for term in self.guidance.perturb for block in term.blocks]
        check_blocks(self.run.model.denoiser.sites, blocks, "self")
        for beside in self.run.beside if not self.guidance.zero_init else ():
            beside.edits(self)

    def space(self, sample: Tensor) -> Space:
        """The noise level and kind of the step's predictions, for guidance that converts them."""
        solver = self.run.solver
        return Space(sample[: len(self.steps)], solver.level(self.index), solver.kind)

    def predict(
        self,
        sample: Tensor,
        words: StepWords | None = None,
        *,
        hole: Tensor | None = None,
        keep: Keep | None = None,
        edits: Sequence[At[Edit]] = (),
    ) -> Tensor:
        """The U-Net's predictions (R, C, h, w) of `sample`, with further `edits`; zeros in a step of zero-init.

        `hole` (N, 1 + C, h, w) is that of `Begun`; `keep` is a memory for this sample, of what other recipes compute
        from it in the same way.
        """
        words = self.words(WordMaps()) if words is None else words
        if self.guidance.zero_init:
            return torch.zeros_like(sample)
        run, rows, denoiser = self.run, self.rows, self.run.model.denoiser
        t = run.solver.timesteps[self.index]
        shared = [edit for beside in run.beside for edit in beside.edits(self)]
        every: list[Edit | At[Edit]] = [*shared, *self._styles(rows, words), *self._perturbations(rows), *edits]
        revision = run.given.revision(denoiser)
        observers = [*run.observers, *words.recorder.observers]
        hooks = self.prompt.hooks(
            rows, revision, edits=every, observers=observers, step=self.index, words=words, nag=self.guidance.nag
        )
        # What a memory keeps is the networks' own: not where masks or another run's attention change what they compute.
        keep = None if words.recorder.asked or run.beside else keep
        added = self._residuals(rows, sample, t, words, keep)
        once = {number for number, control in enumerate(self.controls) if control.net.runs_once}
        inside = [own for number, own in added.items() if number in once]
        skips = {number: own for number, own in added.items() if number not in once}
        with self._influence(rows, skips), probing(run.probes, denoiser.sites, rows, self.index, run.count):
            return denoiser.predict(
                sample,
                t,
                self.prompt.rows(rows),
                summed([*skips.values()]),
                hooks,
                inside=summed(inside),
                hole=None if hole is None else rows.stack(hole, hole),
                guidance=as_number(self.guidance.weight),
                keep=None if inside or denoiser.reads_guidance else self._known_to(keep, rows),
            )

    def _known_to(self, keep: Keep | None, rows: Rows) -> Keep | None:
        """The part of a memory for the U-Net's encoder, shared by runs that differ in their ControlNets alone.

        None without controls, and under perturbations, which may be of the encoder.
        """
        if keep is None or not self.controls or self.guidance.perturb:
            return None
        part = self._shared(keep, guidance=Guidance(nag=self.guidance.nag))
        return lambda name, make: part((rows, name), make)

    def _shared(self, keep: Keep, **alike: Any) -> Keep:
        """The part of a memory for steps whose recipes differ in their controls and the fields `alike` alone."""
        key = tuple(rebuilt(step, controls=(), **alike) for step in self.steps)
        return lambda name, make: keep((key, name), make)

    def _residuals(
        self, rows: Rows, sample: Tensor, t: Tensor, words: StepWords, keep: Keep | None
    ) -> dict[int, Residuals]:
        """The residuals of each control that acts, by its number among `controls`."""
        observers = self.run.observers
        keep = self._shared(keep, styles=(), guidance=Guidance()) if keep is not None and self.controls else None
        return {
            number: control.residuals(rows, sample, t, self.prompt, observers, self.index, words, keep)
            for number, control in enumerate(self.controls)
            if not words.hides(control.now.mask)
        }

    def _influence(self, rows: Rows, residuals: Mapping[int, Residuals]) -> AbstractContextManager[None]:
        """Records the influence of the ControlNets, if the run watches it; a T2I-Adapter's is not separated."""
        collector = self.run.collector
        if collector is None or collector.influence is None or not collector.watch.acts(self.index, self.run.count):
            return nullcontext()
        places = numbers(self.now.controls, self.run.recipes[0].controls)
        named = {f"{self.controls[at].now.kind} {places[at]}": added for at, added in residuals.items()}
        return collector.influence.controls(self.run.model.unet, rows, named, self.index)

    def _styles(self, rows: Rows, words: StepWords) -> list[Edit]:
        places = numbers(self.now.styles, self.run.recipes[0].styles)
        parts = zip(self.styles, self.now.styles, places, strict=True)
        return [
            _masked(reference, now, words).at(as_number(now.weight), rows, number)
            for reference, now, number in parts
            if not words.hides(now.mask)
        ]

    def _perturbations(self, rows: Rows) -> list[At[Edit]]:
        return [
            At(perturbation(term, rows.branch(number)), term.blocks, "self", "unet")
            for number, term in enumerate(self.guidance.perturb)
        ]


def _masked(reference: StyleReference, now: Style, words: StepWords) -> StyleReference:
    """A style with the mask that its words make at this step."""
    asked = words_of(now.mask)
    mask = None if asked is None else words.mask(asked)
    return reference if mask is None else reference.masked(mask)
