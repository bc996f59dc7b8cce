"""What a run begins from: an image, how much of it may change, and where."""

from __future__ import annotations

from typing import Any, Literal, get_args

from ctrl.images import WHITE, Picture
from ctrl.recipe.checks import number, one_of, set_field
from ctrl.recipe.masks import Words, mask

Unmasked = Literal["pixels", "latents"]
UNMASKED: tuple[Unmasked, ...] = get_args(Unmasked)


def check_image(recipe: Any) -> None:
    """Check the image, the mask and the settings that go with them, and put the first two into one form."""
    if recipe.image is not None:
        set_field(recipe, "image", Picture.of(recipe.image, name="image", background=WHITE))
    set_field(recipe, "strength", number("strength", recipe.strength, 0, 1))
    if isinstance(recipe.mask, Words):
        raise TypeError(
            "mask of a recipe is settled before the first step, so it cannot be Words; give the mask of another "
            "shot, shot.attention['shirt'].mask()."
        )
    set_field(recipe, "mask", mask(recipe.mask))
    one_of("unmasked", recipe.unmasked, UNMASKED)
    if recipe.mask is not None and recipe.image is None:
        raise ValueError("mask is the part of image that may change, and there is no image; give image=... too.")
