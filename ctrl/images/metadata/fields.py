"""Settings written as JSON with a name for each: InvokeAI, SwarmUI, Fooocus, NovelAI."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ctrl.images.metadata.generation import (
    Generation,
    entry_note,
    integer,
    number,
    plain_sampler,
    plain_schedule,
    size_of,
    stem,
    vae_note,
    without_loras,
)
from ctrl.images.metadata.lora_tags import LoraUse

# Each value under the names it goes by, once case and signs are gone.
NAMES = {
    "prompt": ("positiveprompt", "prompt"),
    "negative": ("negativeprompt", "uc"),
    "steps": ("steps", "numinferencesteps"),
    "sampler": ("sampler", "samplername", "scheduler"),
    "schedule": ("schedule", "noiseschedule", "scheduler"),
    "guidance": ("cfgscale", "guidancescale", "cfg", "scale"),
    "seed": ("seed", "noiseseed"),
    "strength": ("strength", "initimagecreativity", "denoise"),
    "model": ("model", "modelname", "basemodel", "usestablediffusionmodel"),
    "clip_skip": ("clipskip", "clipstopatlayer"),
    "width": ("width",),
    "height": ("height",),
    "resolution": ("resolution",),
    "loras": ("loras",),
    "lora_weights": ("loraweights",),
    "variation": ("variationseed",),
    "variation_strength": ("variationseedstrength",),
}
NOTHING = (None, False, 0, "", "0", "None", "none", "Default", "Automatic")  # what a setting says that is off
# Settings without which the picture is the same, by a part of their names.
HARMLESS = re.compile(
    r"version|hash|date|time|mode$|scheme|created|signed|request|device|aspect|nsamples|initimage|legacy|^id$|image$|"
    r"path|user|fullprompt|fullnegativeprompt|^type$|^threshold$|perlin"
)


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
    prompt, loras, notes = without_loras(_text(values["prompt"]))
    apart = flat.keys() & {"sampler", "samplername", "schedule", "noiseschedule"}  # else its scheduler is the sampler
    schedule = _text(values["schedule"]) if apart else ""
    sampler, ending = plain_sampler(_text(values["sampler"])) if values["sampler"] else (None, None)
    strength = number(values["strength"]) if _has_image(flat) else None
    variation = _variation(values)
    notes += _further(inner or named, given=variation is not None)
    if strength is not None:
        notes.append("the image it was made from is not in the file; give it as image=...")
    size = size_of(values["width"], values["height"]) or _resolution(_text(values["resolution"]))
    return Generation(
        program=program,
        prompt=prompt,
        negative=_text(values["negative"]),
        steps=integer(values["steps"]),
        sampler=sampler,
        schedule=plain_schedule(schedule) if schedule else ending,
        guidance=number(values["guidance"]),
        seed=integer(values["seed"]),
        size=size,
        strength=strength,
        model=_name(values["model"]),
        clip_skip=abs(integer(values["clip_skip"]) or 0) or None,
        variation=variation,
        loras=loras or _loras(values["loras"], values["lora_weights"]),
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


def _variation(values: Mapping[str, Any]) -> tuple[int, float] | None:
    seed, strength = integer(values["variation"]), number(values["variation_strength"])
    return None if seed is None or not strength else (seed, strength)


def _further(named: Mapping[str, Any], *, given: bool) -> list[str]:
    """A note on every setting that is on and is not read."""
    known = {key for keys in NAMES.values() for key in keys if given or not key.startswith("variation")}
    notes = []
    for name, value in named.items():
        key = re.sub(r"[^a-z0-9]", "", name.lower())
        if value not in NOTHING and value != {} and value != [] and key not in known and not HARMLESS.search(key):
            vae = _name(value) if key == "vae" else None
            notes.append(entry_note(name, value) if vae is None else vae_note(vae))
    return notes


def _loras(value: Any, weights: Any) -> tuple[LoraUse, ...]:
    """Objects with a weight (InvokeAI), names beside a list of weights (SwarmUI), or pairs (Fooocus)."""
    loras = []
    strengths = weights if isinstance(weights, list) else []
    for at, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, dict):
            name, weight = _name(entry.get("model") or entry.get("lora")), number(entry.get("weight", 1))
        elif isinstance(entry, list) and len(entry) >= 2:
            name, weight = _name(entry[0]), number(entry[1])
        else:
            name, weight = _name(entry), number(strengths[at]) if at < len(strengths) else 1.0
        if name and weight is not None:
            loras.append(LoraUse(name, weight))
    return tuple(loras)
