"""What a live session reports: pictures, and the state it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ctrl.recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.maps import Attention

Kind = Literal["preview", "draft", "exact"]
Phase = Literal["idle", "drafting", "running", "filling", "cancelled", "failed", "closed"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a live session.

    `kind` is "exact" for the finished picture, bit-equal to `ctrl.sample(model, recipe).image`; "preview" for the
    estimate during a run, small and rough; "draft" for the finished picture of another, faster recipe. `step` of
    `count` evaluations are done; of a finished picture, `reused` were taken from earlier ones. `age` is the time in
    seconds since the recipe was requested. `attention` is that of the whole run, reused steps included; None without
    `watch`, and in a preview.
    """

    image: Image = field(repr=False)
    kind: Kind
    recipe: Recipe = field(repr=False)
    step: int
    count: int
    age: float
    notes: tuple[str, ...] = ()
    attention: Attention | None = field(default=None, repr=False)
    reused: int = 0

    @property
    def exact(self) -> bool:
        """Whether it is the finished picture of its recipe."""
        return self.kind == "exact"


@dataclass(frozen=True)
class State:
    """What a live session is doing, and how fast.

    `evaluations` of the model a second while it runs and `frames` shown a second are averages over the last few;
    `seconds_left` is an estimate. `message` says what went wrong and what to do, or that a change has no effect.
    """

    phase: Phase
    recipe: str = ""  # its hash
    step: int = 0
    count: int = 0
    evaluations: float = 0.0
    frames: float = 0.0
    seconds_left: float = 0.0
    message: str = ""
