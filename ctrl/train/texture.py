"""Stage 1c, the decoder's textures: a critic of patches and the eyes' features, so that grass is drawn, not averaged.

`python -m ctrl.train.texture --minutes 40`, after `decoder`. Pixels, the eyes and the critic each say where a picture
should go; what they say is brought to one length before it is weighed (the balancer of EnCodec, arXiv 2210.13438), so
that no weight has to be found again as one of them gets better. The critic compares pairs (arXiv 1807.00734) and knows
the latents, so what is drawn must be of this picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ctrl.atelier import eyes as sight
from ctrl.train import decoder, muon
from ctrl.train.codec import difference
from ctrl.train.decoder import Bench, decoded
from ctrl.train.feed import Batch
from ctrl.train.halves import Decoding
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.redraw import redrawn

CELLS = 14  # of a picture's 16 that a piece has
UNSURE = 0.3  # the trust in pixels that the U-Net's latents are to give: they lie beside where they should
EYES, CRITIC = 0.35, 0.8  # beside the pixels' 1: how strongly the eyes and the critic pull
RATE = 2e-3  # of the critic; at 5e-4 the decoder moved faster than it learnt, and it distinguished nothing
STEADY, NUDGE = 0.3, 0.05  # what it costs the critic to be moved by a nudge of the picture (R1, arXiv 1801.04406)


@dataclass(frozen=True)
class Lesson(Batch):
    """Pieces to be decoded, and noise of a picture's shape."""

    piece: decoder.Lesson
    noise: Tensor  # (B, 3, 16 n, 16 n)
    trust: Tensor  # (B,) how much each piece's pixels count


@dataclass(frozen=True)
class Lessons:
    """The decoder's lessons of several sources together, with noise; each source has its trust, 0 to 1."""

    sources: tuple[tuple[decoder.Lessons, float], ...]

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        pieces = [draw(generator) for draw, _ in self.sources]
        trust = torch.cat([torch.full((len(p.crop),), one) for p, (_, one) in zip(pieces, self.sources, strict=True)])
        piece = decoder.Lesson(torch.cat([p.latents for p in pieces]), torch.cat([p.crop for p in pieces]))
        return Lesson(piece, torch.randn(piece.crop.shape, generator=generator), trust)


class Critic(nn.Module):
    """Says of each patch of a picture, knowing its latents, how true it looks."""

    def __init__(self, latent_channels: int, width: int = 32) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 3 * width, 4, 2, 1),
            nn.LeakyReLU(0.2),
        )
        self.judge = nn.Sequential(
            nn.Conv2d(3 * width + latent_channels, 3 * width, 3, 1, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(3 * width, 1, 3, 1, 1),
        )

    def forward(self, picture: Tensor, latents: Tensor) -> Tensor:
        """(B, 1, 2 n, 2 n) of pictures (B, 3, 16 n, 16 n) and their latents (B, C, n, n)."""
        known = F.interpolate(latents, scale_factor=2, mode="nearest")
        said: Tensor = self.judge(torch.cat([self.look(picture), known.to(picture.dtype)], 1))
        return said


class Both(nn.Module):
    """The decoder and its critic, which train and are kept together."""

    def __init__(self, decoding: Decoding, critic: Critic) -> None:
        super().__init__()
        self.decoding, self.critic = decoding, critic


def seen(eyes: sight.Eyes, picture: Tensor) -> list[Tensor]:
    """What the eyes' first layers make of a picture (B, 3, h, w) in [-1, 1], at its own size."""
    stem = eyes.stem(picture)
    first = eyes.down1(stem)
    return [stem, first, eyes.down2(first)]


def unlike(eyes: sight.Eyes, made: Tensor, true: Tensor) -> Tensor:
    """How differently the eyes see two pictures."""
    with torch.no_grad():
        wanted = seen(eyes, true)
    pairs = zip(seen(eyes, made), wanted, strict=True)
    return torch.stack([(a - b).abs().float().mean() for a, b in pairs]).sum()


def criticism(critic: Critic, made: Tensor, true: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """The critic's own loss: that true pictures look truer to it than made ones, and that it keeps steady."""
    said = critic(torch.cat([true, true + NUDGE * noise, made]), latents.repeat(3, 1, 1, 1)).float()
    real, nudged, false = said.chunk(3)
    return F.softplus(false - real).mean() + STEADY * (real - nudged).square().mean() / NUDGE**2


def trusted(made: Tensor, true: Tensor, trust: Tensor) -> Tensor:
    """How far pictures are from the true ones, each counting as far as it is trusted (B,)."""
    each = torch.stack([difference(*pair) for pair in zip(made.split(1), true.split(1), strict=True)])
    return (each * trust).sum() / trust.sum()


def loss(half: Decoding, critic: Critic, eyes: sight.Eyes, lesson: Lesson) -> Tensor:
    """A value whose gradient moves the decoder as the three would have it, and the critic as its own loss would."""
    true, latents = lesson.piece.picture, lesson.piece.latents
    made = decoded(half, latents)
    frozen = {name: p.detach() for name, p in critic.named_parameters()}
    leaf = made.detach().requires_grad_()
    with bf16(true.device):
        with torch.no_grad():
            real = critic(true, latents).float()
        pixels = trusted(leaf, true, lesson.trust)
        away = unlike(eyes, leaf, true)
        taken = F.softplus(real - functional_call(critic, frozen, (leaf, latents)).float()).mean()
        pulls = [torch.autograd.grad(value, leaf)[0] for value in (pixels, away, taken)]
        own = criticism(critic, made.detach(), true, latents, lesson.noise)
    length = pulls[0].norm()
    weighed = zip(pulls[1:], (EYES, CRITIC), strict=True)
    pull = pulls[0] + sum(weight * length * one / one.norm().clamp(min=1e-12) for one, weight in weighed)
    moved = (made * pull).sum()
    return moved - moved.detach() + pixels.detach() + own


def main(options: Options | None = None) -> None:
    """Train the decoder on, against a critic, and save the codec."""
    options = options or parse(__doc__, minutes=40, batch=3)
    bench = Bench.of(options)
    torch.manual_seed(options.seed)
    half = Decoding(bench.large).requires_grad_(True)
    critic = Critic(bench.latents.shape[2]).to(options.device)
    eyes = sight.load(options.runs / "weights" / "eyes", options.device)
    both = Both(half, critic)
    again = options.batch // 3 if (options.runs / "weights" / "unet").exists() else 0
    sources = [(decoder.Lessons(bench.pool, bench.latents, options.batch - again, CELLS), 1.0)]
    if again:
        sources.append((decoder.Lessons(bench.pool, redrawn(options), again, CELLS), UNSURE))
    average = Average(both, 0.999)
    optimizer = muon.optimizer(half, lr=7e-4 * options.rate)
    optimizer.add_param_group({"params": [*critic.parameters()], "matrix": False, "lr": RATE, "weight_decay": 0.0})
    train(
        options.runs / "texture",
        both,
        optimizer,
        Lessons(tuple(sources)),
        lambda lesson: loss(half, critic, eyes, lesson),
        options.budget,
        workers=options.workers,
        average=average,
        show=bench.shower("texture", half, average.module.decoding),
    )


if __name__ == "__main__":
    main()
