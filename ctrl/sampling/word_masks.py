"""The masks of one step that are `ctrl.Words`, and the maps that the step adds for the steps after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ctrl.maps import Recorder, WordMaps, WordReader
from ctrl.recipe import Guidance, Recipe, Words, words_of


def words_in(recipe: Recipe) -> Iterator[Words]:
    """Every mask of a recipe that is `Words`."""
    masks = [region.mask for region in recipe.regions] + [control.mask for control in recipe.controls]
    masks += [*(style.mask for style in recipe.styles), Guidance.of(recipe.guidance).map]
    masks += [] if recipe.edit is None else [recipe.edit.mask]
    yield from (words for mask in masks if (words := words_of(mask)) is not None)


@dataclass(frozen=True, eq=False)
class StepWords:
    """The masks of words at a step of `pictures` N: `now` is its recipe (`Recipe.at`), `seen` the maps before it."""

    now: Recipe
    pictures: int
    reader: WordReader
    seen: WordMaps

    @cached_property
    def recorder(self) -> Recorder:
        """Reads the maps of this step; after it `after` has them."""
        return self.reader.recorder([words.asked for words in words_in(self.now)])

    @property
    def after(self) -> WordMaps:
        """The maps for the next step."""
        return self.seen.after(self.recorder.maps)

    def mask(self, words: Words) -> Tensor | None:
        """(N, 1, h, w) float32; None for white all over."""
        made = self._made(words)
        if made is None and words.before == "nowhere":
            return torch.zeros(self.pictures, 1, *self.reader.cells)
        return made

    def hides(self, mask: object) -> bool:
        """Whether a part with this mask does not act yet."""
        words = words_of(mask)
        return words is not None and words.before == "nowhere" and self._made(words) is None

    def _made(self, words: Words) -> Tensor | None:
        return self.seen.mask(words.asked, words.threshold) if words.acts else None
