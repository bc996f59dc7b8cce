"""Settings that other programs write into their pictures."""

from __future__ import annotations

import json

from ctrl.images.metadata import a1111, comfyui, fields, invokeai
from ctrl.images.metadata.generation import Generation
from ctrl.images.metadata.lora_tags import LoraUse, Tag, as_tag, lora_tags
from ctrl.images.metadata.texts import read_texts

__all__ = ["Generation", "LoraUse", "Tag", "as_tag", "lora_tags", "read_generation", "to_parameters"]

PLAIN = {"prompt", "negative_prompt", "seed", "num_inference_steps", "steps", "guidance_scale", "sampler_name"}

to_parameters = a1111.to_parameters


def read_generation(data: bytes) -> Generation | None:
    """How the picture in a PNG, JPEG or WebP file was made, as its program wrote it; None if it holds no settings.

    Read are AUTOMATIC1111, Forge, SD.Next and Civitai (`parameters`, EXIF's UserComment), ComfyUI (`prompt`,
    `workflow`), InvokeAI (`invokeai_metadata`, `sd-metadata`, `Dream`), and the JSON of SwarmUI, Fooocus and NovelAI.
    A ValueError says which settings cannot be read.
    """
    texts = read_texts(data)
    for keyword in ("parameters", "UserComment"):
        if keyword in texts:
            return _read_parameters(texts[keyword])
    if (
        "workflow" not in texts
        and "prompt" in texts
        and not _is_json(texts["prompt"])
        and len(texts.keys() & PLAIN) > 1
    ):
        return fields.from_mapping(texts, "another program")  # each setting in a text of its own
    if "prompt" in texts or "workflow" in texts:
        return comfyui.read(texts.get("prompt"), texts.get("workflow"))
    if generation := invokeai.read(texts):
        return generation
    if texts.get("Comment", "").startswith("{"):
        return fields.read(texts["Comment"], texts.get("Software", "NovelAI"))
    return None


def _read_parameters(text: str) -> Generation:
    """A1111's text; but some programs write JSON in its place."""
    if not _is_json(text):
        return a1111.read(text)
    return comfyui.read(text, None) if '"class_type"' in text else fields.read(text, "SwarmUI or Fooocus")


def _is_json(text: str) -> bool:
    """Whether it is a JSON object, and no prompt that begins with a brace."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
