"""LoRAs of the model, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctrl.recipe.checks import name, number, set_field, suggest_arguments, switch


@suggest_arguments
@dataclass(frozen=True)
class Lora:
    """A LoRA of the model (arXiv 2106.09685).

    - `name` is its name in the model.
    - `weight`, -10 to 10, multiplies its change to the U-Net; `text` its change to the text encoders, None for the
      same weight.
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
        """The weights for the U-Net and for the text encoders."""
        return (self.weight, self.weight if self.text is None else self.text)

    @property
    def sort_key(self) -> tuple[str, float, float]:
        """The sort key, so that the order in the recipe does not matter."""
        return (self.name, *self.weights)


def effective(loras: Sequence[Lora]) -> tuple[Lora, ...]:
    """The LoRAs that are on and have a weight, sorted; `text` is None where both weights are equal."""
    acting = [lora for lora in loras if lora.on and any(lora.weights)]
    plain = [replace(lora, text=None) if lora.weights[0] == lora.weights[1] else lora for lora in acting]
    return tuple(sorted(plain, key=lambda lora: lora.sort_key))
