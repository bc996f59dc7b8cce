"""Local blend (arXiv 2208.01626): an edited picture that differs from its source in the places of some words only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention import PROMPT, At, Call, Observer, Site, Term
from ctrl.maps import Text, Watch
from ctrl.maps.shares import mean_shares
from ctrl.recipe import LocalBlend
from ctrl.rows import Rows

COARSEST = 8  # a layer counts if a latent's side is at most so many times its own
Totals = tuple[Tensor | None, Tensor | None]


@dataclass(eq=False)
class Blending:
    """Where an edit may change N pictures: maps of the words of `blend`, added up over the steps of both runs.

    `texts` are the edited prompts and the sources' prompts, `cells` the height and width of the latents, `count` the
    evaluations of the run. As in the `Watch` of a run, the U-Net's up blocks count.
    """

    blend: LocalBlend
    texts: tuple[Sequence[Text], Sequence[Text]]
    cells: tuple[int, int]
    count: int
    totals: list[Tensor | None] = field(default_factory=lambda: [None, None])  # (N, 1, h, w) of the edited, the source

    def __post_init__(self) -> None:
        for word in self.blend.words:
            if not any(text.positions([word]) for texts in self.texts for text in texts):
                there = "; ".join(dict.fromkeys(repr(text.text) for texts in self.texts for text in texts))
                raise ValueError(f"blend: {word!r:.60} is in neither prompt, {there:.300}; name a word of them.")

    def observer(self, number: int) -> Observer | At[Observer]:
        """What adds up the maps of the edited run, 0, or of the source's, 1."""
        return At(partial(self._see, number), where=_counts, component="unet")

    def state(self) -> Totals:
        """What was added up so far, to go on from."""
        edited, source = (None if total is None else total.clone() for total in self.totals)
        return edited, source

    def resume(self, state: Totals | None) -> None:
        """Begin, or go on from such a state."""
        self.totals = [None if total is None else total.clone() for total in state or (None, None)]

    def __call__(self, edited: Tensor, source: Tensor, index: int) -> Tensor:
        """The latents (N, C, h, w) after evaluation `index`: the source's outside the mask."""
        if not self.blend.acts(index, self.count) or all(total is None for total in self.totals):
            return edited  # in steps of zero-init nothing is attended to
        return torch.where(self.mask(), edited, source)

    def mask(self) -> Tensor:
        """(N, 1, h, w): where a map, its maximum taken over 3 × 3 cells, is over the threshold of its own maximum."""
        masks = []
        for total in self.totals:
            if total is not None:
                wide = F.max_pool2d(total, 3, stride=1, padding=1)
                masks.append(wide > self.blend.threshold * wide.amax((2, 3), keepdim=True))
        return torch.stack(masks).any(0)

    def _see(self, number: int, call: Call, terms: Sequence[Term]) -> None:
        rows = (call.rows or Rows(pictures=len(call.q), guided=False)).cond
        wanted = [text.positions(self.blend.words) for text in self.texts[number]]
        if call.height * COARSEST < self.cells[0] or call.width * COARSEST < self.cells[1] or not any(wanted):
            return
        for term in (term for term in terms if term.source == PROMPT):
            own = mean_shares(term, rows)  # (N, p, T)
            maps = torch.stack([one[:, list(at)].sum(1) for one, at in zip(own, wanted, strict=True)])
            maps = F.interpolate(
                maps.view(-1, 1, call.height, call.width), size=self.cells, mode="bilinear", align_corners=False
            )
            total = self.totals[number]
            self.totals[number] = maps if total is None else total + maps


def _counts(site: Site) -> bool:
    return Watch().why_not(site) is None
