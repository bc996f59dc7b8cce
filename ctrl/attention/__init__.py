"""The attention room: sites, the tap, and the terms and edits that go through it."""

from ctrl.attention.edits import Region, Regions, Weighted
from ctrl.attention.perturbed import BlurredQueries, IdentityAttention, SelfEdit
from ctrl.attention.sites import check_blocks, sites
from ctrl.attention.tap import tap
from ctrl.attention.terms import Call, Edit, Observer, Projections, Site, Term
from ctrl.attention.texts import Texts

__all__ = [
    "BlurredQueries",
    "Call",
    "Edit",
    "IdentityAttention",
    "Observer",
    "Projections",
    "Region",
    "Regions",
    "SelfEdit",
    "Site",
    "Term",
    "Texts",
    "Weighted",
    "check_blocks",
    "sites",
    "tap",
]
