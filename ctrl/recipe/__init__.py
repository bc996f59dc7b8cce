"""The recipe room: a recipe and the values it is made of."""

from ctrl.images import MAX_SIDE
from ctrl.recipe.batch import batch_shape
from ctrl.recipe.changes import Changes
from ctrl.recipe.controls import Control, Depth, Edges, Pose
from ctrl.recipe.diff import Change, Difference
from ctrl.recipe.guidance import APG, PAG, SEG, CFGZero, Guidance, Within
from ctrl.recipe.loras import Lora
from ctrl.recipe.recipe import KEYWORD, Recipe
from ctrl.recipe.regions import Region
from ctrl.recipe.samplers import SAMPLERS, SPACINGS
from ctrl.recipe.schedule import Schedule, as_number, curve, highest, hold, ramp, weight_at
from ctrl.recipe.styles import Style

__all__ = [
    "APG",
    "KEYWORD",
    "MAX_SIDE",
    "PAG",
    "SAMPLERS",
    "SEG",
    "SPACINGS",
    "CFGZero",
    "Change",
    "Changes",
    "Control",
    "Depth",
    "Difference",
    "Edges",
    "Guidance",
    "Lora",
    "Pose",
    "Recipe",
    "Region",
    "Schedule",
    "Style",
    "Within",
    "as_number",
    "batch_shape",
    "curve",
    "highest",
    "hold",
    "ramp",
    "weight_at",
]
