"""Does it obey? One table: each measure between its two floors and its ceiling, on scenes never trained on.

    python -m ctrl.atelier.measure --json measured.json          # the whole table
    python -m ctrl.atelier.measure --quick --only pose           # one row on few scenes
    python -m ctrl.atelier.measure --check out.png               # does one picture obey its recipe?

Floors: *control absent* is the same recipe without what the row measures; *control shuffled* is the picture
made under another scene's control, scored against its own truth. The ceiling is the true render through the
codec, seen by the same eyes. --check leaves with 0 if the picture obeys, 1 if not, 2 if that is unknown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import ctrl
from ctrl.atelier import eyes as sight
from ctrl.atelier import table, words
from ctrl.atelier.asked import hits, placement, regions, styles, together
from ctrl.atelier.bench import Bench, Seen, alike, look, other, pixels, restyled, sighted
from ctrl.atelier.captions import describe
from ctrl.atelier.edges import edges_of
from ctrl.atelier.edited import aligned, edits, negatives
from ctrl.atelier.effects import causes, influences, word_masks
from ctrl.atelier.metrics import Array, Estimate, edge_f1, estimate, spread
from ctrl.atelier.quality import round_trips, samples
from ctrl.atelier.reading import parse
from ctrl.atelier.scene import PLAIN
from ctrl.atelier.table import Row, Table
from ctrl.atelier.truth import word_maps
from ctrl.atelier.verdict import judge
from ctrl.atelier.work import Work
from ctrl.skeleton import Skeleton

QUICK, FULL = 16, 64  # scenes
Control = ctrl.Pose | ctrl.Depth | ctrl.Edges


def codec(work: Work) -> list[Row]:
    """Round trips of true renders."""
    return round_trips(work.bench)


def prompt(work: Work) -> list[Row]:
    """Whether a picture shows what its caption states; floors: an empty prompt, another's caption."""
    bench = work.bench
    found = (work.plain, work.silent, work.plain.rolled(), bench.rebuilt)
    scores = [estimate(seen.accuracy(bench.asked)) for seen in found]
    every = [estimate(seen.all_right(bench.asked)) for seen in found]
    return [
        Row.of("prompt: mean attribute accuracy, no control", scores, least=0.97, goal=0.98),
        Row.of("prompt: all attributes right", every, least=0.80, goal=0.90),
        *_by_attribute(work),
    ]


def quality(work: Work) -> list[Row]:
    """How good pictures of captions are as pictures, beside true renders of the same."""
    return samples(work.bench, work.plain, work.silent)


def pose(work: Work) -> list[Row]:
    """Whether joints are where the skeleton has them."""
    (found,) = _under_control(work, work.poses, work.bench.pck)
    return [Row.of("pose control: PCK at 10 % of the figure's height", found, least=0.94, goal=0.97)]


def depth(work: Work) -> list[Row]:
    """Whether what is near in the control is near in the picture."""
    whole, beyond = _under_control(work, work.depths, work.bench.depth, work.bench.depth_beyond)
    return [
        Row.of("depth control: rank correlation", whole, least=0.95, goal=0.97),
        Row.of("— beyond the mean of all scenes", beyond, **_shares(beyond, least=0.86, goal=0.95)),
    ]


def edges(work: Work) -> list[Row]:
    """Whether the picture's edges are the control's, both seen at the eyes' size."""
    true = [edges_of(one) for one in pixels(sighted(work.bench.view.picture))]

    def score(seen: Seen, reach: float) -> Array:
        pairs = zip(map(edges_of, pixels(sighted(seen.pictures))), true, strict=True)
        return np.array([edge_f1(found, wanted, reach) for found, wanted in pairs])

    controls = [ctrl.Edges(Image.fromarray(edges_of(one))) for one in pixels(work.bench.view.picture)]
    two, one = _under_control(work, controls, partial(score, reach=2), partial(score, reach=1))
    return [
        Row.of("edge control: F1 within 2 px of 128", two, **_shares(two, least=0.86, goal=0.92)),
        Row.of("— within 1 px of 128", one, **_shares(one, least=0.86, goal=0.92)),
    ]


def style(work: Work) -> list[Row]:
    """Whether a reference of other content gives its style, and only that, to prompts silent about style."""
    bench = work.bench
    content = restyled(bench.scenes)
    texts = [describe(scene, seed=scene.seed, styled=False).text for scene in content]
    without = [ctrl.Recipe(text, seed=i) for i, text in enumerate(texts)]
    absent = work.made(without)
    seen = work.made([recipe.replace(styles=[one]) for recipe, one in zip(without, work.references, strict=True)])
    asked = [parse(text) for text in texts]
    wanted, plain = np.array([scene.style for scene in content]), [PLAIN] * len(content)

    order = [(i + 1) % bench.count for i in range(bench.count)]  # the next scene's style is always another
    ceiling = bench.after_codec(work.renders)
    scores = (hits(seen, wanted), hits(absent, wanted), hits(seen, wanted[order]), hits(ceiling, wanted))
    kept = estimate(seen.accuracy(asked) - absent.accuracy(asked))
    return [
        Row.of("style from a reference: style accuracy", [*map(estimate, scores)], least=0.85, goal=0.95),
        Row.of("style from a reference: content accuracy kept", [kept], least=-0.10, goal=-0.02),
        Row.of("a caption whose style is left out: drawn as a 3d render", [estimate(hits(absent, plain))]),
    ]


def maps(work: Work) -> list[Row]:
    """Whether a word's cross-attention is on the thing; floors: a blob in the middle, another's map."""
    iou, pointing = _mapped(work, phrases=False)
    phrase_iou, phrase_pointing = _mapped(work, phrases=True)
    return [
        Row.of("word maps on noised true renders: mIoU", iou, least=0.74, goal=0.80),
        Row.of("word maps on noised true renders: pointing game", pointing, least=0.85, goal=0.98),
        Row.of("— of a prop's whole phrase: mIoU", phrase_iou),
        Row.of("— of a prop's whole phrase: pointing game", phrase_pointing),
    ]


def lcm(work: Work) -> list[Row]:
    """What four steps lose against twenty; the floor is four steps without the LoRA."""
    asked = work.bench.asked
    full = work.plain.accuracy(asked)
    quick = work.made([recipe.fast() for recipe in work.recipes]).accuracy(asked)
    short = work.made([recipe.replace(steps=4) for recipe in work.recipes]).accuracy(asked)
    found = [estimate(quick - full), estimate(short - full)]
    return [Row.of("LCM 4 steps against 20 steps, prompt accuracy", found, least=-0.15, goal=-0.03)]


def diversity(work: Work) -> list[Row]:
    """How unlike the pictures of one prompt are, in pixels; the ceiling is renders the prompt is true of."""
    bench, seeds = work.bench, 4
    scenes = bench.scenes[: max(1, bench.count // 4)]
    recipes = [work.recipes[i].replace(seed=1000 + k) for i in range(len(scenes)) for k in range(seeds)]
    others = [alike(scene, bench.first_seed + 2 * 10**6 + k) for scene in scenes for k in range(seeds)]

    def unlike(pictures: Tensor) -> Array:
        flat = pictures.flatten(1) / pictures[0].numel() ** 0.5
        return np.array([spread(group.numpy()) for group in flat.split(seeds)])

    found = [estimate(unlike(one)) for one in (work.made(recipes).pictures, look(others, bench.size).picture)]
    return [Row.of("diversity: RMS between seeds of one prompt", [found[0], None, None, found[1]])]


ROWS: tuple[Callable[[Work], list[Row]], ...]
ROWS = (codec, prompt, quality, pose, placement, depth, edges, style, styles, together, regions, maps)
ROWS = (*ROWS, word_maps, word_masks, influences, causes, lcm, diversity, edits, aligned, negatives)


def _shares(found: Sequence[Estimate], *, least: float, goal: float) -> dict[str, float]:
    """Bounds that are shares of the ceiling, the last of what was found."""
    ceiling = found[-1].mean
    return {"least": round(least * ceiling, 3), "goal": round(goal * ceiling, 3)}


def _under_control(work: Work, controls: Sequence[Control], *scores: Callable[[Seen], Array]) -> list[list[Estimate]]:
    """For each score, value, floors and ceiling of pictures under each scene's own control."""
    wrong = [controls[other(i, len(controls))] for i in range(len(controls))]
    own, others = (
        work.made([recipe.replace(controls=[one]) for recipe, one in zip(work.recipes, row, strict=True)])
        for row in (controls, wrong)
    )
    found = (own, work.plain, others, work.bench.rebuilt)
    return [[estimate(score(seen)) for seen in found] for score in scores]


def _by_attribute(work: Work) -> list[Row]:
    bench, rows = work.bench, []
    for what in ("pose", "shirt", "trousers", "left prop", "right prop", "ground", "time", "style"):
        seen = (work.plain, work.plain.rolled(), bench.rebuilt)
        value, shuffled, ceiling = (estimate(one.accuracy(bench.asked, what)) for one in seen)
        rows.append(Row.of(f"— {what}", [value, None, shuffled, ceiling]))
    return rows


def _mapped(work: Work, *, phrases: bool) -> tuple[list[Estimate], list[Estimate]]:
    """Value, floors and ceiling of IoU and of pointing."""
    bench, view = work.bench, work.bench.view
    rows = zip(view.picture, view.part, bench.captions, range(bench.count), strict=True)
    own = [words.look(bench.model, *row, phrases=phrases) for row in rows]
    sighted = words.sighted(own, bench.eyes.read(view.picture).part)
    scores = [words.scores(one) for one in (own, words.blobs(own), words.shuffled(own), sighted)]
    return [estimate(iou) for iou, _ in scores], [estimate(points) for _, points in scores]


def run(work: Work, rows: Sequence[Callable[[Work], list[Row]]]) -> Table:
    """Measure the rows, telling each as it is done; what the model lacks becomes a note."""
    began, done, notes = time.perf_counter(), [], []
    for row in rows:
        started = time.perf_counter()
        lack = _lacks(work.bench.model, row.__name__)
        if lack:
            notes.append(f"{row.__name__} is not measured: this model has no {lack}")
            continue
        done += row(work)
        print(f"{row.__name__}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    seconds = round(time.perf_counter() - began, 1)
    return Table(tuple(done), work.bench.count, work.bench.first_seed, seconds, tuple(notes))


def _lacks(model: ctrl.Model, row: str) -> str | None:
    kinds = {"placement": ["pose"], "together": ["pose", "depth"]}.get(row, [row])
    lacking = [kind for kind in kinds if kind in ("pose", "depth", "edges") and kind not in model.controls]
    if lacking:
        return f"ControlNet for {lacking[0]}"
    if row in ("style", "styles", "together") and not model.styles:
        return "IP-Adapter"
    return "LCM-LoRA" if row in ("lcm", "negatives") and "lcm" not in model.loras else None


def check(path: Path, eyes: sight.Eyes) -> int:
    """Say what the recipe in a PNG asks and what is seen there: 0 if it obeys, 1 if not, 2 if unknown."""
    recipe = ctrl.Recipe.load(path)
    with Image.open(path) as image:
        picture = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    poses = [control.picture for control in recipe.controls if isinstance(control, ctrl.Pose)]
    skeletons = [one for one in poses if isinstance(one, Skeleton)]
    verdict = judge(Seen.of(eyes, picture), str(recipe.prompt), skeletons)
    print("\n".join(verdict.lines))
    return 2 if verdict.obeys is None else int(not verdict.obeys)


def main(arguments: list[str] | None = None) -> int:
    """Measure, or check one picture."""
    given = _parser().parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    folder = None if given.weights is None else given.weights / "eyes"
    try:
        seeing = sight.load(folder if folder is not None and folder.is_dir() else None, given.device)
        if given.check is not None:
            return check(given.check, seeing)
        model, count = ctrl.load(given.weights, device=given.device), QUICK if given.quick else FULL
        bench = Bench(model, seeing, count if given.count is None else given.count)
        found = run(Work(bench), [row for row in ROWS if given.only is None or row.__name__ in given.only])
        print(found.text())
        if given.json is not None:
            given.json.write_text(found.json(), encoding="utf-8")
        if given.readme is not None:
            table.rewrite(given.readme, found)
    except (ValueError, OSError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ctrl.atelier.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [row.__name__ for row in ROWS]
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} scenes instead of {FULL}")
    parser.add_argument("--count", type=int, help="how many scenes")
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=f"of {', '.join(names)}")
    parser.add_argument("--weights", type=Path, help="a model folder; the atelier model when not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice when not given")
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--readme", type=Path, help="put the table between its marks in this file")
    parser.add_argument("--check", type=Path, help="only check one PNG against the recipe it carries")
    return parser


if __name__ == "__main__":
    sys.exit(main())
