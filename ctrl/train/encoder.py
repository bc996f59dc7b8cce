"""Stage 1d, the encoder: from pictures of 256 px to the latents the small codec gives of them reduced.

`python -m ctrl.train.encoder --minutes 10`. Everything that learnt from the small codec's latents goes on seeing them.
Half the pictures have their colours changed, so that a photograph finds the latents it had, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ctrl.train import muon
from ctrl.train.codec import HELD
from ctrl.train.decoder import Bench
from ctrl.train.enlarge import reduced
from ctrl.train.feed import Batch
from ctrl.train.halves import Encoding
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool

LOUD = 0.02  # the weight of the log variances, which only a sampled posterior asks for


@dataclass(frozen=True)
class Lesson(Batch):
    """Whole pictures."""

    picture: Tensor  # (B, 3, 256, 256) in [-1, 1]


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` pictures, half of them mirrored and half of them in other colours."""

    pool: Pool
    batch: int

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        rows = torch.randint(self.pool.ready - HELD, (self.batch,), generator=generator).tolist()
        picture = torch.from_numpy(self.pool.picture[rows]).float() / 127.5 - 1
        mirrored, other = (torch.rand(self.batch, generator=generator) < 0.5 for _ in range(2))
        picture = torch.where(mirrored[:, None, None, None], picture.flip(-1), picture)
        order = torch.stack([torch.randperm(3, generator=generator) for _ in rows])
        gain = 0.4 + 0.6 * torch.rand(self.batch, 3, 1, 1, generator=generator)
        shift = (1 - gain) * (2 * torch.rand(self.batch, 3, 1, 1, generator=generator) - 1)
        colored = torch.stack([one[turn] for one, turn in zip(picture, order, strict=True)]) * gain + shift
        return Lesson(torch.where(other[:, None, None, None], colored, picture))


def loss(large: Encoding, small: Encoding, picture: Tensor) -> Tensor:
    """How far the large encoder is from the small one's means (squared error) and log variances."""
    with torch.no_grad():
        mean, logvar = small(reduced(picture)).chunk(2, 1)
    with bf16(picture.device):
        said: Tensor = large(picture)
    found, loud = said.float().chunk(2, 1)
    return (found - mean).square().mean() + LOUD * (loud.clamp(-30, 20) - logvar.clamp(-30, 20)).abs().mean()


def main(options: Options | None = None) -> None:
    """Train the encoder and save the codec."""
    options = options or parse(__doc__, minutes=10, batch=4)
    bench = Bench.of(options)
    half, small = Encoding(bench.large).requires_grad_(True), Encoding(bench.small)
    average = Average(half, 0.998)
    optimizer = muon.optimizer(half, lr=1e-3 * options.rate)
    latents, pictures = bench.held()

    @torch.no_grad()
    def show(_: Path, number: int) -> None:
        live = {key: value.clone() for key, value in half.state_dict().items()}
        half.load_state_dict(average.module.state_dict())
        codec = bench.large
        found = torch.cat([codec.encode(one.to(codec.device)).latent_dist.mode() for one in pictures.split(8)])
        print(f"encoder step {number}: latents' squared error {(found - latents).square().mean():.5f}", flush=True)
        codec.save_pretrained(bench.where)
        half.load_state_dict(live)

    train(
        options.runs / "encoder",
        half,
        optimizer,
        Lessons(bench.pool, options.batch),
        lambda lesson: loss(half, small, lesson.picture),
        options.budget,
        workers=options.workers,
        average=average,
        show=show,
    )


if __name__ == "__main__":
    main()
