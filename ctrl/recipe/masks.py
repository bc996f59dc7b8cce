"""Masks of a recipe's parts: pictures, or words whose attention makes the mask while the picture is made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from ctrl.images import PictureLike
from ctrl.recipe import checks
from ctrl.recipe.checks import MAX_ENTRIES, integer, number, one_of, rebuilt, set_field, suggest_arguments

Before = Literal["everywhere", "nowhere"]
BEFORE: tuple[Before, ...] = get_args(Before)
P = TypeVar("P")


@suggest_arguments
@dataclass(frozen=True)
class Words:
    """A mask that a run makes of its own attention: white where places attend to some words of its prompt.

    - `words` is a word or phrase of the recipe's prompt, or a list of them, whose shares of attention are added.
    - `start`, 0 to 1, is the part of the run after which the mask acts.
    - `threshold`, 0 to 1: white is what is above this part of the map's range.
    - `occurrence` counts from 0, for a word that the prompt has more than once.
    - `before` is the mask before `start`, and while there is no map yet: "everywhere" (white) or "nowhere" (black). A
      region's is always "nowhere".

    The map is a mean over heads and over the up blocks of the U-Net whose shorter side has 8 cells or more, as in
    `ctrl.Watch`, of the last three steps in which the part with this mask was in use. So the mask follows the picture.
    It fits `mask` of controls, styles, regions and edits and `map` of a `Guidance`. To use the mask of a finished
    picture instead, give `shot.attention["shirt"].mask(0.4)`.
    """

    words: str | Sequence[str]
    start: float = 0.3
    threshold: float = 0.5
    occurrence: int = 0
    before: Before = "everywhere"

    def __post_init__(self) -> None:
        set_field(self, "words", _words(self.words))
        set_field(self, "start", number("start", self.start, 0, 1))
        set_field(self, "threshold", number("threshold", self.threshold, 0, 1))
        set_field(self, "occurrence", integer("occurrence", self.occurrence, 0, 1000))
        one_of("before", self.before, BEFORE)

    def __str__(self) -> str:
        return f"where {' and '.join(map(repr, self.each))} {'gets' if len(self.each) == 1 else 'get'} attention"

    @property
    def each(self) -> tuple[str, ...]:
        """The words and phrases, one or several."""
        return (self.words,) if isinstance(self.words, str) else tuple(self.words)

    @property
    def asked(self) -> tuple[tuple[str, ...], int]:
        """What its map depends on: the words and their occurrence."""
        return self.each, self.occurrence

    @property
    def acts(self) -> bool:
        """Whether the mask acts at a step, rather than `before`; of `Words` that `at` returned."""
        return self.start == 0

    @property
    def sha256(self) -> str:
        """A digest for sort keys, as pictures have one. `start` comes last, since `at` changes it over a run."""
        content = repr((self.each, self.threshold, self.occurrence, self.before))
        return f"{hashlib.sha256(content.encode()).hexdigest()} {self.start!r}"

    def at(self, index: int, count: int) -> Words:
        """The mask of evaluation `index` of `count`: `start` is 0 where it acts and 1 where it does not yet."""
        return rebuilt(self, start=0.0 if index / count >= self.start else 1.0)


MaskLike: TypeAlias = PictureLike | Words


def mask(value: Any, name: str = "mask") -> Any:
    """A soft mask in grey, `Words`, or None."""
    return value if isinstance(value, Words) else checks.mask(value, name)


def partial_mask(mask: Any) -> Any:
    """A mask, or None for a picture that is white all over, which changes nothing."""
    return None if mask is not None and words_of(mask) is None and mask.range == (255, 255) else mask


def at_step(part: P, index: int, count: int, field: str = "mask") -> P:
    """A part of a recipe with its mask as it is at a step."""
    words = getattr(part, field)
    return rebuilt(part, **{field: words.at(index, count)}) if isinstance(words, Words) else part


def without_words(part: P) -> P:
    """A part whose mask is None where it is `Words`: what of it can be prepared before the run."""
    return rebuilt(part, mask=None) if isinstance(getattr(part, "mask", None), Words) else part


def words_of(value: Any) -> Words | None:
    """A mask if it is `Words`, else None."""
    return value if isinstance(value, Words) else None


def _words(words: Any) -> Any:
    each = (words,) if isinstance(words, str) else tuple(words) if isinstance(words, list | tuple) else ()
    if not 0 < len(each) <= MAX_ENTRIES or not all(isinstance(one, str) and one.strip() for one in each):
        raise TypeError(
            f"words must be a word or phrase of the prompt, or a list of 1 to {MAX_ENTRIES}, got {words!r:.60}."
        )
    each = tuple(checks.text("words", one) for one in each)
    return each if len(each) > 1 else each[0]
