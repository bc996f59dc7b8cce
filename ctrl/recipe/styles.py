"""Styles: reference pictures whose style is followed, through the IP-Adapter (arXiv 2308.06721)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from ctrl.images import WHITE, Picture, PictureLike
from ctrl.recipe.checks import (
    MAX_ENTRIES,
    PICTURE,
    name,
    number,
    one_of,
    rebuilt,
    set_field,
    suggest_arguments,
    switch,
)
from ctrl.recipe.masks import MaskLike, mask, partial_mask
from ctrl.recipe.schedule import Schedule, Weigh, weight

Combine = Literal["concat", "average"]
Preset = Literal[
    "all", "style", "layout", "style+layout", "style (comfyui)", "layout (comfyui)", "style+layout (comfyui)"
]
COMBINE: tuple[Combine, ...] = get_args(Combine)
LONGEST = 1024  # pixels along the longer side of a reference; image encoders read 224 or 336


@suggest_arguments
@dataclass(frozen=True)
class Style:
    """A reference picture, or several, whose style is followed.

    - `picture` is the reference, or a list of references.
    - `weight` multiplies the IP-Adapter's term in cross-attention, 0 to 10, a number or a schedule; a schedule's window
      is when the style acts.
    - `mask` is a soft mask, white where the style acts, or `Words`.
    - `blocks` says in which blocks it acts: a preset ("all", "style", "layout", "style+layout", …) or a mapping
      from block names to weights, `{"up_blocks.1": 1.0, "mid_block": 0.5}`; blocks not named are 0.
    - `negative` is a picture for the unconditional branch: a look to avoid.
    - `combine`, for several pictures: "concat" attends to the tokens of all, "average" to those of the mean of their
      embeddings.
    - `adapter` is the name of one of the model's IP-Adapters; None is its first.
    - `on=False` switches it off and keeps its settings.
    """

    picture: PictureLike | Sequence[PictureLike] = field(metadata=PICTURE)
    weight: float | Schedule = 1.0
    mask: MaskLike | None = field(default=None, metadata=PICTURE)
    blocks: Preset | Mapping[str, float] | Sequence[tuple[str, float]] = "all"
    negative: PictureLike | None = field(default=None, metadata=PICTURE)
    combine: Combine = "concat"
    adapter: str | None = None
    on: bool = True

    def __post_init__(self) -> None:
        set_field(self, "picture", _pictures(self.picture))
        set_field(self, "weight", weight("weight", self.weight))
        set_field(self, "mask", mask(self.mask))
        set_field(self, "blocks", _blocks(self.blocks))
        if self.negative is not None:
            set_field(self, "negative", _reference(self.negative, "Style's negative"))
        one_of("combine", self.combine, COMBINE)
        if self.adapter is not None:
            name("adapter", self.adapter, "one of the model's IP-Adapters")
        switch("on", self.on)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its pictures, one or several."""
        pictures: Any = self.picture
        return pictures if isinstance(pictures, tuple) else (pictures,)

    @property
    def sort_key(self) -> tuple[str, ...]:
        """The sort key: by content, so that the order in the recipe does not matter."""
        optional: tuple[Any, ...] = (self.mask, self.negative)
        digests = [picture.sha256 for picture in self.pictures]
        digests += ["" if picture is None else picture.sha256 for picture in optional]
        return (*digests, repr((self.blocks, self.combine, self.adapter)), repr(self.weight))

    def effective(self, weigh: Weigh, *, guided: bool) -> Self:
        """The style with `weigh` applied to its weight, in one spelling for the same effect; see `Recipe.canonical`.

        Without guidance there is no `negative`; one picture is always "concat", and named blocks are sorted.
        """
        return rebuilt(
            self,
            weight=weigh(self.weight),
            mask=partial_mask(self.mask),
            negative=self.negative if guided else None,
            combine=self.combine if len(self.pictures) > 1 else "concat",
            blocks=self.blocks if isinstance(self.blocks, str) else tuple(sorted(self.blocks)),
        )


def _pictures(pictures: Any) -> Any:
    if not isinstance(pictures, list | tuple):
        return _reference(pictures, "Style's picture")
    if not 0 < len(pictures) <= MAX_ENTRIES:
        raise ValueError(f"Style takes 1 to {MAX_ENTRIES} pictures, got {len(pictures)}.")
    references = [_reference(picture, f"Style's picture {index + 1}") for index, picture in enumerate(pictures)]
    return tuple(references) if len(references) > 1 else references[0]


def _reference(picture: Any, name: str) -> Picture:
    return Picture.of(picture, name=name, background=WHITE, longest=LONGEST)


def _blocks(blocks: object) -> Any:
    """A preset, or pairs of block and weight; the model checks the names of blocks."""
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
