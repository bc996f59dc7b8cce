"""What words do, measured: masks by a run's own attention, who decides a place, what is left out, faithful maps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import ctrl
from ctrl.atelier.captions import article, describe
from ctrl.atelier.metrics import estimate
from ctrl.atelier.scene import COLORS, PLAIN
from ctrl.atelier.table import Row
from ctrl.atelier.truth import (
    HALF,
    SIDE,
    best_threshold,
    centre,
    found_in,
    occurrence_of,
    on_grid,
    on_where,
    seen,
    swept,
)
from ctrl.atelier.words import mask_of
from ctrl.atelier.work import Work


def word_masks(work: Work) -> list[Row]:
    """Whether `ctrl.Words("shirt")` masks the shirt, and a region with this mask paints it; floor: no region."""
    bench = work.bench
    scenes = [at for at, caption in enumerate(bench.captions) if "shirt" in caption.text.split()]
    words = ctrl.Words("shirt", start=0.3)
    asked, colours = [], []
    for at in scenes:
        taken = (bench.scenes[at].shirt, bench.scenes[at].trousers)
        colours.append(next(colour for colour in COLORS if colour not in taken))
        asked.append(work.recipes[at].replace(regions=[ctrl.Region(f"a figure in a {colours[-1]} shirt", words)]))
    inside, overlap, own, rest = [], [], [], []
    for recipe, colour, at in zip(asked, colours, scenes, strict=True):
        *_, step = ctrl.steps(bench.model, recipe)
        mask = step.checkpoint.words.mask(words.asked, words.threshold)
        assert mask is not None
        reading = work.read(step.preview())
        shirt = mask_of(reading.part[0].argmax(0), "shirt", SIDE)
        there = on_grid(mask[0, 0].cpu().numpy()) >= 0.5
        inside.append(float(there[shirt].mean()) if shirt.any() else float("nan"))
        overlap.append(float((there & shirt).sum() / max(1, (there | shirt).sum())) if shirt.any() else float("nan"))
        facts = reading.words()[0]
        own.append(float(facts.shirt == colour))
        rest.append(float(facts.trousers == bench.scenes[at].trousers))
    without = [work.plain.words[at] for at in scenes]
    absent = [float(facts.shirt == colour) for facts, colour in zip(without, colours, strict=True)]
    kept = [float(facts.trousers == bench.scenes[at].trousers) for facts, at in zip(without, scenes, strict=True)]
    return [
        Row.of('Words("shirt") as a mask: share of the shirt inside', [estimate(np.array(inside))]),
        Row.of("— IoU with the shirt", [estimate(np.array(overlap))]),
        Row.of("— a region there: the shirt has its colour", [estimate(np.array(own)), estimate(np.array(absent))]),
        Row.of("— the trousers keep theirs", [estimate(np.array(rest)), estimate(np.array(kept))]),
    ]


def influences(work: Work) -> list[Row]:
    """Who decides a shirt, on half of the scenes, where the prompt names it and where it leaves it open.

    Both are of the same seed, and the eyes find the shirt in each picture.
    """
    bench = work.bench
    count = max(2, bench.count // 2)
    leads, said = [], []
    for at, scene in enumerate(bench.scenes[:count]):
        named = describe(replace(scene, style=PLAIN), everything=True).text
        pair = [_decided(work, ctrl.Recipe(text, seed=at)) for text in (named, without_shirt(named, scene.shirt))]
        leads.append([one[0] for one in pair])
        said.append([one[1] for one in pair])
    named_leads, open_leads = (estimate(np.array(column)) for column in zip(*leads, strict=True))
    named_words, open_words = (estimate(np.array(column)) for column in zip(*said, strict=True))
    more = estimate(np.array([ours - none for ours, none in said]))
    return [
        Row.of("influence where a shirt is left open: the model itself leads; floor: named", [open_leads, named_leads]),
        Row.of("— the words' share there, named; floor: left open", [named_words, open_words]),
        Row.of("— what naming it adds to the words' share", [more]),
    ]


def without_shirt(text: str, colour: str) -> str:
    """A plain caption that says nothing of the shirt."""
    return text.replace(f"{article(colour)} {colour} shirt and ", "")


def _decided(work: Work, recipe: ctrl.Recipe) -> tuple[float, float]:
    """On the places of the shirt in a recipe's picture: whether the model itself leads, 1 or 0, and the words' share.

    It leads where its share is above that of all words together and of every other party. NaN where there is no shirt.
    """
    shot = ctrl.sample(work.bench.model, recipe, watch=ctrl.Watch(influence=True), progress=False)
    assert shot.attention is not None
    shirt = mask_of(seen(work, shot.image), "shirt", SIDE)
    if not shirt.any():
        return float("nan"), float("nan")
    split = shot.attention.influence
    means = {name: float(on_grid(share)[shirt].mean()) for name, share in split.parties.items()}
    return float(max(means, key=lambda name: means[name]) == "the model itself"), means["words"]


def causes(work: Work) -> list[Row]:
    """Whether a word's cause is on its thing, and how faithful both maps are, on a quarter of the scenes."""
    bench = work.bench
    count = max(2, bench.count // 4)
    looks, effects, scores = [], [], []
    for recipe, caption in zip(work.recipes[:count], bench.captions, strict=False):
        shot = ctrl.sample(bench.model, recipe, watch=ctrl.Watch(), progress=False)
        assert shot.attention is not None
        found = found_in(caption, [shot.attention], seen(work, shot.image))
        nouns = [mention for mention in caption.mentions if any(one.what == mention.what for one in found)]
        asked: list[Any] = [occurrence_of(caption, one) for one in nouns]
        maps = ctrl.cause(bench.model, shot, asked)
        looks.append(found)
        pairs = zip(found, maps, strict=True)
        effects.append([replace(one, heat=on_grid(heat.heat), large=heat.where) for one, heat in pairs])
        blob = centre(found[-1], found)
        tried = (shot.attention[asked[-1]], maps[-1], blob)
        scores.append([ctrl.faithfulness(bench.model, shot, asked[-1], one, steps=1, points=6).score for one in tried])
    attention, cause, middle = (estimate(np.array(column)) for column in zip(*scores, strict=True))
    half = partial(swept, HALF)
    return [
        Row.of("cause of a word: mIoU at half of the range", [estimate(half(effects))]),
        Row.of("— at its best threshold", [estimate(swept(best_threshold(effects), effects))]),
        Row.of("— of `where` on the grid, half of the range", [estimate(half(on_where(effects)))]),
        Row.of("— of its attention, same scenes", [estimate(swept(best_threshold(looks), looks))]),
        Row.of(
            "faithfulness of a word's attention, by deletion and insertion; floor: a blob in the middle",
            [attention, middle],
        ),
        Row.of("— of its cause", [cause, middle]),
    ]
