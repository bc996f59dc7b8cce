"""LoRAs of the model, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctrl.recipe.checks import name, number, set_field, suggest_arguments, switch


@suggest_arguments
@dataclass(frozen=True)
class Lora:
    """A LoRA of the model (arXiv 2106.09685).

    - `name` is the one it has in the model.
    - `weight` multiplies the change it makes, -10 to 10; `text` that of the text encoders, None for the same.
    - `on=False` switches it off and keeps its settings.
    """

    name: str
    weight: float = 1.0
    on: bool = True
    text: float | None = None

    def __post_init__(self) -> None:
        name("name", self.name, "one of the model's LoRAs")
        set_field(self, "weight", number("weight", self.weight, -10, 10))
        if self.text is not None:
            set_field(self, "text", number("text", self.text, -10, 10))
        switch("on", self.on)

    @property
    def weights(self) -> tuple[float, float]:
        """Those of the U-Net and of the text encoders."""
        return (self.weight, self.weight if self.text is None else self.text)

    @property
    def sort_key(self) -> tuple[str, float, float]:
        """Its place among other LoRAs."""
        return (self.name, *self.weights)


def effective(loras: Sequence[Lora]) -> tuple[Lora, ...]:
    """Those that are on and have a weight, in an order of their own; one weight for both parts is spelt once."""
    acting = [one for one in loras if one.on and any(one.weights)]
    plain = [replace(one, text=None) if one.weights[0] == one.weights[1] else one for one in acting]
    return tuple(sorted(plain, key=lambda one: one.sort_key))
