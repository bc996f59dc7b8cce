"""One run: what is drawn and kept for its length, and what holds at each of its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ctrl.attention import BlurredQueries, Edit, IdentityAttention, Region, Regions, Texts, Weighted, check_blocks
from ctrl.conditioning import Conditioning, RegionInput
from ctrl.guidance import How, Layout, Space
from ctrl.recipe import PAG, SEG, Recipe, Schedule, weight_at
from ctrl.sampling.residuals import ControlRun, total

if TYPE_CHECKING:
    from ctrl.model import Model, Residuals, Solver, Words


@dataclass(frozen=True, eq=False)
class Run:
    """The recipes of one batch on one model, from the first noise on.

    Texts, hints and reference pictures are projected when first needed and kept until it ends.
    """

    model: Model
    given: Conditioning
    solver: Solver
    generators: list[torch.Generator]
    strength: float
    controls: tuple[ControlRun, ...]
    texts: Texts = field(default_factory=Texts)
    _told: dict[Layout, Words] = field(default_factory=dict)
    _edits: dict[Layout, list[Edit]] = field(default_factory=dict)

    @staticmethod
    def of(model: Model, recipes: Sequence[Recipe], given: Conditioning) -> Run:
        """Ready to begin; a ValueError says what does not go together."""
        first = recipes[0]  # all share its shape
        check_blocks(model.unet, [block for one in given.guidance.perturb for block in one.blocks])
        generators = [torch.Generator().manual_seed(recipe.seed) for recipe in recipes]
        strength = 1.0 if given.start is None else first.strength
        solver = model.solver(first.sampler, first.spacing, first.steps, generators, strength=strength)
        controls = tuple(ControlRun(model, control) for control in given.controls)
        return Run(model, given, solver, generators, strength, controls)

    @property
    def count(self) -> int:
        """How many evaluations the run takes."""
        return len(self.solver.timesteps)

    @cached_property
    def times(self) -> list[float]:
        """Their noise times, 1 for pure noise and 0 for none."""
        return self.solver.times

    def weight(self, weight: float | Schedule, index: int) -> float:
        """What a weight amounts to at evaluation `index`."""
        return weight_at(weight, index, self.count, self.times)

    def begin(self) -> Tensor:
        """The latents (N, C, h, w) the run begins with: noise, or what it starts from with noise over it."""
        start = self.given.start
        if start is not None:
            _ = self.clean  # drawn before the noise is, as diffusers draws
        if start is None or (start.mask is not None and self.strength == 1.0):
            return self.noise * self.solver.init_sigma
        return self.solver.add_noise(self.clean, self.noise, 0)

    def keep(self, latents: Tensor, index: int) -> Tensor:
        """The latents after step `index` where they may change; elsewhere what the run started from, as noisy."""
        start = self.given.start
        if start is None or start.mask is None:
            return latents
        return (1 - start.mask) * self.solver.add_noise(self.clean, self.noise, index + 1) + start.mask * latents

    @cached_property
    def noise(self) -> Tensor:
        """(N, C, h, w), each picture's from its own generator."""
        return self.model.noise(self.generators, self.given.width, self.given.height)

    @cached_property
    def clean(self) -> Tensor:
        """The latents (N, C, h, w) of what the run starts from."""
        assert self.given.start is not None
        clean = self.model.encode(self.given.start.pixels, self.generators)
        # The U-Net rounds by the strides of its input: diffusers' inpainting lays these out anew, image to image not.
        return clean if self.given.start.mask is None else clean.contiguous()

    def at(self, index: int) -> Moment:
        """What holds at evaluation `index`."""
        guidance = self.given.guidance
        weight = self.weight(guidance.weight, index)
        silent = guidance.zero is not None and index < guidance.zero.steps
        scales = [self.weight(one.weight, index) for one in guidance.perturb]
        active = [] if silent else [pair for pair in zip(guidance.perturb, scales, strict=True) if pair[1] > 0]
        how = How(
            weight,
            self.given.map,
            guidance.rescale,
            guidance.rescale_in,
            guidance.apg,
            optimal=guidance.zero is not None,
            silent=silent,
            perturbed=tuple(scale for _, scale in active),
        )
        pictures = len(self.generators)
        layout = Layout(pictures=pictures, guided=weight > 1 and not silent, perturbed=len(active))
        return Moment(self, index, layout, how, tuple(one for one, _ in active))

    def told(self, layout: Layout) -> Words:
        """What the rows of a layout are told: the same tensors every time, since what they project to is kept."""
        if layout not in self._told:
            cond, uncond = self.given.cond, self.given.uncond
            fields: list[Any] = []
            for name in ("states", "pooled", "weights"):
                pair = [getattr(one, name) for one in (cond, uncond)]
                known = [one for one in pair if one is not None]
                filled = [torch.ones_like(known[0]) if one is None else one for one in pair] if known else []
                fields.append(layout.stack(*filled) if known else None)
            self._told[layout] = type(cond)(*fields)
        return self._told[layout]

    def edits(self, layout: Layout) -> list[Edit]:
        """What a layout's text does beside its prompt: weighted words, and regions in the rows that are prompted."""
        if layout not in self._edits:
            weights = self.told(layout).weights
            found: list[Edit] = [] if weights is None else [Weighted(weights)]
            if self.given.regions:
                found.append(Regions(layout.prompted, tuple(_rows(one, layout) for one in self.given.regions)))
            self._edits[layout] = found
        return self._edits[layout]


def _rows(region: RegionInput, layout: Layout) -> Region:
    """A region for all rows of a layout; which of them it holds in is said beside it."""
    words, mask = region.words, layout.stack(region.mask, region.mask)
    weights = None if words.weights is None else layout.stack(words.weights, words.weights)
    return Region(layout.stack(words.states, words.states), mask, weights)


@dataclass(frozen=True, eq=False)
class Moment:
    """One evaluation of a run: which rows there are, how they are guided, what acts."""

    run: Run
    index: int
    layout: Layout
    how: How
    perturb: tuple[PAG | SEG, ...]

    def predict(self, sample: Tensor) -> Tensor:
        """The U-Net's predictions (R, C, h, w) of `sample`, under all that acts now; zeros where it is not asked."""
        run, t = self.run, self.run.solver.timesteps[self.index]
        if self.how.silent:
            return torch.zeros_like(sample)
        return run.model.predict(
            sample,
            t,
            run.told(self.layout),
            residuals=self._residuals(sample, t),
            edits=[*run.edits(self.layout), *self._styles(), *self._perturbations()],
            texts=run.texts,
        )

    def space(self, sample: Tensor) -> Space:
        """Where the step's predictions live, for what guidance converts."""
        solver = self.run.solver
        return Space(sample[: self.layout.pictures], solver.level(self.index), solver.kind)

    def _residuals(self, sample: Tensor, t: Tensor) -> Residuals | None:
        """Those of the controls that act now; the others are not even asked."""
        weights = [self.run.weight(control.given.how.weight, self.index) for control in self.run.controls]
        return total(
            [
                control.act(weight, self.layout, sample, t, self.run)
                for control, weight in zip(self.run.controls, weights, strict=True)
                if weight != 0
            ]
        )

    def _styles(self) -> list[Edit]:
        branches = ["uncond"] * self.layout.guided + ["cond"] + ["perturbed"] * self.layout.perturbed
        weights = [(style, self.run.weight(style.weight, self.index)) for style in self.run.given.styles]
        return [style.reference.at(weight, branches) for style, weight in weights if weight != 0]

    def _perturbations(self) -> list[Edit]:
        return [
            IdentityAttention(self.layout.branch(number), one.blocks)
            if isinstance(one, PAG)
            else BlurredQueries(self.layout.branch(number), one.blocks, one.sigma or math.inf)
            for number, one in enumerate(self.perturb)
        ]
