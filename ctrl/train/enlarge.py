"""The codec of twice the size that begins as the one it is made of: same latents, pictures of 256 px in place of 128.

Every inner layer is the small codec's at the same resolution, made wider by copying channels (Net2Wider, arXiv
1511.05641) group by group, so that group normalisation sees the statistics it knew. What is new is one level at full
size on either side: in the decoder it begins as bilinear enlargement, in the encoder as the small one's first
convolution of the picture reduced by area, fitted by least squares.
"""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

GROUPS = 8
WIDTHS = (16, 24, 48, 96, 128)  # at 256, 128, 64, 32 and 16 cells a side; LOG.md has what others cost
JITTER = 0.02  # of a weight's own spread: two copies of a channel that are equal would stay so


def reduced(pictures: Tensor) -> Tensor:
    """Pictures (B, C, h, w) at half their size, by area: how the small codec sees them."""
    return F.avg_pool2d(pictures, 2)


def build() -> AutoencoderKL:
    """The untrained codec: 256 px, factor 16, 8 latent channels."""
    return AutoencoderKL(
        block_out_channels=WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(WIDTHS),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=GROUPS,
        mid_block_add_attention=False,
        sample_size=256,
        scaling_factor=1.0,
    )


@torch.no_grad()
def enlarged(small: AutoencoderKL, pictures: Tensor) -> AutoencoderKL:
    """The codec of twice the size of `small`, fitted on some pictures (B, 3, 256, 256) in [-1, 1]."""
    new: Any = build()
    state, old = new.state_dict(), small.state_dict()
    for name, value in state.items():
        if (source := old.get(_source(name))) is not None:
            state[name] = _widened(source, value.shape)
    new.load_state_dict(state)
    _begin_as_bilinear(new.decoder.up_blocks)
    _begin_as_identity(new.encoder.down_blocks[0].resnets[0])
    first = new.encoder.down_blocks[1].resnets[0]
    first.conv_shortcut.weight.copy_(_copies(16, 24)[:, :, None, None])
    first.conv_shortcut.bias.zero_()
    _fit(new, small, pictures)
    grown: AutoencoderKL = new
    return grown


def _source(name: str) -> str:
    """The layer of the small codec that a layer of the new one comes from; names that it lacks for none."""
    if "up_blocks.3.upsamplers" in name or name.startswith("encoder.conv_in"):
        return ""
    number = re.search(r"encoder\.down_blocks\.(\d)", name)
    if number is None:
        return name
    return name.replace(number[0], f"encoder.down_blocks.{int(number[1]) - 1}")


def _widened(old: Tensor, shape: torch.Size) -> Tensor:
    """A weight for more channels: what goes out is copied, what comes in is shared out among the copies."""
    new = old[_origin(old.shape[0], shape[0])]
    if old.ndim < 2:
        return new
    origin = _origin(old.shape[1], shape[1])
    share = origin.bincount(minlength=old.shape[1])[origin].view(1, -1, 1, 1)
    new = new[:, origin] / share
    return new if old.shape == shape else new + JITTER * new.std() * torch.randn_like(new)


def _origin(old: int, new: int) -> Tensor:
    """Which of the old channels each new one copies, (new,): within its own group."""
    if old == new:
        return torch.arange(new)
    few, many = old // GROUPS, new // GROUPS
    place = torch.arange(new)
    return place // many * few + place % many % few


def _copies(old: int, new: int) -> Tensor:
    """The matrix (new, old) that copies channels."""
    return F.one_hot(_origin(old, new), old).float()


def _begin_as_identity(block: Any) -> None:
    """Let a residual block begin by adding nothing."""
    block.conv2.weight.zero_()
    block.conv2.bias.zero_()


def _begin_as_bilinear(up_blocks: Any) -> None:
    """The nearest neighbour is smoothed to the linear one, and the last level adds nothing to it."""
    conv, last = up_blocks[3].upsamplers[0].conv, up_blocks[4].resnets
    tent = torch.tensor([0.25, 0.5, 0.25])
    conv.weight.copy_(torch.eye(len(conv.weight))[:, :, None, None] * tent[:, None] * tent)
    conv.bias.zero_()
    back = _copies(16, 24).T
    last[0].conv_shortcut.weight.copy_((back / back.sum(1, keepdim=True))[:, :, None, None])
    last[0].conv_shortcut.bias.zero_()
    for block in last:
        _begin_as_identity(block)


def _fit(new: Any, small: AutoencoderKL, pictures: Tensor) -> None:
    """Solve for the encoder's first stride so that it says what the small one's first convolution says."""
    stride = new.encoder.down_blocks[0].downsamplers[0].conv
    seen = F.unfold(F.pad(new.encoder.conv_in(pictures), (0, 1, 0, 1)), 3, stride=2)  # (B, 16 * 9, 128 * 128)
    said = small.encoder.conv_in(reduced(pictures)).flatten(2)  # (B, 16, 128 * 128)
    given = torch.cat([seen, torch.ones_like(seen[:, :1])], 1).movedim(1, -1).flatten(0, 1)
    solved = torch.linalg.lstsq(given, said.movedim(1, -1).flatten(0, 1), driver="gelsd").solution.T
    stride.weight.copy_(solved[:, :-1].view_as(stride.weight))
    stride.bias.copy_(solved[:, -1])
