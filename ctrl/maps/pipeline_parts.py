"""What `watching` reads in a diffusers pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ctrl.rows import Residuals

if TYPE_CHECKING:
    from PIL.Image import Image


def networks(pipe: Any) -> dict[str, Any]:
    """The U-Net and the ControlNets, by the names of their components."""
    found = {"unet": pipe.unet}
    net = getattr(pipe, "controlnet", None)
    several = getattr(net, "nets", net if isinstance(net, list | tuple) else None)
    if several is not None:
        found |= {f"controlnet{number}": one for number, one in enumerate(several)}
    elif net is not None:
        found["controlnet"] = net
    return found


def own(module: Any) -> Any:
    """A network itself, of what `torch.compile(network)` returned."""
    return getattr(module, "_orig_mod", module)


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


def images(pixels: Tensor) -> list[Image]:
    """Pictures of decoded pixels (N, 3, H, W) in [-1, 1]."""
    from PIL import Image

    bytes_ = (pixels.detach().float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return [Image.fromarray(one.permute(1, 2, 0).cpu().numpy()) for one in bytes_]
