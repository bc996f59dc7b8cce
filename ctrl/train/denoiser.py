"""Stage 3, the denoiser: a UNet2DConditionModel that turns noise into the latents of what a caption says.

`python -m ctrl.train.denoiser --minutes 60`. v-prediction (arXiv 2202.00512) with min-SNR-5 weights
(arXiv 2303.09556), cross-attention at every level to the frozen text tower, one caption in ten empty for guidance,
every picture also as its mirror image with the caption's sides exchanged. Beside denoising, the words' attention is
drawn onto what they name (`grounding`), and some props are named by a region in place of the caption (`regional`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from ctrl.atelier.captions import Caption, describe
from ctrl.atelier.scene import EVALUATION_SEEDS, PLAIN, STYLES, Scene, sample
from ctrl.attention import Edit
from ctrl.train import grounding, muon, regional
from ctrl.train.base import Base, Source
from ctrl.train.clip_data import spelt
from ctrl.train.feed import Batch
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.regional import Regional
from ctrl.train.rows import Rows, choose_near
from ctrl.train.sheet import save_sheet

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


def called(unet: UNet2DConditionModel) -> Predict:
    """The U-Net's own prediction, as the functions here ask for it."""
    return lambda latents, timesteps, text: unet(latents, timesteps, text).sample


@dataclass(frozen=True)
class Noised(Batch):
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
    """Noise clean latents (B, C, h, w), on the CPU, so that devices agree."""
    schedule: Any = noise_schedule()  # its methods ask for an IntTensor, and take any
    noise = torch.randn(clean.shape, generator=generator)
    timesteps = torch.randint(TIMESTEPS, (len(clean),), generator=generator)
    alpha = schedule.alphas_cumprod[timesteps]
    snr = alpha / (1 - alpha)
    return Noised(
        schedule.add_noise(clean, noise, timesteps),
        timesteps,
        schedule.get_velocity(clean, noise, timesteps),
        snr.clamp(max=GAMMA) / (snr + 1),
        alpha.sqrt(),
    )


def loss(predict: Predict, given: Noised, text: Tensor) -> Tensor:
    """The weighted squared error of v under text (B, L, D)."""
    with bf16(text.device):
        return given.error(predict(given.latents, given.timesteps, text))


def grounded_loss(
    unet: UNet2DConditionModel, given: Noised, text: Tensor, named: grounding.Named, edits: Sequence[Edit] = ()
) -> Tensor:
    """The same, and a share of how far the words' attention is from what they name."""
    with grounding.drawn(unet, named, given.shown, edits) as maps, bf16(text.device):
        guess = unet(given.latents, given.timesteps, text).sample
    return given.error(guess) + GROUNDING * maps.loss()


@dataclass(frozen=True)
class Lesson(Batch):
    """Noised latents, what they show in words, and what the words name."""

    given: Noised
    ids: Tensor  # (B, L)
    named: grounding.Named
    regional: Regional


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` pictures."""

    source: Source
    batch: int

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        rows = choose_near(self.source.pool, self.batch, generator)
        filled = grounding.filled(self.source.pool.part, rows)
        apart = regional.take_apart(rows.scenes(), filled, generator)
        said = worded([one.scene for one in apart], generator)
        ids, spans = spelt(self.source.tokenizer, [caption.text for caption in said])
        regions = Regional(self.source.ids([one.words for one in apart]), regional.places(apart))
        named = grounding.Named.of(said, spans, filled)
        return Lesson(noised(self.source.clean(rows), generator), ids, named, regions)


def captions(rows: Rows, generator: torch.Generator, empty: float = EMPTY) -> list[str]:
    """Fresh wording for each row; some are empty."""
    return [caption.text for caption in worded(rows.scenes(), generator, empty)]


def worded(scenes: Sequence[Scene], generator: torch.Generator, empty: float = EMPTY) -> list[Caption]:
    """The same with what each word names."""
    seed = int(torch.randint(2**31, (), generator=generator))
    blank = (torch.rand(len(scenes), generator=generator) < empty).tolist()
    return [
        Caption("", (), frozenset()) if gone else caption_of(scene, seed + row)
        for row, (scene, gone) in enumerate(zip(scenes, blank, strict=True))
    ]


def caption_of(scene: Scene, seed: int) -> Caption:
    """A caption as people write them: half name every colour and the time whatever the style.

    One that names no style means a clean 3d render, whatever else it leaves out. So half the captions of 3d renders are
    made as if the scene were drawn in a style picked from all, its name left out; some name no colours and
    no time. All other captions name their style.
    """
    if scene.style == PLAIN and seed // 2 % 2:
        told = replace(scene, style=STYLES[seed // 4 % len(STYLES)])
        return describe(told, seed, KEEP, styled=False)
    return describe(scene, seed, KEEP, everything=seed % 2 == 0, styled=True)


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
        uncond, cond = v.chunk(2)
        latents = schedule.step(uncond + guidance * (cond - uncond), t, latents).prev_sample
    return codec.decode(latents / codec.config.scaling_factor).sample


def main(options: Options | None = None) -> None:
    """Train the U-Net and save it as a diffusers folder."""
    options = options or parse(__doc__, minutes=60, batch=32)
    base = Base.of(options)
    unet = begin(options, base.codec.config.latent_channels, base.tower.config.hidden_size)
    nn.Module.to(unet, base.device)
    average = Average(unet, 0.9995)
    optimizer = muon.optimizer(unet, lr=2e-3 * options.rate)
    asked = [describe(sample(EVALUATION_SEEDS - 1 - i)).text for i in range(8)]

    def learn(lesson: Lesson) -> Tensor:
        apart = lesson.regional.edit(base.read(lesson.regional.ids))
        return grounded_loss(unet, lesson.given, base.read(lesson.ids), lesson.named, [apart])

    def show(folder: Path, _: int) -> None:
        made = draw(called(average.module), base.prompt_embeds(asked), base.prompt_embeds([""]), base.codec)
        save_sheet([made], folder / "samples.png")
        (folder / "samples.txt").write_text("\n".join(asked))
        average.module.save_pretrained(base.weights / "unet")

    train(
        options.runs / "denoiser",
        unet,
        optimizer,
        Lessons(base.source, options.batch),
        learn,
        options.budget,
        seed=options.seed,
        workers=options.workers,
        average=average,
        show=show,
    )
    noise_schedule().save_pretrained(base.weights / "scheduler")


if __name__ == "__main__":
    main()
