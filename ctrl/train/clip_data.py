"""What the clip stage trains on: pictures moved a little, captions worded afresh, false ones and facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTokenizer

from ctrl.atelier.captions import describe
from ctrl.atelier.scene import Scene
from ctrl.train.facts import facts, looks, twisted
from ctrl.train.feed import Batch
from ctrl.train.pool import Pool, scene_of

SIDE, PATCH, SHIFT = 128, 16, 8
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIPImageProcessor's
KEEP = 0.85
NOISE = 7.0  # of 255, standard deviation


def tokens(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids (B, L) padded to the full length with ends of text, as StableDiffusionPipeline pads them."""
    return spelt(tokenizer, captions)[0]


def spelt(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The same, and the letters each token spells (B, L, 2): the first, and the one past the last."""
    coded = tokenizer(
        list(captions), padding="max_length", truncation=True, return_tensors="pt", return_offsets_mapping=True
    )
    return coded.input_ids, coded.offset_mapping


def pixels(picture: Tensor) -> Tensor:
    """The tower's normalised input (B, 3, 128, 128) of uint8 pictures (B, 3, h, w) of any size."""
    mean, std = _normal(picture.device)
    return (sized(picture).float() / 255 - mean) / std


@cache
def _normal(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(MEAN, device=device)[:, None, None], torch.tensor(STD, device=device)[:, None, None]


def sized(picture: Tensor) -> Tensor:
    """Pictures (B, 3, h, w) uint8 at the tower's size."""
    if picture.shape[-1] == SIDE:
        return picture
    large = F.interpolate(picture.float(), (SIDE, SIDE), mode="bicubic", antialias=True)
    return large.round().clamp(0, 255).byte()


@dataclass(frozen=True)
class Lesson(Batch):
    """Pictures with their captions, false captions after them, and where the captions state what."""

    picture: Tensor  # (B, 3, 128, 128) uint8
    kept: Tensor  # (B, p) patches the picture tower sees
    ids: Tensor  # (B + H, L), the last H false
    liar: Tensor  # (H,) the picture each false caption is nearly true of
    at: Tensor  # (F, 2) row and token of each fact
    attribute: Tensor  # (F,)
    value: Tensor  # (F,)
    looks: Tensor  # (B, 6) facts.looks


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` pictures of a pool; the pool's first `held` are left out."""

    pool: Pool
    tokenizer: CLIPTokenizer
    batch: int
    held: int

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one, half of it with false captions too."""
        rows = self.held + torch.randperm(self.pool.ready - self.held, generator=generator)[: self.batch]
        return draw(self.pool, self.tokenizer, rows.tolist(), generator, self.batch // 2)


def draw(pool: Pool, tokenizer: CLIPTokenizer, rows: Sequence[int], generator: torch.Generator, false: int) -> Lesson:
    """A lesson of the pool's rows, worded afresh; the first `false` rows bring a false caption too."""
    seed = int(torch.randint(2**31, (), generator=generator))
    scenes = [scene_of(row) for row in rows]
    captions = [describe(scene, seed, KEEP) for scene in scenes]
    texts = [caption.text for caption in captions]
    rng = np.random.Generator(np.random.Philox(seed))
    lies = [_lie(scenes[row], texts[row], seed, rng) for row in range(false)]
    ids, spans = spelt(tokenizer, [*texts, *(lie for lie in lies if lie)])
    stated = [
        (row, fact.letter, fact.attribute, fact.value)
        for row, (scene, caption) in enumerate(zip(scenes, captions, strict=True))
        for fact in facts(scene, caption)
    ]
    row, letter, attribute, value = torch.tensor(stated, dtype=torch.long).view(-1, 4).unbind(1)
    within = (spans[row, :, 0] <= letter[:, None]) & (spans[row, :, 1] > letter[:, None])  # (F, L)
    patches = (SIDE // PATCH) ** 2
    return Lesson(
        picture=_augmented(pool, rows, generator),
        kept=torch.rand(len(rows), patches, generator=generator).argsort(1)[:, : patches // 2],
        ids=ids,
        liar=torch.tensor([row for row, lie in enumerate(lies) if lie], dtype=torch.long),
        at=torch.stack([row, within.int().argmax(1)], 1),
        attribute=attribute,
        value=value,
        looks=torch.tensor([looks(scene) for scene in scenes]),
    )


def _lie(scene: Scene, truth: str, seed: int, rng: np.random.Generator) -> str | None:
    for _ in range(4):
        text = describe(twisted(scene, rng), seed, KEEP).text
        if text != truth:
            return text
    return None


def _augmented(pool: Pool, rows: Sequence[int], generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, 128, 128) uint8 moved by up to 8 pixels, some soft, some noisy; none mirrored: sides matter."""
    wide = F.pad(sized(torch.from_numpy(pool.picture[rows])), (SHIFT,) * 4, mode="replicate")
    corner = torch.randint(2 * SHIFT + 1, (len(rows), 2), generator=generator).tolist()
    moved = torch.stack([p[:, y : y + SIDE, x : x + SIDE] for p, (y, x) in zip(wide, corner, strict=True)])
    soft, noisy = torch.rand(2, len(rows), generator=generator) < 0.2
    moved[soft] = F.avg_pool2d(moved[soft].float(), 3, 1, 1, count_include_pad=False).round().byte()
    grain = NOISE * torch.randn(moved[noisy].shape, generator=generator)
    moved[noisy] = (moved[noisy] + grain).round().clamp(0, 255).byte()
    return moved
