"""The attention of another run at the same step: what Prompt-to-Prompt and StyleAligned hand from run to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ctrl.attention.hooks import At
from ctrl.attention.terms import SELF, Call, Kind, Observer, Term
from ctrl.rows import Rows


@dataclass(eq=False)
class Record:
    """The U-Net's attention in one evaluation: by site the first term of each call after all edits, and its rows."""

    terms: dict[str, tuple[Term, Rows]] = field(default_factory=dict, repr=False)

    def observers(self, *kinds: Kind) -> list[Observer | At[Observer]]:
        """What to hook into the run that is recorded."""
        return [At(self._see, kind=kind, component="unet") for kind in kinds]

    def clear(self) -> None:
        """Forget the last evaluation."""
        self.terms.clear()

    def of(self, call: Call) -> tuple[Term, Rows] | None:
        """The term recorded at the site of a call; None if the other run did not ask the network at this step."""
        return self.terms.get(call.site)

    def _see(self, call: Call, terms: Sequence[Term]) -> None:
        if terms[0].source.kind != "style":  # what an IP-Adapter's own processor adds at the same site
            self.terms[call.site] = terms[0], call.rows or Rows(pictures=len(call.q), guided=False)


def counterparts(rows: Rows, other: Rows) -> list[int]:
    """For each of these rows the other batch's row of the same branch and picture; of cond, if it lacks the branch."""
    starts = {"uncond": other.uncond or other.cond, "cond": other.cond}
    found: list[int] = []
    perturbed = 0
    for branch in rows.branches:
        if branch == "perturbed":
            found += other.branch(perturbed) if perturbed < other.perturbed else other.cond
            perturbed += 1
        else:
            found += starts[branch]
    return found


def taken(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """Rows (n, …) of a tensor (R, …), the same tensor where they are all of it in order."""
    return tensor if list(rows) == list(range(len(tensor))) else tensor[list(rows)]


def is_self(term: Term) -> bool:
    """Whether a term is the picture's own self-attention."""
    return term.source == SELF
