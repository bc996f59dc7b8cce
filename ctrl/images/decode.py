"""Decode anything that is a picture: checked once, first frame, turned upright, 8 bits a channel.

Input is untrusted. Only a few file formats are decoded, since some of Pillow's others run programs, and any error of a
decoder on a broken file becomes a ValueError of one sentence.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrl.images.arrays import Array, Scaled, as_array, check_size, describe, scale_picture, tensor_to_array, to_hwc
from ctrl.images.files import local_file, why
from ctrl.images.sources import unwrap
from ctrl.images.transparency import TransparentColour, with_alpha

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")  # of files
DECODED = (*FORMATS, "MPO")  # of images that the user opened; MPO is what some cameras' JPEGs are
ARRAYS = ("__array__", "__array_interface__")  # what makes something an array for numpy
Scale = Callable[[Array, str], Scaled]


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture of 8 bits a channel, before its transparency is resolved.

    `image` has mode L, RGB, LA or RGBA. `fractions` says that its values came as floats in [0, 1]. Each of `remarks`
    says what was done to it, as the end of a sentence that begins with the picture.
    """

    image: Image.Image
    fractions: bool = False
    remarks: tuple[str, ...] = ()


def decode(source: Any, name: str, scale: Scale = scale_picture) -> Decoded:
    """A local file, its bytes, a PIL image, a numpy array, a torch tensor or what holds one of them, decoded.

    `name` is the argument's name in errors. `scale` brings the numbers of arrays to 8 bits, those of PIL images
    with 16 bits or floats as well. Raises a ValueError or TypeError in one sentence for anything else.
    """
    from PIL import Image

    source = unwrap(source, name)
    if isinstance(source, str | Path):
        path = local_file(source, name, "a picture file")
        with _opened(path, f"{name} {path.name!r}") as image:
            return _decode_image(image, f"{name} {path.name!r}", scale)
    if isinstance(source, bytes):
        with _opened(io.BytesIO(source), name) as image:
            return _decode_image(image, name, scale)
    if hasattr(source, "detach") and hasattr(source, "is_floating_point"):
        source = tensor_to_array(source, name)
    elif not isinstance(source, Image.Image | type) and any(hasattr(source, protocol) for protocol in ARRAYS):
        source = as_array(source, name)
    if isinstance(source, np.ndarray):
        scaled = scale(to_hwc(source, name), name)
        return Decoded(_image_of(scaled.pixels), scaled.fractions, scaled.remarks)
    if not isinstance(source, Image.Image):
        raise TypeError(
            f"{name} must be a picture, got {describe(source)}; pass a path, bytes, a PIL image, an array or a tensor."
        )
    return _decode_image(source, name, scale)


@contextmanager
def _opened(file: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is none of {', '.join(FORMATS)}; convert it.") from None
    except Exception as error:  # a broken header leads Pillow to any of a dozen kinds
        raise ValueError(f"{name} cannot be read: {why(error)}.") from error
    with image:
        yield image


def _decode_image(image: Image.Image, name: str, scale: Scale) -> Decoded:
    check_size(*image.size, name)
    frames, colour = _frames(image), TransparentColour.of(image)
    upright = _upright(image, name)
    if upright.mode.startswith(("I", "F")):
        values = _values(upright, name)
        scaled = scale(values, name)
        decoded = Decoded(_image_of(scaled.pixels), scaled.fractions, frames + _depth(values) + scaled.remarks)
    else:
        values = np.asarray(upright.convert("L") if upright.mode == "1" else upright)
        decoded = Decoded(_eight_bits(upright), remarks=frames)
    return decoded if colour is None else replace(decoded, image=with_alpha(decoded.image, colour.opaque(values)))


def _frames(image: Image.Image) -> tuple[str, ...]:
    if not getattr(image, "is_animated", False) or image.format == "MPO":
        return ()
    which = "the first" if image.tell() == 0 else f"number {image.tell() + 1}"
    return (f"has several frames, of which {which} was taken",)


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Decoded, and turned as its EXIF says."""
    from PIL import ImageOps

    if getattr(image, "tile", None) and image.format not in DECODED:
        raise ValueError(
            f"{name} is an image of the format {image.format}, not yet decoded, and ctrl decodes {', '.join(DECODED)}; "
            "pass image.convert('RGB')."
        )
    if getattr(image, "tile", None) and getattr(image, "fp", None) is None:
        raise ValueError(f"{name} is an image whose file was closed before it was read; call its load() before that.")
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise ValueError(f"{name} cannot be read: {why(error)}.") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """In mode L, RGB, LA or RGBA."""
    if image.mode in ("L", "RGB", "LA", "RGBA"):
        return image.copy()
    if image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("L" if image.mode == "1" else "RGB")
    if image.mode == "La":
        return image.convert("LA")
    if image.mode == "P" and not image.getpalette() and "transparency" not in image.info:
        return _image_of(np.asarray(image))  # labels without colours are grey
    return image.convert("RGBA")  # palettes too, since theirs may have a transparent colour


def _values(image: Image.Image, name: str) -> Array:
    """The numbers of a 16-bit, 32-bit or float image (h, w), in a type that shows their range."""
    values = np.asarray(image)
    if image.mode == "F":
        return values
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"{name} has values from {values.min()} to {values.max()}; 16 bits go from 0 to 65535: scale it."
        )
    return values.astype(np.uint8 if image.mode == "I" and values.max() <= 255 else np.uint16)


def _depth(values: Array) -> tuple[str, ...]:
    """A remark on an image of 32 bits that was read as one of 8."""
    return ("has no value above 255 in its 32 bits, so 255 was read as white",) if values.dtype == np.uint8 else ()


def _image_of(pixels: Array) -> Image.Image:
    from PIL import Image

    return Image.fromarray(pixels)
