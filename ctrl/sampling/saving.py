"""Shots as files: the picture, its recipe, AUTOMATIC1111's `parameters`, and the mark that it was generated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctrl.images import COMPOSITE, GENERATED, Generation, LoraUse, encode, to_parameters
from ctrl.recipe import KEYWORD, Guidance, Recipe, SeedBlend, first_seed, highest

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.images import Origin

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SHOWN = 32 << 10  # bytes of a recipe that a picture shown in a notebook may carry
PROGRAM = "ctrl-diffusion"


def file_of(image: Image, recipe: Recipe, path: str | Path, *, marked: bool) -> bytes:
    """The bytes of a picture file of the format that the path's name ends with; a ValueError for any other ending."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"path must end in {', '.join(FORMATS)}, got {str(path)!r}; a PNG carries the recipe.")
    texts, origin = {"parameters": to_parameters(generation_of(image, recipe))}, origin_of(recipe) if marked else None
    if ending != ".png":
        return encode(image, "JPEG" if FORMATS[ending] == "JPEG" else "WEBP", origin=origin, texts=texts)
    text, pictures = recipe.to_parts()
    return encode(image, origin=origin, texts={KEYWORD: text, **texts}, pictures=pictures)


def shown(image: Image, recipe: Recipe) -> bytes:
    """A PNG for a notebook's output, with the recipe if that is small."""
    text = recipe.to_json()
    return encode(image, origin=origin_of(recipe), texts={KEYWORD: text} if len(text) <= SHOWN else {})


def origin_of(recipe: Recipe) -> Origin:
    """The IPTC digital source type of a recipe's picture: made by a model, or by a model from an image."""
    return GENERATED if recipe.image is None else COMPOSITE


def generation_of(image: Image, recipe: Recipe) -> Generation:
    """The fields of a recipe that other programs have too."""
    return Generation(
        program=PROGRAM,
        prompt=str(recipe.prompt),
        negative=str(recipe.negative),
        steps=recipe.steps,
        sampler=recipe.sampler,
        schedule=None if recipe.spacing == "default" else recipe.spacing,
        guidance=highest(Guidance.of(recipe.guidance).weight),
        seed=first_seed(recipe.seed),
        variation=(recipe.seed.second, recipe.seed.weight) if isinstance(recipe.seed, SeedBlend) else None,
        size=image.size,
        strength=None if recipe.image is None else recipe.strength,
        loras=tuple(LoraUse(lora.name, lora.weight, lora.text) for lora in recipe.loras if lora.on),
    )
