"""Every way a picture comes in or goes out: files, PIL, numpy, torch. Pixels here are always 8-bit.

A picture that enters is checked once, turned upright, flattened, scaled to 8 bits and frozen as a `Picture`;
nothing later needs to ask what kind of picture it has.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
import tempfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 64_000_000  # of a picture that comes in
MAX_FILE = 256 * 2**20  # bytes
LONGEST = 1024  # pixels along the longer side of a picture that a recipe carries
BLACK, WHITE = 0, 255


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels as a value: equal pictures have equal pixels, whatever file they came from.

    `pixels` is uint8, (H, W, 3) in colour or (H, W) in grey, read-only. `came_as` is the (width, height) of
    the source, larger than `size` when the picture was reduced on its way in.
    """

    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    came_as: tuple[int, int] = field(default=(0, 0), repr=False)

    def __post_init__(self) -> None:
        pixels: Any = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise TypeError(
                f"pixels must be a uint8 array, got {_kind(pixels)}; use Picture.of(...) instead."
            )
        if (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
            raise ValueError(f"pixels must be (H, W, 3) or (H, W), got {pixels.shape}.")
        pixels = np.array(pixels, order="C")
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)
        if self.came_as == (0, 0):
            object.__setattr__(self, "came_as", self.size)

    @classmethod
    def of(cls, source: Any, *, name: str = "picture", background: int = BLACK) -> Picture:
        """A picture from a local file, a PIL image, a numpy array or a torch tensor.

        Integers are scaled by their range (uint16 by 65535), floats must be in [0, 1]. Transparent parts show
        `background`; EXIF rotation is applied; of several frames the first is taken; a picture longer than
        1024 pixels is reduced. Anything else raises a ValueError or TypeError that names the argument `name`.
        """
        if isinstance(source, Picture):
            return source
        if isinstance(source, str | Path):
            source = _open(source, name)
        if hasattr(source, "detach"):
            tensor = source.detach().cpu()
            source = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        from PIL import Image

        if isinstance(source, np.ndarray):
            source = Image.fromarray(_bytes_of(source, name))
        if not isinstance(source, Image.Image):
            raise TypeError(
                f"{name} must be a picture, got {_kind(source)}; pass a path, a PIL image or an array."
            )
        image = _flat(source, name, background)
        came_as = image.size
        if max(came_as) > LONGEST:
            image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        return cls(np.asarray(image), came_as)

    @classmethod
    def from_base64(cls, text: str) -> Picture:
        """The picture whose PNG is written in `text`; the inverse of `to_base64`."""
        from PIL import Image

        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if max(image.size) > LONGEST or image.mode not in ("L", "RGB"):
                raise ValueError(f"a carried picture is RGB or grey and at most {LONGEST} pixels long.")
            return cls(np.asarray(image))

    def to_base64(self) -> str:
        """The picture as a PNG in base64."""
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode("ascii")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, as PIL has it."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def image(self) -> Image.Image:
        """The picture as a new PIL image."""
        from PIL import Image

        return Image.fromarray(np.array(self.pixels))

    @cached_property
    def sha256(self) -> str:
        """Of shape and pixels, in hexadecimal."""
        digest = hashlib.sha256(str(self.pixels.shape).encode())
        digest.update(self.pixels.tobytes())
        return digest.hexdigest()

    def grey(self) -> Picture:
        """The same picture in grey, as a mask is kept."""
        return self if self.pixels.ndim == 2 else Picture(np.asarray(self.image.convert("L")), self.came_as)

    def fit(self, width: int, height: int, resize: str = "stretch") -> np.ndarray[Any, np.dtype[np.float32]]:
        """(height, width, 3) or (height, width) float32 in [0, 1], resized by Lanczos as diffusers does.

        "stretch" ignores the proportions, "crop" fills the size and cuts what is over in the middle, "pad" fits the
        whole picture in and leaves the rest black.
        """
        from PIL import Image, ImageOps

        lanczos = Image.Resampling.LANCZOS
        if resize == "crop":
            resized = ImageOps.fit(self.image, (width, height), lanczos)
        elif resize == "pad":
            resized = ImageOps.pad(self.image, (width, height), lanczos, color=0)
        else:
            resized = self.image.resize((width, height), lanczos)
        return np.asarray(resized).astype(np.float32) / 255.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Picture({self.size[0]}×{self.size[1]}, sha256 {self.sha256[:8]})"


def save(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all: a temporary file beside it, then a rename."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def png_with_text(image: Image.Image, keyword: str, text: str) -> bytes:
    """`image` as PNG that carries ASCII `text` in an uncompressed text chunk."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(keyword, text)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def png_text(data: bytes, keyword: str) -> str | None:
    """The text chunk named `keyword` in a PNG file, or None.

    The chunks are read here and not by Pillow, because a hostile text chunk must cost neither memory nor the
    picture: only uncompressed chunks count, checksums are checked, and a second one is an error.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("this is not a PNG file; a recipe travels in a PNG from Shot.save, or in JSON.")
    found, at = None, 8
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if len(body) < length or len(data) < at + 12 + length:
            raise ValueError("the PNG file ends in the middle of a chunk; it was not written completely.")
        if kind == b"tEXt" and body.startswith(keyword.encode() + b"\0"):
            if zlib.crc32(kind + body) != struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0]:
                raise ValueError("the recipe in this PNG is damaged: its checksum is wrong.")
            if found is not None:
                raise ValueError("this PNG carries two recipes; it was not written by Shot.save.")
            found = body[len(keyword) + 1 :].decode("latin-1")
        at += 12 + length
    return found


def _kind(thing: object) -> str:
    shape = getattr(thing, "shape", None)
    return f"{type(thing).__name__} of shape {tuple(shape)}" if shape is not None else type(thing).__name__


def _open(source: str | Path, name: str) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    if "://" in str(source):
        raise ValueError(f"{name} must be a local file, got the address {str(source)!r}; download it first.")
    path = Path(source).expanduser()
    if not path.is_file():
        raise ValueError(f"{name} must be a picture file, but there is no file {str(source)!r}.")
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"{name} is a file of {path.stat().st_size} bytes; at most {MAX_FILE} are read.")
    try:
        image = Image.open(path, formats=FORMATS)
        _check_size(image, name)
        image.load()
    except UnidentifiedImageError:
        raise ValueError(f"{name}: {path.name!r} is none of {', '.join(FORMATS)}; convert it.") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: {path.name!r} cannot be read: {error}.") from error
    return image


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} is {width}×{height}; at most {MAX_PIXELS // 10**6} megapixels are read.")
    if width < 8 or height < 8:
        raise ValueError(f"{name} is {width}×{height}; the smallest picture accepted is 8×8.")


def _flat(image: Image.Image, name: str, background: int) -> Image.Image:
    """Upright, without alpha, RGB or grey, 8 bits."""
    from PIL import Image, ImageOps

    _check_size(image, name)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_bytes_of(_wide(image, name), name))
    if image.mode in ("L", "RGB"):
        return image.copy()
    if image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("L" if image.mode == "1" else "RGB")
    image = image.convert("RGBA")  # palettes too, since theirs may have a transparent colour
    behind = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(behind, image).convert("RGB")


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


def _bytes_of(array: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W), (H, W, 3) or (H, W, 4) uint8 from an array in any of the usual layouts and ranges."""
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
        raise ValueError(
            f"{name} has floats from {array.min():.4g} to {array.max():.4g}; floats must be in [0, 1]."
        )
    return np.round(array * 255).astype(np.uint8)
