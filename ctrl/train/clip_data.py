"""What the clip stage trains on: pictures moved a little, captions worded afresh, false ones and facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTokenizer

from ctrl.atelier.captions import describe
from ctrl.atelier.scene import Scene
from ctrl.train.facts import facts, looks, twisted
from ctrl.train.pool import Pool, scene_of

SIDE, PATCH, SHIFT = 128, 16, 8
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIPImageProcessor's
KEEP = 0.85


def tokens(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids (B, L) padded to the full length with ends of text, as StableDiffusionPipeline pads them."""
    coded = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")
    return coded.input_ids


def pixels(picture: Tensor) -> Tensor:
    """The tower's normalised input (B, 3, 128, 128) of uint8 pictures (B, 3, h, w) of any size."""
    value = picture.float()
    if picture.shape[-1] != SIDE:
        value = F.interpolate(value, (SIDE, SIDE), mode="bicubic", antialias=True).round().clamp(0, 255)
    mean, std = (torch.tensor(v, device=picture.device)[:, None, None] for v in (MEAN, STD))
    return (value / 255 - mean) / std


@dataclass(frozen=True)
class Batch:
    """Pictures with their captions, false captions after them, and where the captions state what."""

    picture: Tensor  # (B, 3, 128, 128) normalised
    kept: Tensor  # (B, p) patches the picture tower sees
    ids: Tensor  # (B + H, L), the last H false
    liar: Tensor  # (H,) the picture each false caption is nearly true of
    at: Tensor  # (F, 2) row and token of each fact
    attribute: Tensor  # (F,)
    value: Tensor  # (F,)
    looks: Tensor  # (B, 6) facts.looks


def draw(pool: Pool, tokenizer: CLIPTokenizer, rows: Sequence[int], generator: torch.Generator, false: int) -> Batch:
    """A batch of the pool's rows, worded afresh; the first `false` rows bring a false caption too."""
    seed = int(torch.randint(2**31, (), generator=generator))
    scenes = [scene_of(row) for row in rows]
    captions = [describe(scene, seed, KEEP) for scene in scenes]
    texts = [caption.text for caption in captions]
    rng = np.random.Generator(np.random.Philox(seed))
    lies = [_lie(scenes[row], texts[row], seed, rng) for row in range(false)]
    coded = tokenizer(texts)
    stated = [
        (row, coded.char_to_token(row, fact.letter), fact.attribute, fact.value)
        for row, (scene, caption) in enumerate(zip(scenes, captions, strict=True))
        for fact in facts(scene, caption)
    ]
    where = torch.tensor(stated)
    patches = (SIDE // PATCH) ** 2
    return Batch(
        picture=_augmented(pool, rows, generator),
        kept=torch.rand(len(rows), patches, generator=generator).argsort(1)[:, : patches // 2],
        ids=tokens(tokenizer, [*texts, *(lie for lie in lies if lie)]),
        liar=torch.tensor([row for row, lie in enumerate(lies) if lie]),
        at=where[:, :2],
        attribute=where[:, 2],
        value=where[:, 3],
        looks=torch.tensor([looks(scene) for scene in scenes]),
    )


def _lie(scene: Scene, truth: str, seed: int, rng: np.random.Generator) -> str | None:
    for _ in range(4):
        text = describe(twisted(scene, rng), seed, KEEP).text
        if text != truth:
            return text
    return None


def _augmented(pool: Pool, rows: Sequence[int], generator: torch.Generator) -> Tensor:
    """Pictures shifted by up to 8 pixels, some softened, some noisy. Never mirrored: sides matter."""
    picture = pixels(torch.from_numpy(pool.picture[np.asarray(rows)]))
    wide = F.pad(picture, (SHIFT,) * 4, mode="replicate")
    corner = torch.randint(2 * SHIFT + 1, (len(rows), 2), generator=generator).tolist()
    moved = torch.stack([p[:, y : y + SIDE, x : x + SIDE] for p, (y, x) in zip(wide, corner, strict=True)])
    soft, noisy = torch.rand(2, len(rows), generator=generator) < 0.2
    moved[soft] = F.avg_pool2d(moved[soft], 3, 1, 1, count_include_pad=False)
    moved[noisy] += 0.1 * torch.randn(moved[noisy].shape, generator=generator)
    return moved
