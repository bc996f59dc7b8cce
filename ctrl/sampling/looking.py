"""The parts of a watched run that attention maps need: its prompts, and the attention recorded so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ctrl.maps import Attention, Names, Text
from ctrl.recipe import Blend, Recipe, prompts_of
from ctrl.recipe.blends import effective
from ctrl.recipe.schedule import simplified
from ctrl.sampling.numbers import numbers

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.model import TextEncoders
    from ctrl.sampling.run import Run


def texts(encoders: TextEncoders, recipe: Recipe) -> dict[str, Text]:
    """The prompts of a recipe with their tokens: "prompt", "negative", "region 0", …

    The prompts of a blend follow one another, and words at the same place share their token. A ValueError refuses a
    blend whose number of tokens changes over the run.
    """
    prompts = dict(zip(("prompt", "negative"), recipe.prompts_read, strict=True))
    regions = [(number, region.prompt) for number, region in enumerate(recipe.regions) if region.by == "gate"]
    prompts |= {f"region {number}": prompt for number, prompt in regions}
    return {source: _text(encoders, source, effective(prompt, simplified)) for source, prompt in prompts.items()}


def _text(encoders: TextEncoders, source: str, prompt: str | Blend) -> Text:
    prompts, joint = prompts_of(prompt), " + "
    if isinstance(prompt, Blend) and prompt.changes and len({encoders.chunks(text) for text in prompts}) > 1:
        raise ValueError(
            f"watch needs a {source} of one length, and the blend's prompts have different numbers of chunks and "
            "weights that change over the run; give numbers as weights, or prompts of one length."
        )
    plain, spans = "", []
    for text in prompts:
        before = len(plain) + len(joint) if plain else 0
        spans += [(position, before + start, before + end) for position, start, end in encoders.spans(text)]
        plain = f"{plain}{joint}{encoders.plain(text)}" if plain else encoders.plain(text)
    return Text.of(plain, spans)


def names(first: Recipe, own: Recipe) -> Names:
    """What `own` calls the parts of the first recipe of its batch. Columns of a batch are parts in canonical order."""
    pairs: dict[str, str] = {}
    for kind in ("regions", "controls", "styles"):
        parts = getattr(first.canonical, kind)
        theirs, ours = (numbers(getattr(one.canonical, kind), getattr(one, kind)) for one in (first, own))
        labels = [part.kind if kind == "controls" else kind.removesuffix("s") for part in parts]
        pairs |= {f"{label} {a}": f"{label} {b}" for label, a, b in zip(labels, theirs, ours, strict=True)}
    return Names(pairs)


def texts_of_batch(encoders: TextEncoders, recipes: Sequence[Recipe]) -> list[dict[str, Text]]:
    """The prompts of each recipe, its regions by the names that the first recipe has for them."""
    found = [texts(encoders, recipe) for recipe in recipes]
    for own, recipe in zip(found[1:], recipes[1:], strict=True):
        regions = {source: own.pop(source) for source in [*own] if source.startswith("region ")}
        pairs = names(recipes[0], recipe).own.items()
        own |= {theirs: regions[ours] for theirs, ours in pairs if ours in regions}
    return found


def look(run: Run, picture: int = 0) -> Callable[[Image], Attention] | None:
    """A function from an image to the attention recorded for this picture of a run; None for a run without `watch`."""
    collector = run.collector
    if collector is None:
        return None
    scale = run.model.vae_scale_factor
    cells = run.given.size[1] // scale, run.given.size[0] // scale
    recipe = run.recipes[picture]
    own = names(run.recipes[0], recipe)
    return lambda image: Attention.of(collector, picture, image, cells, seed=seed_of(recipe), names=own)


def seed_of(recipe: Recipe) -> int | str:
    """The seed, or the words of a blend of seeds."""
    seed = recipe.canonical.seed
    return seed if isinstance(seed, int) else str(seed)
