"""How a picture was made, in ctrl's words for every program."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ctrl.images.metadata.lora_tags import LoraUse, lora_tags

# Every program's spelling of a sampler, once case, spaces and signs are gone.
SAMPLERS = {
    "euler": "euler", "eulera": "euler a", "eulerancestral": "euler a", "heun": "heun", "ddim": "ddim", "ddpm": "ddpm",
    "plms": "pndm", "pndm": "pndm", "dpmpp2m": "dpm++ 2m", "dpmpp2msde": "dpm++ 2m sde", "dpmppsde": "dpm++ sde",
    "unipc": "unipc", "lcm": "lcm", "tcd": "tcd",
}  # fmt: skip
SCHEDULES = {
    "karras": "karras", "exponential": "exponential", "sgmuniform": "trailing", "normal": None, "automatic": None,
    "uniform": None, "discrete": None, "simple": "trailing",
}  # fmt: skip


@dataclass(frozen=True)
class Generation:
    """How a picture was made; None is what its file does not say.

    `sampler` and `schedule` are in ctrl's words where it has the thing ("dpm++ 2m", "karras"), else in the program's.
    `variation` is the seed of the noise that `seed`'s is blended with, and how far, 0 to 1.
    `size` is (width, height) in pixels, `strength` that of image to image. `clip_skip` counts as
    AUTOMATIC1111's web UI does: 1 skips no layer.
    Each of `notes` is a sentence about a setting that has no counterpart in ctrl.
    """

    program: str
    prompt: str = ""
    negative: str = ""
    steps: int | None = None
    sampler: str | None = None
    schedule: str | None = None
    guidance: float | None = None
    seed: int | None = None
    size: tuple[int, int] | None = None
    strength: float | None = None
    model: str | None = None
    clip_skip: int | None = None
    loras: tuple[LoraUse, ...] = ()
    variation: tuple[int, float] | None = None
    notes: tuple[str, ...] = ()


def plain_sampler(name: str) -> tuple[str, str | None]:
    """A sampler in ctrl's words, and the schedule its name ends with: "DPM++ 2M Karras" is ("dpm++ 2m", "karras")."""
    words = name.strip()
    for ending, schedule in ((" karras", "karras"), (" exponential", "exponential"), ("_k", "karras")):
        if words.lower().endswith(ending):
            return plain_sampler(words[: -len(ending)])[0], schedule
    bare = _bare(words)
    bare = bare.removesuffix("gpu").removeprefix("k") if bare not in SAMPLERS else bare
    return SAMPLERS.get(bare, words.lower()), None


def plain_schedule(name: str) -> str | None:
    """A schedule of noise in ctrl's words, None for the sampler's own."""
    return SCHEDULES.get(_bare(name), name.strip().lower())


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))


def integer(value: Any) -> int | None:
    """A whole number, however it was written; None for anything else."""
    whole = number(value)
    if whole is None or not whole.is_integer():
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return int(whole)


def number(value: Any) -> float | None:
    """A finite number, however it was written; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
        return None
    try:
        parsed = float(value)
    except (ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) where both are whole numbers above 0."""
    w, h = integer(width), integer(height)
    return (w, h) if w and h and w > 0 and h > 0 else None


def without_loras(prompt: str) -> tuple[str, tuple[LoraUse, ...], list[str]]:
    """A prompt without its `<lora:name:weight>`, those, and notes on what they say besides."""
    tags = lora_tags(prompt)
    for tag in reversed(tags):
        prompt = prompt[: tag.start] + prompt[tag.end :]
    notes = [left_out(f"{tag.unread} of the LoRA {tag.lora.name!r}") for tag in tags if tag.unread]
    return prompt.strip(), tuple(tag.lora for tag in tags), notes


def stem(file: str) -> str:
    """The name of a model without its folders and ending."""
    return re.split(r"[\\/]", file)[-1].removesuffix(".safetensors").removesuffix(".ckpt").removesuffix(".pt")


def left_out(what: str) -> str:
    """The note on something that has no counterpart."""
    return f"{' '.join(what.split()):.160} has no counterpart here and was left out"


def entry_note(name: str, value: Any) -> str:
    """The note on a setting that has no counterpart."""
    return left_out(f"{name}: {str(value).strip():.80}")


def vae_note(name: str) -> str:
    """The note on another VAE than the model's own."""
    return f"it was made with the VAE {stem(name)!r:.80}; load it with ctrl.load(..., vae=...)"
