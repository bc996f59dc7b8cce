"""A ControlNet of one kind, called in plain tensors (arXiv 2302.05543).

R are the rows of the U-Net's batch.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ctrl.attention import Hooks, Site, callable_of, sites, tap
from ctrl.attention.override import override
from ctrl.model.loading.control_modules import OneKind, Pooled
from ctrl.model.revision import changes, weights_of
from ctrl.model.unet import AddedConditions
from ctrl.rows import PromptRows, Residuals


@dataclass(frozen=True, eq=False)
class ControlNet:
    """The ControlNet of a `kind` for one U-Net; `module` may be one kind of several, see `loading.controlnets`."""

    kind: str
    module: Any
    identity: Hashable
    added: AddedConditions
    lock: threading.RLock

    title = "ControlNet"
    runs_once = False

    @property
    def revision(self) -> Hashable:
        """Which weights it has, for the keys of a memory."""
        return ("controlnet", self.identity, changes(self.weights))

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """Its parameters and buffers."""
        return weights_of(self.module)

    @property
    def count(self) -> int:
        """How many residuals it adds, the middle's counted."""
        return len(self._net.controlnet_down_blocks) + 1

    @property
    def pools(self) -> bool:
        """Whether each of its residuals is replaced by its mean over height and width.

        Such a ControlNet acts on the conditional rows only, whatever its control says.
        """
        return isinstance(self.module, Pooled)

    @property
    def reads_holes(self) -> bool:
        """Whether a hole of its picture is −1; that of a union's "inpaint" is black, as in diffusers' pipelines."""
        return not isinstance(self.module, OneKind)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels of its control picture to a latent."""
        return int(2 ** (len(self._net.config.conditioning_embedding_out_channels) - 1))

    @property
    def multiple(self) -> int:
        """What the sides of its pictures must be multiples of, in pixels."""
        return self.vae_scale_factor

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Its attention, cross and self."""
        return sites(self.module, self.kind, kind="all")

    @torch.no_grad()
    def embed(self, hint: Tensor) -> Tensor:
        """The embedding (R, C, h, w) of control pictures (R, 3, H, W) in [0, 1], the same at every step."""
        with self.lock:
            embedded: Tensor = self._net.controlnet_cond_embedding(hint)
            return embedded

    @torch.no_grad()
    def residuals(self, sample: Tensor, t: Tensor, prompt: PromptRows, embedded: Tensor, hooks: Hooks) -> Residuals:
        """The residuals it adds to the U-Net; `embedded` is `embed` of its control pictures."""
        known = override("forward", [(self._net.controlnet_cond_embedding, lambda _: embedded)])
        network, as_graph = callable_of(self.module, tapped=hooks.act)
        with self.lock, tap(self.sites, hooks, compiled=as_graph), known:
            down, mid = network(
                sample,
                t,
                encoder_hidden_states=prompt.embeds,
                controlnet_cond=embedded,
                added_cond_kwargs=self.added(prompt, sample),
                return_dict=False,
            )
        return (*down, mid)

    @property
    def _net(self) -> Any:
        """diffusers' module."""
        return getattr(self.module, "net", self.module)
