"""Stage 1b, the decoder: the codec's second half trained on, with the latents held fixed.

`python -m ctrl.train.decoder --minutes 15`. Nothing that learns from latents needs to wait for it, or to be trained
again after it: encoder and latents stay as they are, bit for bit, and only what is seen through them gets sharper.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ctrl.train import muon
from ctrl.train.codec import HELD, Lesson, Lessons, difference, psnr, sheet
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import open_pool

NOISE = 0.06  # on unit latents: the denoiser's are never quite right either


def main(options: Options | None = None) -> None:
    """Train the decoder and save the codec again."""
    options = options or parse(__doc__, minutes=15, batch=8)
    pool = open_pool(options.pool, options.count, options.size)
    where = options.runs / "weights" / "vae"
    codec = AutoencoderKL.from_pretrained(where).to(options.device).requires_grad_(False)
    half = nn.ModuleList([codec.post_quant_conv, codec.decoder]).requires_grad_(True)
    average = Average(half, 0.999)
    optimizer = muon.optimizer(half, lr=2e-3)

    def learn(lesson: Lesson) -> Tensor:
        picture = lesson.picture
        with bf16(picture.device):
            with torch.no_grad():
                latents = codec.encode(picture).latent_dist.mode().float()
            rebuilt = codec.decode(latents + NOISE * lesson.noise).sample.float()
        return difference(rebuilt, picture)

    @torch.no_grad()
    def show(folder: Path, number: int) -> None:
        live = [p.detach().clone() for p in half.parameters()]
        for mine, theirs in zip(half.parameters(), average.module.parameters(), strict=True):
            mine.copy_(theirs)
        print(
            f"decoder step {number}: {psnr(codec, pool.picture[pool.ready - HELD : pool.ready]):.2f} dB",
            flush=True,
        )
        sheet(codec, pool, folder / "samples.png")
        codec.save_pretrained(where)
        for mine, old in zip(half.parameters(), live, strict=True):
            mine.copy_(old)

    lessons, workers = Lessons.of(pool, codec, options.batch), options.workers
    folder = options.runs / "decoder"
    train(folder, half, optimizer, lessons, learn, options.budget, workers=workers, average=average, show=show)


if __name__ == "__main__":
    main()
