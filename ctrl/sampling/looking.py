"""What a watched run hands to the room of maps: its texts, and, as it goes, what was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ctrl.maps import Attention, Text
from ctrl.recipe import Control, Recipe, Style

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.model import TextEncoders
    from ctrl.sampling.run import Run


def texts(encoders: TextEncoders, recipe: Recipe) -> dict[str, Text]:
    """The texts of a recipe with their tokens: "prompt", "negative", "region 0", …"""
    prompts = {"prompt": recipe.prompt, "negative": recipe.negative}
    prompts |= {f"region {number}": region.prompt for number, region in enumerate(recipe.regions)}
    return {source: Text.of(encoders.plain(prompt), encoders.spans(prompt)) for source, prompt in prompts.items()}


def numbers(now: Recipe, recipe: Recipe) -> dict[tuple[str, int], int]:
    """What the regions, styles and controls that act at a step (`Recipe.at`) are numbered as in their recipe.

    A step has them sorted, without those that are off, so that the third style may be the first there.
    """
    parts: dict[str, tuple[list[Any], list[Any]]] = {
        "region": ([(one.prompt, one.mask) for one in now.regions], [(one.prompt, one.mask) for one in recipe.regions]),
        "style": (_alike(now.styles), _alike(recipe.styles)),
        "control": (_alike(now.controls), _alike(recipe.controls)),
    }
    found = {}
    for kind, (here, free) in parts.items():
        for number, one in enumerate(here):
            place = free.index(one)
            found[kind, number], free[place] = place, None
    return found


def _alike(parts: Sequence[Style] | Sequence[Control]) -> list[Any]:
    """The parts whatever their weight, in one spelling."""
    return [one.effective(lambda weight: 1.0, guided=False) for one in parts]


def look(run: Run, picture: int = 0) -> Callable[[Image], Attention] | None:
    """For one picture of a run, what makes of an image the attention seen over it; None where nothing watches."""
    collector = run.collector
    if collector is None:
        return None
    scale = run.model.vae_scale_factor
    cells = run.given.size[1] // scale, run.given.size[0] // scale
    return lambda image: Attention.of(collector, picture, image, cells, seed=run.recipes[picture].seed)
