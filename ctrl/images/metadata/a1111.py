"""The text AUTOMATIC1111, Forge, SD.Next and Civitai write into pictures under "parameters".

a red ball, <lora:toy:0.8>
Negative prompt: blurry
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, Version: v1.10.1
"""

from __future__ import annotations

import json
import re
from typing import Any

from ctrl.images.metadata.generation import (
    Generation,
    entry_note,
    integer,
    left_out,
    number,
    plain_sampler,
    plain_schedule,
    size_of,
    vae_note,
    without_loras,
)
from ctrl.images.metadata.lora_tags import as_tag

# Of a line of its own, else anywhere, since some write all in one line.
NEGATIVE = (re.compile(r"(?:^|\n)[ \t]*Negative prompt:"), re.compile(r"\sNegative prompt:"))
SETTINGS = (
    re.compile(r"(?:^|\n|(?<=Negative prompt:)|(?<=Negative prompt: ))[ \t]*Steps: ?\d"),
    re.compile(r"(?:^|\n)[ \t]*(?=[A-Z][\w ]{0,30}: )(?=[^\n]*\bSteps: ?\d)(?=[^\n]*\b(?:Sampler|Seed|Size): )"),
    re.compile(r"(?<=\s)Steps: ?\d+, ?(?=[A-Z][\w ]{0,30}: )"),
)
KEY = re.compile(r"[,\s]*([A-Za-z][\w /\-]{0,60}):[ \t]*")
NEXT = re.compile(r",\s*(?=[A-Z][\w /\-]{0,60}:[ \t])|\n")
# Settings that are not needed to make the picture again, or are read elsewhere.
SILENT = ("hash", "version", "civitai", "created date", "schedule type", "ensd", "rng", "user", "time taken")
NAMES = {
    "euler": "Euler", "euler a": "Euler a", "heun": "Heun", "ddim": "DDIM", "pndm": "PLMS", "dpm++ 2m": "DPM++ 2M",
    "dpm++ 2m sde": "DPM++ 2M SDE", "dpm++ sde": "DPM++ SDE", "unipc": "UniPC", "lcm": "LCM", "ddpm": "DDPM",
    "tcd": "TCD",
}  # fmt: skip
SCHEDULE_NAMES = {"karras": "Karras", "exponential": "Exponential", "trailing": "SGM Uniform"}


def read(text: str) -> Generation:
    """The settings in the text; each that ctrl has no counterpart of becomes a note."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    at = next((found for form in SETTINGS if (found := [match.start() for match in form.finditer(text)])), [])
    head, settings = (text[: at[-1]], _settings(text[at[-1] :])) if at else (text, {})
    form = next((form for form in NEGATIVE if form.search(head)), NEGATIVE[0])
    positive, *negative = form.split(head, maxsplit=1)
    prompt, loras, tag_notes = without_loras(positive)
    taken = {name.lower(): value for name, value in settings.items()}
    sampler, schedule = plain_sampler(str(taken.pop("sampler", ""))) if "sampler" in taken else (None, None)
    width, _, height = str(taken.pop("size", "")).partition("x")
    later = any(name.startswith("hires") for name in taken)  # then its strength is that of the second pass
    strength = None if later else number(taken.pop("denoising strength", None))
    return Generation(
        program="SD.Next" if "sd.next" in str(taken.get("app", "")).lower() else "A1111",
        prompt=prompt,
        negative="".join(negative).strip(),
        steps=integer(taken.pop("steps", None)),
        sampler=sampler,
        schedule=plain_schedule(str(taken["schedule type"])) if "schedule type" in taken else schedule,
        guidance=number(taken.pop("cfg scale", None)),
        seed=integer(taken.pop("seed", None)),
        variation=_variation(taken),
        size=size_of(width, height),
        strength=strength,
        model=str(taken.pop("model")) if "model" in taken else None,
        clip_skip=integer(taken.pop("clip skip", None)),
        loras=loras,
        notes=(*tag_notes, *_notes(settings, taken, strength), *([] if loras else _resources(settings))),
    )


def to_parameters(generation: Generation) -> str:
    """The text for galleries and other programs; `read` gives the same values back."""
    loras = "".join(f" {as_tag(lora)}" for lora in generation.loras)
    lines = [generation.prompt + loras]
    if generation.negative:
        lines.append(f"Negative prompt: {generation.negative}")
    sampler, schedule, size = generation.sampler, generation.schedule, generation.size
    settings = {
        "Steps": generation.steps,
        "Sampler": NAMES.get(sampler, sampler) if sampler else None,
        "Schedule type": SCHEDULE_NAMES.get(schedule, schedule) if schedule else None,
        "CFG scale": None if generation.guidance is None else f"{generation.guidance:g}",
        "Seed": generation.seed,
        "Variation seed": generation.variation[0] if generation.variation else None,
        "Variation seed strength": f"{generation.variation[1]:g}" if generation.variation else None,
        "Size": f"{size[0]}x{size[1]}" if size else None,
        "Model": generation.model,
        "Denoising strength": None if generation.strength is None else f"{generation.strength:g}",
        "Clip skip": generation.clip_skip,
        "Version": generation.program,
    }
    written = [f"{name}: {_quoted(str(value))}" for name, value in settings.items() if value is not None]
    return "\n".join([*lines, ", ".join(written)])


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n\"]", value) else value


def _settings(text: str) -> dict[str, Any]:
    """The keys and values of the last line: plain up to the next key, quoted, or JSON."""
    settings: dict[str, Any] = {}
    at = 0
    while match := KEY.match(text, at):
        at = match.end()
        try:
            if text[at : at + 1] not in ('"', "[", "{"):
                raise ValueError
            value, at = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            end = NEXT.search(text, at)
            value, stop = (text[at : end.start()], end.start()) if end else (text[at:], len(text))
            value, at = value.strip(), stop
        settings.setdefault(match[1], value)
    return settings


def _variation(taken: dict[str, Any]) -> tuple[int, float] | None:
    """The variation seed and its strength, taken out; None where there is no strength."""
    seed, strength = integer(taken.get("variation seed")), number(taken.get("variation seed strength"))
    if seed is None or strength is None:
        return None
    del taken["variation seed"], taken["variation seed strength"]
    return seed, strength


def _notes(settings: dict[str, Any], taken: dict[str, Any], strength: float | None) -> tuple[str, ...]:
    notes = []
    if strength is not None:
        notes.append("the image it was made from is not in the file; give it as image=...")
    for name, value in settings.items():
        if name.lower() in taken and not any(word in name.lower() for word in SILENT):
            notes.append(vae_note(str(value)) if name.lower() == "vae" else entry_note(name, value))
    return tuple(notes)


def _resources(settings: dict[str, Any]) -> list[str]:
    """Notes on the LoRAs that Civitai's own generator names beside a prompt without tags."""
    listed = settings.get("Civitai resources")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return [
        left_out(f"the LoRA {entry.get('modelName') or entry.get('modelVersionId')!s:.60} at {entry['weight']!s:.10}")
        for entry in entries
        if "weight" in entry and str(entry.get("type")).lower() in ("lora", "lycoris", "dora")
    ]
