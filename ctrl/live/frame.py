"""What a live session tells: pictures, and in what state it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ctrl.recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["preview", "draft", "exact"]
Phase = Literal["idle", "drafting", "running", "filling", "cancelled", "failed", "closed"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a live session.

    `kind` is "exact" for the finished picture, bit-equal to `ctrl.sample(model, recipe).image`; "preview" for the
    estimate during a run, small and rough; "draft" for the finished picture of another, faster recipe. `step` of
    `count` evaluations are done. `age` is the time in seconds since the recipe was asked for.
    """

    image: Image = field(repr=False)
    kind: Kind
    recipe: Recipe = field(repr=False)
    step: int
    count: int
    age: float
    notes: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether it is the finished picture of its recipe."""
        return self.kind == "exact"


@dataclass(frozen=True)
class State:
    """What a live session is doing, and how fast.

    `evaluations` of the model a second while it runs and `frames` shown a second are of the last few; `seconds_left` is
    an estimate. `message` says what went wrong, or that a change has no effect, and what to do.
    """

    phase: Phase
    recipe: str = ""  # its hash
    step: int = 0
    count: int = 0
    evaluations: float = 0.0
    frames: float = 0.0
    seconds_left: float = 0.0
    message: str = ""
