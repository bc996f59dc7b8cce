"""The recipe that all cells begin with, and the pictures they add to it."""

import numpy as np
from families import HEIGHT, WIDTH

import ctrl

SIZE = (HEIGHT, WIDTH)  # rows and columns
rng = np.random.default_rng(0)
# Pictures of the run's size, and others that have to be brought to it.
MAP, OTHER, PHOTO, INK, WASH = (
    rng.integers(0, 255, shape, np.uint8) for shape in [(*SIZE, 3), (60, 50, 3), (*SIZE, 3), (50, 80, 3), (40, 40, 3)]
)
LEFT, HOLE = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
LEFT[:, :27] = 255  # across the pixels of a latent, as is the hole, so that how a mask is shrunk counts
HOLE[7:37, 11:55] = 255
RECIPE = ctrl.Recipe("ab, c d", negative="e", guidance=6.0, steps=4, seed=3, width=WIDTH, height=HEIGHT)

POSE, DEPTH = ctrl.Pose(MAP, 0.5), ctrl.Depth(OTHER, 1.2)
STYLE = ctrl.Style(INK, 0.7)
