"""The control of inpainting ControlNets: a picture with a hole, which they are shown as −1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctrl.images import Picture, PictureLike
from ctrl.recipe.checks import PICTURE, mask, rebuilt, set_field, suggest_arguments
from ctrl.recipe.controls import Control, Pixels

HOLE = -1.0  # as in ControlNet 1.1 (github.com/lllyasviel/ControlNet-v1-1-nightly) and diffusers' examples


@suggest_arguments
@dataclass(frozen=True)
class Inpaint(Control):
    """A picture with a hole, which an inpainting ControlNet fills to match what is around it.

    - `picture` is what is around the hole, often the recipe's own image.
    - `hole` is white where it is, above the middle grey; None for the picture's transparent parts or, of an opaque
      picture, the recipe's mask.
    """

    kind: str = field(default="inpaint", init=False, repr=False)
    hole: PictureLike | None = field(default=None, metadata=PICTURE)

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "hole", mask(self.hole, "hole"))

    @property
    def sort_key(self) -> tuple[str, ...]:
        """The sort key: by content, so that the order in the recipe does not matter."""
        hole: Any = self.hole
        return (*super().sort_key, "" if hole is None else hole.sha256)

    @property
    def drawn_from(self) -> tuple[Any, ...]:
        """All that `hint` depends on, to be a key."""
        return (*super().drawn_from, self.hole)

    def around(self, mask: PictureLike | None) -> Inpaint:
        """The control with the recipe's mask as its hole, if it has none of its own."""
        return self if self.hole is not None or mask is None else rebuilt(self, hole=mask)

    def hint(self, width: int, height: int) -> Pixels:
        """The ControlNet's input, (height, width, 3) float32 in [0, 1], and −1 in the hole."""
        if self.hole is None:
            raise ValueError(
                "Inpaint has no hole: give a picture that is transparent there, hole=, or a recipe with a mask."
            )
        pixels = super().hint(width, height)
        hole = Picture.of(self.hole).fit(width, height, self.resize) > 0.5
        return np.where(hole[..., None], np.float32(HOLE), pixels)

    def _read(self, picture: Any) -> Any:
        if isinstance(picture, Picture):
            return picture
        read, hole = Picture.with_transparency(picture, name="Inpaint's picture")
        if self.hole is None and hole is not None:
            set_field(self, "hole", hole)
        return read
