"""`GuidancePanel`: from a slider to a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from widgets.knobs import Knob, knobs
from widgets.live_panel import LivePanel

if TYPE_CHECKING:
    from ctrl import Recipe


class GuidancePanel(LivePanel):
    """A recipe's numbers under sliders, beside the picture that follows them; see `LivePanel`.

    Guidance, the weights of controls, styles, regions and LoRAs, steps and seed can be moved; a weight that is a
    `Schedule` is a curve, and a button makes one of a slider. A switch turns a part off and keeps its weight.

    >>> panel = GuidancePanel(ctrl.load(), ctrl.Recipe("a figure waving"))    # doctest: +SKIP
    >>> panel.shot.image                                                      # doctest: +SKIP
    """

    def knobs(self, recipe: Recipe) -> Iterator[Knob]:
        """Every number of the recipe."""
        return knobs(recipe)
