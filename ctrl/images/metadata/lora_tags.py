"""LoRAs inside a prompt, `<lora:name:0.8>`, as AUTOMATIC1111's web UI reads them."""

from __future__ import annotations

import re
from typing import NamedTuple

TAG = re.compile(r"<(?:lora|lyco):([^:<>]{1,200})((?::[^:<>]{0,100}){0,8})>", re.IGNORECASE)
NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*")
LIMIT = 10.0  # of a weight


class LoraUse(NamedTuple):
    """A LoRA by its name, its weight for the U-Net, and that for the text encoders, None for the same."""

    name: str
    weight: float
    text: float | None = None


class Tag(NamedTuple):
    """A tag's place in the prompt, and its LoRA; `unread` are further settings, which have no counterpart here."""

    start: int
    end: int
    lora: LoraUse
    unread: str


def lora_tags(prompt: str) -> list[Tag]:
    """The tags of a prompt, in order; one whose weight is no number, or out of bounds, is text.

    The first number is the text encoders' weight and the second the U-Net's, the first's where there is none; `te=` and
    `unet=` name them.
    """
    return [tag for match in TAG.finditer(prompt) if (tag := _tag(match)) is not None]


def as_tag(lora: LoraUse) -> str:
    """The tag that `lora_tags` reads as this."""
    weights = f"{lora.weight:g}" if lora.text is None else f"{lora.text:g}:{lora.weight:g}"
    return f"<lora:{lora.name}:{weights}>"


def _tag(match: re.Match[str]) -> Tag | None:
    settings = match[2].split(":")[1:]
    named = {key.strip().lower(): value for key, equals, value in (one.partition("=") for one in settings) if equals}
    plain = [one for one in settings if "=" not in one]
    text, unet = named.pop("te", None) or next(iter(plain), "1"), named.pop("unet", None) or next(iter(plain[1:]), None)
    if not all(NUMBER.fullmatch(one) and abs(float(one)) <= LIMIT for one in (text, unet) if one is not None):
        return None
    weight = float(text if unet is None else unet)
    own = None if unet is None or float(text) == weight else float(text)
    unread = ":".join([*plain[2:], *(f"{key}={value}" for key, value in named.items())])
    return Tag(match.start(), match.end(), LoraUse(match[1].strip(), weight, own), unread)
