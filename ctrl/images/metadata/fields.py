"""Settings written as JSON with a name for each: InvokeAI, SwarmUI, Fooocus, NovelAI."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ctrl.images.metadata.generation import (
    Generation,
    integer,
    left_out,
    number,
    plain_sampler,
    plain_schedule,
    size_of,
    stem,
    without_loras,
)

# Each value under the names it goes by, once case and signs are gone.
NAMES = {
    "prompt": ("positiveprompt", "prompt"),
    "negative": ("negativeprompt", "uc"),
    "steps": ("steps", "numinferencesteps"),
    "sampler": ("sampler", "samplername", "scheduler"),
    "schedule": ("schedule", "noiseschedule"),
    "guidance": ("cfgscale", "guidancescale", "cfg", "scale"),
    "seed": ("seed", "noiseseed"),
    "strength": ("strength", "initimagecreativity", "denoise"),
    "model": ("model", "modelname", "basemodel"),
    "clip_skip": ("clipskip",),
    "width": ("width",),
    "height": ("height",),
    "resolution": ("resolution",),
    "loras": ("loras",),
}
# Settings without which the picture cannot be made again.
ASKING = ("control", "ipadapter", "refiner", "hires", "hrf", "regional", "sdxl refiner", "upscale", "t2i")


def read(text: str, program: str) -> Generation:
    """The settings in a JSON object; a ValueError if it is none."""
    return from_mapping(as_object(text, program), program)


def as_object(text: str, program: str) -> dict[str, Any]:
    """A JSON object; a ValueError in a sentence for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"what {program} wrote into the picture is not JSON.") from error
    if not isinstance(value, dict):
        raise ValueError(f"what {program} wrote into the picture is no JSON object.")
    return value


def from_mapping(named: Mapping[str, Any], program: str) -> Generation:
    """The settings under whichever names they have; SwarmUI's are one level down."""
    inner = named.get("sui_image_params")
    flat = {re.sub(r"[^a-z0-9]", "", name.lower()): value for name, value in (inner or named).items()}
    values = {name: next((flat[key] for key in names if key in flat), None) for name, names in NAMES.items()}
    prompt, loras = without_loras(_text(values["prompt"]))
    sampler, schedule = plain_sampler(_text(values["sampler"])) if values["sampler"] else (None, None)
    notes = [left_out(name) for name, value in named.items() if value and any(word in name.lower() for word in ASKING)]
    strength = number(values["strength"]) if _has_image(flat) else None
    if strength is not None:
        notes.append("the image it was made from is not in the file; give it as image=...")
    size = size_of(values["width"], values["height"]) or _resolution(_text(values["resolution"]))
    return Generation(
        program=program,
        prompt=prompt,
        negative=_text(values["negative"]),
        steps=integer(values["steps"]),
        sampler=sampler,
        schedule=plain_schedule(_text(values["schedule"])) if values["schedule"] else schedule,
        guidance=number(values["guidance"]),
        seed=integer(values["seed"]),
        size=size,
        strength=strength,
        model=_name(values["model"]),
        clip_skip=integer(values["clip_skip"]) or None,
        loras=loras + _loras(values["loras"]),
        notes=tuple(notes),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _has_image(flat: Mapping[str, Any]) -> bool:
    mode = _text(flat.get("generationmode"))
    return bool(flat.get("initimage")) or "img2img" in mode or "inpaint" in mode or "outpaint" in mode


def _resolution(text: str) -> tuple[int, int] | None:
    sides = re.findall(r"\d+", text)
    return size_of(*sides) if len(sides) == 2 else None


def _name(value: Any) -> str | None:
    """A model is a file's name, or an object with one."""
    if isinstance(value, dict):
        value = value.get("name") or value.get("model_name") or value.get("key")
    return stem(value) if isinstance(value, str) and value else None


def _loras(value: Any) -> tuple[tuple[str, float], ...]:
    """InvokeAI's list of objects with a weight."""
    loras = []
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict):
            name, weight = _name(entry.get("model") or entry.get("lora")), number(entry.get("weight", 1))
            if name and weight is not None:
                loras.append((name, weight))
    return tuple(loras)
