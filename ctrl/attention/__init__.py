"""The attention room: sites, the tap, the terms of a call, and the hooks that edit or observe them."""

from ctrl.attention.edits import Regions, RegionTerm, WordWeights
from ctrl.attention.hooks import At, Hooks, Where, check_blocks, check_sites
from ctrl.attention.kv import TextKV
from ctrl.attention.perturbed import BlurredQueries, IdentityAttention
from ctrl.attention.sites import sites
from ctrl.attention.tap import tap
from ctrl.attention.terms import PROMPT, SELF, Call, Edit, Kind, Observer, Projections, Site, Source, Term

__all__ = [
    "PROMPT",
    "SELF",
    "At",
    "BlurredQueries",
    "Call",
    "Edit",
    "Hooks",
    "IdentityAttention",
    "Kind",
    "Observer",
    "Projections",
    "RegionTerm",
    "Regions",
    "Site",
    "Source",
    "Term",
    "TextKV",
    "Where",
    "WordWeights",
    "check_blocks",
    "check_sites",
    "sites",
    "tap",
]
