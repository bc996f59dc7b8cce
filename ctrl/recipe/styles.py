"""Styles: reference pictures whose look is followed, through the IP-Adapter (arXiv 2308.06721)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ctrl.images import WHITE, Picture
from ctrl.recipe.checks import MAX_ENTRIES, Shown, keep, mask, name, number, one_of, rebuilt, spelt
from ctrl.recipe.schedule import Schedule, weight, weight_at

COMBINE = ("concat", "average")
LONGEST = 1024  # pixels along the longer side of a reference; image encoders read 224 or 336


@spelt
@dataclass(frozen=True)
class Style:
    """A reference picture, or several, whose style is followed.

    - `weight` multiplies what it adds to cross-attention, 0 to 10, a number or a schedule; a schedule's window
      is when the style acts.
    - `mask` is a soft picture, white where the style acts.
    - `blocks` says in which blocks it acts: a preset ("all", "style", "layout", "style+layout", …) or a mapping
      from block names to weights, `{"up_blocks.1": 1.0, "mid_block": 0.5}`; blocks not named are 0.
    - `negative` is a picture for the prediction without the prompt: what the look should lead away from.
    - of several pictures, "concat" shows attention the tokens of all, "average" the mean of their embeddings.
    - `adapter` names the IP-Adapter of the model that reads it; None is the model's first.
    """

    picture: Shown
    weight: float | Schedule = 1.0
    mask: Shown = None
    blocks: str | tuple[tuple[str, float], ...] = "all"
    negative: Shown = None
    combine: str = "concat"
    adapter: str | None = None

    def __post_init__(self) -> None:
        keep(self, "picture", _pictures(self.picture))
        keep(self, "weight", weight("weight", self.weight))
        keep(self, "mask", mask(self.mask))
        keep(self, "blocks", _blocks(self.blocks))
        if self.negative is not None:
            keep(self, "negative", _reference(self.negative, "Style's negative"))
        one_of("combine", self.combine, COMBINE)
        if self.adapter is not None:
            name("adapter", self.adapter, "one of the model's IP-Adapters")

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its pictures, one or several."""
        return self.picture if isinstance(self.picture, tuple) else (self.picture,)

    @property
    def sort_key(self) -> tuple[str, ...]:
        """Its place among other styles: by content, so that the order in the recipe does not matter."""
        shown = [one.sha256 for one in self.pictures]
        hidden = ["" if one is None else one.sha256 for one in (self.mask, self.negative)]
        return (*shown, *hidden, repr((self.blocks, self.combine, self.adapter, self.weight)))

    rank = sort_key  # the engine still uses this name

    def at(self, index: int, times: Sequence[float], *, guided: bool) -> Self:
        """The style at one step; see `Recipe.at`. A step without guidance has no use for `negative`."""
        return rebuilt(
            self,
            weight=weight_at(self.weight, index, len(times), times),
            negative=self.negative if guided else None,
        )


def _pictures(given: Any) -> Any:
    if not isinstance(given, list | tuple):
        return _reference(given, "Style's picture")
    if not 0 < len(given) <= MAX_ENTRIES:
        raise ValueError(f"Style takes 1 to {MAX_ENTRIES} pictures, got {len(given)}.")
    read = [_reference(one, f"Style's picture {at + 1}") for at, one in enumerate(given)]
    return tuple(read) if len(read) > 1 else read[0]


def _reference(given: Any, name: str) -> Picture:
    return Picture.of(given, name=name, background=WHITE, longest=LONGEST)


def _blocks(blocks: object) -> Any:
    """A preset's name, or pairs of block and weight; which there are, the model knows."""
    if isinstance(blocks, str):
        return blocks
    pairs = list(blocks.items()) if isinstance(blocks, Mapping) else blocks
    if not isinstance(pairs, list | tuple) or not 0 < len(pairs) <= 64:
        raise TypeError(f"blocks must be a preset's name or a mapping from block to weight, got {blocks!r:.60}.")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(f"blocks must map names of blocks to weights, got {pair!r:.60}.")
    if len({block for block, _ in pairs}) < len(pairs):
        raise ValueError(f"blocks must give each block one weight, got {blocks!r:.200}.")
    return tuple((block, number(f"blocks[{block!r}]", value, 0, 10)) for block, value in pairs)
