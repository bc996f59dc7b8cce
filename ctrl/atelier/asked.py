"""What people ask that captions of the world do not: every colour named whatever the style, figures moved, regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import ctrl
from ctrl.atelier.bench import Bench, Seen, look, restyled
from ctrl.atelier.captions import STYLE, describe, thing
from ctrl.atelier.metrics import Array, estimate, ratio
from ctrl.atelier.quality import sharpnesses
from ctrl.atelier.scene import COLORS, KINDS, PLAIN, Prop, Scene
from ctrl.atelier.table import Row
from ctrl.atelier.work import Work
from ctrl.skeleton import Skeleton

NEAR = 0.05  # of the picture: how close a figure must be to where it was asked


def styles(work: Work) -> list[Row]:
    """Whether a style holds when the prompt names colours and a time of day, as everybody's does.

    From a reference and by words, in 20 steps and in four. Floors: the same prompts without either, and the pictures
    against the next scene's style; ceiling: the true renders in that style through the codec. Without either they
    should be clean 3d renders, which the last two rows say.
    """
    bench = work.bench
    scenes = restyled(bench.scenes)
    wanted = np.array([scene.style for scene in scenes])
    plain = [ctrl.Recipe(named(scene), seed=i) for i, scene in enumerate(scenes)]
    given = [recipe.replace(styles=[one]) for recipe, one in zip(plain, work.references, strict=True)]
    prompted = [replace_prompt(recipe, scene) for recipe, scene in zip(plain, scenes, strict=True)]
    absent, ceiling = work.made(plain), hits(bench.after_codec(look(scenes, bench.size).picture), wanted)
    rows = []
    for way, recipes in (("from a reference", given), ("by words", prompted)):
        runs = {way: (recipes, 0.85, 0.95)}
        if "lcm" in bench.model.loras:
            runs[f"{way}, four steps"] = ([recipe.fast() for recipe in recipes], 0.75, 0.90)
        for name, (asked, least, goal) in runs.items():
            own = work.made(asked)
            scores = (hits(own, wanted), hits(absent, wanted), hits(own, np.roll(wanted, -1)), ceiling)
            row = Row.of(f"style with colours named, {name}", [*map(estimate, scores)], least=least, goal=goal)
            rows.append(row)
    return [*rows, *_unstyled(bench, scenes, absent)]


def _unstyled(bench: Bench, scenes: Sequence[Scene], made: Seen) -> list[Row]:
    """Whether pictures of prompts that name no style are 3d renders, and as sharp as true ones are."""
    wanted = [PLAIN] * len(scenes)
    true = look([replace(scene, style=PLAIN) for scene in scenes], bench.size).picture
    both = (made, bench.after_codec(true))
    read = [estimate(hits(seen, wanted)) for seen in both]
    sharp = [ratio(sharpnesses(seen.pictures), sharpnesses(true)) for seen in both]
    return [
        Row.of("colours named and no style: drawn as a 3d render", [read[0], None, None, read[1]]),
        Row.of("— sharpness beside true 3d renders'", [sharp[0], None, None, sharp[1]]),
    ]


def placement(work: Work) -> list[Row]:
    """Whether the figure stands where a skeleton has it that is scaled, and moved aside by 0.1 to 0.3 of the picture.

    Floors: the caption alone, and the pictures against the next scene's skeleton.
    """
    view, rng = work.bench.view, np.random.default_rng(0)
    points, visible = view.keypoints.numpy(), view.visible.numpy()
    middle = points.mean(1, keepdims=True)
    size = rng.uniform(0.65, 1.0, (len(points), 1, 1))
    shift = rng.uniform(0.1, 0.3, size.shape) * rng.choice([-1, 1], size.shape)
    moved = (points - middle) * size + middle + shift * [1.0, 0.0]
    inside = visible & ((moved >= 0) & (moved < 1)).all(-1)
    skeletons = [Skeleton(*row) for row in zip(moved, inside, strict=True)]
    asked = [recipe.replace(controls=[ctrl.Pose(one)]) for recipe, one in zip(work.recipes, skeletons, strict=True)]
    own, absent = work.made(asked).points, work.plain.points
    others = (np.roll(moved, -1, 0), np.roll(inside, -1, 0))
    scores = [placed(own, moved, inside), placed(absent, moved, inside), placed(own, *others)]
    return [
        Row.of("pose moved and scaled: placed within 5 % of the picture", [*map(estimate, scores)],
               least=0.80, goal=0.95)
    ]  # fmt: skip


def regions(work: Work) -> list[Row]:
    """Whether a region's thing is drawn in its half; floors: no region, and the other half.

    Ceiling: true renders with that thing there, through the codec.
    """
    bench = work.bench
    rng = np.random.default_rng(0)
    half = np.zeros((bench.size, bench.size), np.uint8)
    half[:, : bench.size // 2] = 255
    things = [(str(rng.choice(KINDS)), str(rng.choice(COLORS))) for _ in range(bench.count)]
    bare = [ctrl.Recipe("a figure standing, on grass, by day, 3d render", seed=i) for i in range(bench.count)]
    asked = [
        recipe.replace(regions=[ctrl.Region(thing(kind, color), half)])
        for recipe, (kind, color) in zip(bare, things, strict=True)
    ]
    props = [Prop(kind, color, "left", -0.85, 0.0, 1.0, 0.0) for kind, color in things]
    true = [
        replace(scene, style=PLAIN, ground="grass", time="day", props=(prop,))
        for scene, prop in zip(bench.scenes, props, strict=True)
    ]
    own, absent = work.made(asked), work.made(bare)
    ceiling = bench.after_codec(look(true, bench.size).picture)

    def there(seen: Seen, side: str) -> Array:
        found = [(getattr(words, f"{side}_kind"), getattr(words, f"{side}_color")) for words in seen.words]
        return np.array([float(one == wanted) for one, wanted in zip(found, things, strict=True)])

    scores = [there(own, "left"), there(absent, "left"), there(own, "right"), there(ceiling, "left")]
    return [Row.of("region: its thing drawn inside", [*map(estimate, scores)])]


def named(scene: Scene) -> str:
    """A caption that names every colour and the time whatever the scene's style, and no style."""
    return describe(scene, seed=scene.seed, everything=True, styled=False).text


def replace_prompt(recipe: ctrl.Recipe, scene: Scene) -> ctrl.Recipe:
    """The recipe with the scene's style named at the end."""
    return recipe.replace(prompt=f"{recipe.prompt}, {STYLE[scene.style][0]}")


def hits(seen: Seen, wanted: Sequence[str] | Array) -> Array:
    """1 where a picture has the style wanted, else 0; (N,)."""
    return np.array([float(one.style == target) for one, target in zip(seen.words, wanted, strict=True)])


def placed(found: Array, asked: Array, visible: Array) -> Array:
    """1 where the figure's middle and its height are within 5 % of the picture of what was asked, else 0; (N,).

    Keypoints (N, 18, 2) in [0, 1]; only those visible in what was asked count. NaN for none.
    """

    def one(mine: Array, theirs: Array, seen: Array) -> float:
        if not seen.any():
            return float("nan")
        mine, theirs = mine[seen], theirs[seen]
        away = np.abs(mine.mean(0) - theirs.mean(0)).max()
        taller = abs(np.ptp(mine[:, 1]) - np.ptp(theirs[:, 1]))
        return float(max(away, taller) <= NEAR)

    return np.array([one(*row) for row in zip(found, asked, visible, strict=True)])


def together(work: Work) -> list[Row]:
    """Whether pose, depth and the style of a reference hold when they act at once, in 20 steps and in four.

    Floors: the captions alone, which name no style, and the next scene's style. Ceiling: the true renders through the
    codec, those of the references for style.
    """
    bench = work.bench
    wanted = np.array([scene.style for scene in work.others])
    texts = [describe(scene, seed=scene.seed, styled=False).text for scene in bench.scenes]
    plain = [ctrl.Recipe(text, seed=i) for i, text in enumerate(texts)]
    asked = [
        recipe.replace(controls=[pose, depth], styles=[style])
        for recipe, pose, depth, style in zip(plain, work.poses, work.depths, work.references, strict=True)
    ]
    absent, rows = work.made(plain), []
    styles = hits(bench.after_codec(work.renders), wanted)
    runs = {"": asked} | ({", four steps": [one.fast() for one in asked]} if "lcm" in bench.model.loras else {})
    for name, recipes in runs.items():
        own = work.made(recipes)
        joints, beyond = (
            [estimate(score(own)), estimate(score(absent)), None, estimate(score(bench.rebuilt))]
            for score in (bench.pck, bench.depth_beyond)
        )
        scores = (hits(own, wanted), hits(absent, wanted), hits(own, np.roll(wanted, -1)), styles)
        styled = [*map(estimate, scores)]
        rows += [
            Row.of(f"pose, depth and a style at once{name}: PCK at 10 % of the figure's height", joints),
            Row.of("— depth beyond the mean of all scenes", beyond),
            Row.of("— style accuracy", styled),
        ]
    return rows
