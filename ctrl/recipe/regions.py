"""Regions: prompts for parts of the picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ctrl.recipe.blends import Blend, blend, effective
from ctrl.recipe.checks import PER_PICTURE, PICTURE, number, one_of, rebuilt, set_field, suggest_arguments, switch
from ctrl.recipe.masks import MaskLike, Words, mask
from ctrl.recipe.schedule import simplified

By = Literal["gate", "bias"]
BY: tuple[By, ...] = get_args(By)


@suggest_arguments
@dataclass(frozen=True)
class Region:
    """A prompt for a part of the picture, in addition to the recipe's prompt.

    - `prompt` may weight words, `(word:1.2)`, or be a `Blend` whose weights are numbers.
    - `mask` is a soft mask, white where the prompt acts, or `Words`, whose `before` is then "nowhere"; where regions
      cover the picture fully, the recipe's prompt has no effect.
    - `weight`, 0 to 1, is how far it replaces the recipe's prompt.
    - `by` is "gate", or "bias": then `prompt` is a word or phrase of the recipe's prompt, which attends more where the
      mask is white and less where it is black, in the first steps most (DenseDiffusion, arXiv 2308.12964); `weight` is
      how strongly.
    - `on=False` switches it off and keeps its settings.
    """

    prompt: str | Blend = field(metadata=PER_PICTURE)
    mask: MaskLike = field(metadata=PICTURE)
    weight: float = 1.0
    on: bool = True
    by: By = "gate"

    def __post_init__(self) -> None:
        blend("prompt", self.prompt)
        if isinstance(self.prompt, Blend) and self.prompt.changes:
            raise ValueError(
                "Region's prompt takes a Blend of numbers, and this one has a schedule; only the recipe's prompt and "
                "negative prompt change over the steps."
            )
        if self.mask is None:
            raise TypeError("mask must be a picture of where the region is, got None; without one it is the prompt.")
        checked = mask(self.mask)
        set_field(self, "mask", rebuilt(checked, before="nowhere") if isinstance(checked, Words) else checked)
        set_field(self, "weight", number("weight", self.weight, 0, 1))
        switch("on", self.on)
        one_of("by", self.by, BY)
        if self.by == "bias" and not (isinstance(self.prompt, str) and self.prompt.strip()):
            got = "an empty one" if isinstance(self.prompt, str) else "a Blend"
            raise ValueError(f"prompt must be a word or phrase of the recipe's prompt with by='bias', got {got}.")

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """The sort key: by content, so that the order in the recipe does not matter."""
        mask: Any = self.mask
        return (str(self.prompt), mask.sha256, self.weight, self.by)

    @property
    def effective(self) -> Region:
        """The region in one spelling for the same effect; see `Recipe.canonical`."""
        return rebuilt(self, prompt=effective(self.prompt, simplified))
