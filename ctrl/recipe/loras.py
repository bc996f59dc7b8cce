"""LoRAs of the model, by their names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ctrl.images import LoraUse, as_tag, lora_tags
from ctrl.recipe.blends import Blend
from ctrl.recipe.checks import name, number, rebuilt, set_field, suggest_arguments, switch

LETTERS = 64  # of a name


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


@dataclass(frozen=True)
class PromptLora(Lora):
    """A LoRA that only the prompt names, `<lora:name:0.8>`; a model that does not have it draws without."""

    @property
    def tag(self) -> str:
        """How it is written in a prompt: its weight for the text encoders first, as in AUTOMATIC1111's web UI."""
        return as_tag(LoraUse(self.name, self.weight, self.text))


def without_tags(prompt: str | Blend) -> tuple[str | Blend, tuple[PromptLora, ...]]:
    """A prompt without its `<lora:name:weight>` tags, and their LoRAs.

    In a blend tags are text, and so are tags with settings unknown here.
    """
    if isinstance(prompt, Blend) or "<" not in prompt:
        return prompt, ()
    tags = [tag for tag in lora_tags(prompt) if not tag.unread and 0 < len(tag.lora.name) <= LETTERS]
    bare = prompt
    for tag in reversed(tags):
        bare = bare[: tag.start] + bare[tag.end :]
    loras = tuple(PromptLora(tag.lora.name, tag.lora.weight, text=tag.lora.text) for tag in tags)
    return bare.strip() if tags else prompt, loras


def of_model(loras: Sequence[Lora], names: Collection[str]) -> list[tuple[str, float, float]]:
    """Names and weights for `Model.with_loras`, `names` being its LoRAs: those of the prompt only where it has them."""
    return [(lora.name, *lora.weights) for lora in loras if lora.name in names or not isinstance(lora, PromptLora)]


def effective(loras: Sequence[Lora]) -> tuple[Lora, ...]:
    """The LoRAs that are on and have a weight, sorted; one that is listed several times has the sum of its weights.

    `text` is None where both weights are equal. One that only the prompt names stays a `PromptLora`.
    """
    required = {lora.name for lora in loras if lora.on and not isinstance(lora, PromptLora)}
    totals: dict[str, tuple[float, float]] = {}
    for lora in sorted((lora for lora in loras if lora.on), key=lambda lora: lora.sort_key):
        before = totals.get(lora.name, (0.0, 0.0))
        totals[lora.name] = (before[0] + lora.weights[0], before[1] + lora.weights[1])
    kinds = {name: Lora if name in required else PromptLora for name in totals}
    return tuple(
        rebuilt(kinds[name](name), weight=weight, text=None if text == weight else text)
        for name, (weight, text) in totals.items()
        if weight or text
    )
