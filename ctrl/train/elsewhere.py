"""Scenes seen from farther off and away from the middle: what a moved or scaled skeleton asks for.

The world's own scenes put the figure in the middle of the picture; on those alone a U-Net learns that it stands there
whatever a skeleton says. Evaluation scenes stay as the world has them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctrl.atelier.camera import FOCAL
from ctrl.atelier.scene import Prop, Scene

DISTANCE = (4.2, 7.2)  # metres; the world's own are 4.1 to 4.7
ASIDE = 0.22  # of the picture's width, to either side
BESIDE, WITHIN = 0.12, 0.46  # of its width from the middle: where a prop still stands on its side, and in the picture


def elsewhere(scene: Scene) -> Scene:
    """The scene moved aside as a whole and seen from farther off; a prop that leaves its side is not in it."""
    rng = np.random.Generator(np.random.Philox(key=[scene.seed, 1]))
    distance = float(rng.uniform(*DISTANCE))
    width = distance / FOCAL  # of what the picture shows at the figure's distance, metres
    aside = float(rng.uniform(-ASIDE, ASIDE)) * width
    moved = [replace(prop, x=prop.x + aside) for prop in scene.props]
    x, z = scene.place
    props = tuple(prop for prop in moved if _stands(prop, width))
    return replace(scene, distance=distance, place=(x + aside, z), props=props)


def _stands(prop: Prop, width: float) -> bool:
    right = prop.x if prop.side == "right" else -prop.x
    return BESIDE * width < right < WITHIN * width
