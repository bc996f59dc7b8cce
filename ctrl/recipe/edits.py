"""Edits by Prompt-to-Prompt: a prompt's picture that keeps what another prompt's picture has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ctrl.recipe.checks import (
    MAX_ENTRIES,
    PER_PICTURE,
    PICTURE,
    number,
    one_of,
    prompt,
    rebuilt,
    set_field,
    suggest_arguments,
    switch,
    text,
)
from ctrl.recipe.masks import MaskLike, mask
from ctrl.recipe.schedule import Schedule, Weigh, highest, hold, weight

Exchanged = Literal["replace", "refine"]
EXCHANGED: tuple[Exchanged, ...] = get_args(Exchanged)
CROSS, SELF = hold(1.0, until=0.8), hold(1.0, until=0.4)
Weights = tuple[tuple[str, float | Schedule], ...]


@suggest_arguments
@dataclass(frozen=True)
class LocalBlend:
    """Local blend: only the places of these words may change.

    - `words` are words or phrases of either prompt. Their maps in both runs, added up over the steps so far, are
      divided by their maximum; where one is over `threshold`, 0 to 1, the edited picture is drawn, elsewhere the
      source's.
    - `start`, 0 to 1, is the part of the run that goes by before the first blend.
    """

    words: str | Sequence[str]
    threshold: float = 0.3
    start: float = 0.2

    def __post_init__(self) -> None:
        set_field(self, "words", _words(self.words))
        set_field(self, "threshold", number("threshold", self.threshold, 0, 1))
        set_field(self, "start", number("start", self.start, 0, 1))

    def acts(self, index: int, count: int) -> bool:
        """Whether it acts after evaluation `index` of `count`."""
        return index >= self.start * count


@suggest_arguments
@dataclass(frozen=True)
class Edit:
    """The recipe's prompt as an edit of another prompt's picture, by Prompt-to-Prompt (arXiv 2208.01626).

    The `source` runs beside the recipe, from the same seed and with all its other settings, and its attention takes the
    place of the recipe's own. So a step costs two evaluations of the model.

    - `source` is the prompt whose picture is edited.
    - `cross`, 0 to 1, a number or a schedule, is how far words attend where the source's attended, and
      `self_attention` how far places attend as in the source, in layers of at most a quarter of the latents' side.
      A schedule's window is the paper's number of steps.
    - `exchanged` says what happens where words of the source were exchanged: "replace" lets the new words attend where
      the old ones did, "refine" only those that both prompts have. Added words always attend by themselves.
    - `words` gives words of the recipe's prompt a `cross` of their own, `{"blue": hold(1, until=0.4)}`.
    - `blend` keeps all but the places of some words as in the source: words, or a `LocalBlend`.
    - `mask` is a soft mask, white where the picture may change, such as `attention["shirt"].mask(0.4)` of a shot; or
      `Words` of the recipe's prompt, whose mask follows the edited picture.
    - `on=False` switches it off and keeps its settings.

    The weights of words in the recipe's prompt, `(blue:1.5)`, are the paper's reweighting.
    """

    source: str = field(metadata=PER_PICTURE)
    cross: float | Schedule = CROSS
    self_attention: float | Schedule = SELF
    exchanged: Exchanged = "replace"
    words: Mapping[str, float | Schedule] | Sequence[tuple[str, float | Schedule]] = ()
    blend: str | Sequence[str] | LocalBlend | None = None
    mask: MaskLike | None = field(default=None, metadata=PICTURE)
    on: bool = True

    def __post_init__(self) -> None:
        prompt("source", self.source)
        set_field(self, "cross", weight("cross", self.cross, 1.0))
        set_field(self, "self_attention", weight("self_attention", self.self_attention, 1.0))
        one_of("exchanged", self.exchanged, EXCHANGED)
        set_field(self, "words", _pairs(self.words))
        if self.blend is not None and not isinstance(self.blend, LocalBlend):
            set_field(self, "blend", LocalBlend(self.blend))
        set_field(self, "mask", mask(self.mask))
        switch("on", self.on)

    @property
    def acts(self) -> bool:
        """Whether it has any effect in a run; then its source runs along at every step."""
        masked = self.blend is not None or self.mask is not None
        return self.on and (masked or any(highest(weight) > 0 for weight in self.weights.values()))

    @property
    def weights(self) -> dict[str, float | Schedule]:
        """Its weights by their names, the words' in quotes."""
        own = {f"words[{word!r}]": weight for word, weight in self.by_word}
        return {"cross": self.cross, "self_attention": self.self_attention, **own}

    @property
    def by_word(self) -> Weights:
        """The pairs of a word and its weight."""
        pairs: Any = self.words
        return tuple(pairs)

    def effective(self, weigh: Weigh) -> Edit:
        """The edit with `weigh` applied to its weights, and its words sorted; see `Recipe.canonical`."""
        words = tuple(sorted(((word, weigh(value)) for word, value in self.by_word), key=lambda pair: pair[0]))
        return rebuilt(self, cross=weigh(self.cross), self_attention=weigh(self.self_attention), words=words, on=True)


def _words(words: object) -> tuple[str, ...]:
    names = (words,) if isinstance(words, str) else words
    if not isinstance(names, list | tuple) or not 0 < len(names) <= MAX_ENTRIES:
        raise TypeError(f"blend must be 1 to {MAX_ENTRIES} words, got {words!r:.60}.")
    for name in names:
        if not text("blend", name).strip():
            raise ValueError(f"blend must be words of a prompt, got {name!r:.60}.")
    return tuple(names)


def _pairs(words: object) -> Weights:
    """Pairs of a word and its weight."""
    pairs = list(words.items()) if isinstance(words, Mapping) else words
    if not isinstance(pairs, list | tuple) or len(pairs) > MAX_ENTRIES:
        raise TypeError(f"words must map at most {MAX_ENTRIES} words to weights, got {words!r:.60}.")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str) or not pair[0].strip():
            raise TypeError(f"words must map words to weights, got {pair!r:.60}.")
    if len({word for word, _ in pairs}) < len(pairs):
        raise ValueError(f"words must give each word one weight, got {words!r:.200}.")
    return tuple((text("words", word), weight(f"words[{word!r:.60}]", value, 1.0)) for word, value in pairs)
