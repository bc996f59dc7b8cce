"""Classifier-free guidance and its refinements, as values; the arithmetic is in `ctrl.guidance`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ctrl.recipe.checks import (
    PICTURE,
    all_of,
    in_order,
    integer,
    number,
    one_of,
    optional,
    rebuilt,
    set_field,
    suggest_arguments,
)
from ctrl.recipe.masks import MaskLike, at_step, mask, partial_mask
from ctrl.recipe.schedule import Schedule, Weigh, as_number, highest, weight, weight_at

Within = Literal["prediction", "v", "x0"]
SPACES: tuple[Within, ...] = get_args(Within)
MAX_GUIDANCE = 100.0


@suggest_arguments
@dataclass(frozen=True)
class APG:
    """Adaptive projected guidance (arXiv 2410.02416), on x0: strong guidance without burnt colours.

    `eta` multiplies the part of the difference cond − uncond that is parallel to the prediction; `momentum` (negative:
    the paper's is -0.5) carries the difference over from step to step; `threshold` is the largest norm of the
    difference (0: no bound).
    """

    eta: float = 0.0
    momentum: float = -0.5
    threshold: float = 15.0

    def __post_init__(self) -> None:
        set_field(self, "eta", number("eta", self.eta, 0, 10))
        set_field(self, "momentum", number("momentum", self.momentum, -1, 1))
        set_field(self, "threshold", number("threshold", self.threshold, 0, 1000))


@suggest_arguments
@dataclass(frozen=True)
class CFGZero:
    """CFG-Zero* (arXiv 2503.18886): the optimized scale of uncond, and zero-init in the first `steps` steps."""

    steps: int = 0

    def __post_init__(self) -> None:
        set_field(self, "steps", integer("steps", self.steps, 0, 1000))


@suggest_arguments
@dataclass(frozen=True)
class PAG:
    """Perturbed-attention guidance (arXiv 2403.17377): away from a prediction whose self-attention sees only itself.

    `weight` is 0 to 100, a number or a schedule; `blocks` are the first parts of the names of the layers it acts in.
    """

    weight: float | Schedule = 3.0
    blocks: str | Sequence[str] = ("mid_block",)

    def __post_init__(self) -> None:
        set_field(self, "weight", weight("weight", self.weight, MAX_GUIDANCE))
        set_field(self, "blocks", _names(self.blocks))


@suggest_arguments
@dataclass(frozen=True)
class SEG:
    """Smoothed-energy guidance (arXiv 2408.00760): away from a prediction whose queries are blurred.

    `sigma` is the standard deviation of the blur in cells of the layer, None for an infinite one.
    """

    weight: float | Schedule = 3.0
    sigma: float | None = None
    blocks: str | Sequence[str] = ("mid_block",)

    def __post_init__(self) -> None:
        set_field(self, "weight", weight("weight", self.weight, MAX_GUIDANCE))
        if self.sigma is not None:
            set_field(self, "sigma", number("sigma", self.sigma, 1e-3, 1e4))
        set_field(self, "blocks", _names(self.blocks))


@suggest_arguments
@dataclass(frozen=True)
class NAG:
    """Normalized attention guidance (arXiv 2505.21179): a negative prompt that acts where guidance is off.

    It leads the output of cross-attention away from what the recipe's `negative` would give, in the same evaluation of
    the model. `weight`, 0 to 100, a number or a schedule, is the paper's φ (the authors' code takes φ + 1 as
    `nag_scale`); `tau`, 1 to 100, bounds how much larger than the prompt's own output the result may be; `alpha`, 0
    to 1, is how far the output is replaced by the result.
    """

    weight: float | Schedule = 4.0
    tau: float = 2.5
    alpha: float = 0.25

    def __post_init__(self) -> None:
        set_field(self, "weight", weight("weight", self.weight, MAX_GUIDANCE))
        set_field(self, "tau", number("tau", self.tau, 1, 100))
        set_field(self, "alpha", number("alpha", self.alpha, 0, 1))

    def effective(self, weigh: Weigh) -> NAG | None:
        """The same with `weigh` applied to its weight; None if it has no effect."""
        now = rebuilt(self, weight=weigh(self.weight))
        return now if now.weight != 0 and now.alpha else None


@suggest_arguments
@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (arXiv 2207.12598) and its refinements.

    - `weight`: a number or a schedule, 0 to 100; at 1 and below guidance is off, so a schedule's window is the
      guidance interval of arXiv 2404.07724 (`hold(7, start=0.2, until=0.8, by="noise")`).
    - `rescale`: 0 to 1, how far the result is brought to cond's standard deviation (arXiv 2305.08891), in the
      space `rescale_in`: "prediction" as diffusers does, "v" as ComfyUI does, or "x0".
    - `map`: a soft mask of where guidance acts, or `Words`; black is off, white is the full weight.
    - `apg`, `zero`: an `APG`, a `CFGZero`, or None.
    - `perturb`: any number of `PAG` and `SEG`; each adds one branch to the batch.
    - `nag`: a `NAG` or None. It needs no guidance, and adds no branch: few-step recipes have a negative prompt by
      `Guidance(1, nag=NAG(4))`.
    """

    weight: float | Schedule = 6.0
    rescale: float = 0.0
    rescale_in: Within = "prediction"
    map: MaskLike | None = field(default=None, metadata=PICTURE)
    apg: APG | None = None
    zero: CFGZero | None = None
    perturb: Sequence[PAG | SEG] = ()
    nag: NAG | None = None

    def __post_init__(self) -> None:
        set_field(self, "weight", weight("guidance", self.weight, MAX_GUIDANCE))
        set_field(self, "rescale", number("rescale", self.rescale, 0, 1))
        one_of("rescale_in", self.rescale_in, SPACES)
        set_field(self, "map", mask(self.map, "map"))
        for name, kind in (("apg", APG), ("zero", CFGZero), ("nag", NAG)):
            optional(name, getattr(self, name), kind)
        set_field(self, "perturb", all_of("perturb", self.perturb, (PAG, SEG), "PAG or SEG"))

    @staticmethod
    def of(guidance: Any) -> Guidance:
        """The guidance itself, or the guidance of this weight."""
        return guidance if isinstance(guidance, Guidance) else Guidance(guidance)

    def at(self, index: int, times: Sequence[float]) -> Guidance:
        """The guidance of one step; see `Recipe.at`.

        `zero` is CFGZero(1) in a step of zero-init, where everything else is removed; CFGZero(0) in the other steps
        means the optimized scale. Without guidance `weight` is 1 and there is no map, APG or CFG-Zero*.
        """
        if self.zero is not None and index < self.zero.steps:
            return Guidance(1.0, zero=CFGZero(1))
        now = self if self.zero is None else rebuilt(self, zero=CFGZero(0))
        now = at_step(now, index, len(times), "map")
        return now.effective(lambda weight: weight_at(weight, index, len(times), times))

    def effective(self, weigh: Weigh) -> Guidance:
        """The guidance with `weigh` applied to weights, and defaults in fields without effect: `Recipe.canonical`."""
        weight = weigh(self.weight)
        guided = highest(weight) > 1
        terms = [
            rebuilt(term, weight=weigh(term.weight), blocks=tuple(sorted({*term.blocks}))) for term in self.perturb
        ]
        perturb = in_order(terms, key=_content)
        rescale = self.rescale if guided or perturb else 0.0
        zero_init = self.zero is not None and self.zero.steps > 0
        return rebuilt(
            self,
            weight=weight if guided else 1.0,
            rescale=rescale,
            rescale_in=self.rescale_in if rescale else "prediction",
            map=partial_mask(self.map) if guided else None,
            apg=self.apg if guided else None,
            zero=self.zero if guided or zero_init else None,
            perturb=perturb,
            nag=None if self.nag is None else self.nag.effective(weigh),
        )

    @property
    def guided(self) -> bool:
        """Whether a step with this guidance needs uncond, the prediction with the negative prompt."""
        return as_number(self.weight) > 1

    @property
    def zero_init(self) -> bool:
        """Whether a step with this guidance predicts zeros (zero-init of CFG-Zero*) and does not run the model."""
        return self.zero is not None and self.zero.steps > 0


def _content(term: PAG | SEG) -> tuple[str, ...]:
    """The sort key of a perturbation: its weight comes last, since it changes over a run."""
    return (repr(rebuilt(term, weight=0.0)), repr(term.weight))


def _names(blocks: object) -> tuple[str, ...]:
    names = (blocks,) if isinstance(blocks, str) else blocks
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"blocks must be names of blocks such as 'mid_block', got {blocks!r:.60}.")
    return tuple(names)
