"""A T2I-Adapter of one kind, called in plain tensors (arXiv 2302.08453).

It reads neither latents nor time, so that it runs once for a picture, and what it adds is the same at every step.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ctrl.attention import Site
from ctrl.model.revision import changes, new_number, weights_of
from ctrl.rows import Residuals

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a grey, ITU-R BT.601


@dataclass(frozen=True, eq=False)
class T2IAdapter:
    """The T2I-Adapter of a `kind` for one U-Net; `module` is diffusers'."""

    kind: str
    module: Any
    identity: Hashable = field(default_factory=new_number)
    lock: threading.RLock = field(default_factory=threading.RLock)

    title = "T2I-Adapter"
    runs_once = True
    pools = reads_holes = False
    sites: tuple[Site, ...] = ()  # it has no attention

    @property
    def revision(self) -> Hashable:
        """Which weights it has, for the keys of a memory."""
        return ("t2i adapter", self.identity, changes(self.weights))

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """Its parameters and buffers."""
        return weights_of(self.module)

    @property
    def count(self) -> int:
        """How many residuals it adds."""
        return len(self.module.adapter.body)

    @property
    def multiple(self) -> int:
        """What the sides of its pictures must be multiples of, in pixels."""
        return int(self.module.downscale_factor)

    @torch.no_grad()
    def residuals(self, hint: Tensor) -> Residuals:
        """What it adds inside the U-Net's down blocks, for maps (R, 3, H, W) in [0, 1], one tensor a block.

        An adapter of grey maps is shown their brightness.
        """
        shown = hint if self.module.config.in_channels == 3 else _grey(hint)
        with self.lock:
            return tuple(self.module(shown.to(self.module.device, self.module.dtype)))


def _grey(hint: Tensor) -> Tensor:
    """(R, 1, H, W) of (R, 3, H, W): a grey picture's own channel, to the bit, and the brightness of colours."""
    first = hint[:, :1]
    if torch.equal(first.expand_as(hint), hint):
        return first.contiguous(memory_format=torch.channels_last)  # a convolution rounds by its input's strides
    return (hint * hint.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
