"""StyleAligned: a style taken from another recipe's picture, without an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctrl.recipe.checks import rebuilt, set_field, suggest_arguments, switch
from ctrl.recipe.schedule import Schedule, Weigh, highest, weight


@suggest_arguments
@dataclass(frozen=True)
class StyleAligned:
    """A picture in the style of another recipe's, by self-attention shared with it (arXiv 2312.02133).

    The reference runs beside the recipe, with the recipe's sampler, steps and size and all its own settings besides, so
    a step costs two evaluations of the model. It needs no adapter.

    - `reference` is a `Recipe`, or a `Shot`, which has one.
    - `weight`, 0 to 10, a number or a schedule, is how strongly its places are attended to. 1 is as published, and
      suits a prompt that names the style too. 2, which the authors use for a reference picture, keeps the style where
      the prompt names none. `python -m ctrl.atelier.measure --only aligned` measures both.
    - `on=False` switches it off and keeps its settings.
    """

    reference: Any  # a Recipe, which this file cannot import: its own file imports this one
    weight: float | Schedule = 1.0
    on: bool = True

    def __post_init__(self) -> None:
        set_field(self, "reference", getattr(self.reference, "recipe", self.reference))
        if not hasattr(self.reference, "canonical"):
            got = type(self.reference).__name__
            raise TypeError(f"reference must be a Recipe or a Shot, got {got}; write StyleAligned(Recipe('a fox')).")
        if self.reference.aligned is not None:
            raise ValueError("reference must not be aligned itself; give the recipe that it is aligned to.")
        set_field(self, "weight", weight("weight", self.weight))
        switch("on", self.on)

    @property
    def acts(self) -> bool:
        """Whether it has any effect in a run; then its reference runs along at every step."""
        return self.on and highest(self.weight) > 0

    def effective(self, weigh: Weigh, of: Any) -> StyleAligned:
        """The same with `weigh` applied to its weight, and the reference as it runs beside the recipe `of`."""
        settings = {name: getattr(of, name) for name in ("sampler", "spacing", "steps", "width", "height")}
        return rebuilt(
            self, weight=weigh(self.weight), reference=rebuilt(self.reference, **settings).canonical, on=True
        )
