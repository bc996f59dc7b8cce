"""Directions: from the meaning of one text towards that of another."""

from __future__ import annotations

from dataclasses import dataclass

from ctrl.prompts import parse
from ctrl.recipe.checks import number, prompt, rebuilt, set_field, suggest_arguments, switch
from ctrl.recipe.schedule import Schedule, Weigh, weight

MAX_WEIGHT = 10.0


@suggest_arguments
@dataclass(frozen=True)
class Direction:
    """A move of the prompt's embedding: `Direction("by day", "at night", 0.4)`.

    - `source` and `target` are the texts that the move leads from and to, without word weights.
    - `weight`, −10 to 10, is how far it goes, a number or a schedule; below 0 it goes the other way.
    - `on=False` switches it off and keeps its settings.

    The embedding e of the recipe's prompt becomes e + weight · (e(target) − e(source)), and so does SDXL's pooled
    embedding (the edit directions of pix2pix-zero, arXiv 2302.03027, with one sentence on each side). Negative prompts
    and the prompts of regions stay. The three texts are padded to the longest.
    """

    source: str
    target: str
    weight: float | Schedule = 1.0
    on: bool = True

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            text = prompt(f"Direction's {name}", getattr(self, name))
            if any(piece.weight != 1 for piece in parse(text)):
                raise ValueError(
                    f"Direction's {name} takes no word weights, got {text!r:.60}; use the direction's own weight."
                )
        if isinstance(self.weight, Schedule):
            weight("Direction's weight", self.weight, MAX_WEIGHT)
        else:
            set_field(self, "weight", number("Direction's weight", self.weight, -MAX_WEIGHT, MAX_WEIGHT))
        switch("on", self.on)

    @property
    def sort_key(self) -> tuple[str, str, str]:
        """The sort key, so that the order in the recipe does not matter."""
        return (self.source, self.target, repr(self.weight))

    def effective(self, weigh: Weigh) -> Direction:
        """The direction with `weigh` applied to its weight, in one spelling for the same effect; `Recipe.canonical`.

        A weight below 0 is one above 0 the other way; between equal texts it is 0.
        """
        now = weigh(self.weight)
        if self.source == self.target:
            return rebuilt(self, weight=0.0)
        if isinstance(now, Schedule) or now >= 0:
            return rebuilt(self, weight=now)
        return rebuilt(self, source=self.target, target=self.source, weight=-now)
