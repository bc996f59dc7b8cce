"""Maps of words of a running run, for the masks that it makes of its own attention.

N are the pictures made at once, R the rows of a batch, p the places of a call, T its tokens, W the words asked.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ctrl.attention import PROMPT, At, Call, Observer, Site, Term
from ctrl.maps.shares import shares
from ctrl.maps.texts import Text
from ctrl.maps.watch import Watch

LAST = 3  # steps that a mask is made of
Asked: TypeAlias = tuple[tuple[str, ...], int]  # words and phrases whose shares are added, and their occurrence


@dataclass(frozen=True, eq=False)
class WordMaps:
    """The maps (N, h, w) of words in the last three steps in which each was read, the latest last.

    It is the state of a run that goes on from step to step.
    """

    maps: Mapping[Asked, tuple[Tensor, ...]] = field(default_factory=dict)

    def after(self, step: Mapping[Asked, Tensor]) -> WordMaps:
        """The state after a step that read these maps."""
        latest = {asked: (*self.maps.get(asked, ()), heat)[-LAST:] for asked, heat in step.items()}
        return WordMaps({**self.maps, **latest})

    def mask(self, asked: Asked, threshold: float) -> Tensor | None:
        """(N, 1, h, w) float32, 1 above `threshold` of each map's range, else 0; None before there is a map."""
        if asked not in self.maps:
            return None
        mean = torch.stack(self.maps[asked]).mean(0)[:, None]
        low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
        return (mean > low + threshold * (high - low)).float()


@dataclass(frozen=True, eq=False)
class WordReader:
    """Where the words of a run's masks are among the tokens of each picture's prompt."""

    positions: Mapping[Asked, Sequence[Sequence[int]]]
    cells: tuple[int, int]  # of the latent grid

    @staticmethod
    def of(asked: Sequence[Asked], texts: Sequence[Text], cells: tuple[int, int], sites: Sequence[Site]) -> WordReader:
        """A ValueError says that a word is not in a prompt, or that the network has no attention to read."""
        if asked and not any(_counts(site) for site in sites):
            raise ValueError("mask: the model has no cross-attention in its up blocks, so Words can make no mask.")
        try:
            return WordReader({one: [_tokens(text, *one) for text in texts] for one in asked}, cells)
        except KeyError as error:
            raise ValueError(f"mask: {error.args[0]}") from None

    def recorder(self, asked: Sequence[Asked]) -> Recorder:
        """Records one step."""
        return Recorder(self, tuple(dict.fromkeys(asked)))


class Recorder:
    """An observer that averages maps of words over the sites of one step."""

    def __init__(self, reader: WordReader, asked: tuple[Asked, ...]) -> None:
        self.reader, self.asked = reader, asked
        self._total: Tensor | None = None
        self._count = 0

    @property
    def observers(self) -> list[Observer | At[Observer]]:
        """What to hook into the step; nothing if no word is asked."""
        return [At(self._read, where=_counts, component="unet")] if self.asked else []

    @property
    def maps(self) -> dict[Asked, Tensor]:
        """The maps (N, h, w) read so far; empty before the first."""
        if self._total is None:
            return {}
        return dict(zip(self.asked, (self._total / self._count).unbind(1), strict=True))

    def _read(self, call: Call, terms: Sequence[Term]) -> None:
        prompt = [term for term in terms if term.source == PROMPT]  # an edit may make two of it
        small = min(8, min(self.reader.cells) // 2)
        if not prompt or call.rows is None or min(call.height, call.width) < small:
            return
        rows = call.rows.cond
        # Not `mean_shares`: where a region acts, the prompt's term does not, and its words are looked for all the same.
        mean = functools.reduce(torch.add, (shares(term, rows).mean(1) for term in prompt))  # (N, p, T)
        words = rearrange(mean @ self._chosen(mean), "n (h w) t -> n t h w", h=call.height)
        heat = F.interpolate(words, size=self.reader.cells, mode="bilinear", align_corners=False)
        self._total = heat if self._total is None else self._total + heat
        self._count += 1

    def _chosen(self, shares: Tensor) -> Tensor:
        """(N, T, W): 1 where a token is of a word."""
        chosen = torch.zeros(len(shares), shares.shape[-1], len(self.asked))
        for number, asked in enumerate(self.asked):
            for picture, tokens in enumerate(self.reader.positions[asked]):
                chosen[picture, list(tokens), number] = 1
        return chosen.to(shares.device)


def _counts(site: Site) -> bool:
    """Whether a site is among those of `ctrl.Watch`, by its name."""
    return site.kind == "cross" and site.component == "unet" and Watch().why_not(site) is None


def _tokens(text: Text, words: Sequence[str], occurrence: int) -> tuple[int, ...]:
    """The tokens of some words; a KeyError says which is not there."""
    found = [text.find(word, occurrence) for word in words]
    return tuple(dict.fromkeys(token for word in found for token in text.between(word.start, word.end)))
