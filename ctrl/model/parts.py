"""What a latent diffusion model is made of, wherever its parts came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A CLIP text encoder with its tokenizer; of a prompt, `clip_skip` of its last layers are not read."""

    tokenizer: Any
    encoder: Any
    clip_skip: int = 0


@dataclass(frozen=True, eq=False)
class Parts:
    """The modules of a model, on their device, in evaluation mode and without gradients.

    Stable Diffusion 1 and 2 have one text_encoder, SDXL two. `scheduler` is the configuration of its noise schedule.
    `zero_negative` says that an empty negative prompt is read as zeros (SDXL's force_zeros_for_empty_prompt).
    The image encoder is the one style references go through, if the model has its own.
    """

    name: str
    unet: Any
    vae: Any
    text_encoders: tuple[TextEncoder, ...]
    scheduler: Mapping[str, Any]
    zero_negative: bool = False
    image_encoder: Any = None
    feature_extractor: Any = None
