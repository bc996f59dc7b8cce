"""How good pictures are as pictures: round trips of true renders, and samples beside them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ctrl.atelier.bench import Bench, Seen, alike, look
from ctrl.atelier.eyes import Eyes
from ctrl.atelier.metrics import Array, Estimate, estimate, psnr, ratio, sharpness
from ctrl.atelier.scene import STYLES
from ctrl.atelier.table import Row

RIDGE = 30.0  # beside features of variance 1: there are as many features as pictures


def round_trips(bench: Bench) -> list[Row]:
    """How like a true render its round trip is; the floors are its mean colour, and another's round trip.

    And how sharp: the mean gradients of round trips over those of true renders, of all and of each style.
    """
    true, rebuilt = bench.view.picture.numpy(), bench.rebuilt.pictures.numpy()
    flat = [np.broadcast_to(one.mean((1, 2), keepdims=True), one.shape) for one in true]
    wrong = bench.rebuilt.rolled().pictures.numpy()
    found = [np.array(list(map(psnr, one, true))) for one in (rebuilt, flat, wrong)]
    sharp, wanted = sharpnesses(bench.rebuilt.pictures), sharpnesses(bench.view.picture)
    each = _of_styles(bench)
    return [
        Row.of(f"codec PSNR at {bench.size} px, dB", [estimate(one) for one in found], least=26.5, goal=29),
        Row.of("codec: sharpness beside true renders'", [ratio(sharp, wanted)], least=0.92, goal=1.0),
        *(Row.of(f"— {style}", [ratio(sharp[rows], wanted[rows])]) for style, rows in each),
    ]


def samples(bench: Bench, plain: Seen, silent: Seen) -> list[Row]:
    """Pictures of captions beside true renders of the same, of all and of each style; floors: an empty prompt's.

    The ceiling of the last two is other true renders that the captions are true of. A style has some eight pictures:
    their distance is large even between true renders, so its ceiling is what it is read by.
    """
    wanted = sharpnesses(bench.view.picture)
    sharp = [sharpnesses(one.pictures) for one in (plain, silent, bench.rebuilt)]
    again = look([alike(scene, bench.first_seed + 3 * 10**6 + i) for i, scene in enumerate(bench.scenes)], bench.size)
    pictures = (bench.view.picture, plain.pictures, silent.pictures, again.picture)
    true, *others = (textures(bench.eyes, one) for one in pictures)
    taken = [estimate(taken_as_true(one, true)) for one in others]

    def sharpened(name: str, rows: Array, **bounds: float) -> Row:
        own, absent, ceiling = (ratio(one[rows], wanted[rows]) for one in sharp)
        return Row.of(name, [own, absent, None, ceiling], **bounds)

    scale = true.std(0) + 1e-6

    def distance(name: str, rows: Array) -> Row:
        own, absent, ceiling = (_known(frechet(one[rows], true[rows], scale), int(rows.sum())) for one in others)
        return Row.of(name, [own, absent, None, ceiling])

    every, each = np.ones(bench.count, bool), _of_styles(bench)
    return [
        sharpened("prompt: sharpness beside true renders'", every, least=0.85, goal=0.95),
        *(sharpened(f"— {style}", rows) for style, rows in each),
        Row.of("prompt: share taken for true renders", [taken[0], taken[1], None, taken[2]]),
        distance("prompt: Fréchet distance in the eyes' features", every),
        *(distance(f"— {style}", rows) for style, rows in each),
    ]


def _of_styles(bench: Bench) -> list[tuple[str, Array]]:
    """The styles of the scenes, and which have it, (N,) of bool."""
    styles = np.array([scene.style for scene in bench.scenes])
    return [(style, styles == style) for style in STYLES if (styles == style).any()]


def _known(value: float, count: int) -> Estimate:
    """A number that no interval is known of."""
    return Estimate(value, float("nan"), float("nan"), count)


@torch.no_grad()
def textures(eyes: Eyes, pictures: Tensor) -> Array:
    """What the eyes' first layers see in pictures (N, 3, S, S) in [0, 1], unreduced: means and spreads (N, F)."""

    def one(part: Tensor) -> Tensor:
        x0 = eyes.stem(part * 2 - 1)
        x1 = eyes.down1(x0)
        layers = (x0, x1, eyes.down2(x1))
        return torch.cat([value for x in layers for value in (x.mean((2, 3)), x.std((2, 3)))], 1)

    device = eyes.heat.weight.device
    return np.asarray(torch.cat([one(part.to(device)).cpu() for part in pictures.split(16)]).double().numpy())


def frechet(some: Array, others: Array, scale: Array) -> float:
    """Fréchet distance of two sets of features (N, F), each taken for a Gaussian (arXiv 1706.08500).

    In units of `scale` (F,), such as the spread of each feature. With few pictures it is large even between two sets of
    true renders: read it beside its ceiling.
    """
    some, others = some / scale, others / scale
    gap = float(np.square(some.mean(0) - others.mean(0)).sum())
    a, b = (one - one.mean(0) for one in (some, others))
    n, m = len(a), len(b)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt(n * m)  # the trace of the root of the product
    return gap + float((a**2).sum() / n + (b**2).sum() / m - 2 * cross)


def taken_as_true(some: Array, true: Array, folds: int = 8) -> Array:
    """Which pictures a classifier takes for true renders, (N,) of 0 and 1, by features (N, F) of as many true ones.

    Ridge regression on ±1, trained afresh on seven eighths of both and asked of the last, which it has not seen.
    """
    count = len(some)
    both = np.concatenate([some, true])
    both = (both - both.mean(0)) / (both.std(0) + 1e-6)
    both = np.concatenate([both, np.ones((2 * count, 1))], 1)
    label = np.repeat([-1.0, 1.0], count)
    fold = np.tile(np.arange(count) % folds, 2)
    found = np.zeros(count)
    for number in range(folds):
        seen, asked = fold != number, np.flatnonzero(fold[:count] == number)
        gram = both[seen].T @ both[seen] + RIDGE * np.eye(both.shape[1])
        found[asked] = both[asked] @ np.linalg.solve(gram, both[seen].T @ label[seen]) > 0
    return found


def sharpnesses(pictures: Tensor) -> Array:
    """The mean gradient of each picture (N, 3, S, S), (N,)."""
    return np.array([*map(sharpness, pictures.numpy())])
