"""Stage 3, the denoiser: a UNet2DConditionModel that turns noise into the latents of what a caption says.

`python -m ctrl.train.denoiser --minutes 60`. v-prediction (arXiv 2202.00512) with min-SNR-5 weights
(arXiv 2303.09556), cross-attention at every level to the frozen text tower, one caption in ten empty for guidance,
every picture also as its mirror image with the caption's sides exchanged. Beside denoising, the words' attention is
drawn onto what they name (`grounding`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor

from ctrl.atelier.captions import Caption, describe
from ctrl.atelier.scene import EVALUATION_SEEDS, SIDES, Scene, sample
from ctrl.train import grounding, muon
from ctrl.train.clip import embed, load_text
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool, open_pool, scene_of

KEEP, EMPTY, GAMMA = 0.85, 0.1, 5.0
TIMESTEPS = 1000
GROUNDING = 0.01  # of the nats by which words miss their things, beside the error of v

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]  # noisy latents, timesteps, text -> v


def noise_schedule() -> DDIMScheduler:
    """Stable Diffusion's betas, for v-prediction; what the weights folder's scheduler/ holds."""
    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="trailing",
        steps_offset=1,  # of no effect with trailing steps, but diffusers warns without it
    )


def begin(options: Options, latent_channels: int, text_width: int) -> UNet2DConditionModel:
    """The U-Net to train: new, or the one of the weights folder that `--weights` names."""
    torch.manual_seed(options.seed)
    if options.start is None:
        return build(latent_channels, text_width)
    return UNet2DConditionModel.from_pretrained(options.start / "unet")


def build(latent_channels: int, text_width: int) -> UNet2DConditionModel:
    """The untrained U-Net for 16 x 16 latents."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(48, 96, 160),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=(2, 3, 4),  # heads, in diffusers' historic naming
        cross_attention_dim=text_width,
    )


@dataclass(frozen=True)
class Noised:
    """Latents at random noise levels, and what the network should say of them."""

    latents: Tensor  # (B, C, h, w)
    timesteps: Tensor  # (B,)
    velocity: Tensor  # (B, C, h, w)
    weight: Tensor  # (B,) min-SNR-gamma
    shown: Tensor  # (B,) how much of the picture is left, sqrt(alpha-bar)

    def error(self, guess: Tensor) -> Tensor:
        """The weighted squared error of a guess of the velocity."""
        return (self.weight * (guess.float() - self.velocity).square().mean((1, 2, 3))).mean()


def noised(clean: Tensor, generator: torch.Generator) -> Noised:
    """Noise clean latents; everything random is drawn on the CPU, so that devices agree."""
    schedule: Any = noise_schedule()  # its methods ask for an IntTensor, and take any
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    timesteps = torch.randint(TIMESTEPS, (len(clean),), generator=generator).to(clean.device)
    alpha = schedule.alphas_cumprod.to(clean.device)[timesteps]
    snr = alpha / (1 - alpha)
    return Noised(
        schedule.add_noise(clean, noise, timesteps),
        timesteps,
        schedule.get_velocity(clean, noise, timesteps),
        snr.clamp(max=GAMMA) / (snr + 1),
        alpha.sqrt(),
    )


def loss_of(predict: Predict, clean: Tensor, text: Tensor, generator: torch.Generator) -> Tensor:
    """The weighted squared error of v on clean latents (B, C, h, w) under text (B, L, D)."""
    given = noised(clean, generator)
    with bf16(clean.device):
        return given.error(predict(given.latents, given.timesteps, text))


def grounded_loss(
    unet: UNet2DConditionModel, clean: Tensor, text: Tensor, named: grounding.Named, generator: torch.Generator
) -> Tensor:
    """The same, and a share of how far the words' attention lies from what they name."""
    given = noised(clean, generator)
    with grounding.drawn(unet, named, given.shown) as maps, bf16(clean.device):
        guess = unet(given.latents, given.timesteps, text).sample
    return given.error(guess) + GROUNDING * maps.loss()


@dataclass(frozen=True)
class Rows:
    """Which pictures of the pool a step learns from, and which of them in the mirror."""

    index: list[int]
    mirrored: list[bool]

    def scenes(self) -> list[Scene]:
        """The scenes as seen."""
        return [mirror(scene_of(i)) if flip else scene_of(i) for i, flip in zip(self.index, self.mirrored, strict=True)]


def choose(pool: Pool, count: int, generator: torch.Generator) -> Rows:
    """Random rows of the pool."""
    index = torch.randint(pool.ready, (count,), generator=generator).tolist()
    return Rows(index, (torch.rand(count, generator=generator) < 0.5).tolist())


def mirror(scene: Scene) -> Scene:
    """The scene as its mirror image shows it, as far as words can tell."""
    props = tuple(replace(prop, side=SIDES[1 - SIDES.index(prop.side)], x=-prop.x) for prop in scene.props)
    return replace(scene, props=props[::-1], mirrored=not scene.mirrored)


def captions(rows: Rows, generator: torch.Generator, empty: float = EMPTY) -> list[str]:
    """Fresh wording for each row; some are empty."""
    return [caption.text for caption in worded(rows, generator, empty)]


def worded(rows: Rows, generator: torch.Generator, empty: float = EMPTY) -> list[Caption]:
    """The same with what each word names."""
    seed = int(torch.randint(2**31, (), generator=generator))
    blank = (torch.rand(len(rows.index), generator=generator) < empty).tolist()
    return [
        Caption("", (), frozenset()) if gone else describe(scene, seed, KEEP)
        for scene, gone in zip(rows.scenes(), blank, strict=True)
    ]


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
        with bf16(codec.device):
            both = [codec.encode(p).latent_dist.mode() for p in (picture, picture.flip(-1))]
        latents[start : start + step] = torch.stack(both, 1).half().cpu().numpy()
    latents.flush()
    partial.rename(path)
    return np.load(path, mmap_mode="r")


def fetch(latents: np.ndarray, rows: Rows) -> Tensor:
    """Clean latents (B, C, 16, 16) of rows, float32."""
    return torch.from_numpy(
        np.stack([latents[i, int(m)] for i, m in zip(rows.index, rows.mirrored, strict=True)])
    ).float()


@torch.no_grad()
def draw(
    predict: Predict,
    text: Tensor,
    empty: Tensor,
    codec: AutoencoderKL,
    steps: int = 20,
    guidance: float = 4.0,
) -> Tensor:
    """Pictures (B, 3, h, w) in [-1, 1] by DDIM with guidance: for the sample sheets."""
    schedule: Any = noise_schedule()
    schedule.set_timesteps(steps)
    shape = (len(text), codec.config.latent_channels, 16, 16)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(text.device)
    both = torch.cat([empty.expand_as(text), text])
    for t in schedule.timesteps:
        v = predict(torch.cat([latents] * 2), t.expand(2 * len(text)).to(text.device), both)
        free, told = v.chunk(2)
        latents = schedule.step(free + guidance * (told - free), t, latents).prev_sample
    return codec.decode(latents / codec.config.scaling_factor).sample


def save_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """Write batches (n, 3, h, w) in [-1, 1] under one another."""
    stacked = torch.stack([row.clamp(-1, 1).add(1).mul(127.5).round().byte().cpu() for row in rows])
    r, n, _, h, w = stacked.shape
    Image.fromarray(stacked.permute(0, 3, 1, 4, 2).reshape(r * h, n * w, 3).numpy()).save(path)


def main(options: Options | None = None) -> None:
    """Train the U-Net and save it as a diffusers folder."""
    options = options or parse(__doc__, minutes=60, batch=32)
    weights = options.runs / "weights"
    pool = open_pool(options.pool, options.count, options.size)
    codec = AutoencoderKL.from_pretrained(weights / "vae").to(options.device).eval().requires_grad_(False)
    tokenizer, tower = load_text(weights)
    tower.to(options.device)  # type: ignore[arg-type]
    latents = encode(pool, codec, options.runs / f"latents{options.size}.npy")
    unet = begin(options, codec.config.latent_channels, tower.config.hidden_size)
    unet.to(options.device)  # type: ignore[arg-type]
    average = Average(unet, 0.9995)
    optimizer = muon.optimizer(unet, lr=2e-3 * options.rate)
    asked = [describe(sample(EVALUATION_SEEDS - 1 - i)).text for i in range(8)]

    def step(_: int, generator: torch.Generator) -> Tensor:
        rows = choose(pool, options.batch, generator)
        said = worded(rows, generator)
        text = embed(tokenizer, tower, [caption.text for caption in said])
        part = grounding.parts(pool.part, rows.index, rows.mirrored)
        named = grounding.named(tokenizer, said, part, text.shape[1], text.device)
        return grounded_loss(unet, fetch(latents, rows).to(options.device), text, named, generator)

    def show(folder: Path, _: int) -> None:
        text, empty = embed(tokenizer, tower, asked), embed(tokenizer, tower, [""])
        made = draw(lambda x, t, c: average.module(x, t, c).sample, text, empty, codec)
        save_sheet([made], folder / "samples.png")
        (folder / "samples.txt").write_text("\n".join(asked))
        average.module.save_pretrained(weights / "unet")

    train(options.runs / "denoiser", unet, optimizer, step, options.budget, average=average, show=show)
    noise_schedule().save_pretrained(weights / "scheduler")


if __name__ == "__main__":
    main()
