"""The difference of two maps: what a change of the recipe did to a word."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ctrl.images import png_with_text
from ctrl.maps import draw
from ctrl.maps.export import KEYWORD, png
from ctrl.maps.sums import Array

if TYPE_CHECKING:
    from ctrl.maps.heat import HeatMap


@dataclass(frozen=True, eq=False)
class Difference:
    """The difference of two maps on one seed, `of` − `minus`: `heat` is float32 (h, w), above 0 where `of` has more.

    It is in the unit of both maps and never rescaled. In drawings the middle colour is no difference, and the ends of
    the colours are −`most` and `most`.
    """

    of: HeatMap = field(repr=False)
    minus: HeatMap = field(repr=False)

    @property
    def name(self) -> str:
        """What it is of, "box − ball"."""
        return f"{self.of.name} − {self.minus.name}"

    @property
    def heat(self) -> Array:
        """The difference at each place, (h, w)."""
        return self.of.heat - self.minus.heat

    @property
    def unit(self) -> str:
        """That of both maps."""
        return self.of.unit

    def overlay(self, *, colours: str = "vik", most: float | None = None) -> Image.Image:
        """The difference alone, at the picture's size."""
        parts = draw.scaled(self.heat, self._most(most)) / 2 + 0.5
        return draw.bare(parts.astype(np.float32), self.of.ground.picture.size, colours=colours, most=1.0)

    def figure(self, *, colours: str = "vik", most: float | None = None) -> Any:
        """A matplotlib Figure of the difference with a scale. It does not touch pyplot."""
        from ctrl.maps.figure import figure

        top = self._most(most)
        return figure(self.overlay(colours=colours, most=top), self.name, self.unit, (-top, top), colours)

    def save(self, path: str | Path, *, colours: str = "vik", most: float | None = None) -> None:
        """Write the drawing as a PNG that carries its settings."""
        png(path, self.overlay(colours=colours, most=most), self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """What both maps are of and how they were made, as plain values; the code of each names its own shot."""
        return {"map": self.name, "unit": self.unit, "most": self._most(None),
                "of": self.of.settings, "minus": self.minus.settings}  # fmt: skip

    def _most(self, most: float | None) -> float:
        """The value at the end of the colours: that given, or the largest there is."""
        return float(np.abs(self.heat).max(initial=0)) or 1.0 if most is None else most

    def __repr__(self) -> str:
        return f"Difference({self.name!r}, unit={self.unit!r})"

    def _repr_png_(self) -> bytes:
        return png_with_text(self.overlay(), KEYWORD, json.dumps(self.settings))
