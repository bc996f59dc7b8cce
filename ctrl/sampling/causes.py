"""Cause: how the estimate of the finished picture changes if one thing is left out, on the same latents.

N is 1; C, h and w are those of the latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from ctrl.attention import At, Edit, check_blocks
from ctrl.guidance import GuidanceState, guide
from ctrl.maps import Ground, HeatMap, Probe, WithoutHead, WithoutTokens, WordMaps
from ctrl.recipe import Control, Recipe, Region, Style
from ctrl.recipe.checks import integer, name
from ctrl.sampling.begin import begin
from ctrl.sampling.looking import seed_of, texts
from ctrl.sampling.moment import Moment
from ctrl.sampling.run import Run
from ctrl.sampling.shot import Shot
from ctrl.sampling.walk import prepare, walk

if TYPE_CHECKING:
    from ctrl.model import Model

UNIT = "change of x0, root mean square over channels"
PARTS = {Control: "controls", Style: "styles", Region: "regions"}


@dataclass(frozen=True)
class Layer:
    """A part of the U-Net, to leave out: an attention site, one `head` of it, or all transformer blocks in a block.

    `name` is that of a site, which ends in attn1 (self-attention) or attn2 (cross-attention), such as
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2", or of a block, such as "mid_block". A site that is left out
    adds nothing to the features; a transformer block that is left out hands its input on.
    """

    name: str
    head: int | None = None

    def __post_init__(self) -> None:
        name("name", self.name, "a block or attention site")
        if self.head is not None:
            object.__setattr__(self, "head", integer("head", self.head, 0, 1000))
            if not self.site:
                raise ValueError(f"head needs the name of a site, ending in attn1 or attn2, got {self.name!r:.60}.")

    @property
    def site(self) -> bool:
        """Whether it is an attention site."""
        return self.name.endswith((".attn1", ".attn2"))

    def __str__(self) -> str:
        return self.name if self.head is None else f"head {self.head} of {self.name}"


What: TypeAlias = str | tuple[str, int] | Control | Style | Region | Layer


@overload
def cause(model: Model, shot: Shot, what: What, *, steps: int = ...) -> HeatMap: ...
@overload
def cause(model: Model, shot: Shot, what: list[What], *, steps: int = ...) -> list[HeatMap]: ...
def cause(model: Model, shot: Shot, what: What | list[What], *, steps: int = 4) -> HeatMap | list[HeatMap]:
    """Where the picture would be another one if `what` were left out: a map of the change of x0.

    At `steps` steps, spread evenly over the run, the model is asked again with the same latents and without `what`;
    the map is the root mean square over channels of the difference of the two estimates of x0 after guidance, a mean
    over these steps (`HeatMap.steps` has each). `what` is one of these, or a list of them, which share the run:

    - a word or phrase of the prompt, or ("ball", 1) for its second occurrence: the U-Net cannot attend to its tokens;
    - a control, style or region of the shot's recipe, such as `shot.recipe.styles[0]`;
    - a `Layer`: a head, a site of attention, or a block.

    Unlike a map of attention this asks what a thing did and not where a word looked. The run is made again up to the
    last of these steps. A ValueError says that `what` is not in the recipe or the model.
    """
    listed = what if isinstance(what, list) else [what]
    experiment = Experiment.of(model, shot, steps)
    variants = [_variant(model, shot.recipe, one, experiment.run) for one in listed]
    maps: list[dict[int, np.ndarray[Any, np.dtype[np.float32]]]] = [{} for _ in listed]
    for at in experiment:
        for variant, found in zip(variants, maps, strict=True):
            change = at.x0() - at.x0(variant)  # (1, C, h, w)
            found[at.index] = change.pow(2).mean(1).sqrt()[0].float().cpu().numpy()
    ground = _ground(shot)
    made = [
        HeatMap(
            f"without {_named(one)}",
            np.mean([*found.values()], axis=0, dtype=np.float32),
            ground,
            steps=found,
            asked={"call": f"ctrl.cause(model, shot, {_code(shot.recipe, one)}, steps={steps})"},
            unit=UNIT,
        )
        for one, found in zip(listed, maps, strict=True)
    ]
    return made if isinstance(what, list) else made[0]


@dataclass(frozen=True, eq=False)
class Variant:
    """A run without something: its recipe's run, and edits and probes that leave things out."""

    run: Run
    edits: tuple[At[Edit], ...] = ()


@dataclass(frozen=True, eq=False)
class Asked:
    """One step at which the model is asked again; `sample` (R, C, h, w) of its `latents` (1, C, h, w)."""

    run: Run
    index: int
    latents: Tensor
    hole: Tensor | None
    state: GuidanceState
    seen: WordMaps

    @torch.no_grad()
    def x0(self, variant: Variant | None = None) -> Tensor:
        """The estimate of x0 (1, C, h, w) after guidance, of the run or of a variant."""
        run, edits = (self.run, ()) if variant is None else (variant.run, variant.edits)
        moment: Moment = run.moments[self.index]
        sample = self.run.solver.scale(moment.rows.stack(self.latents, self.latents), self.index)
        words = moment.words(self.seen)
        branches = moment.rows.split(moment.predict(sample, words, hole=self.hole, edits=edits))
        space = moment.space(sample)
        prediction, _ = guide(branches, moment.guidance, moment.guidance_map(words), space, self.state)
        return space.into(prediction, "x0")


@dataclass(frozen=True, eq=False)
class Experiment:
    """The steps of a shot at which its model is asked again."""

    model: Model
    run: Run
    indices: tuple[int, ...]

    @staticmethod
    def of(model: Model, shot: object, steps: int) -> Experiment:
        """At `steps` steps, or at all of a run that has fewer."""
        if not isinstance(shot, Shot):
            raise TypeError(f"shot must be a Shot, such as ctrl.sample(model, recipe), got {type(shot).__name__}.")
        run = prepare(model, [shot.recipe], None)
        number = min(integer("steps", steps, 1, 1000), run.count)
        return Experiment(model, run, tuple(int((at + 0.5) * run.count / number) for at in range(number)))

    def __iter__(self) -> Iterator[Asked]:
        again = _beside(prepare(self.model, list(self.run.recipes), self.run.given.memory), self.run)
        begun = begin(again)
        latents, state, seen = begun.latents, GuidanceState(), WordMaps()
        for step in walk(self.run, self.model, None):
            if step.index in self.indices:
                yield Asked(again, step.index, latents, begun.hole, state, seen)
            if step.index == self.indices[-1]:
                return
            latents, state, seen = step.latents, step.checkpoint.guidance, step.checkpoint.words


def _variant(model: Model, recipe: Recipe, what: object, run: Run) -> Variant:
    """The run without one thing; a ValueError or TypeError says that there is no such thing."""
    for kind, field in PARTS.items():
        if isinstance(what, kind):
            parts = list(getattr(recipe, field))
            if what not in parts:
                raise ValueError(
                    f"what must be one of the shot's {field}, such as shot.recipe.{field}[0]; got another."
                )
            parts.remove(what)
            return Variant(_beside(prepare(model, [replace_parts(recipe, field, parts)], run.given.memory), run))
    fresh = _beside(prepare(model, [recipe], run.given.memory), run)
    if isinstance(what, Layer):
        return _without_layer(fresh, what)
    return Variant(fresh, (without_word(fresh, what, None),))


def _beside(run: Run, first: Run) -> Run:
    """The run with the attention of the runs beside the first, which alone are walked."""
    return replace(run, beside=first.beside)


def replace_parts(recipe: Recipe, field: str, parts: Sequence[Any]) -> Recipe:
    """The recipe with other controls, styles or regions."""
    changes: Any = {field: parts}
    return recipe.replace(**changes)


def _without_layer(run: Run, layer: Layer) -> Variant:
    sites = run.model.denoiser.sites
    if not layer.site:
        probe = Probe(lambda call: call.entered, layer.name)
        probe.among(sites)
        return Variant(replace(run, probes=(probe,)))
    kind = "self" if layer.name.endswith("attn1") else "cross"
    check_blocks(sites, [layer.name], "self" if kind == "self" else "cross")
    return Variant(run, (At(WithoutHead(layer.head), layer.name, "self" if kind == "self" else "cross", "unet"),))


def without_word(run: Run, word: object, places: Tensor | None) -> At[Edit]:
    """The edit that leaves a word out, at some places (h, w) of the latent grid or at all."""
    text, occurrence = word if isinstance(word, tuple) and len(word) == 2 else (word, 0)
    if not isinstance(text, str):
        raise TypeError(
            "what must be a word of the prompt, a control, style or region of the shot's recipe, or a ctrl.Layer; "
            f"got {type(word).__name__}."
        )
    prompt = texts(run.model.text, run.recipes[0])["prompt"]
    try:
        found = prompt.find(text, occurrence)
    except KeyError as error:
        raise ValueError(f"what: {error.args[0]}") from None
    tokens = prompt.between(found.start, found.end)

    def edit(call: Any, terms: Any) -> Any:
        return WithoutTokens(tokens, call.rows.prompted, places)(call, terms)

    return At(edit, component="unet")


def _ground(shot: Shot) -> Ground:
    return Ground(shot.image, seed_of(shot.recipe)) if shot.attention is None else shot.attention.ground


def _named(what: What) -> str:
    if isinstance(what, tuple):
        return f"{what[0]} ({what[1] + 1})"
    return what if isinstance(what, str) else str(what) if isinstance(what, Layer) else type(what).__name__.lower()


def _code(recipe: Recipe, what: What) -> str:
    for kind, field in PARTS.items():
        if isinstance(what, kind):
            return f"shot.recipe.{field}[{list(getattr(recipe, field)).index(what)}]"
    return f"ctrl.{what!r}" if isinstance(what, Layer) else repr(what)
