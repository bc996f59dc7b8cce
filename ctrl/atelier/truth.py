"""How true maps are: the maps that users get, of every noun with a true mask, by four measures.

Two settings, each with exact truth: *noised* true renders, one evaluation each at three noise times, and pictures *as
they are generated*, whose masks the eyes read. On the grid of latents, 16 × 16 cells, and at the picture's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import ctrl
from ctrl.atelier.bench import pixels
from ctrl.atelier.captions import Caption, Mention
from ctrl.atelier.metrics import Array, Estimate, average_precision, energy, estimate, range_iou
from ctrl.atelier.table import Row
from ctrl.atelier.words import TIMES, blobs, mask_of, parts_of, shuffled, sighted
from ctrl.atelier.words import Found as OnCells
from ctrl.atelier.work import Work

THRESHOLDS = tuple(float(one) for one in np.linspace(0.05, 0.95, 19))
HALF = len(THRESHOLDS) // 2  # the number of 0.5
SIDE = 16  # cells of the grid on which all measures but one are taken


@dataclass(frozen=True)
class Found(OnCells):
    """One noun's map (16, 16) and true mask on the grid, and both at the picture's size."""

    large: Array  # (H, W)
    large_mask: Array  # (H, W) bool


Scenes = Sequence[Sequence[Found]]


def noised(work: Work) -> list[list[Found]]:
    """Of noised true renders, the mean of the maps at three times."""
    bench = work.bench
    pictures = [Image.fromarray(one) for one in pixels(bench.view.picture)]
    parts = zip(pictures, bench.captions, bench.view.part, strict=True)
    return [found_in(caption, _once(bench.model, picture, caption, TIMES), part) for picture, caption, part in parts]


def asked_once(work: Work) -> list[list[Found]]:
    """Of true renders that are asked with one evaluation at time 0.1."""
    bench = work.bench
    pictures = [Image.fromarray(one) for one in pixels(bench.view.picture)]
    parts = zip(pictures, bench.captions, bench.view.part, strict=True)
    return [found_in(caption, _once(bench.model, picture, caption, (0.1,)), part) for picture, caption, part in parts]


def generated(work: Work) -> list[list[Found]]:
    """Of pictures as they are generated, against what the eyes see in the picture."""
    bench = work.bench
    found = []
    for recipe, caption in zip(work.recipes, bench.captions, strict=True):
        shot = ctrl.sample(bench.model, recipe, watch=ctrl.Watch(), progress=False)
        assert shot.attention is not None
        found.append(found_in(caption, [shot.attention], seen(work, shot.image)))
    return found


def seen(work: Work, picture: Image.Image) -> Tensor:
    """What the eyes see of a picture: the part at each place (64, 64)."""
    return work.read(picture).part[0].argmax(0).cpu()


def _once(model: Any, picture: Image.Image, caption: Caption, times: Sequence[float]) -> list[Any]:
    """The attention of one evaluation at each noise time."""
    seen = []
    for time in times:
        recipe = ctrl.Recipe(caption.text, image=picture, strength=time, steps=20, guidance=1.0)
        step = next(ctrl.steps(model, recipe, watch=ctrl.Watch()))
        assert step.look is not None
        seen.append(step.look(picture))
    return seen


def found_in(caption: Caption, attentions: Sequence[Any], part: Tensor) -> list[Found]:
    """The mean map of every noun whose thing fills a cell of the grid. A word that was cut has none."""
    found = []
    for mention in caption.mentions:
        mask = mask_of(part, mention.what, SIDE)
        if not mask.any():
            continue
        maps = [_asked(one, *occurrence_of(caption, mention)) for one in attentions]
        if None in maps:
            continue
        heat = np.mean([one.heat for one in maps], axis=0)
        large = np.mean([one.where for one in maps], axis=0)
        large_mask = torch.isin(part.long(), torch.tensor(parts_of(mention.what)))
        shape = [int(one) for one in large.shape]
        large_mask = F.interpolate(large_mask[None, None].float(), size=shape)[0, 0] >= 0.5
        found.append(Found(mention.what, on_grid(heat), mask, large, large_mask.numpy()))
    return found


def occurrence_of(caption: Caption, mention: Mention) -> tuple[str, int]:
    """The word of a mention, and how often it came before."""
    return mention.word, caption.text[: mention.start].lower().count(mention.word.lower())


def _asked(attention: Any, word: str, occurrence: int) -> Any:
    try:
        return attention.map(word, occurrence=occurrence)
    except KeyError:  # the text encoder did not read so far
        return None


def on_grid(heat: Array) -> Array:
    """A map (h, w) on the grid of 16 × 16 cells."""
    small = F.interpolate(torch.from_numpy(heat)[None, None].float(), size=(SIDE, SIDE), mode="area")
    return np.asarray(small[0, 0].numpy())


def measures(
    name: str, scenes: Scenes, ceiling: Scenes, *, goal: float, least: float | None = None, large: float | None = None
) -> list[Row]:
    """The rows of one setting: the maps between what knows nothing and the eyes.

    The best threshold is found on these scenes, so its row flatters: the rows at half of the range do not.
    """
    best = partial(swept, best_threshold(scenes))
    half = partial(swept, HALF)
    wrong = shuffled(scenes)
    number = best_threshold(scenes)
    rows = [
        Row.of(f"{name}: mIoU at half of the range", _four(half, scenes, wrong, ceiling), least=least, goal=goal),
        Row.of(f"— at the best threshold, {THRESHOLDS[number]:.2f}", _four(best, scenes, wrong, ceiling)),
        Row.of("— of `where` on the grid, half of the range", [estimate(half(on_where(scenes)))]),
        Row.of("— at the picture's size, half of the range", [estimate(_large(scenes))], goal=large),
    ]
    rows += [Row.of(f"— {what}", _four(own, scenes, wrong, ceiling)) for what, own in MEASURES.items()]
    simple = {
        what: [[replace(one, heat=map_of(one, scene)) for one in scene] for scene in scenes]
        for what, map_of in BASELINES.items()
    } | {"mean mask of the noun": _prior(scenes)}
    for what, other in simple.items():
        rows.append(Row.of(f"— {what}: mIoU at its best threshold", [estimate(swept(best_threshold(other), other))]))
    share = half(scenes) / half(ceiling)
    return [*rows, Row.of("— share of the ceiling", [estimate(share)])]


def eyes_on(work: Work, scenes: Scenes) -> list[list[Found]]:
    """The same nouns with what the eyes see of the true renders for maps: the ceiling."""
    return sighted(scenes, work.bench.eyes.read(work.bench.view.picture).part)


def exact(scenes: Scenes) -> list[list[Found]]:
    """The same nouns with their masks for maps: the ceiling where the masks are the eyes' own."""
    return [[replace(one, heat=one.mask.astype(np.float32)) for one in scene] for scene in scenes]


def _four(score: Callable[[Scenes], Array], scenes: Scenes, wrong: Scenes, ceiling: Scenes) -> list[Estimate | None]:
    return [estimate(score(scenes)), None, estimate(score(wrong)), estimate(score(ceiling))]


def _mean(values: Iterator[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def swept(threshold: int, scenes: Scenes) -> Array:
    """IoU of each scene (N,) at a threshold by its number."""
    at = THRESHOLDS[threshold]
    return np.array([_mean(range_iou(one.heat, one.mask, at) for one in scene) for scene in scenes])


def best_threshold(scenes: Scenes) -> int:
    """The number of the threshold that is best for all."""
    return int(np.argmax([np.nanmean(swept(number, scenes)) for number in range(len(THRESHOLDS))]))


def on_where(scenes: Scenes) -> list[list[Found]]:
    """The maps as masks are made of them, brought to the grid."""
    return [[replace(one, heat=on_grid(one.large)) for one in scene] for scene in scenes]


def _large(scenes: Scenes) -> Array:
    return np.array([_mean(range_iou(one.large, one.large_mask, 0.5) for one in scene) for scene in scenes])


def _precision(scenes: Scenes) -> Array:
    return np.array([_mean(average_precision(one.heat, one.mask) for one in scene) for scene in scenes])


def _energy(scenes: Scenes) -> Array:
    return np.array([_mean(energy(one.heat, one.mask) for one in scene) for scene in scenes])


def _leakage(scenes: Scenes) -> Array:
    """The part of a noun's map that is on another thing; the figure and what it wears are not two things."""

    def of(scene: Sequence[Found]) -> Iterator[float]:
        for one in scene:
            for other in scene:
                if not (one.mask & other.mask).any() and one.what != other.what:
                    yield energy(one.heat, other.mask)

    return np.array([_mean(of(scene)) for scene in scenes])


def _prior(scenes: Scenes) -> list[list[Found]]:
    """Each noun with the mean mask of its kind in all other scenes for a map: it has seen no picture."""

    def of(one: Found, scene: Sequence[Found]) -> Array:
        others = [two.mask for rest in scenes if rest is not scene for two in rest if two.what == one.what]
        return np.mean(others, axis=0) if others else np.full_like(one.heat, 0.5)

    return [[replace(one, heat=of(one, scene)) for one in scene] for scene in scenes]


def _uniform(one: Found, scene: Sequence[Found]) -> Array:
    return np.ones_like(one.heat)


def centre(one: Found, scene: Sequence[Found]) -> Array:
    """A Gaussian in the middle of the picture, which knows nothing."""
    return blobs([[one]])[0][0].heat


def _whole_figure(one: Found, scene: Sequence[Found]) -> Array:
    figure = [other.mask for other in scene if other.what == "figure"]
    return figure[0].astype(np.float32) if figure else np.ones_like(one.heat)


MEASURES = {"average precision": _precision, "energy inside": _energy, "leakage into another thing": _leakage}
BASELINES: Mapping[str, Callable[[Found, Sequence[Found]], Array]]
BASELINES = {"uniform": _uniform, "a blob in the middle": centre, "the whole figure": _whole_figure}


def word_maps(work: Work) -> list[Row]:
    """How true the maps of words are that users get."""
    own, once, made = noised(work), asked_once(work), generated(work)
    return [
        *measures("Watch on noised true renders", own, eyes_on(work, own), least=0.74, goal=0.80),
        *measures("Watch on a finished picture, one call", once, eyes_on(work, once), goal=0.78, large=0.77),
        *measures("Watch while generating, against the eyes", made, exact(made), least=0.77, goal=0.82),
    ]
