"""One map: where one word, picture or place got attention, in shares of attention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ctrl.images import png_with_text
from ctrl.maps import draw
from ctrl.maps.checks import part, whole
from ctrl.maps.difference import Difference
from ctrl.maps.export import KEYWORD, gif, png
from ctrl.maps.receipt import Receipt
from ctrl.maps.refine import guided, resized, spread
from ctrl.maps.sums import Array

FLAT = 1e-4  # a range of a map, as a part of its largest value, that is rounding alone


@dataclass(frozen=True, eq=False)
class Ground:
    """The picture under a map, its seed, and self-attention (g, g) on a grid of (rows, columns), if kept."""

    picture: Image.Image = field(repr=False)
    seed: int | str
    between: Array | None = field(default=None, repr=False)
    grid: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A map of attention: `heat` is float32 (h, w), the share of its attention that each place gives to `name`.

    Shares are means over heads, layers and steps and are never rescaled; drawing scales by `most`, the share drawn
    brightest. `steps` holds each step's map where a history was kept. `asked` are the arguments that make this map
    again. `receipt` says what a map of attention is made of.
    """

    name: str
    heat: Array = field(repr=False)
    ground: Ground = field(repr=False)
    steps: Mapping[int, Array] = field(default_factory=dict, repr=False)
    asked: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "share of attention"
    receipt: Receipt | None = field(default=None, repr=False)

    @property
    def share(self) -> float:
        """The mean share over the picture."""
        return float(self.heat.mean())

    @property
    def where(self) -> Array:
        """Where its thing is in the picture, (H, W) float32 at the picture's size; only the order of values counts.

        Spread once by squared self-attention where that was kept, and guided by the picture's colours, see
        `ctrl.maps.refine` for what each brings on the atelier. Other models may differ.
        """
        between = self.ground.between
        heat = self.heat if between is None else spread(self.heat, between, self.ground.grid)
        return guided(heat, self.ground.picture)

    def mask(self, threshold: float = 0.5, *, refine: bool = True) -> Image.Image:
        """A mask at the picture's size, white where the map is above `threshold` of its range.

        Of `where`; with `refine=False`, of `heat`, enlarged. It fits every `mask=` of a recipe. A ValueError says that
        the map is the same everywhere, as that of a style's only picture is.
        """
        part("threshold", threshold, "the map's highest value")
        width, height = self.ground.picture.size
        values = self.where if refine else resized(self.heat[None], height, width)[0]
        low, high = float(values.min()), float(values.max())
        if high - low <= FLAT * max(abs(low), abs(high)):
            style = "; of a style's only picture ask one token, style(0, token=0), or influence.party('style 0')"
            raise ValueError(
                f"the map of {self.name!r} is {self.share:.3g} everywhere, so there is no place to mask"
                f"{style if self.asked.get('method') == 'style' else ''}."
            )
        return Image.fromarray((values > low + threshold * (high - low)).astype(np.uint8) * 255)

    def overlay(self, *, colours: str = "inferno", strength: float = 0.85, most: float | None = None) -> Image.Image:
        """The map over the picture. `most` is the share drawn brightest: give it to compare maps by eye."""
        return draw.overlay(self.heat, self.ground.picture, colours=colours, strength=strength, most=most)

    def contour(self, threshold: float = 0.5, *, refine: bool = True) -> Image.Image:
        """The picture with the outline of `mask`."""
        return draw.outline(np.asarray(self.mask(threshold, refine=refine)), self.ground.picture)

    def image(self, *, colours: str = "inferno", most: float | None = None) -> Image.Image:
        """The map alone, its cells as squares."""
        return draw.bare(self.heat, self.ground.picture.size, colours=colours, most=most)

    def figure(self, *, colours: str = "inferno", most: float | None = None) -> Any:
        """A matplotlib Figure with the map over the picture and a scale in shares. It does not touch pyplot."""
        from ctrl.maps.figure import figure

        top = float(self.heat.max(initial=0)) if most is None else most
        return figure(self.overlay(colours=colours, most=most), self.name, self.unit, (0, top), colours)

    def strip(self, *, count: int = 8, colours: str = "inferno", most: float | None = None) -> Image.Image:
        """Up to `count` steps side by side, all on one scale. It needs Watch(history=True)."""
        whole("count", count, "steps")
        steps = self._history()
        chosen = [steps[at] for at in np.unique(np.linspace(0, len(steps) - 1, count).round().astype(int))]
        return draw.sheet(
            self._frames([self.steps[step] for step in chosen], colours, most),
            [f"step {step + 1}" for step in chosen],
            columns=len(chosen),
        )

    def gif(
        self, path: str | Path, *, colours: str = "inferno", most: float | None = None, milliseconds: int = 120
    ) -> None:
        """Write the steps as a GIF that carries its settings as a comment. It needs Watch(history=True)."""
        frames = self._frames([self.steps[step] for step in self._history()], colours, most)
        gif(path, frames, self.settings, milliseconds)

    def save(self, path: str | Path, *, colours: str = "inferno", most: float | None = None) -> None:
        """Write the overlay as a PNG that carries its settings."""
        png(path, self.overlay(colours=colours, most=most), self.settings)

    def code(self) -> str:
        """The Python that makes this map of a shot."""
        asked = dict(self.asked)
        if "call" in asked:
            return str(asked["call"])
        method, first = asked.pop("method", "map"), asked.pop("first", None)
        given = [] if first is None else [repr(first)]
        given += [f"{name}={value!r}" for name, value in asked.items()]
        return f"shot.attention.{method}({', '.join(given)})"

    @property
    def settings(self) -> dict[str, Any]:
        """What the map is of and how it was made, as plain values."""
        return {"map": self.name, "unit": self.unit, "most": float(self.heat.max(initial=0)),
                "mean": self.share, "seed": self.ground.seed, "code": self.code(),
                **({} if self.receipt is None else {"receipt": str(self.receipt)})}  # fmt: skip

    def __sub__(self, other: HeatMap) -> Difference:
        """What changed from `other` to this map; a ValueError for maps of another seed, size or unit."""
        if not isinstance(other, HeatMap):
            return NotImplemented
        if self.ground.seed != other.ground.seed:
            raise ValueError(
                f"maps are compared on one seed, and these have {other.ground.seed} and {self.ground.seed}: two seeds "
                "make two compositions."
            )
        if self.heat.shape != other.heat.shape:
            raise ValueError(f"maps must have one size, got {other.heat.shape} and {self.heat.shape}.")
        if self.unit != other.unit:
            raise ValueError(f"maps must have one unit, got {other.unit!r} and {self.unit!r}.")
        return Difference(self, other)

    def _repr_png_(self) -> bytes:
        return png_with_text(self.overlay(), KEYWORD, json.dumps(self.settings))

    def _history(self) -> list[int]:
        if not self.steps:
            raise ValueError("no step was kept: watch with ctrl.Watch(history=True).")
        return sorted(self.steps)

    def _frames(self, maps: list[Array], colours: str, most: float | None) -> list[Image.Image]:
        most = (max(float(one.max(initial=0)) for one in maps) or None) if most is None else most
        return [replace(self, heat=one).overlay(colours=colours, most=most) for one in maps]
