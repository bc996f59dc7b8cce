"""Where a word looks: cross-attention maps of a caption on noised true renders, against the true masks.

The render is encoded and noised to a few middle times, the U-Net sees it once each with its caption, and
softmax(q k) is averaged over heads, layers and times, as DAAM does (arXiv 2210.04885).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.atelier.captions import Caption
from ctrl.atelier.latents import encode, noised
from ctrl.atelier.metrics import Array, iou, points_at
from ctrl.atelier.solids import FIGURE_PARTS, PARTS
from ctrl.attention import Call, Hooks, Term

TIMES = (0.35, 0.5, 0.65)  # parts of the way from clean to noise
SMALLEST = 8  # cells a side of the layers that count


@dataclass(frozen=True)
class Found:
    """One mention's map (h, w) on the latent grid, the mask of what it names, and how well they meet."""

    what: str
    heat: Array
    mask: Array

    @property
    def iou(self) -> float:
        """Above half the maximum against the mask."""
        return iou(self.heat, self.mask)

    @property
    def points(self) -> float:
        """1 if the hottest cell is in the mask or next to it, else 0."""
        return float(points_at(self.heat, self.mask))


Kind = TypeVar("Kind", bound=Found)


def look(
    model: Any, picture: Tensor, part: Tensor, caption: Caption, seed: int, *, phrases: bool = False
) -> list[Found]:
    """The maps of a caption's mentions on one true render (3, S, S) in [0, 1] with its parts (S, S).

    With `phrases`, the clause a prop stands in ("a red ball on the left") is asked instead of the noun, and
    nothing else is. Things that fill no cell of the grid are left out.
    """
    heat = attention(model, picture, caption.text, seed)  # (T, h, w)
    found = []
    for mention in caption.mentions:
        if phrases and not mention.what.endswith("prop"):
            continue
        span = clause(caption.text, mention.start) if phrases else (mention.start, mention.end)
        tokens = tokens_of(model.parts.text_encoders[0].tokenizer, caption.text, *span)
        mask = mask_of(part, mention.what, heat.shape[-1])
        if mask.any():
            own = heat[tokens].mean(0) if tokens else torch.zeros_like(heat[0])  # a word that was cut looks nowhere
            found.append(Found(mention.what, own.numpy(), mask))
    return found


def attention(model: Any, picture: Tensor, text: str, seed: int) -> Tensor:
    """How much each cell looks at each token, (T, h, w) on the latent grid."""
    latents = encode(model, picture[None])
    prompt = model.text.rows([model.text.encode(text)])
    grid = latents.shape[-2:]
    maps: list[Tensor] = []

    def observe(call: Call, _: Sequence[Term]) -> None:
        if min(call.height, call.width) >= SMALLEST:
            share = (call.q.float() @ call.k.float().transpose(-1, -2) * call.q.shape[-1] ** -0.5).softmax(-1)
            heat = share.mean((0, 1)).T.unflatten(-1, (call.height, call.width))  # (T, h, w)
            maps.append(F.interpolate(heat[None], size=grid, mode="bilinear", align_corners=False)[0])

    for time in TIMES:
        sample, t = noised(model, latents, time, seed)
        model.denoiser.predict(sample, t, prompt, None, Hooks(observers=[observe]))
    return torch.stack(maps).mean(0).cpu()


def tokens_of(tokenizer: Any, text: str, start: int, end: int) -> list[int]:
    """The positions of the tokens that hold any of the letters from `start` to `end`."""
    spans: Sequence[tuple[int, int]] = tokenizer(text, return_offsets_mapping=True, truncation=True).offset_mapping
    return [at for at, (first, last) in enumerate(spans) if first < end and last > start and last > first]


def clause(text: str, at: int) -> tuple[int, int]:
    """Where the clause around a letter starts and ends; clauses stand between commas."""
    end = text.find(",", at)
    return text.rfind(",", 0, at) + 1, len(text) if end < 0 else end


def mask_of(part: Tensor, what: str, side: int) -> Array:
    """Which cells of a side x side grid are at least half filled by what a mention names, of parts (S, S)."""
    there = torch.isin(part.long().cpu(), torch.tensor(parts_of(what))).float()
    filled = F.interpolate(there[None, None], size=(side, side), mode="area")[0, 0]
    return np.asarray(filled.numpy() >= 0.5)


def scores(scenes: Sequence[Sequence[Found]]) -> tuple[Array, Array]:
    """Mean IoU and share of right pointing of each scene's mentions, (N,) each; NaN for a scene with none."""

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    ious = [mean([found.iou for found in scene]) for scene in scenes]
    points = [mean([found.points for found in scene]) for scene in scenes]
    return np.array(ious), np.array(points)


def blobs(scenes: Sequence[Sequence[Kind]]) -> list[list[Kind]]:
    """The mentions with a Gaussian in the middle of the picture for a map, which is to know nothing."""
    return [[replace(found, heat=_blob(*found.mask.shape)) for found in scene] for scene in scenes]


def shuffled(scenes: Sequence[Sequence[Kind]]) -> list[list[Kind]]:
    """The mentions with the map that another scene's mention of the same kind of thing has."""
    nexts: dict[str, list[Array]] = {}
    for scene in scenes:
        for found in scene:
            nexts.setdefault(found.what, []).append(found.heat)
    queues = {what: iter([*heats[1:], heats[0]]) for what, heats in nexts.items()}
    return [[replace(found, heat=next(queues[found.what])) for found in scene] for scene in scenes]


def sighted(scenes: Sequence[Sequence[Kind]], part: Tensor) -> list[list[Kind]]:
    """The mentions with what the eyes see of the thing for a map; part (N, parts, h, w) is Reading.part."""
    rows = zip(scenes, part.cpu(), strict=True)
    return [[replace(found, heat=_seen(likely, found)) for found in scene] for scene, likely in rows]


def _blob(height: int, width: int) -> Array:
    y, x = np.mgrid[:height, :width]
    away = ((y - (height - 1) / 2) / height) ** 2 + ((x - (width - 1) / 2) / width) ** 2
    return np.asarray(np.exp(-away / (2 * 0.2**2)))


def _seen(likely: Tensor, found: Found) -> Array:
    whole = likely[list(parts_of(found.what))].sum(0)[None, None]
    return np.asarray(F.interpolate(whole, size=found.mask.shape, mode="area")[0, 0])


def parts_of(what: str) -> tuple[int, ...]:
    """The indices in solids.PARTS of what a mention names."""
    return FIGURE_PARTS if what == "figure" else (PARTS.index(what),)
