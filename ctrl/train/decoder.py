"""Stage 1b, the decoder: from the small codec's latents to pictures of 256 px, with the latents held fixed.

`python -m ctrl.train.decoder --minutes 30`. It begins as the small codec's decoder, enlarged (`enlarge`), and learns
what twice the pixels show. Nothing that learns from latents needs to wait for it, or to be trained again after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ctrl.atelier.metrics import psnr, ratio
from ctrl.atelier.quality import sharpnesses
from ctrl.train import muon
from ctrl.train.base import encode
from ctrl.train.codec import HELD, SMALL, difference
from ctrl.train.enlarge import enlarged
from ctrl.train.feed import Batch
from ctrl.train.halves import Decoding
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool, open_pool
from ctrl.train.sheet import save_sheet

NOISE = 0.06  # on unit latents: the denoiser's are never quite right either
CELLS = 12  # of a picture's 16: whole pictures show fewer scenes a step, small pieces other statistics to the norms
FITTED = 4  # pictures the enlarged codec is fitted on


@dataclass(frozen=True)
class Lesson(Batch):
    """Pieces of latents and of the pictures they are of."""

    latents: Tensor  # (B, C, n, n), with noise
    crop: Tensor  # (B, 3, 16 n, 16 n) uint8

    @property
    def picture(self) -> Tensor:
        """The pieces of pictures in [-1, 1]."""
        return self.crop.float() / 127.5 - 1


@dataclass(frozen=True)
class Lessons:
    """Draws `batch` pieces of `cells` x `cells` latents, of all but the pool's last pictures, half of them mirrored."""

    pool: Pool
    latents: np.ndarray  # (N, 2, C, 16, 16), of the pictures and of their mirror images
    batch: int
    cells: int = CELLS

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        rows = torch.randint(len(self.latents) - HELD, (self.batch,), generator=generator).tolist()
        sides = torch.randint(2, (self.batch,), generator=generator).tolist()
        free = self.latents.shape[-1] - self.cells + 1
        places = torch.randint(free, (self.batch, 2), generator=generator).tolist()
        pieces = [self._piece(*each) for each in zip(rows, sides, places, strict=True)]
        latents, crops = (torch.from_numpy(np.stack(part)) for part in zip(*pieces, strict=True))
        noise = torch.randn(latents.shape, generator=generator)
        return Lesson(latents.float() + NOISE * noise, crops)

    def _piece(self, row: int, side: int, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        scale = self.pool.size // self.latents.shape[-1]
        y, x = (slice(at, at + self.cells) for at in place)
        down, across = (slice(scale * at, scale * (at + self.cells)) for at in place)
        picture = self.pool.picture[row][:, :, ::-1] if side else self.pool.picture[row]
        return self.latents[row, side][:, y, x], picture[:, down, across]


@dataclass(frozen=True)
class Bench:
    """What the stages of the large codec share: the small one, its latents, and the large one as far as it has come."""

    pool: Pool
    latents: np.ndarray
    small: AutoencoderKL
    large: AutoencoderKL
    where: Path

    @staticmethod
    def of(options: Options) -> Bench:
        """Open what the codec's stage has left; the large codec is made if it is not there."""
        pool = open_pool(options.pool, options.count, options.size)
        small = AutoencoderKL.from_pretrained(options.runs / SMALL).eval().requires_grad_(False)
        where = options.runs / "weights" / "vae"
        if not where.exists():
            torch.manual_seed(options.seed)
            fitted = torch.from_numpy(pool.picture[:FITTED]).float() / 127.5 - 1
            enlarged(small, fitted).save_pretrained(where)
        large = AutoencoderKL.from_pretrained(where).requires_grad_(False)
        for module in (small, large):
            nn.Module.to(module, options.device)
        return Bench(pool, encode(pool, small, options.latents), small, large, where)

    def held(self) -> tuple[Tensor, Tensor]:
        """Latents and pictures in [-1, 1] of the pool's last scenes, which nothing here learns from."""
        rows = slice(len(self.latents) - HELD, len(self.latents))
        latents = torch.from_numpy(np.asarray(self.latents[rows, 0], np.float32))
        return latents.to(self.large.device), torch.from_numpy(self.pool.picture[rows]).float() / 127.5 - 1

    def shower(self, name: str, half: Decoding, best: Decoding) -> Callable[[Path, int], None]:
        """Logs how far `best`, the average of the half, has come, draws a sheet and saves the codec with it."""
        latents, pictures = self.held()

        @torch.no_grad()
        def show(folder: Path, number: int) -> None:
            made = torch.cat([best(part).cpu().clamp(-1, 1) for part in latents.split(8)])
            found, true = made * 0.5 + 0.5, pictures * 0.5 + 0.5
            fidelity = np.mean([*map(psnr, found.numpy(), true.numpy())])
            sharp = ratio(sharpnesses(found), sharpnesses(true))
            print(f"{name} step {number}: {fidelity:.2f} dB, sharpness {sharp}", flush=True)
            pairs = zip(pictures[:24].split(12), made[:24].split(12), strict=True)
            save_sheet([row for pair in pairs for row in pair], folder / "samples.png")
            live = {key: value.clone() for key, value in half.state_dict().items()}
            half.load_state_dict(best.state_dict())
            self.large.save_pretrained(self.where)
            half.load_state_dict(live)

        return show


def decoded(half: Decoding, latents: Tensor) -> Tensor:
    """Pictures (B, 3, 16 n, 16 n) of latents (B, C, n, n), about [-1, 1]."""
    with bf16(latents.device):
        made: Tensor = half(latents)
    return made.float()


def main(options: Options | None = None) -> None:
    """Train the decoder and save the codec."""
    options = options or parse(__doc__, minutes=30, batch=4)
    bench = Bench.of(options)
    half = Decoding(bench.large).requires_grad_(True)
    average = Average(half, 0.999)
    optimizer = muon.optimizer(half, lr=2e-3 * options.rate)

    def learn(lesson: Lesson) -> Tensor:
        return difference(decoded(half, lesson.latents), lesson.picture)

    train(
        options.runs / "decoder",
        half,
        optimizer,
        Lessons(bench.pool, bench.latents, options.batch),
        learn,
        options.budget,
        workers=options.workers,
        average=average,
        show=bench.shower("decoder", half, average.module),
    )


if __name__ == "__main__":
    main()
