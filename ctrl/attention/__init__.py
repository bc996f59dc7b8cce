"""The attention room: sites, the tap, the terms of a call, and the hooks that edit or observe them."""

from ctrl.attention.biased import BiasedRegion, BiasedWords
from ctrl.attention.edits import Regions, RegionTerm, WordWeights
from ctrl.attention.graphed import callable_of, has_graph, is_compiled
from ctrl.attention.hooks import At, Hooks, Pause, Where, check_blocks, check_sites
from ctrl.attention.kv import TextKV
from ctrl.attention.nag import NormalizedNegative
from ctrl.attention.perturbed import BlurredQueries, IdentityAttention, perturbation
from ctrl.attention.prompt_to_prompt import ReplacedSelf, ReplacedWords
from ctrl.attention.recorded import Record, counterparts
from ctrl.attention.sites import sites
from ctrl.attention.style_aligned import SharedAttention
from ctrl.attention.tap import tap
from ctrl.attention.terms import PROMPT, SELF, Call, Combine, Edit, Kind, Observer, Projections, Site, Source, Term

__all__ = [
    "PROMPT",
    "SELF",
    "At",
    "BiasedRegion",
    "BiasedWords",
    "BlurredQueries",
    "Call",
    "Combine",
    "Edit",
    "Hooks",
    "IdentityAttention",
    "Kind",
    "NormalizedNegative",
    "Observer",
    "Pause",
    "Projections",
    "Record",
    "RegionTerm",
    "Regions",
    "ReplacedSelf",
    "ReplacedWords",
    "SharedAttention",
    "Site",
    "Source",
    "Term",
    "TextKV",
    "Where",
    "WordWeights",
    "callable_of",
    "check_blocks",
    "check_sites",
    "counterparts",
    "has_graph",
    "is_compiled",
    "perturbation",
    "sites",
    "tap",
]
