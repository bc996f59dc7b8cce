"""Whether edits change what they are to change and nothing else: Prompt-to-Prompt, NAG and StyleAligned, as rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import ctrl
from ctrl.atelier.asked import hits, named
from ctrl.atelier.bench import Seen, restyled
from ctrl.atelier.captions import STYLE, article, describe
from ctrl.atelier.metrics import Array, estimate
from ctrl.atelier.reading import Facts
from ctrl.atelier.scene import COLORS, PLAIN, Scene
from ctrl.atelier.table import Row
from ctrl.atelier.work import Work


def edits(work: Work) -> list[Row]:
    """A shirt in another colour by Prompt-to-Prompt: whether it has the colour, and all else is as in the source.

    Floors: the source's picture, and, for what stays, the edited prompt alone from the same seed, which is also the
    ceiling of what changes.
    """
    scenes = [replace(scene, style=PLAIN) for scene in work.bench.scenes]
    texts = [describe(scene, seed=scene.seed, everything=True).text for scene in scenes]
    wanted = [_next(scene.shirt) for scene in scenes]
    dressed = [_dressed(text, scene.shirt, color) for text, scene, color in zip(texts, scenes, wanted, strict=True)]
    source = [ctrl.Recipe(text, seed=i) for i, text in enumerate(texts)]
    alone = [recipe.replace(prompt=text) for recipe, text in zip(source, dressed, strict=True)]
    before, ceiling = work.made(source), work.made(alone)
    ways = {
        "by Prompt-to-Prompt": [ctrl.Edit(text) for text in texts],
        "with local blend": [ctrl.Edit(text, blend="shirt") for text in texts],
    }
    found = []
    for name, wished in ways.items():
        seen = work.made([recipe.replace(edit=edit) for recipe, edit in zip(alone, wished, strict=True)])
        changed = [estimate(_shirts(one, wanted)) for one in (seen, before, ceiling)]
        stays = [estimate(_stays(one, before, "shirt")) for one in (seen, ceiling)]
        alike = [estimate(_alike(one, before)) for one in (seen, ceiling)]
        found += [
            Row.of(f"shirt's colour edited {name}: it is the new one", [*changed[:2], None, changed[2]]),
            Row.of("— all else stays as it was (absent: the new prompt alone)", stays),
            Row.of("— pixels within 8 of 255 of what they were", alike),
        ]
    return found


def negatives(work: Work) -> list[Row]:
    """A negative prompt in four steps by NAG: whether a shirt changes its colour once that is the negative prompt.

    The prompt leaves the colour open. Shuffled is the same with another colour as the negative prompt.
    """
    scenes = work.bench.scenes
    bare = [ctrl.Recipe("a figure standing, on grass, by day, 3d render", seed=i).fast() for i in range(len(scenes))]
    before = work.made(bare)
    colors = [str(words.shirt) for words in before.words]
    wrong = [_next(color) for color in colors]
    led = ctrl.Guidance(1.0, nag=ctrl.NAG())
    own, others = (
        work.made([one.replace(negative=f"{color} shirt", guidance=led) for one, color in zip(bare, row, strict=True)])
        for row in (colors, wrong)
    )
    left = [estimate(1 - _shirts(one, colors)) for one in (own, before, others)]
    stays = [estimate(_stays(own, before, "shirt")), None, estimate(_stays(others, before, "shirt"))]
    return [
        Row.of("four steps with NAG: the shirt leaves the negative prompt's colour", left),
        Row.of("— all else stays as it was", stays),
    ]


def aligned(work: Work) -> list[Row]:
    """A style from another recipe's picture by StyleAligned: whether the picture has it, and still its own content.

    The reference names the style, the recipe does not. Floor: the recipe alone. Shuffled: another style's reference.
    """
    bench = work.bench
    scenes = restyled(bench.scenes)
    wanted = [scene.style for scene in scenes]
    content = [ctrl.Recipe(named(scene), seed=i) for i, scene in enumerate(scenes)]
    references = [_styled(scene, scene.style, seed) for seed, scene in enumerate(work.others)]
    shuffled = [*references[1:], references[0]]  # the next scene's style is always another
    absent = work.made(content)
    found = []
    for name, weight in (("style from another recipe by StyleAligned: style accuracy", 1.0), ("— at weight 2", 2.0)):
        own, wrong = (work.made(_aligned(content, row, weight)) for row in (references, shuffled))
        found += [
            Row.of(name, [estimate(hits(one, wanted)) for one in (own, absent, wrong)]),
            Row.of("— content stays as it was", [estimate(_stays(own, absent, "style", "time"))]),
        ]
    return found


def _next(color: str) -> str:
    """Another colour: the one after it."""
    return COLORS[(COLORS.index(color) + 1) % len(COLORS)]


def _dressed(text: str, old: str, new: str) -> str:
    """A caption with the shirt in another colour."""
    before, after = (f"{article(color)} {color} shirt" for color in (old, new))
    return text.replace(before, after)


def _aligned(recipes: Sequence[ctrl.Recipe], references: Sequence[ctrl.Recipe], weight: float) -> list[ctrl.Recipe]:
    """Recipes, each in the style of a reference."""
    pairs = zip(recipes, references, strict=True)
    return [recipe.replace(aligned=ctrl.StyleAligned(reference, weight)) for recipe, reference in pairs]


def _styled(scene: Scene, style: str, seed: int) -> ctrl.Recipe:
    """A recipe of a scene whose prompt names a style."""
    content = describe(replace(scene, style=style), everything=True, styled=False).text
    return ctrl.Recipe(f"{content}, {STYLE[style][0]}", seed=seed + 1000)


def _shirts(seen: Seen, colors: Sequence[str]) -> Array:
    """1 where the shirt has this colour, else 0; (N,)."""
    return np.array([float(words.shirt == color) for words, color in zip(seen.words, colors, strict=True)])


def _alike(seen: Seen, before: Seen) -> Array:
    """The part of a picture's pixels whose every channel is within 8 of 255 of what it was; (N,)."""
    near = ((seen.pictures - before.pictures).abs() <= 8 / 255).all(1)
    return np.asarray(near.float().mean((1, 2)).cpu().numpy())


def _stays(seen: Seen, before: Seen, *but: str) -> Array:
    """The part of all that is seen in a picture, but for these facts, that was seen before; (N,)."""
    names = [name for name in Facts.__dataclass_fields__ if name not in but]

    def same(now: Facts[str | None], then: Facts[str | None]) -> float:
        return float(np.mean([getattr(now, name) == getattr(then, name) for name in names]))

    return np.array([same(*pair) for pair in zip(seen.words, before.words, strict=True)])
