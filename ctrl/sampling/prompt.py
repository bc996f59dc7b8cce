"""The prompts of one step as rows of a batch, and the hooks through which they act on attention."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ctrl.attention import At, Edit, Hooks, Observer, Regions, RegionTerm, TextKV, WordWeights
from ctrl.conditioning import Prompts
from ctrl.memory import Memory
from ctrl.rows import PromptRows, Rows


@dataclass(frozen=True, eq=False)
class PromptRun:
    """The prompts of one step. Their cross-attention keys and values are cached in `memory`."""

    prompts: Prompts
    memory: Memory
    numbers: Sequence[int] = ()  # the indices of its regions in their recipe

    def rows(self, rows: Rows) -> PromptRows:
        """The prompt embeddings of all rows: always the same tensors, because their keys and values are cached."""
        cond, uncond = self.prompts.cond, self.prompts.uncond
        return self.memory(("prompt rows", self.prompts.number, rows), lambda: PromptRows.stack(rows, cond, uncond))

    def hooks(
        self,
        rows: Rows,
        revision: Hashable,
        *,
        edits: Sequence[Edit | At[Edit]] = (),
        observers: Sequence[Observer | At[Observer]] = (),
        step: int | None = None,
    ) -> Hooks:
        """The hooks for a network of this `revision`: word weights, regions, then the other `edits`."""
        prompt, regions = self.rows(rows), self._regions(rows)
        prompt_edits: list[Edit | At[Edit]] = [] if prompt.weights is None else [WordWeights(prompt.weights)]
        texts: list[Tensor] = [prompt.embeds]
        if regions is not None:
            prompt_edits.append(regions)
            texts += [region.states for region in regions.regions]
        known = [(text, (revision, self.prompts.number, rows, number)) for number, text in enumerate(texts)]
        return Hooks([*prompt_edits, *edits], observers, TextKV(self.memory, known), rows, step)

    def _regions(self, rows: Rows) -> Regions | None:
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
