"""Stage 6, lcm: a LoRA with which four steps do the work of twenty (LCM-LoRA, arXiv 2311.05556).

`python -m ctrl.train.lcm --minutes 10`. Consistency distillation (arXiv 2310.04378) of the frozen U-Net under guidance:
the student at a noise level must agree with its own average one DDIM step nearer to the picture, where the step is
the teacher's, guidance included. The LoRA is saved as diffusers' `load_lora_weights` reads it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from ctrl.atelier.captions import describe
from ctrl.atelier.scene import EVALUATION_SEEDS, sample
from ctrl.train.base import Base, Source
from ctrl.train.denoiser import Predict, called, captions, noise_schedule
from ctrl.train.feed import Batch
from ctrl.train.loop import Average, bf16, parameters, train
from ctrl.train.options import Options, parse
from ctrl.train.rows import choose
from ctrl.train.sheet import save_sheet

RANK, GUIDANCE, LEAP, LEVELS = 32, 5.0, 20, 50  # the student lives on 50 noise levels, 20 timesteps apart
SIGMA_DATA, SCALING = 0.5, 10.0  # LCMScheduler's boundary condition
TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "conv1",
    "conv2",
    "conv_shortcut",
    "time_emb_proj",
    "proj_in",
    "proj_out",
)


@dataclass(frozen=True)
class Lesson(Batch):
    """Noised latents, what they show in words, and the step towards the picture that is to be learnt."""

    noisy: Tensor  # (B, C, h, w)
    ids: Tensor  # (B, L)
    here: Level
    there: Level
    last: Tensor  # (B, 1, 1, 1) whether the picture itself is one step away


@dataclass(frozen=True)
class Level(Batch):
    """How noisy latents are."""

    timesteps: Tensor  # (B,)
    kept: Tensor  # (B, 1, 1, 1) alpha-bar

    @staticmethod
    def of(timesteps: Tensor) -> Level:
        """The levels of timesteps."""
        return Level(timesteps, noise_schedule().alphas_cumprod[timesteps][:, None, None, None])

    def split(self, latents: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The picture and the noise that latents are made of, if `v` is right."""
        shown, hidden = self.kept.sqrt(), (1 - self.kept).sqrt()
        return shown * latents - hidden * v, shown * v + hidden * latents


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` pictures."""

    source: Source
    batch: int

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        rows = choose(self.source.pool, self.batch, generator)
        ids = self.source.ids(captions(rows, generator))
        return leap(self.source.clean(rows), ids, generator)


def leap(clean: Tensor, ids: Tensor, generator: torch.Generator) -> Lesson:
    """Noise clean latents (B, C, h, w) for a lesson, on the CPU."""
    schedule: Any = noise_schedule()
    level = torch.randint(1, LEVELS + 1, (len(clean),), generator=generator)
    here, there = level * LEAP - 1, ((level - 1) * LEAP - 1).clamp(min=0)
    noisy = schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), here)
    return Lesson(noisy, ids, Level.of(here), Level.of(there), (level == 1)[:, None, None, None])


def boundary(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out of LCMScheduler, (B, 1, 1, 1): the network is the identity at no noise."""
    scaled = (timesteps.float() * SCALING)[:, None, None, None]
    skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    return skip, scaled / (scaled**2 + SIGMA_DATA**2).sqrt()


def loss(student: Predict, target: Predict, teacher: Predict, lesson: Lesson, text: Tensor, empty: Tensor) -> Tensor:
    """The consistency loss under text (B, L, D): Huber, as in the paper's code."""
    noisy, here, there = lesson.noisy, lesson.here, lesson.there

    def consistent(predict: Predict, latents: Tensor, level: Level) -> Tensor:
        with bf16(latents.device):
            v = predict(latents, level.timesteps, text).float()
        skip, out = boundary(level.timesteps)
        return skip * latents + out * level.split(latents, v)[0]

    with torch.no_grad():
        both = torch.cat([empty.expand_as(text), text])
        with bf16(noisy.device):
            v = teacher(torch.cat([noisy] * 2), torch.cat([here.timesteps] * 2), both)
        uncond, cond = v.float().chunk(2)
        picture, eps = here.split(noisy, uncond + GUIDANCE * (cond - uncond))
        nearer = there.kept.sqrt() * picture + (1 - there.kept).sqrt() * eps
        wanted = torch.where(lesson.last, picture, consistent(target, nearer, there))
    gap = consistent(student, noisy, here) - wanted
    return ((gap**2 + 1e-6).sqrt() - 1e-3).mean()


@torch.no_grad()
def draw(predict: Predict, text: Tensor, codec: AutoencoderKL, steps: int = 4) -> Tensor:
    """Pictures (B, 3, h, w) in [-1, 1] in a few steps."""
    schedule = LCMScheduler.from_config(noise_schedule().config)
    schedule.set_timesteps(steps)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((len(text), codec.config.latent_channels, 16, 16), generator=generator).to(text.device)
    for t in schedule.timesteps:
        v = predict(latents, t.expand(len(text)).to(text.device), text)
        latents, final = schedule.step(v, t, latents, generator=generator, return_dict=False)
    return codec.decode(final / codec.config.scaling_factor).sample


def main(options: Options | None = None) -> None:
    """Distil the LoRA and save it."""
    options = options or parse(__doc__, minutes=10, batch=32)
    base = Base.of(options)
    teacher = base.unet()
    torch.manual_seed(options.seed)
    student = copy.deepcopy(teacher)
    student.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS)))
    if options.start is not None:
        state, _ = StableDiffusionLoraLoaderMixin.lora_state_dict(str(options.start / "lora"))
        set_peft_model_state_dict(student, {k.removeprefix("unet."): v for k, v in state.items()})
    average = Average(student, 0.98)
    optimizer = torch.optim.AdamW(
        parameters(student), lr=1e-3 * options.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    empty = base.prompt_embeds([""])

    def learn(lesson: Lesson) -> Tensor:
        return loss(called(student), called(average.module), called(teacher), lesson, base.read(lesson.ids), empty)

    def show(folder: Path, _: int) -> None:
        asked = [describe(sample(EVALUATION_SEEDS - 1 - i)).text for i in range(8)]
        save_sheet([draw(called(average.module), base.prompt_embeds(asked), base.codec)], folder / "samples.png")
        state = {k: v.contiguous() for k, v in get_peft_model_state_dict(average.module).items()}
        StableDiffusionLoraLoaderMixin.save_lora_weights(base.weights / "lora", unet_lora_layers=state)

    train(
        options.runs / "lcm",
        student,
        optimizer,
        Lessons(base.source, options.batch),
        learn,
        options.budget,
        seed=options.seed,
        workers=options.workers,
        average=average,
        show=show,
    )


if __name__ == "__main__":
    main()
