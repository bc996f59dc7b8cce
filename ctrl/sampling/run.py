"""One run: what is settled before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ctrl.attention import At, Observer, Site, check_sites
from ctrl.conditioning import Conditioning, Start, size_of
from ctrl.maps import Collector, Probe, Watch, WordReader
from ctrl.memory import Memory
from ctrl.recipe import Recipe, first_seed
from ctrl.sampling.looking import texts, texts_of_batch
from ctrl.sampling.moment import Moment
from ctrl.sampling.word_masks import words_in

if TYPE_CHECKING:
    from ctrl.model import Model, Solver
    from ctrl.sampling.beside import Beside


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
    words: WordReader
    collector: Collector | None = None  # one of the observers
    beside: Sequence[Beside] = ()  # the runs whose attention it needs
    probes: Sequence[Probe] = ()

    @staticmethod
    def of(
        model: Model,
        recipes: Sequence[Recipe],
        memory: Memory,
        observers: Sequence[Observer | At[Observer]] = (),
        watch: Watch | None = None,
        probes: Sequence[Probe] = (),
        beside: Sequence[Beside] = (),
    ) -> Run:
        """A run that is ready to begin; a ValueError for recipes that the model cannot run."""
        first = recipes[0]  # all have the same settings, see `recipe.batch_shape`
        given = Conditioning(model, size_of(model, first), memory)
        generators = [torch.Generator().manual_seed(first_seed(recipe.canonical.seed)) for recipe in recipes]
        start = given.start(recipes)
        strength = 1.0 if start is None else first.strength
        solver = model.solver(first.sampler, first.spacing, first.steps, generators, strength=strength)
        words = _word_reader(model, recipes, given)
        run = Run(model, recipes, given, start, solver, generators, observers, words, beside=beside, probes=probes)
        run._check_beside()
        for moment in run.moments:
            moment.check()
        check_sites(observers, run.places)
        for probe in probes:
            probe.among(model.denoiser.sites)
        return run if watch is None else run.watched(watch)

    def _check_beside(self) -> None:
        """Raise a ValueError if a run beside this one does not come through all its noise levels."""
        for other in self.beside:
            if other.run.solver.times[-self.count :] != self.solver.times:
                raise ValueError(
                    f"aligned: the reference takes {other.run.count} of the run's {self.count} steps, as its image has "
                    "a low strength; give it one no lower than the recipe's, or no image."
                )

    @property
    def places(self) -> list[Site]:
        """The attention sites of all networks that the run uses."""
        nets = {control.net.kind: control.net for moment in self.moments for control in moment.controls}
        return [*self.model.denoiser.sites, *(site for net in nets.values() for site in net.sites)]

    def watched(self, watch: Watch) -> Run:
        """The same run with its attention watched."""
        prompts = texts_of_batch(self.model.text, self.recipes)
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


def _word_reader(model: Model, recipes: Sequence[Recipe], given: Conditioning) -> WordReader:
    """Where the words of masks are in the prompts; a ValueError if one of them is not."""
    asked = [words.asked for words in words_in(recipes[0].canonical)]
    prompts = [texts(model.text, recipe)["prompt"] for recipe in recipes] if asked else []
    width, height = given.size
    cells = height // model.vae_scale_factor, width // model.vae_scale_factor
    return WordReader.of(asked, prompts, cells, model.denoiser.sites)
