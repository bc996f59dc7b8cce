"""LoRAs of the model, by their names."""

from __future__ import annotations

from dataclasses import dataclass

from ctrl.recipe.checks import name, number, set_field, suggest_arguments, switch


@suggest_arguments
@dataclass(frozen=True)
class Lora:
    """A LoRA of the model (arXiv 2106.09685).

    - `name` is the one it has in the model.
    - `weight` multiplies the change it makes, -10 to 10.
    - `on=False` switches it off and keeps its settings.
    """

    name: str
    weight: float = 1.0
    on: bool = True

    def __post_init__(self) -> None:
        name("name", self.name, "one of the model's LoRAs")
        set_field(self, "weight", number("weight", self.weight, -10, 10))
        switch("on", self.on)

    @property
    def sort_key(self) -> tuple[str, float]:
        """Its place among other LoRAs."""
        return (self.name, self.weight)
