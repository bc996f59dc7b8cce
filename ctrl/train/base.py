"""What every stage after the towers stands on: pictures, their latents, and the frozen codec and text tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ctrl.train.clip import load_text
from ctrl.train.clip_data import tokens
from ctrl.train.enlarge import reduced
from ctrl.train.loop import bf16
from ctrl.train.options import Options
from ctrl.train.pool import Pool, open_pool
from ctrl.train.rows import Rows


@dataclass(frozen=True)
class Source:
    """What lessons are drawn from, on the CPU; `latents` are those of `encode`."""

    pool: Pool
    latents: np.ndarray
    tokenizer: CLIPTokenizer

    def clean(self, rows: Rows) -> Tensor:
        """The latents (B, C, 16, 16) of rows, float32."""
        return torch.from_numpy(self.latents[rows.index, np.asarray(rows.mirrored, int)]).float()

    def ids(self, captions: Sequence[str]) -> Tensor:
        """The tokens (B, L) of captions."""
        return tokens(self.tokenizer, captions)


@dataclass(frozen=True)
class Base:
    """What lessons are drawn from, and the parts that no longer learn, on the stage's device."""

    weights: Path
    device: torch.device
    source: Source
    codec: AutoencoderKL
    tower: CLIPTextModel

    @staticmethod
    def of(options: Options) -> Base:
        """Open what the stages before have left; latents are encoded if they are not there."""
        weights, device = options.runs / "weights", torch.device(options.device)
        pool = open_pool(options.pool, options.count, options.size)
        codec = AutoencoderKL.from_pretrained(weights / "vae").eval()
        tokenizer, tower = load_text(weights)
        for module in (codec, tower):
            nn.Module.to(module, device)
            module.requires_grad_(requires_grad=False)
        latents = encode(pool, codec, options.latents)
        return Base(weights, device, Source(pool, latents, tokenizer), codec, tower)

    def unet(self) -> UNet2DConditionModel:
        """The trained U-Net, frozen."""
        unet = UNet2DConditionModel.from_pretrained(self.weights / "unet").eval()
        nn.Module.to(unet, self.device)
        return unet.requires_grad_(requires_grad=False)

    @torch.no_grad()
    def read(self, ids: Tensor) -> Tensor:
        """Tokens (B, L) as the U-Net reads them, (B, L, D)."""
        return self.tower(ids).last_hidden_state

    def prompt_embeds(self, captions: Sequence[str]) -> Tensor:
        """Captions as the U-Net reads them, (B, L, D)."""
        return self.read(self.source.ids(captions).to(self.device))


@torch.no_grad()
def encode(pool: Pool, codec: AutoencoderKL, path: Path) -> np.ndarray:
    """Latents of the pool's pictures and of their mirror images, (N, 2, C, 16, 16) float16, encoded once."""
    count = pool.ready
    if path.exists() and (latents := np.load(path, mmap_mode="r")).shape[0] >= count:
        return latents
    partial = path.with_suffix(".part.npy")
    shape = (count, 2, codec.config.latent_channels, 16, 16)
    latents = open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    step = 16 if codec.device.type == "cpu" else 256
    for start in range(0, count, step):
        picture = torch.from_numpy(pool.picture[start : start + step]).to(codec.device).float() / 127.5 - 1
        picture = reduced(picture) if pool.size == 2 * codec.config.sample_size else picture
        with bf16(codec.device):
            both = [codec.encode(p).latent_dist.mode() for p in (picture, picture.flip(-1))]
        latents[start : start + step] = torch.stack(both, 1).half().cpu().numpy()
    latents.flush()
    partial.rename(path)
    return np.load(path, mmap_mode="r")
