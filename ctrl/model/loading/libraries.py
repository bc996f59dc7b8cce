"""The libraries' classes that every model is made of, imported when the first model is.

This is nearly all the time that loading a small model takes, and no narrower import gives the same classes: with
diffusers' U-Net come its other models, torch's compiler, and what is installed of peft, accelerate, scipy and
torchvision.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Classes(NamedTuple):
    """A U-Net, a VAE, a CLIP text encoder, and one that projects too."""

    unet: Any
    vae: Any
    text_encoder: Any
    projecting: Any


def classes() -> Classes:
    """The classes that every model is made of."""
    with without_gc():
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
    return Classes(UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTextModelWithProjection)


@contextmanager
def without_gc() -> Iterator[None]:
    """For the length of the block Python's garbage collector rests, if it was at work.

    What an import makes is never freed, and the collector would walk through it again and again: about a tenth of the
    time that the first `load` takes.
    """
    working = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if working:
            gc.enable()
