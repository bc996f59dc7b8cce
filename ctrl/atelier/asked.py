"""What people ask that captions of the world do not: every colour named whatever the style, figures moved, regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import ctrl
from ctrl.atelier.bench import Seen, restyled, without_style
from ctrl.atelier.captions import STYLE, describe, thing
from ctrl.atelier.metrics import Array, estimate
from ctrl.atelier.scene import COLORS, KINDS, Scene
from ctrl.atelier.table import Row
from ctrl.atelier.work import Work
from ctrl.skeleton import Skeleton

NEAR = 0.05  # of the picture: how close a figure must be to where it was asked


def styles(work: Work) -> list[Row]:
    """Whether a style holds when the prompt names colours and a time of day, as everybody's does.

    From a reference, in 20 steps and in four, and by words; floor: the same prompts without either.
    """
    bench = work.bench
    scenes = restyled(bench.scenes)[: max(2, bench.count // 2)]
    wanted = np.array([scene.style for scene in scenes])
    plain = [ctrl.Recipe(named(scene), seed=i) for i, scene in enumerate(scenes)]
    given = [recipe.replace(styles=[one]) for recipe, one in zip(plain, work.references, strict=False)]
    prompted = [replace_prompt(recipe, scene) for recipe, scene in zip(plain, scenes, strict=True)]
    absent = estimate(hits(work.made(plain), wanted))
    rows = [("from a reference", given, 0.85, 0.95), ("by words", prompted, 0.85, 0.95)]
    if "lcm" in bench.model.loras:
        rows.insert(1, ("from a reference, four steps", [recipe.fast() for recipe in given], 0.75, 0.90))
    return [
        Row.of(f"style with colours named, {name}", [estimate(hits(work.made(recipes), wanted)), absent],
               least=least, goal=goal)
        for name, recipes, least, goal in rows
    ]  # fmt: skip


def placement(work: Work) -> list[Row]:
    """Whether the figure stands where a moved and scaled skeleton has it; floor: the caption alone."""
    bench, view = work.bench, work.bench.view
    count = max(2, bench.count // 2)
    rng = np.random.default_rng(0)
    points, visible = view.keypoints.numpy()[:count], view.visible.numpy()[:count]
    middle = points.mean(1, keepdims=True)
    size, shift = rng.uniform(0.65, 1.0, (count, 1, 1)), rng.uniform(-0.2, 0.2, (count, 1, 1))
    moved = (points - middle) * size + middle + shift * [1.0, 0.0]
    inside = visible & ((moved >= 0) & (moved < 1)).all(-1)
    skeletons = [Skeleton(*row) for row in zip(moved, inside, strict=True)]
    recipes = work.recipes[:count]
    asked = [recipe.replace(controls=[ctrl.Pose(one)]) for recipe, one in zip(recipes, skeletons, strict=True)]
    own, absent = work.made(asked).points, work.plain.points[:count]
    scores = [estimate(placed(found, moved, inside)) for found in (own, absent)]
    return [Row.of("pose moved and scaled: placed within 5 % of the picture", scores, least=0.80, goal=0.95)]


def regions(work: Work) -> list[Row]:
    """Whether a region's thing is drawn in its half; floors: no region, and the other half."""
    bench = work.bench
    count = max(2, bench.count // 4)
    rng = np.random.default_rng(0)
    half = np.zeros((bench.size, bench.size), np.uint8)
    half[:, : bench.size // 2] = 255
    things = [(rng.choice(KINDS), rng.choice(COLORS)) for _ in range(count)]
    bare = [ctrl.Recipe("a figure standing, on grass, by day, 3d render", seed=i) for i in range(count)]
    asked = [
        recipe.replace(regions=[ctrl.Region(thing(kind, color), half)])
        for recipe, (kind, color) in zip(bare, things, strict=True)
    ]
    own, absent = work.made(asked), work.made(bare)

    def there(seen: Seen, side: str) -> Array:
        found = [(getattr(words, f"{side}_kind"), getattr(words, f"{side}_color")) for words in seen.words]
        return np.array([float(one == wanted) for one, wanted in zip(found, things, strict=True)])

    scores = [there(own, "left"), there(absent, "left"), there(own, "right")]
    return [Row.of("region: its thing drawn inside", [*map(estimate, scores)])]


def named(scene: Scene) -> str:
    """A caption that names every colour and the time whatever the scene's style, and no style."""
    return without_style(describe(scene, seed=scene.seed, everything=True), scene.style)


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

    Floor: the captions alone, which name no style. Ceiling: the true renders through the codec, for pose and depth.
    """
    bench = work.bench
    wanted = np.array([scene.style for scene in work.others])
    texts = [without_style(caption, scene.style) for caption, scene in zip(bench.captions, bench.scenes, strict=True)]
    plain = [ctrl.Recipe(text, seed=i) for i, text in enumerate(texts)]
    asked = [
        recipe.replace(controls=[pose, depth], styles=[style])
        for recipe, pose, depth, style in zip(plain, work.poses, work.depths, work.references, strict=True)
    ]
    absent, rows = work.made(plain), []
    runs = {"": asked} | ({", four steps": [one.fast() for one in asked]} if "lcm" in bench.model.loras else {})
    for name, recipes in runs.items():
        own = work.made(recipes)
        joints, beyond = (
            [estimate(score(own)), estimate(score(absent)), None, estimate(score(bench.rebuilt))]
            for score in (bench.pck, bench.depth_beyond)
        )
        styled = [estimate(hits(own, wanted)), estimate(hits(absent, wanted))]
        rows += [
            Row.of(f"pose, depth and a style at once{name}: PCK at 10 % of the figure's height", joints),
            Row.of("— depth beyond the mean of all scenes", beyond),
            Row.of("— style accuracy", styled),
        ]
    return rows
