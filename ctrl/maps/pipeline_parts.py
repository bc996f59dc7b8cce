"""What `watching` reads in a diffusers pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ctrl.rows import Residuals

if TYPE_CHECKING:
    from PIL.Image import Image


def networks(pipe: Any) -> dict[str, Any]:
    """The U-Net and the ControlNets, by the names of their components; one that is there twice has one name."""
    found = {"unet": pipe.unet}
    net = getattr(pipe, "controlnet", None)
    several = getattr(net, "nets", net if isinstance(net, list | tuple) else None)
    if several is not None:
        for number, one in enumerate(several):
            if all(one is not other for other in found.values()):
                found[f"controlnet{number}"] = one
    elif net is not None:
        found["controlnet"] = net
    return found


def own(module: Any) -> Any:
    """A network itself, of what `torch.compile(network)` returned."""
    return getattr(module, "_orig_mod", module)


def tower(pipe: Any) -> tuple[Any, Any]:
    """The text encoder whose tokens are those of the U-Net, and its tokenizer: of SDXL's refiner the second of each."""
    first = getattr(pipe, "text_encoder", None) is not None or getattr(pipe, "text_encoder_2", None) is None
    encoder, tokenizer = (name if first else f"{name}_2" for name in ("text_encoder", "tokenizer"))
    return getattr(pipe, encoder, None), getattr(pipe, tokenizer, None)


def insist_on_pictures(network: Any, sample: Tensor, states: Tensor | None) -> None:
    """Refuse, by a TypeError, networks that draw no pictures (N, C, h, w), or not from a text."""
    if sample.ndim != 4 or states is None:
        text = "without a text" if states is None else "with a text"
        raise TypeError(
            "watching reads networks that draw pictures (N, C, h, w) from a text; "
            f"{type(network).__name__} was called with a sample of {tuple(sample.shape)}, {text}; watch "
            "a pipeline that makes pictures from a prompt."
        )


def residuals(kwargs: dict[str, Any]) -> dict[str, Residuals]:
    """What ControlNets add to the skips of a U-Net: diffusers hands over their sum."""
    down, middle = (kwargs.get(f"{name}_block_additional_residual{s}") for name, s in (("down", "s"), ("mid", "")))
    return {} if down is None or middle is None else {"controlnets": (*down, middle)}


def estimate(scheduler: Any, output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
    """x0 of a prediction where the scheduler does not give it, by its own table of noise levels."""
    share: Tensor = scheduler.alphas_cumprod[int(timestep)].to(sample)
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return output
    if kind == "v_prediction":
        return share.sqrt() * sample - (1 - share).sqrt() * output
    return (sample - (1 - share).sqrt() * output) / share.sqrt()


def pixels_of(pipe: Any, latents: Tensor) -> Tensor:
    """Pixels (N, 3, H, W) of latents (N, C, h, w), by the pipeline's VAE, which is left as it was.

    As in diffusers' pipelines, SDXL's decodes in float32 where float16 overflows, and its latents may have a mean.
    """
    vae = pipe.vae
    decode = vars(vae).get("decode")
    plain = getattr(decode, "__wrapped__", vae.decode)  # not what is heard of the pipeline's own pictures
    xl = getattr(pipe.unet.config, "addition_embed_type", None) == "text_time"
    narrow = xl and vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    try:
        if narrow:
            torch.nn.Module.to(vae, torch.float32)
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0)
        with torch.no_grad():
            pixels: Tensor = plain(_shifted(scaled, vae.config) if xl else scaled, return_dict=False)[0]
        return pixels
    finally:
        if narrow:
            torch.nn.Module.to(vae, torch.float16)


def _shifted(latents: Tensor, config: Any) -> Tensor:
    """Latents times the deviation of each channel and plus its mean, where a VAE has these."""
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or deviation is None:
        return latents
    mean, deviation = (torch.tensor(one).view(1, -1, 1, 1).to(latents) for one in (mean, deviation))
    shifted: Tensor = latents * deviation + mean
    return shifted


def images(pixels: Tensor) -> list[Image]:
    """Pictures of decoded pixels (N, 3, H, W) in [-1, 1]."""
    from PIL import Image

    bytes_ = (pixels.detach().float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return [Image.fromarray(one.permute(1, 2, 0).cpu().numpy()) for one in bytes_]
