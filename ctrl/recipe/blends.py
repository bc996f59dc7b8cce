"""Blends: several prompts as one, each with a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ctrl.prompts import simplified
from ctrl.recipe.checks import MAX_ENTRIES, prompt, rebuilt, set_field, suggest_arguments
from ctrl.recipe.schedule import Schedule, Weigh, highest, values_of, weight

Parts: TypeAlias = Mapping[str, float | Schedule] | Sequence[tuple[str, float | Schedule]]
ROUNDING = 1e-9  # how far a sum of weights may be from 1 to count as 1


@suggest_arguments
@dataclass(frozen=True)
class Blend:
    """A weighted mean of the embeddings of several prompts, to use in place of a prompt.

    - `parts` gives each prompt its weight, 0 to 10, a number or a schedule: `Blend({"a cat": 0.6, "a dog": 0.4})`, or
      a list of pairs. Up to 16 prompts, each once; their order does not matter.

    The embedding is Σ wᵢ·eᵢ / Σ wᵢ, and so are SDXL's pooled embedding and the weights of the words, token by token
    (the average of ComfyUI's ConditioningAverage and compel's `.blend()`). A prompt of weight 0 is the same as none;
    one that is alone is bit-equal to the plain prompt. At a step where none has a weight, the prompt is empty. Shorter
    prompts are padded to the longest.
    """

    parts: Parts

    def __post_init__(self) -> None:
        set_field(self, "parts", _parts(self.parts))

    def __str__(self) -> str:
        return " + ".join(f"{text} ({values_of(value)})" for text, value in self.pairs)

    @property
    def pairs(self) -> tuple[tuple[str, float | Schedule], ...]:
        """The prompts and their weights."""
        pairs: Any = self.parts
        return tuple(pairs)

    @property
    def changes(self) -> bool:
        """Whether a weight changes over the run."""
        return any(isinstance(value, Schedule) for _, value in self.pairs)

    def effective(self, weigh: Weigh) -> str | Blend:
        """The blend with `weigh` applied to its weights, in one spelling for the same effect; see `Recipe.canonical`.

        Weights that are all numbers add up to 1; a single prompt is a string.
        """
        weighed = [(text, weigh(value)) for text, value in self.pairs]
        acting = sorted(((text, value) for text, value in weighed if highest(value) != 0), key=repr)
        numbers = [value for _, value in acting if not isinstance(value, Schedule)]
        if len(acting) < 2 and len(numbers) == len(acting):
            return acting[0][0] if acting else ""
        total = sum(numbers)
        if len(numbers) == len(acting) and abs(total - 1) > ROUNDING:
            acting = [(text, value / total) for text, value in zip((text for text, _ in acting), numbers, strict=True)]
        return rebuilt(self, parts=tuple(acting))


def blend(name: str, value: object) -> str | Blend:
    """A prompt, or a blend of several."""
    if isinstance(value, Mapping):
        raise TypeError(f"{name} must be a string or a Blend, got {type(value).__name__}; write Blend({value!r:.60}).")
    return value if isinstance(value, Blend) else prompt(name, value)


def effective(prompt: str | Blend, weigh: Weigh) -> str | Blend:
    """A prompt in one spelling, or a blend with `weigh` applied to its weights."""
    acting = prompt.effective(weigh) if isinstance(prompt, Blend) else prompt
    return simplified(acting) if isinstance(acting, str) else acting


def prompts_of(prompt: str | Blend) -> tuple[str, ...]:
    """The prompts of a blend, or the prompt alone."""
    return tuple(text for text, _ in prompt.pairs) if isinstance(prompt, Blend) else (prompt,)


def _parts(parts: object) -> tuple[tuple[str, float | Schedule], ...]:
    pairs = list(parts.items()) if isinstance(parts, Mapping) else parts
    if not isinstance(pairs, list | tuple) or not 0 < len(pairs) <= MAX_ENTRIES:
        raise TypeError(
            f'Blend takes 1 to {MAX_ENTRIES} prompts with their weights, Blend({{"a cat": 0.6, "a dog": 0.4}}); '
            f"got {parts!r:.60}."
        )
    checked = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError(f'Blend takes pairs of a prompt and its weight, ("a cat", 0.6); got {pair!r:.60}.')
        text = prompt("Blend's prompt", pair[0])
        checked.append((text, weight(f"Blend's weight of {text!r:.40}", pair[1])))
    if len({text for text, _ in checked}) < len(checked):
        raise ValueError(f"Blend must give each prompt one weight, got {[text for text, _ in checked]!r:.200}.")
    if all(highest(value) == 0 for _, value in checked):
        raise ValueError("Blend needs a weight above 0, and every one is 0; for no prompt write an empty one, ''.")
    return tuple(checked)
