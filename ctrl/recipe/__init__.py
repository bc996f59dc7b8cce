"""The recipe room: a recipe and the values it is made of."""

from ctrl.images import MAX_SIDE
from ctrl.recipe.aligned import StyleAligned
from ctrl.recipe.batch import batch_shape
from ctrl.recipe.blends import Blend, prompts_of
from ctrl.recipe.changes import Changes
from ctrl.recipe.controls import Control, Depth, Edges, Pose
from ctrl.recipe.diff import Change, Difference
from ctrl.recipe.directions import Direction
from ctrl.recipe.edits import Edit, LocalBlend
from ctrl.recipe.guidance import APG, NAG, PAG, SEG, CFGZero, Guidance, Within
from ctrl.recipe.inpaint import Inpaint
from ctrl.recipe.loras import Lora
from ctrl.recipe.masks import MaskLike, Words, without_words, words_of
from ctrl.recipe.recipe import KEYWORD, Recipe
from ctrl.recipe.regions import Region
from ctrl.recipe.samplers import SAMPLERS, SPACINGS
from ctrl.recipe.schedule import Schedule, as_number, curve, highest, hold, ramp, weight_at
from ctrl.recipe.seeds import SeedBlend, first_seed
from ctrl.recipe.styles import Style

__all__ = [
    "APG",
    "KEYWORD",
    "MAX_SIDE",
    "NAG",
    "PAG",
    "SAMPLERS",
    "SEG",
    "SPACINGS",
    "Blend",
    "CFGZero",
    "Change",
    "Changes",
    "Control",
    "Depth",
    "Difference",
    "Direction",
    "Edges",
    "Edit",
    "Guidance",
    "Inpaint",
    "LocalBlend",
    "Lora",
    "MaskLike",
    "Pose",
    "Recipe",
    "Region",
    "Schedule",
    "SeedBlend",
    "Style",
    "StyleAligned",
    "Within",
    "Words",
    "as_number",
    "batch_shape",
    "curve",
    "first_seed",
    "highest",
    "hold",
    "prompts_of",
    "ramp",
    "weight_at",
    "without_words",
    "words_of",
]
