"""The denoiser: a diffusion U-Net, called in plain tensors. Another kind of network would be a second such file.

R are the rows of the U-Net's batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ctrl.attention import Hooks, Site, sites, tap
from ctrl.model.revision import changes, weights_of
from ctrl.rows import PromptRows, Residuals

Added: TypeAlias = dict[str, Tensor] | None  # SDXL's further conditions


@dataclass(frozen=True, eq=False)
class UNet:
    """A U-Net for latents of `vae_scale_factor` pixels a side, used under the model's `lock`.

    `identity` names it among all networks of this process, LoRAs included. A ValueError refuses one that is not
    supported.
    """

    module: Any
    vae_scale_factor: int
    identity: Hashable
    lock: threading.RLock

    def __post_init__(self) -> None:
        if self.module.config.time_cond_proj_dim is not None:
            raise ValueError("this U-Net takes its guidance as an input (a distilled LCM), which ctrl does not do.")
        object.__setattr__(self, "_made_in", self._dtype_and_device())

    @property
    def revision(self) -> Hashable:
        """Which weights it has, for the keys of a memory."""
        return ("unet", self.identity, changes(self._weights))

    @cached_property
    def _weights(self) -> tuple[Tensor, ...]:
        return weights_of(self.module)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels that it was trained for."""
        size = self.module.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return width * self.vae_scale_factor, height * self.vae_scale_factor

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Its attention, cross and self."""
        return sites(self.module, "unet", kind="all")

    def added(self, prompt: PromptRows, sample: Tensor) -> Added:
        """SDXL's further conditions: the pooled prompt, and sizes as if nothing was cropped; None for others."""
        if prompt.pooled is None:
            return None
        height, width = (side * self.vae_scale_factor for side in sample.shape[-2:])
        ids = _time_ids(len(sample), height, width, prompt.pooled.dtype, sample.device)
        return {"text_embeds": prompt.pooled, "time_ids": ids}

    @torch.no_grad()
    def predict(
        self, sample: Tensor, t: Tensor, prompt: PromptRows, residuals: Residuals | None, hooks: Hooks
    ) -> Tensor:
        """The prediction (R, C, h, w) of the kind it was trained for.

        A RuntimeError says so if the U-Net was moved or cast since the model was made.
        """
        self._check_place()
        with self.lock, tap(self.sites, hooks):
            prediction: Tensor = self.module(
                sample,
                t,
                encoder_hidden_states=prompt.embeds,
                added_cond_kwargs=self.added(prompt, sample),
                down_block_additional_residuals=residuals[:-1] if residuals else None,
                mid_block_additional_residual=residuals[-1] if residuals else None,
                return_dict=False,
            )[0]
        return prediction

    def _check_place(self) -> None:
        now, then = self._dtype_and_device(), self.__dict__["_made_in"]
        if now != then:
            raise RuntimeError(
                f"the model was made with its U-Net in {then}, and now it is in {now}: "
                "load the model again with load(device=…, dtype=…)."
            )

    def _dtype_and_device(self) -> str:
        weight = self.module.conv_in.weight
        return f"{weight.dtype} on {weight.device}"


AddedConditions = Callable[[PromptRows, Tensor], Added]


@lru_cache(maxsize=16)  # kept, since making it would wait for the device at every step
def _time_ids(rows: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(R, 6): original size, crop corner and target size of every row."""
    return torch.tensor([[height, width, 0, 0, height, width]] * rows, dtype=dtype, device=device)
