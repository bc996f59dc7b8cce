"""Stage 1, the latents: a small AutoencoderKL from 128 px to 16 x 16. Everything later looks through it.

`python -m ctrl.train.codec --minutes 30`. It sees the pool's pictures reduced by area; the codec of 256 px is made of
it afterwards, for the same latents (`decoder`, `texture`, `encoder`). Losses: absolute error, squared error, the
absolute error of local differences (thin lines), and a light KL. At the end every latent channel is normalised to mean
0 and variance 1 by folding its statistics into `quant_conv` and `post_quant_conv`, so that `scaling_factor = 1` serves
plain diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ctrl.train import muon
from ctrl.train.feed import Batch
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool, open_pool
from ctrl.train.sheet import save_sheet

SIDE, CROP = 128, 64
SMALL = "small"  # the folder of this stage's codec, under runs
HELD = 64  # the pool's last pictures, for the log's figure


def build() -> AutoencoderKL:
    """The untrained codec: 128 px, factor 8, 8 latent channels."""
    channels = (16, 32, 64, 128)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIDE,
        scaling_factor=1.0,
    )


@dataclass(frozen=True)
class Lesson(Batch):
    """Pieces of pictures, and the noise their latents are to bear."""

    crop: Tensor  # (B, 3, h, w) uint8
    noise: Tensor  # (B, C, h / f, w / f)

    @property
    def picture(self) -> Tensor:
        """The pieces in [-1, 1]."""
        return self.crop.float() / 127.5 - 1


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` pieces of all but the pool's last pictures; `noise` is the shape of their latents."""

    pool: Pool
    noise: tuple[int, int, int]
    batch: int

    @staticmethod
    def of(pool: Pool, codec: AutoencoderKL, batch: int) -> Lessons:
        """Lessons for a codec."""
        side = CROP // 2 ** (len(codec.config.block_out_channels) - 1)
        return Lessons(pool, (codec.config.latent_channels, side, side), batch)

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        crop = crops(self.pool, self.batch, CROP, generator, self.pool.ready - HELD)
        return Lesson(crop, torch.randn((self.batch, *self.noise), generator=generator))


def loss(codec: AutoencoderKL, picture: Tensor, noise: Tensor) -> Tensor:
    """The training loss of a batch of pictures (B, 3, h, w) in [-1, 1], with noise for their latents."""
    with bf16(picture.device):
        posterior = codec.encode(picture).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        latents = mean + noise * (0.5 * logvar).exp()
        rebuilt = codec.decode(latents).sample.float()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    return difference(rebuilt, picture) + 1e-5 * kl


def difference(rebuilt: Tensor, picture: Tensor) -> Tensor:
    """How far a round trip is from the picture: absolute and squared error, and that of local differences."""
    error = rebuilt - picture
    across, down = error.diff(dim=-1), error.diff(dim=-2)
    return error.abs().mean() + 2.0 * error.square().mean() + 0.5 * (across.abs().mean() + down.abs().mean())


def crops(pool: Pool, count: int, crop: int, generator: torch.Generator, ready: int) -> Tensor:
    """Random crops (count, 3, crop, crop) uint8 of pictures of 128 px, half of them mirrored."""
    rows = torch.randint(ready, (count,), generator=generator).tolist()
    tops = torch.randint(SIDE - crop + 1, (count, 2), generator=generator).tolist()
    scale = pool.size // SIDE
    places = [[slice(scale * at, scale * (at + crop)) for at in top] for top in tops]
    batch = np.stack([pool.picture[r][:, y, x] for r, (y, x) in zip(rows, places, strict=True)])
    picture, mirrored = sized(torch.from_numpy(batch), scale), torch.rand(count, generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], picture.flip(-1), picture)


def sized(pictures: Tensor, scale: int) -> Tensor:
    """Pictures (B, 3, h, w) uint8 reduced by area to a part of their size."""
    return pictures if scale == 1 else F.avg_pool2d(pictures.float(), scale).round().byte()


def small(pool: Pool, rows: slice) -> Tensor:
    """Rows of a pool as pictures (B, 3, 128, 128) in [-1, 1]."""
    return sized(torch.from_numpy(pool.picture[rows]), pool.size // SIDE).float() / 127.5 - 1


@torch.no_grad()
def psnr(codec: AutoencoderKL, pictures: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of round trips of pictures (N, 3, h, w) in [-1, 1]."""
    values = []
    for picture in pictures.to(codec.device).split(8):
        rebuilt = codec.decode(codec.encode(picture).latent_dist.mode()).sample.clamp(-1, 1)
        error = ((rebuilt - picture) / 2).square().mean((1, 2, 3))
        values.append(-10 * error.log10())
    return float(torch.cat(values).mean())


@torch.no_grad()
def normalise(codec: AutoencoderKL, pool: Pool, count: int = 512) -> None:
    """Give each latent channel mean 0 and variance 1, by the convolutions beside the latents."""
    latents = []
    for start in range(0, min(count, pool.ready), 16):
        picture = small(pool, slice(start, start + 16)).to(codec.device)
        latents.append(codec.encode(picture).latent_dist.mode())
    every = torch.cat(latents)
    mean, std = every.mean((0, 2, 3)), every.std((0, 2, 3))
    quant, post = codec.quant_conv, codec.post_quant_conv
    assert isinstance(quant, nn.Conv2d) and isinstance(post, nn.Conv2d)
    assert quant.bias is not None and post.bias is not None
    channels = len(mean)
    post.bias.add_((post.weight * mean[None, :, None, None]).sum((1, 2, 3)))
    post.weight.mul_(std[None, :, None, None])
    quant.weight[:channels].div_(std[:, None, None, None])
    quant.bias[:channels].sub_(mean).div_(std)
    quant.bias[channels:].sub_(2 * std.log())  # the second half are log variances


def sheet(codec: AutoencoderKL, pool: Pool, path: Path, count: int = 8) -> None:
    """Originals over round trips."""
    with torch.no_grad():
        picture = small(pool, slice(count)).to(codec.device)
        rebuilt = codec.decode(codec.encode(picture).latent_dist.mode()).sample
    save_sheet([picture, rebuilt], path)


def main(options: Options | None = None) -> None:
    """Train the codec, normalise its latents and save it as a diffusers folder."""
    options = options or parse(__doc__, minutes=30, batch=8)
    pool = open_pool(options.pool, options.count, options.size)
    torch.manual_seed(options.seed)
    codec = build()
    codec.to(options.device)  # type: ignore[arg-type]  # a decorator hides its type
    average = Average(codec)
    optimizer = muon.optimizer(codec, lr=4e-3)
    folder = options.runs / "codec"

    def learn(lesson: Lesson) -> Tensor:
        return loss(codec, lesson.picture, lesson.noise)

    def show(where: Path, number: int) -> None:
        held = small(pool, slice(pool.ready - HELD, pool.ready))
        print(f"codec step {number}: {psnr(average.module, held):.2f} dB", flush=True)
        sheet(average.module, pool, where / "samples.png")

    lessons, workers = Lessons.of(pool, codec, options.batch), options.workers
    train(folder, codec, optimizer, lessons, learn, options.budget, workers=workers, average=average, show=show)
    normalise(average.module, pool)
    average.module.save_pretrained(options.runs / SMALL)


if __name__ == "__main__":
    main()
