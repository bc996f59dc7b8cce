"""Who decided a place: the shares of words, pictures, regions, controls and the model itself, see `influence`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrl.maps import draw
from ctrl.maps.check import TOLERANCES
from ctrl.maps.heat import Ground, HeatMap
from ctrl.maps.influence import MODEL, REST, Influence
from ctrl.maps.names import SAME, Names
from ctrl.maps.place import mask_of
from ctrl.maps.refine import resized
from ctrl.maps.sums import Array, Key
from ctrl.maps.texts import Text

if TYPE_CHECKING:
    from PIL.Image import Image

UNIT = "share of what the place becomes"
Means = Mapping[Key, tuple[Array, float]]


@dataclass(frozen=True, eq=False)
class Split:
    """The split of what each place becomes at the cross-attentions watched, a mean over sites and steps.

    Shares are of the features after a cross-attention and sum to 1 at every place, which was checked: `error` is the
    largest difference seen. A negative share pulls the other way. The split is of one pass through the network and of
    the prompt's rows: guidance multiplies what words do, and what earlier layers and steps took from words is counted
    under "the model itself". So compare places, words and runs with each other rather than words with the model.
    """

    ground: Ground
    cells: tuple[int, int]
    text: Text
    kept: tuple[int, ...] = field(repr=False)
    means: Means = field(repr=False)
    steps: Mapping[int, Means] = field(repr=False)
    error: float | None
    tolerance: float

    @staticmethod
    def of(
        influence: Influence,
        picture: int,
        ground: Ground,
        cells: tuple[int, int],
        text: Text,
        names: Names = SAME,
    ) -> Split:
        """What was added up by now, for one picture of the batch."""
        steps = {step: names.keys(sums.means(picture)) for step, sums in (influence.by_step or {}).items()}
        kept, means = influence.kept.get("prompt", ()), names.keys(influence.sums.means(picture))
        tolerance = max((TOLERANCES.get(one, 1e-2) for one in influence.dtypes), default=0.0)
        return Split(ground, cells, text, kept, means, steps, influence.error, tolerance)

    @property
    def ok(self) -> bool:
        """Whether all shares summed to 1."""
        return self.error is not None and self.error <= self.tolerance

    def __getitem__(self, word: str | tuple[str, int]) -> HeatMap:
        text, occurrence = word if isinstance(word, tuple) else (word, 0)
        return self.map(text, occurrence=occurrence)

    def map(self, word: str, *, occurrence: int = 0) -> HeatMap:
        """The share of a word or phrase of the prompt, a map on the latent grid; a KeyError if it was not watched."""
        self.insist()
        found, at = self.text.among(self.kept, word, occurrence)
        asked: dict[str, Any] = {"method": "influence.map", "first": word}
        asked |= {"occurrence": occurrence} if occurrence else {}
        heat, *steps = (self._mean(means, "prompt", at) for means in (self.means, *self.steps.values()))
        return HeatMap(
            found.text, heat, self.ground, steps=dict(zip(self.steps, steps, strict=True)), asked=asked, unit=UNIT
        )

    def party(self, name: str) -> HeatMap:
        """The share of one of the `parties` or `controls`, also of each step where Watch(history=True) kept them."""
        whole, *each = (
            {**self._parties(means), **self._controls(means)} for means in (self.means, *self.steps.values())
        )
        self.insist()
        if name not in whole:
            raise KeyError(f"name must be one of {', '.join(whole)}, got {name!r}.")
        steps = {step: maps[name] for step, maps in zip(self.steps, each, strict=True) if name in maps}
        asked = {"method": "influence.party", "first": name}
        return HeatMap(name, whole[name], self.ground, steps=steps, asked=asked, unit=UNIT)

    @property
    def parties(self) -> dict[str, Array]:
        """The maps (h, w) of all parties, which sum to 1: the prompt's words, what begins and pads it, styles, regions,
        and the model itself."""
        self.insist()
        return self._parties(self.means)

    @property
    def controls(self) -> dict[str, Array]:
        """For each ControlNet, "pose 0", the share (h, w) of the U-Net's skips that its residuals are."""
        self.insist()
        return self._controls(self.means)

    def by_step(self) -> dict[int, dict[str, float]]:
        """The mean share of each party at each step. It needs Watch(influence=True, history=True)."""
        if not self.steps:
            raise ValueError("no step was kept: watch with ctrl.Watch(influence=True, history=True).")
        self.insist()
        return {step: {name: float(one.mean()) for name, one in self._parties(means).items()}
                for step, means in self.steps.items()}  # fmt: skip

    def at(self, place: Any) -> tuple[tuple[str, float], ...]:
        """Who decided a place, ranked: each word watched, and every other party. `place` is as for `Attention.at`."""
        self.insist()
        weights = resized(mask_of(place, self.ground.picture.size)[None], *self.cells)[0]
        weights = weights / weights.sum()
        maps = {name: one for name, one in self.parties.items() if name != "words"}
        found = [(name, float((one * weights).sum())) for name, one in maps.items()]
        for word in self.text.words_of(self.kept):
            found.append((word.text, float((self.map(word.text, occurrence=word.occurrence).heat * weights).sum())))
        return tuple(sorted(found, key=lambda pair: -pair[1]))

    def decided(self, *names: str) -> Image:
        """The picture coloured by whichever of some words of the prompt and `parties` has the largest share.

        Of all words watched, where none is named.
        """
        self.insist()
        chosen = names or tuple(dict.fromkeys(word.text for word in self.text.words_of(self.kept)))
        return draw.parties({name: self._named(name) for name in chosen}, self.ground.picture)

    def insist(self) -> None:
        """Refuse, by a RuntimeError, a split whose shares did not sum to 1."""
        if self.error is None:
            raise RuntimeError(
                "no cross-attention of the U-Net was split; give ctrl.Watch components, layers, sizes or steps that "
                "include some."
            )
        if not self.ok:
            raise RuntimeError(
                f"the split of influence fails its check: shares sum to 1 up to {self.error}, and {self.tolerance:.2g} "
                "is allowed. Something else changes this model's attention."
            )

    def _named(self, name: str) -> Array:
        """The map (h, w) of a party or of a word; a KeyError says which there are."""
        parties = self.parties
        if name in parties:
            return parties[name]
        try:
            return self.map(name).heat
        except KeyError as error:
            raise KeyError(f"{error.args[0]} The parties are {', '.join(parties)}.") from None

    def _parties(self, means: Means) -> dict[str, Array]:
        sources = dict.fromkeys(key.source for key in means if key.layers.component == "unet")
        names = {"prompt": "words", f"prompt: {REST}": REST}
        return {names.get(source, source): self._mean(means, source) for source in sources if source != MODEL} | {
            MODEL: self._mean(means, MODEL)
        }

    def _controls(self, means: Means) -> dict[str, Array]:
        names = dict.fromkeys(key.source for key in means if key.layers.component == "unet skips")
        return {name: self._mean(means, name) for name in names}

    def _mean(self, means: Means, source: str, at: list[int] | None = None) -> Array:
        """(h, w): the mean over sites and steps of the summed shares of some or all tokens.

        A source that was absent at a site, as a style's window may have it, counts 0 there.
        """
        found = [(key, *value) for key, value in means.items() if key.source == source]
        whole = MODEL if any(key.layers.component == "unet" for key, *_ in found) else source
        count = sum(number for key, (_, number) in means.items() if key.source == whole)
        total = np.zeros(self.cells, np.float32)
        for _, mean, number in found:
            chosen = mean if at is None else mean[at]
            total += resized(chosen.sum(0, keepdims=True), *self.cells)[0] * number
        return np.asarray(total / max(count, 1), np.float32)
