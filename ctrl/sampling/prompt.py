"""The prompts of one step as rows of a batch, and the hooks through which they act on attention."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ctrl.attention import (
    At,
    BiasedWords,
    Edit,
    Hooks,
    NormalizedNegative,
    Observer,
    Regions,
    RegionTerm,
    TextKV,
    WordWeights,
)
from ctrl.conditioning import Prompts
from ctrl.memory import Memory
from ctrl.recipe import NAG, Region, as_number, words_of
from ctrl.rows import PromptRows, Rows
from ctrl.sampling.biased import Biased
from ctrl.sampling.word_masks import StepWords


@dataclass(frozen=True, eq=False)
class PromptRun:
    """The prompts of one step. Their cross-attention keys and values are cached in `memory`."""

    prompts: Prompts
    memory: Memory
    numbers: Sequence[int] = ()  # the indices of its regions in their recipe
    parts: Sequence[Region] = ()  # its regions
    biased: Sequence[Biased] = ()

    def rows(self, rows: Rows) -> PromptRows:
        """The prompt embeddings of all rows: always the same tensors, because their keys and values are cached."""
        cond, uncond = self.prompts.cond, self.prompts.uncond
        return self.memory(("prompt rows", self.prompts.number, rows), lambda: PromptRows.stack(rows, cond, uncond))

    def hooks(
        self,
        rows: Rows,
        revision: Hashable,
        *,
        words: StepWords,
        edits: Sequence[Edit | At[Edit]] = (),
        observers: Sequence[Observer | At[Observer]] = (),
        step: int | None = None,
        nag: NAG | None = None,
    ) -> Hooks:
        """The hooks for a network of this `revision`: word weights, regions, the other `edits`, then NAG."""
        prompt, fixed = self.rows(rows), self._fixed_regions(rows)
        prompt_edits: list[Edit | At[Edit]] = [] if prompt.weights is None else [WordWeights(prompt.weights)]
        texts: list[Tensor] = [prompt.embeds]
        if fixed is not None:
            regions = self._regions(fixed, rows, words)
            prompt_edits += [regions] if regions.regions else []
            texts += [region.states for region in fixed.regions]
        biased = [region.at(rows, prompt.embeds.shape[1], words) for region in self.biased]
        if acting := [region for region in biased if region is not None]:
            prompt_edits.append(BiasedWords(acting))
        known = [(text, (revision, self.prompts.number, rows, number)) for number, text in enumerate(texts)]
        if nag is None:
            return Hooks([*prompt_edits, *edits], observers, TextKV(self.memory, known), rows, step)
        negative = self._negative(rows, nag)
        kv = TextKV(self.memory, [*known, (negative.states, (revision, self.prompts.number, rows, "negative"))])
        return Hooks([*prompt_edits, *edits, negative], observers, kv, rows, step, negative.combine)

    def _negative(self, rows: Rows, nag: NAG) -> NormalizedNegative:
        """The negative prompt in the rows that read the prompt."""
        uncond = self.prompts.uncond
        key = ("negative rows", self.prompts.number, rows)
        read = self.memory(key, lambda: PromptRows.stack(rows, uncond, uncond))
        return NormalizedNegative(rows.prompted, read.embeds, as_number(nag.weight), nag.tau, nag.alpha, read.weights)

    def _regions(self, fixed: Regions, rows: Rows, words: StepWords) -> Regions:
        """The regions that act at this step, with the masks that words make."""
        if all(words_of(part.mask) is None for part in self.parts):
            return fixed
        pairs = zip(fixed.regions, self.parts, strict=True)
        terms = [_masked(term, part, rows, words) for term, part in pairs if not words.hides(part.mask)]
        return Regions(rows.prompted, tuple(terms))

    def _fixed_regions(self, rows: Rows) -> Regions | None:
        """The regions with masks that are known before the run, white where they are not."""
        if not self.prompts.regions:
            return None
        key = ("regions", self.prompts.number, rows, tuple(self.numbers))
        pairs = zip(self.prompts.regions, self.numbers, strict=True)
        terms = self.memory(key, lambda: tuple(_stacked(rows, *region, number) for region, number in pairs))
        return Regions(rows.prompted, terms, keep=self.memory.part(key))


def _stacked(rows: Rows, prompt: PromptRows, mask: Tensor, number: int) -> RegionTerm:
    """A region for all rows; `Regions` knows in which of them it acts."""
    weights = None if prompt.weights is None else rows.stack(prompt.weights, prompt.weights)
    return RegionTerm(rows.stack(prompt.embeds, prompt.embeds), rows.stack(mask, mask), weights, number)


def _masked(term: RegionTerm, part: Region, rows: Rows, words: StepWords) -> RegionTerm:
    """A region with the mask that its words make at this step."""
    asked = words_of(part.mask)
    mask = None if asked is None else words.mask(asked)
    return term if mask is None else replace(term, mask=rows.stack(mask, mask) * part.weight)
