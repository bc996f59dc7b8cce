"""How good pictures are as pictures: round trips of true renders, and how sharp they and samples are."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ctrl.atelier.bench import Bench, Seen
from ctrl.atelier.metrics import Array, estimate, psnr, ratio, sharpness
from ctrl.atelier.scene import STYLES
from ctrl.atelier.table import Row


def codec(bench: Bench) -> list[Row]:
    """How like a true render its round trip is; the floors are its mean colour, and another's round trip.

    And how sharp: the mean gradients of round trips over those of true renders, of all and of each style.
    """
    true, rebuilt = bench.view.picture.numpy(), bench.rebuilt.pictures.numpy()
    flat = [np.broadcast_to(one.mean((1, 2), keepdims=True), one.shape) for one in true]
    wrong = bench.rebuilt.rolled().pictures.numpy()
    found = [np.array(list(map(psnr, one, true))) for one in (rebuilt, flat, wrong)]
    sharp, wanted = sharpnesses(bench.rebuilt.pictures), sharpnesses(bench.view.picture)
    styles = np.array([scene.style for scene in bench.scenes])
    each = [(style, styles == style) for style in STYLES if (styles == style).any()]
    return [
        Row.of(f"codec PSNR at {bench.size} px, dB", [estimate(one) for one in found], least=26.5, goal=29),
        Row.of("codec: sharpness beside true renders'", [ratio(sharp, wanted)], least=0.92, goal=1.0),
        *(Row.of(f"— {style}", [ratio(sharp[rows], wanted[rows])]) for style, rows in each),
    ]


def samples(bench: Bench, plain: Seen, silent: Seen) -> Row:
    """How sharp pictures of captions are beside true renders of the same; the floor is an empty prompt's."""
    wanted = sharpnesses(bench.view.picture)
    value, floor, ceiling = (ratio(sharpnesses(one.pictures), wanted) for one in (plain, silent, bench.rebuilt))
    return Row.of("prompt: sharpness beside true renders'", [value, floor, None, ceiling], least=0.85, goal=0.95)


def sharpnesses(pictures: Tensor) -> Array:
    """The mean gradient of each picture (N, 3, S, S), (N,)."""
    return np.array([*map(sharpness, pictures.numpy())])
