"""Regions: prompts for parts of the picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ctrl.images import PictureLike
from ctrl.recipe.checks import PER_PICTURE, PICTURE, mask, number, prompt, set_field, suggest_arguments, switch


@suggest_arguments
@dataclass(frozen=True)
class Region:
    """A prompt for a part of the picture, in addition to the recipe's prompt.

    - `prompt` may weight words, `(word:1.2)`.
    - `mask` is a soft mask, white where the prompt acts; where regions cover the picture fully, the recipe's prompt
      has no effect.
    - `weight`, 0 to 1, is how far it replaces the recipe's prompt.
    - `on=False` switches it off and keeps its settings.
    """

    prompt: str = field(metadata=PER_PICTURE)
    mask: PictureLike = field(metadata=PICTURE)
    weight: float = 1.0
    on: bool = True

    def __post_init__(self) -> None:
        prompt("prompt", self.prompt)
        if self.mask is None:
            raise TypeError("mask must be a picture of where the region is, got None; without one it is the prompt.")
        set_field(self, "mask", mask(self.mask))
        set_field(self, "weight", number("weight", self.weight, 0, 1))
        switch("on", self.on)

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """The sort key: by content, so that the order in the recipe does not matter."""
        mask: Any = self.mask
        return (self.prompt, mask.sha256, self.weight)
