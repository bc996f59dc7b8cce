"""Runs that go along with a run, step by step: the source of an edit, the reference of an aligned style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ctrl.attention import At, Edit, Record, ReplacedSelf, ReplacedWords, SharedAttention
from ctrl.conditioning import size_of
from ctrl.recipe import Edit as PromptEdit
from ctrl.recipe import LocalBlend, Recipe, as_number, words_of
from ctrl.recipe.checks import rebuilt
from ctrl.sampling.alignment import Tokens, matrix, pairs, positions, text_of
from ctrl.sampling.local_blend import Blending

if TYPE_CHECKING:
    from ctrl.model import Model
    from ctrl.sampling.moment import Moment
    from ctrl.sampling.run import Run
    from ctrl.sampling.word_masks import StepWords


class Beside(Protocol):
    """A run beside another, whose attention at a step is in `record` when the other asks the network."""

    @property
    def run(self) -> Run:
        """The run that goes along."""

    @property
    def record(self) -> Record:
        """The attention of that run at the step."""

    def edits(self, moment: Moment) -> list[At[Edit]]:
        """The changes it makes to the other run's attention at a step."""

    def blended(self, latents: Tensor, own: Tensor, index: int, words: StepWords) -> Tensor:
        """The other run's `latents` (N, C, h, w) after a step; `own` are those of the run that goes along."""

    def state(self) -> Any:
        """What it has added up, for a checkpoint."""

    def resume(self, state: Any) -> None:
        """Begin, with None, or go on from such a state."""


@dataclass(frozen=True, eq=False)
class ReferenceRun:
    """The reference of StyleAligned."""

    run: Run
    record: Record

    @staticmethod
    def recipes(recipes: Sequence[Recipe]) -> list[Recipe]:
        """The references of recipes as they run; none where they are not aligned."""
        return [recipe.canonical.aligned.reference for recipe in recipes if recipe.canonical.aligned is not None]

    def edits(self, moment: Moment) -> list[At[Edit]]:
        """Self-attention shared with it."""
        aligned = moment.now.aligned
        weight = 0.0 if aligned is None else as_number(aligned.weight)
        return [At(SharedAttention(self.record, moment.rows, weight), kind="self", component="unet")] if weight else []

    def blended(self, latents: Tensor, own: Tensor, index: int, words: StepWords) -> Tensor:
        """They stay as they are."""
        return latents

    def state(self) -> None:
        """There is none."""

    def resume(self, state: None) -> None:
        """There is nothing to go on from."""


@dataclass(frozen=True, eq=False)
class SourceRun:
    """The source of Prompt-to-Prompt, the `blending` of its latents with the edited ones, and where these may differ, a
    `mask` (N, 1, h, w)."""

    run: Run
    record: Record
    blending: Blending | None
    mask: Tensor | None = None
    matrices: dict[Any, Tensor] = field(default_factory=dict, repr=False)

    @staticmethod
    def recipes(recipes: Sequence[Recipe]) -> list[Recipe]:
        """The sources of edits; none where recipes are no edits."""
        edits = [(recipe, recipe.canonical.edit) for recipe in recipes]
        return [rebuilt(recipe, prompt=edit.source, edit=None) for recipe, edit in edits if edit is not None]

    def edits(self, moment: Moment) -> list[At[Edit]]:
        """The source's attention in place of the run's own."""
        edit = moment.now.edit
        if edit is None:
            return []
        found: list[At[Edit]] = []
        if any(as_number(weight) for name, weight in edit.weights.items() if name != "self_attention"):
            found.append(At(self._words(moment, edit), component="unet"))
        if share := as_number(edit.self_attention):
            width, height = (side // moment.run.model.vae_scale_factor for side in moment.run.given.size)
            replaced = ReplacedSelf(self.record, moment.rows, share, width * height // 16)
            found.append(At(replaced, kind="self", component="unet"))
        return found

    def blended(self, latents: Tensor, own: Tensor, index: int, words: StepWords) -> Tensor:
        """The edited latents, and the source's where the picture may not change."""
        latents = latents if self.blending is None else self.blending(latents, own, index)
        asked = None if words.now.edit is None else words_of(words.now.edit.mask)
        mask = self.mask if asked is None else words.mask(asked)
        if mask is None:
            return latents
        mask = mask.to(latents)
        return mask * latents + (1 - mask) * own

    def state(self) -> Any:
        """The maps of local blend."""
        return None if self.blending is None else self.blending.state()

    def resume(self, state: Any) -> None:
        """Go on from these maps, or begin."""
        if self.blending is not None:
            self.blending.resume(state)

    def _words(self, moment: Moment, edit: PromptEdit) -> ReplacedWords:
        """M · diag(α) and 1 − α of each picture at a step."""
        aligned = torch.stack([self._matrix(moment, picture, edit) for picture in range(len(moment.steps))])
        shares = [self._shares(moment, picture, edit, aligned.shape[2]) for picture in range(len(aligned))]
        stands = (aligned.sum(1) > 0).to(aligned.dtype)  # (N, T): tokens that stand for one of the source
        share = torch.tensor(shares) * stands  # (N, T), α
        whole = bool((share == 1).all())
        return ReplacedWords(self.record, moment.rows, aligned * share[:, None], 1 - share, whole)

    def _matrix(self, moment: Moment, picture: int, edit: PromptEdit) -> Tensor:
        """M (K, T) of one picture."""
        theirs, mine = self.run.moments[moment.index].prompt, moment.prompt
        counts = theirs.prompts.cond.embeds.shape[1], mine.prompts.cond.embeds.shape[1]
        if (picture, counts) not in self.matrices:
            source, edited = self._tokens(picture, counts[0], self.run), self._tokens(picture, counts[1], moment.run)
            found = pairs(source, edited, replace=edit.exchanged == "replace")
            self.matrices[picture, counts] = torch.tensor(matrix(found, *counts))
        return self.matrices[picture, counts]

    def _tokens(self, picture: int, count: int, run: Run) -> Tokens:
        recipe = run.recipes[picture]
        (_, encoded), *_ = run.given.read(recipe)
        return Tokens(
            text_of(run.model.text, str(recipe.prompts_read[0])), count, encoded.states.shape[1] // encoded.chunks
        )

    def _shares(self, moment: Moment, picture: int, edit: PromptEdit, count: int) -> list[float]:
        """α (T,) of a picture before words without a counterpart are left out."""
        shares = [as_number(edit.cross)] * count
        text = self._tokens(picture, count, moment.run).text
        for word, weight in edit.by_word:
            for position in positions(text, word, "words"):
                shares[position] = as_number(weight)
        return shares


def blending_of(model: Model, recipes: Sequence[Recipe], sources: Sequence[Recipe]) -> Blending | None:
    """The local blend of edits with their sources; None if they have none."""
    edit = recipes[0].canonical.edit
    if edit is None or not isinstance(edit.blend, LocalBlend):
        return None
    width, height = (side // model.vae_scale_factor for side in size_of(model, recipes[0]))
    strength = 1.0 if recipes[0].image is None else recipes[0].strength
    times = model.times(recipes[0].sampler, recipes[0].spacing, recipes[0].steps, strength=strength)
    edited, plain = ([text_of(model.text, str(one.prompts_read[0])) for one in some] for some in (recipes, sources))
    return Blending(edit.blend, (edited, plain), (height, width), len(times))
