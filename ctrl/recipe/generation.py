"""Generation parameters read from another program's picture, as the arguments of a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ctrl.caller import warn_caller
from ctrl.images import MAX_SIDE, Generation, LoraUse, read_generation
from ctrl.prompts import HIGHEST, escape, parse
from ctrl.recipe.checks import MAX_ENTRIES
from ctrl.recipe.loras import Lora
from ctrl.recipe.samplers import SAMPLERS, SPACINGS
from ctrl.recipe.seeds import MAX_SEED, SeedBlend

PNG = b"\x89PNG"  # how its files begin
WEIGHT = re.compile(r":\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*\)")  # of a group in a prompt
MAX_STEPS, MAX_GUIDANCE = 1000, 100.0


def arguments_in(data: bytes, name: str) -> dict[str, Any]:
    """The arguments in another program's picture, a file of this `name`; each setting left out is a warning.

    A ValueError if there are none.
    """
    generation = read_generation(data) if data.startswith((PNG, b"\xff\xd8\xff", b"RIFF")) else None
    if generation is None:
        description = "a PNG without a recipe" if data.startswith(PNG) else "not a PNG, JPEG or WebP with a recipe"
        raise ValueError(f"{name!r} is {description}; Shot.save writes one into a PNG.")
    arguments, notes = arguments_of(generation)
    for note in notes:
        warn_caller(f"{name}: {note}")
    return arguments


def arguments_of(generation: Generation) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments that the picture's metadata give, and a note on everything that was left out."""
    limits = {"steps": (1, MAX_STEPS), "guidance": (0, MAX_GUIDANCE), "seed": (0, MAX_SEED)}
    arguments: dict[str, Any] = {}
    notes = list(generation.notes)
    for name in ("prompt", "negative"):
        arguments[name], cut = _weighed(getattr(generation, name))
        notes += [f"{name}: {note}" for note in cut]
    for name, (low, high) in limits.items():
        value = getattr(generation, name)
        if value is not None and low <= value <= high:
            arguments[name] = value
        elif value is not None:
            notes.append(f"{name} {value} is not from {low} to {high:g} and was left out")
    if generation.variation is not None and "seed" in arguments:
        other, strength = generation.variation
        if 0 <= other <= MAX_SEED and 0 <= strength <= 1:
            arguments["seed"] = SeedBlend(arguments["seed"], other, strength)
        else:
            notes.append(f"variation seed {other} with strength {strength:g} is out of range and was left out")
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
    arguments["loras"], unfit = _loras(generation.loras)
    notes += unfit
    if generation.strength is not None:
        arguments["strength"] = min(max(generation.strength, 0.0), 1.0)
    if generation.model is not None:
        notes.append(f"it was made with the model {generation.model!r:.80}; load that one with ctrl.load")
    if generation.clip_skip is not None and generation.clip_skip > 1:
        skipped = f"load it with ctrl.load(..., clip_skip={generation.clip_skip - 1})"
        notes.append(f"clip skip {generation.clip_skip} belongs to the model here: {skipped}")
    return arguments, tuple(notes)


def _weighed(prompt: str) -> tuple[str, list[str]]:
    """A prompt whose words' weights are within bounds, and a note if some were not."""
    try:
        parse(prompt)
        return prompt, []
    except ValueError as error:
        reason = str(error).partition("; ")[0]
    cut = WEIGHT.sub(lambda match: f":{min(max(float(match[1]), 0.0), HIGHEST):g})", prompt)
    try:
        parse(cut)
        return cut, [f"{reason}; such weights were cut to 0 or {HIGHEST:g}"]
    except ValueError:  # those that were multiplied
        return escape(prompt), [f"{reason}; its parentheses and brackets are text"]


def _loras(uses: Sequence[LoraUse]) -> tuple[list[Lora], list[str]]:
    """The LoRAs within a recipe's bounds, and a note on every other."""
    loras, notes = list[Lora](), list[str]()
    for use in uses:
        try:
            if len(loras) == MAX_ENTRIES:
                raise ValueError(f"a recipe has at most {MAX_ENTRIES}")
            loras.append(Lora(use.name, use.weight, text=use.text))
        except (ValueError, TypeError) as error:
            notes.append(f"the LoRA {use.name!r:.80} was left out: {str(error).rstrip('.')}")
    return loras, notes
