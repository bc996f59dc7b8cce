"""ControlNets of particular kinds, each called as diffusers' ControlNetModel is; `net` is the network within."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ctrl.model.loading.views import view


class OneKind(nn.Module):
    """A ControlNet that serves many kinds (github.com/xinsir6/ControlNetPlus), held to one of them.

    It is called as diffusers' ControlNetModel is.
    """

    def __init__(self, net: Any, mode: int) -> None:
        super().__init__()
        self.net, self.mode = net, mode

    @property
    def config(self) -> Any:
        """The ControlNet's configuration."""
        return self.net.config

    def forward(self, sample: Tensor, timestep: Any, *, controlnet_cond: Tensor, **rest: Any) -> Any:
        """The residuals for a hint (R, 3, H, W) of this kind."""
        shape = (sample.shape[0], self.net.config.num_control_type)
        kinds = torch.zeros(shape, device=sample.device, dtype=sample.dtype)
        kinds[:, self.mode] = 1.0
        scale = rest.pop("conditioning_scale", 1.0)
        return self.net(
            sample,
            timestep,
            controlnet_cond=[controlnet_cond],
            control_type=kinds,
            control_type_idx=[self.mode],
            conditioning_scale=[scale],
            **rest,
        )


class Pooled(nn.Module):
    """A ControlNet whose residuals are to be the same everywhere (`global_pool_conditions`): "shuffle".

    Its own are returned as they are: they are pooled after their weight, as in diffusers, and before their mask.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = view(net)
        self.net.register_to_config(global_pool_conditions=False)

    @property
    def config(self) -> Any:
        """The ControlNet's configuration."""
        return self.net.config

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The residuals before they are pooled."""
        return self.net(*args, **kwargs)


class Flipped(nn.Module):
    """The first convolutions of a ControlNet that reads blue, green, red."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, hint: Tensor) -> Tensor:
        """What they make of a hint (R, 3, H, W) in red, green, blue."""
        embedded: Tensor = self.embedding(torch.flip(hint, dims=[1]))
        return embedded


def reading_rgb(net: Any) -> Any:
    """The ControlNet, or a view of one that reads blue, green, red, which is shown red, green, blue."""
    if net.config.get("controlnet_conditioning_channel_order", "rgb") == "rgb":
        return net
    flipped = view(net)
    flipped.controlnet_cond_embedding = Flipped(flipped.controlnet_cond_embedding)
    flipped.register_to_config(controlnet_conditioning_channel_order="rgb")
    return flipped
