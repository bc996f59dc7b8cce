"""The denoiser: a diffusion U-Net, called in plain tensors. Another kind of network would be a second such file.

R are the rows of the U-Net's batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention import Hooks, Site, callable_of, is_compiled, sites, tap
from ctrl.memory import Keep
from ctrl.model.halves import decoder_sites, with_kept_encoder
from ctrl.model.revision import changes, weights_of
from ctrl.rows import PromptRows, Residuals

Added: TypeAlias = dict[str, Tensor] | None  # SDXL's further conditions


@dataclass(frozen=True, eq=False)
class UNet:
    """A U-Net for latents of `vae_scale_factor` pixels a side, used under the model's `lock`.

    `identity` names it among all networks of this process, LoRAs included.
    """

    module: Any
    vae_scale_factor: int
    identity: Hashable
    lock: threading.RLock

    def __post_init__(self) -> None:
        object.__setattr__(self, "_made_in", self._dtype_and_device())

    @property
    def revision(self) -> Hashable:
        """Which weights it has, for the keys of a memory."""
        return ("unet", self.identity, changes(self.weights))

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """Its parameters and buffers."""
        return weights_of(self.module)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels that it was trained for."""
        size = self.module.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return width * self.vae_scale_factor, height * self.vae_scale_factor

    @property
    def inpaints(self) -> bool:
        """Whether it also reads a mask and the latents of the picture around it, as an inpainting model does."""
        return bool(self.module.config.in_channels != self.module.config.out_channels)

    @property
    def reads_guidance(self) -> bool:
        """Whether guidance is one of its inputs, as in a distilled latent consistency model (arXiv 2310.04378)."""
        return self.module.config.time_cond_proj_dim is not None

    @property
    def compiled(self) -> bool:
        """Whether its calls run as a graph."""
        return is_compiled(self.module)

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
        self,
        sample: Tensor,
        t: Tensor,
        prompt: PromptRows,
        residuals: Residuals | None,
        hooks: Hooks,
        *,
        inside: Residuals | None = None,
        hole: Tensor | None = None,
        guidance: float = 1.0,
        keep: Keep | None = None,
    ) -> Tensor:
        """The prediction (R, C, h, w) of the kind it was trained for.

        `residuals` are added to its skips, by ControlNets, and those `inside` in its down blocks, by T2I-Adapters. Of
        an inpainting model, `hole` (R, 1 + C, h, w) is the mask and what is around it; `guidance` is read by one that
        takes it as an input. `keep` is a memory for calls that differ in their `residuals` alone: these share the
        encoder's outputs. A RuntimeError says so if the U-Net was moved or cast since the model was made.
        """
        self._check_place()
        network, as_graph = callable_of(self.module, tapped=hooks.act)

        def call(places: Sequence[Site]) -> Tensor:
            with tap(places, hooks, compiled=as_graph):
                prediction: Tensor = network(
                    sample if hole is None else torch.cat([sample, hole], dim=1),
                    t,
                    encoder_hidden_states=prompt.embeds,
                    timestep_cond=self._guided(guidance, sample),
                    added_cond_kwargs=self.added(prompt, sample),
                    down_block_additional_residuals=residuals[:-1] if residuals else None,
                    mid_block_additional_residual=residuals[-1] if residuals else None,
                    down_intrablock_additional_residuals=list(inside) if inside else None,
                    return_dict=False,
                )[0]
            return prediction

        with self.lock:
            if keep is None or as_graph:
                return call(self.sites)
            decoder = decoder_sites(self.sites)
            return with_kept_encoder(self.module, keep, lambda: call(self.sites), lambda: call(decoder))

    def _guided(self, guidance: float, sample: Tensor) -> Tensor | None:
        """(R, D): the guidance as an input, if it is one."""
        if not self.reads_guidance:
            return None
        width = self.module.config.time_cond_proj_dim
        return _guidance_embedding(guidance, width, len(sample), sample.dtype, sample.device)

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


@lru_cache(maxsize=64)
def _guidance_embedding(guidance: float, width: int, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(R, D): sines and cosines of 1000 · (guidance − 1), as in diffusers' LatentConsistencyModelPipeline."""
    half = width // 2
    falling = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = (torch.tensor(guidance - 1).repeat(rows) * 1000.0)[:, None] * falling[None]
    waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return F.pad(waves, (0, width % 2)).to(device, dtype)
