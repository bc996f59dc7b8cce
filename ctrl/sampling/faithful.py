"""How faithful a map is: does taking a word away where the map is strongest change the picture most?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ctrl.maps import Difference, HeatMap
from ctrl.recipe.checks import integer
from ctrl.sampling.causes import Asked, Experiment, Variant, without_word
from ctrl.sampling.shot import Shot

if TYPE_CHECKING:
    from ctrl.model import Model


@dataclass(frozen=True)
class Faithfulness:
    """Areas under two curves, each 1/2 for places in random order whose effects add up, and more for a faithful map.

    - `deletion`: the part of the word's whole effect that is lost as it is taken away from the strongest places first.
    - `insertion`: the part that is there as it is given to the strongest places first.

    `curve` has a row for each part of the places: that part, and both values at it.
    """

    deletion: float
    insertion: float
    curve: tuple[tuple[float, float, float], ...]

    @property
    def score(self) -> float:
        """The mean of both areas."""
        return (self.deletion + self.insertion) / 2

    def __str__(self) -> str:
        areas = f"deletion {self.deletion:.2f}, insertion {self.insertion:.2f}"
        return f"faithfulness {self.score:.2f} ({areas}; chance 0.50)"


def faithfulness(
    model: Model,
    shot: Shot,
    word: str | tuple[str, int],
    heat: HeatMap | Difference | np.ndarray[Any, Any] | None = None,
    *,
    steps: int = 2,
    points: int = 8,
) -> Faithfulness:
    """How faithful a map of a word is to what the word does, by deletion and insertion (RISE, arXiv 1806.07421).

    The word is kept from being attended to at the places where `heat` is strongest, in `points` portions, on the same
    latents at `steps` steps. The effect is the squared change of x0, as a part of the change without the word at all.
    `heat` is a map of any kind or an array (h, w); None is the word's own map of attention, which the shot must have.
    """
    points = integer("points", points, 2, 1000)
    experiment = Experiment.of(model, shot, steps)
    variant = Variant(experiment.run)
    width, height = experiment.run.given.size
    scale = model.vae_scale_factor
    order = _order(_values(shot, word, heat), (height // scale, width // scale))
    parts = [number / points for number in range(1, points)]
    curves = [_curves(at, variant, word, order, parts) for at in experiment]
    mean = np.mean(curves, axis=0)  # (2, points − 1)
    lost, there = ([0.0, *(float(one) for one in row), 1.0] for row in mean)
    at = [0.0, *parts, 1.0]
    areas = [float(np.trapezoid(row, at)) for row in (lost, there)]
    return Faithfulness(areas[0], areas[1], tuple(zip(at, lost, there, strict=True)))


def _curves(
    at: Asked, variant: Variant, word: object, order: torch.Tensor, parts: list[float]
) -> tuple[list[float], list[float]]:
    """What is lost without the word at the first places, and what is there with it at these alone."""
    full = at.x0()

    def effect(places: torch.Tensor | None) -> float:
        edit = without_word(variant.run, word, places)
        return float((at.x0(Variant(at.run, (edit,))) - full).pow(2).sum())

    whole = effect(None)
    if whole == 0:
        raise ValueError(f"{word!r} has no effect at all on this picture, so no map of it can be faithful.")
    lost = [effect((order < part).float()) / whole for part in parts]
    there = [1 - effect((order >= part).float()) / whole for part in parts]
    return lost, there


def _values(shot: Shot, word: Any, heat: Any) -> torch.Tensor:
    """The map (h, w)."""
    if heat is None:
        if shot.attention is None:
            raise ValueError("the shot has no attention: sample it with watch=ctrl.Watch(), or give a map as heat.")
        heat = shot.attention[word]
    try:
        values = np.asarray(getattr(heat, "heat", heat), np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"heat must be a map or an array (h, w), got {heat!r:.60}.") from None
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"heat must be a map of finite numbers (h, w), got one of {values.shape}.")
    return torch.from_numpy(values.copy())


def _order(values: torch.Tensor, cells: tuple[int, int]) -> torch.Tensor:
    """The rank of each cell of the latent grid, from 0 for the strongest up to below 1."""
    fitted = F.interpolate(values[None, None], size=cells, mode="area" if values.shape[0] > cells[0] else "bilinear")
    ranks = fitted.flatten().argsort(descending=True, stable=True).argsort()
    return (ranks.float() / ranks.numel()).reshape(cells)
