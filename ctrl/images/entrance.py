"""What a picture is made of, wherever it comes from: checked once, turned upright, flattened, scaled to 8 bits.

Nothing that comes in is believed. Of files and of images that are not decoded yet, only a few formats are decoded,
since some of the others run programs; and whatever a broken one makes a decoder raise is told in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrl.images.files import local_file, why

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # of files
DECODED = (*FORMATS, "MPO", "GIF")  # of images that somebody else opened; MPO is what some cameras' JPEGs are
MAX_PIXELS = 64_000_000  # of a picture that comes in
SMALLEST = 8  # pixels along a side
LONGEST = 1024  # pixels along the longer side of a picture that a recipe carries
SHADES = {0: "black", 255: "white"}
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, eq=False)
class Entered:
    """Pixels as a `Picture` has them, the (width, height) they came with, and what was done to them in sentences."""

    pixels: Bytes
    came_as: tuple[int, int]
    remarks: tuple[str, ...]


def entered(source: Any, name: str, background: int) -> Entered:
    """The pixels of a local file, a PIL image, a numpy array or a torch tensor; see `Picture.of`."""
    from PIL import Image

    if isinstance(source, str | Path):
        with _opened(source, name) as image:
            return _of_image(image, f"{name} {Path(source).name!r}", background)
    if hasattr(source, "detach") and hasattr(source, "is_floating_point"):
        source = _array_of(source, name)
    if isinstance(source, np.ndarray):
        source = Image.fromarray(_bytes_of(source, name))
    if not isinstance(source, Image.Image):
        raise TypeError(f"{name} must be a picture, got {kind_of(source)}; pass a path, a PIL image or an array.")
    return _of_image(source, name, background)


def kind_of(thing: object) -> str:
    """Its type, and its shape if it has one."""
    shape = getattr(thing, "shape", None)
    return f"{type(thing).__name__} of shape {tuple(shape)}" if shape is not None else type(thing).__name__


@contextmanager
def _opened(source: str | Path, name: str) -> Iterator[Image.Image]:
    from PIL import Image, UnidentifiedImageError

    path = local_file(source, name, "a picture file")
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"{name}: {path.name!r} is none of {', '.join(FORMATS)}; convert it.") from None
    except Exception as error:  # a broken header leads Pillow to any of a dozen kinds
        raise ValueError(f"{name} {path.name!r} cannot be read: {why(error)}.") from error
    with image:
        yield image


def _of_image(image: Image.Image, name: str, background: int) -> Entered:
    from PIL import Image

    _check_size(*image.size, name)
    remarks = []
    if getattr(image, "is_animated", False) and image.format != "MPO":
        remarks.append("has several frames, of which one was taken")
    flat, clear = _flat(_upright(image, name), name, background)
    if clear:
        shade = SHADES.get(background, f"grey {background}")
        remarks.append(f"was transparent in {max(clear, 0.01):.0%} of it, and is {shade} there")
    came_as = flat.size
    if max(came_as) > LONGEST:
        flat.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        remarks.append(f"was reduced from {came_as[0]}×{came_as[1]} to {flat.size[0]}×{flat.size[1]}")
    return Entered(np.asarray(flat), came_as, tuple(remarks))


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} is {width}×{height}; at most {MAX_PIXELS // 10**6} megapixels are read.")
    if width < SMALLEST or height < SMALLEST:
        raise ValueError(f"{name} is {width}×{height}; the smallest picture accepted is {SMALLEST}×{SMALLEST}.")


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Decoded, and turned as its EXIF says."""
    from PIL import ImageOps

    if getattr(image, "tile", None) and image.format not in DECODED:
        raise ValueError(
            f"{name} is an image of the format {image.format}, not yet decoded, and ctrl decodes {', '.join(DECODED)}; "
            "pass image.convert('RGB')."
        )
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise ValueError(f"{name} cannot be read: {why(error)}.") from error


def _flat(image: Image.Image, name: str, background: int) -> tuple[Image.Image, float]:
    """RGB or grey of 8 bits, and how much of it was transparent."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_bytes_of(_wide(image, name), name)), 0.0
    if image.mode in ("L", "RGB"):
        return image.copy(), 0.0
    if image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("L" if image.mode == "1" else "RGB"), 0.0
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")  # palettes too, since theirs may have a transparent colour
    clear = 1.0 - image.getchannel("A").histogram()[255] / (image.width * image.height)
    behind = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(behind, image).convert("RGB"), clear


def _wide(image: Image.Image, name: str) -> np.ndarray[Any, Any]:
    """The values of a 16-bit, 32-bit or float image, in a type that tells their range."""
    values = np.asarray(image)
    if image.mode == "F":
        return values
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"{name} has values from {values.min()} to {values.max()}; 16 bits go from 0 to 65535: scale it."
        )
    return values.astype(np.uint16)


def _array_of(tensor: Any, name: str) -> np.ndarray[Any, Any]:
    try:
        dense = tensor.detach().cpu()
        array: np.ndarray[Any, Any] = (dense.float() if dense.is_floating_point() else dense).numpy()
        return array
    except (TypeError, RuntimeError) as error:  # sparse, quantised, or without data
        got = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
        raise TypeError(f"{name} must be a dense tensor of ordinary numbers, got one of {got}.") from error


def _bytes_of(array: np.ndarray[Any, Any], name: str) -> Bytes:
    """(H, W), (H, W, 3) or (H, W, 4) uint8 from an array in any of the usual layouts and ranges."""
    array = _laid_out(array, name)
    _check_size(array.shape[1], array.shape[0], name)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return np.round(array / 65535 * 255).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} is an array of {array.dtype}; use uint8, uint16, bool or floats in [0, 1].")
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} has {int(bad.sum())} values NaN or infinite, the first at {where}.")
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"{name} has floats from {array.min():.4g} to {array.max():.4g}; floats must be in [0, 1].")
    return np.round(array * 255).astype(np.uint8)


def _laid_out(array: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """(H, W), (H, W, 3) or (H, W, 4), of whatever type."""
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3:
        last, first = array.shape[-1] in (1, 3, 4), array.shape[0] in (1, 3, 4)
        if last and first:
            raise ValueError(f"{name} has shape {array.shape}: which axis is colour? Pass a PIL image.")
        if first:
            array = np.moveaxis(array, 0, -1)
        if array.shape[-1] == 1:
            array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise ValueError(f"{name} has shape {array.shape}; one picture is (H, W), (H, W, C) or (C, H, W).")
    return array
