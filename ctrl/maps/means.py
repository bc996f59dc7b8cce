"""Means of summed shares over sites and steps, as maps of one size.

h and w are the cells of the latent grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ctrl.maps.refine import resized
from ctrl.maps.sums import Array, Key, Layers

Means: TypeAlias = Mapping[Key, tuple[Array, float]]  # mean shares (t, h', w') and how many calls they are of
History: TypeAlias = Mapping[int, Mapping[tuple[Layers, str], Array]]  # by step, (t, h', w')


def mean_of(means: Means, keys: Sequence[Key], at: Sequence[int], cells: tuple[int, int]) -> Array:
    """(h, w): the mean over sites and steps of the summed shares of the tokens `at`."""
    found = [means[key] for key in keys]
    total = sum(resized(mean[list(at)].sum(0, keepdims=True), *cells)[0] * weight for mean, weight in found)
    return np.asarray(total / sum(weight for _, weight in found), np.float32)


def steps_of(history: History, keys: Sequence[Key], at: Sequence[int], cells: tuple[int, int]) -> dict[int, Array]:
    """The same of each step that was kept, (h, w)."""
    steps = {}
    for step, maps in history.items():
        own = [maps[key.layers, key.source] for key in keys if (key.layers, key.source) in maps]
        if own:
            each = [resized(one[list(at)].sum(0, keepdims=True), *cells)[0] for one in own]
            steps[step] = np.asarray(np.mean(each, axis=0), np.float32)
    return steps
