"""Regions by bias of a step: their words on the tokens of each prompt, their masks, and how strongly they act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ctrl.attention import BiasedRegion
from ctrl.recipe import Recipe, Words, words_of
from ctrl.recipe.checks import rebuilt
from ctrl.rows import Rows
from ctrl.sampling.alignment import positions
from ctrl.sampling.looking import texts
from ctrl.sampling.word_masks import StepWords

if TYPE_CHECKING:
    from ctrl.sampling.run import Run


@dataclass(frozen=True, eq=False)
class Biased:
    """A region by bias of N pictures: the positions of its words in each prompt, masks (N, 1, H, W), and λ.

    `words` is the mask where attention makes it during the run; `mask` is then unused.
    """

    tokens: tuple[tuple[int, ...], ...]
    mask: Tensor
    strength: float
    words: Words | None = None

    def at(self, rows: Rows, length: int, words: StepWords) -> BiasedRegion | None:
        """The region in the rows that read the prompt, of so many tokens; None where it does not act yet."""
        if words.hides(self.words):
            return None
        made = None if self.words is None else words.mask(self.words)
        tokens = torch.zeros(len(self.tokens), length)
        for picture, places in enumerate(self.tokens):
            tokens[picture, list(places)] = 1
        mask = self.mask if made is None else made
        mask = rows.stack(mask, mask)
        return BiasedRegion(rows.stack(tokens, torch.zeros_like(tokens)), mask, self.strength)


def biased(run: Run, index: int, steps: Sequence[Recipe]) -> tuple[Biased, ...]:
    """The regions by bias of a step: as in DenseDiffusion, λ falls with the fifth power of the noise time."""
    columns = zip(*([region for region in step.regions if region.by == "bias"] for step in steps), strict=True)
    strength, found, prompts = run.solver.times[index] ** 5, [], None
    for column in columns:
        prompts = prompts or [texts(run.model.text, recipe)["prompt"] for recipe in run.recipes]
        words = [run.model.text.plain(str(region.prompt)) for region in column]
        tokens = [positions(text, word, "region") for text, word in zip(prompts, words, strict=True)]
        masks = run.given.region_mask([rebuilt(region, weight=1.0) for region in column])
        found.append(Biased(tuple(tokens), masks, strength * column[0].weight, words_of(column[0].mask)))
    return tuple(found)
