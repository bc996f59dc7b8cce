"""The parts of a watched run that attention maps need: its prompts, and the attention recorded so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ctrl.maps import Attention, Text
from ctrl.recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.model import TextEncoders
    from ctrl.sampling.run import Run


def texts(encoders: TextEncoders, recipe: Recipe) -> dict[str, Text]:
    """The prompts of a recipe with their tokens: "prompt", "negative", "region 0", …"""
    prompts = {"prompt": recipe.prompt, "negative": recipe.negative}
    prompts |= {f"region {number}": region.prompt for number, region in enumerate(recipe.regions)}
    return {source: Text.of(encoders.plain(prompt), encoders.spans(prompt)) for source, prompt in prompts.items()}


def look(run: Run, picture: int = 0) -> Callable[[Image], Attention] | None:
    """A function from an image to the attention recorded for this picture of a run; None for a run without `watch`."""
    collector = run.collector
    if collector is None:
        return None
    scale = run.model.vae_scale_factor
    cells = run.given.size[1] // scale, run.given.size[0] // scale
    return lambda image: Attention.of(collector, picture, image, cells, seed=run.recipes[picture].seed)
