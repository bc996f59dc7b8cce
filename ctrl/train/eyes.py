"""The eyes' stage: they learn to read true renders, roughened to look like what a diffusion model makes.

`python -m ctrl.train.eyes --minutes 12`. A loss is taken only where the truth can be seen: no colours in an
ink sketch, no time of day on a blueprint, no colour where nothing stands. A mirrored picture has its left and
right things and limbs swapped. The accuracies it prints are on fresh scenes from evaluation seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.atelier import render, world
from ctrl.atelier.bench import look
from ctrl.atelier.eyes import DENSE, GRID, Eyes, Raw, load, save
from ctrl.atelier.metrics import pck, spearman
from ctrl.atelier.reading import OPTIONS, Facts, facts_of
from ctrl.atelier.scene import EVALUATION_SEEDS, Scene
from ctrl.skeleton import MIRRORED
from ctrl.train.feed import Batch, each
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool, open_pool, scene_of
from ctrl.train.rows import MIRRORED as MIRRORED_PARTS

HELD = EVALUATION_SEEDS + 2**30  # far from the scenes that measure.py draws
SHIFT = 12  # pixels a picture may move, in steps of 2
UNSEEN = -100  # a label no loss looks at
_JOINTS, _PARTS = torch.from_numpy(MIRRORED), torch.tensor(MIRRORED_PARTS)


@dataclass(frozen=True)
class Lesson(Batch):
    """B pictures and what the eyes should have seen in them."""

    picture: Tensor  # (B, 3, 128, 128) in [0, 1]
    keypoints: Tensor  # (B, 18, 2) in [0, 1]
    visible: Tensor  # (B, 18) bool
    near: Tensor  # (B, 64, 64)
    part: Tensor  # (B, 64, 64) int64
    facts: Facts[Tensor]  # (B,) int64, UNSEEN where the picture does not show it


def labels(scenes: Sequence[Scene]) -> Facts[Tensor]:
    """What the pictures of scenes show, as indices into reading.OPTIONS."""

    def label(options: tuple[str, ...], word: str | None) -> int:
        return UNSEEN if word is None else options.index(word)

    rows = [[*map(label, OPTIONS.values(), facts_of(scene).values())] for scene in scenes]
    return Facts(*torch.tensor(rows).unbind(1))


def lesson(pool: Pool, rows: Sequence[int]) -> Lesson:
    """Pictures of the pool with their truth, untouched."""
    step = pool.size // DENSE
    rows = list(rows)
    picture = torch.from_numpy(pool.picture[rows]).float() / 255
    near = torch.from_numpy(pool.near[rows]).float() / 255
    return Lesson(
        picture=picture if step == 2 else F.avg_pool2d(picture, step // 2),
        keypoints=torch.from_numpy(pool.keypoints[rows]),
        visible=torch.from_numpy(pool.visible[rows]),
        near=F.avg_pool2d(near[:, None], step)[:, 0],
        part=torch.from_numpy(pool.part[rows, ::step, ::step]).long(),
        facts=labels([scene_of(row) for row in rows]),
    )


def mirrored(given: Lesson, rows: Tensor) -> Lesson:
    """The lesson with the pictures of `rows` (B,) bool seen in a mirror: left and right change names, too."""
    turn = torch.tensor([-1.0, 1.0])
    keypoints = given.keypoints[:, _JOINTS] * turn + torch.tensor([1.0, 0.0])
    f = given.facts
    other = replace(f, left_kind=f.right_kind, left_color=f.right_color)
    other = replace(other, right_kind=f.left_kind, right_color=f.left_color)
    pairs = zip(other.values(), f.values(), strict=True)
    return Lesson(
        picture=torch.where(rows[:, None, None, None], given.picture.flip(-1), given.picture),
        keypoints=torch.where(rows[:, None, None], keypoints, given.keypoints),
        visible=torch.where(rows[:, None], given.visible[:, _JOINTS], given.visible),
        near=torch.where(rows[:, None, None], given.near.flip(-1), given.near),
        part=torch.where(rows[:, None, None], _PARTS[given.part.flip(-1)], given.part),
        facts=Facts(*(torch.where(rows, theirs, mine) for theirs, mine in pairs)),
    )


def shifted(given: Lesson, by: Tensor) -> Lesson:
    """The lesson with each picture moved by (dx, dy) pixels, even numbers (B, 2); edges are stretched."""
    margin = SHIFT // 2

    def moved(maps: Tensor, scale: int) -> Tensor:
        pad = [margin * scale] * 4
        wide = F.pad(maps, pad, mode="replicate")
        side = maps.shape[-1]
        starts = (margin * scale - by * scale // 2).tolist()
        pairs = zip(wide, starts, strict=True)
        return torch.stack([one[:, y : y + side, x : x + side] for one, (x, y) in pairs])

    keypoints = given.keypoints + by[:, None] / given.picture.shape[-1]
    inside = ((keypoints >= 0) & (keypoints < 1)).all(-1)
    return replace(
        given,
        picture=moved(given.picture, 2),
        keypoints=keypoints,
        visible=given.visible & inside,
        near=moved(given.near[:, None], 1)[:, 0],
        part=moved(given.part[:, None].float(), 1)[:, 0].long(),
    )


def roughened(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures (B, 3, h, w) as a codec or an unsure sampler might leave them."""
    return torch.stack([_rough(one, rng) for one in picture]).clamp(0, 1)


def _rough(picture: Tensor, rng: np.random.Generator) -> Tensor:
    image = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    size = image.shape[0]
    if rng.random() < 0.5:
        small = int(size / rng.uniform(1.0, 2.2))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        _, data = cv2.imencode(".jpg", np.clip(image * 255, 0, 255).astype(np.uint8), quality)
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.float32) / 255
    if rng.random() < 0.5:
        cells = size // int(rng.choice([1, 4, 8]))
        noise = rng.standard_normal((cells, cells, 3), dtype=np.float32) * rng.uniform(0.0, 0.06)
        image = image + cv2.resize(noise, (size, size))
    if rng.random() < 0.5:
        gain, lift = rng.uniform(0.92, 1.08, 3), rng.uniform(-0.04, 0.04)
        image = (image - 0.5) * gain + 0.5 + lift
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).permute(2, 0, 1)


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` pictures: mirrored by halves, moved, mostly roughened."""

    pool: Pool
    batch: int

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        rows = torch.randint(self.pool.ready, (self.batch,), generator=generator).tolist()
        given = mirrored(lesson(self.pool, rows), torch.rand(self.batch, generator=generator) < 0.5)
        reach = SHIFT // 2
        given = shifted(given, 2 * torch.randint(-reach, reach + 1, (self.batch, 2), generator=generator))
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        return replace(given, picture=roughened(given.picture, rng))


def loss(raw: Raw, truth: Lesson) -> Tensor:
    """The sum of what the eyes got wrong, each head weighed so that all learn at a like pace."""
    inside = ((truth.keypoints >= 0) & (truth.keypoints < 1)).all(-1)
    weight = inside * (0.2 + 0.8 * truth.visible)  # where a hidden joint would be is worth a guess
    target = bumps(truth.keypoints)
    heat = -(target.flatten(2) * raw.heat.flatten(2).log_softmax(-1)).sum(-1)
    facts = [*map(_fact, raw.facts.values(), truth.facts.values())]
    return (
        0.5 * (heat * weight).sum() / weight.sum()
        + 0.5 * F.binary_cross_entropy_with_logits(raw.sight, truth.visible.float())
        + 5.0 * (raw.near - truth.near).abs().mean()
        + F.cross_entropy(raw.part, truth.part)
        + 0.25 * torch.stack(facts).sum()
    )


def _fact(logits: Tensor, label: Tensor) -> Tensor:
    total = F.cross_entropy(logits, label, ignore_index=UNSEEN, reduction="sum", label_smoothing=0.02)
    return total / len(label)  # not by how many are seen, so that a batch with few does not shout


def bumps(keypoints: Tensor, width: float = 0.7) -> Tensor:
    """Where keypoints (B, 18, 2) are, as distributions (B, 18, 32, 32): Gaussians `width` cells wide."""
    centres = torch.arange(GRID, device=keypoints.device) + 0.5
    gap = (centres - keypoints[..., None] * GRID) ** 2 / (2 * width**2)  # (B, 18, 2, 32)
    return (-gap[..., 1, :, None] - gap[..., 0, None, :]).flatten(2).softmax(-1).unflatten(-1, (GRID, GRID))


@dataclass(frozen=True)
class Exam:
    """Fresh scenes, their pictures and their truth."""

    scenes: tuple[Scene, ...]
    view: world.View

    @classmethod
    def of(cls, count: int, size: int = 128, device: str = "cpu") -> Exam:
        """`count` scenes no training has seen, half of them from `elsewhere` as in a pool.

        On a CPU they are drawn in batches that stay in cache, else all at once.
        """
        scenes = tuple(scene_of(HELD + i) for i in range(count))
        view = look(scenes, size) if device == "cpu" else world.look(scenes, size, device)
        return cls(scenes, each(view, Tensor.cpu))

    def parts(self) -> tuple[Exam, Exam]:
        """The world's own scenes, and those from elsewhere."""
        near, far = (each(self.view, itemgetter(slice(first, None, 2))) for first in (0, 1))
        return Exam(self.scenes[::2], near), Exam(self.scenes[1::2], far)

    def report(self, eyes: Eyes, rough: int | None = None) -> str:
        """Accuracy by fact, PCK at 10 % and rank correlation of depth; `rough` seeds a roughening."""
        picture = self.view.picture
        if rough is not None:
            picture = roughened(picture, np.random.default_rng(rough))
        seen = eyes.eval().read(picture)
        words, truth = seen.words(), [facts_of(scene) for scene in self.scenes]
        names, scores = list(Facts.__dataclass_fields__), []
        for name in names:
            pairs = [(getattr(t, name), getattr(w, name)) for t, w in zip(truth, words, strict=True)]
            scores.append(float(np.mean([t == w for t, w in pairs if t is not None])))
        near = F.interpolate(render.disparity(self.view.depth)[:, None], size=(DENSE, DENSE), mode="area")
        true, visible = self.view.keypoints.numpy(), self.view.visible.numpy()
        found = float(np.nanmean([*map(pck, seen.keypoints.cpu().numpy(), true, visible)]))
        depth = float(np.mean([*map(spearman, seen.near.cpu().numpy(), near[:, 0].numpy())]))
        each = ", ".join(f"{name} {score:.3f}" for name, score in zip(names, scores, strict=True))
        return f"mean {np.mean(scores):.3f}, PCK {found:.3f}, depth {depth:.3f} ({each})"


def main(options: Options | None = None) -> None:
    """Train the eyes and save them."""
    options = options or parse(__doc__, minutes=12, batch=32)
    pool = open_pool(options.pool, options.count, options.size)
    torch.manual_seed(options.seed)
    eyes = Eyes() if options.start is None else load(options.start / "eyes").requires_grad_()
    eyes.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # no stub has it
    average = Average(eyes, decay=0.998)
    optimizer = torch.optim.AdamW(
        eyes.parameters(), lr=2e-3 * options.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    exam = Exam.of(256 if options.budget.steps is None else 4, device=options.device)

    def learn(truth: Lesson) -> Tensor:
        with bf16(truth.picture.device):
            raw = eyes.train()(truth.picture.contiguous(memory_format=torch.channels_last))
        return loss(raw, truth)

    best = average.module
    assert isinstance(best, Eyes)

    def show(_: Path, number: int) -> None:
        near, far = exam.parts()
        print(f"\neyes step {number}: {near.report(best)}", flush=True)
        print(f"  on roughened pictures: {near.report(best, rough=1)}", flush=True)
        print(f"  of scenes from elsewhere: {far.report(best)}", flush=True)

    train(
        options.runs / "eyes",
        eyes,
        optimizer,
        Lessons(pool, options.batch),
        learn,
        options.budget,
        workers=options.workers,
        average=average,
        show=show,
        show_seconds=150,
    )
    save(best, options.runs / "weights" / "eyes")


if __name__ == "__main__":
    main()
