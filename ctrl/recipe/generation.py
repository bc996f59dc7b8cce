"""Generation parameters read from another program's picture, as the arguments of a recipe."""

from __future__ import annotations

from typing import Any

from ctrl.images import MAX_SIDE, Generation
from ctrl.recipe.loras import Lora
from ctrl.recipe.samplers import SAMPLERS, SPACINGS

MAX_STEPS, MAX_GUIDANCE, MAX_SEED = 1000, 100.0, 2**63 - 1


def arguments_of(generation: Generation) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments that the picture's metadata give, and a note on everything that was left out."""
    limits = {"steps": (1, MAX_STEPS), "guidance": (0, MAX_GUIDANCE), "seed": (0, MAX_SEED)}
    arguments: dict[str, Any] = {"prompt": generation.prompt, "negative": generation.negative}
    notes = list(generation.notes)
    for name, (low, high) in limits.items():
        value = getattr(generation, name)
        if value is not None and low <= value <= high:
            arguments[name] = value
        elif value is not None:
            notes.append(f"{name} {value} is not from {low} to {high:g} and was left out")
    for name, value, known in (
        ("sampler", generation.sampler, SAMPLERS), ("spacing", generation.schedule, SPACINGS),
    ):  # fmt: skip
        if value in known:
            arguments[name] = value
        elif value is not None:
            notes.append(f"{name} {value!r:.60} has no counterpart here; the recipe's default is used")
    if generation.size is not None and all(8 <= side <= MAX_SIDE for side in generation.size):
        arguments["width"], arguments["height"] = generation.size
    elif generation.size is not None:
        notes.append(f"the size {generation.size} is not from 8 to {MAX_SIDE} pixels and was left out")
    arguments["loras"] = [Lora(name[:64], weight) for name, weight in generation.loras if name and abs(weight) <= 10]
    if generation.strength is not None:
        arguments["strength"] = min(max(generation.strength, 0.0), 1.0)
    if generation.model is not None:
        notes.append(f"it was made with the model {generation.model!r:.80}; load that one with ctrl.load")
    if generation.clip_skip not in (None, 1):
        notes.append(f"clip skip {generation.clip_skip} belongs to the model here and was left out")
    return arguments, tuple(notes)
