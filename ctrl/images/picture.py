"""A picture as a value, always of 8 bits a channel, so that no later code needs to handle other kinds."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrl.caller import constructor_ends_at_caller, ends_at_caller
from ctrl.images.arrays import describe
from ctrl.images.decode import decode
from ctrl.images.files import why
from ctrl.images.lossless import pack, unpack
from ctrl.images.masks import brighten, grey_of, mask_from, scale_mask
from ctrl.images.transparency import flatten, opacity

if TYPE_CHECKING:
    from PIL import Image

BLACK, WHITE = 0, 255
MAX_SIDE = 4096  # pixels along the longer side: the largest that is drawn, and that a recipe carries


@constructor_ends_at_caller
@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels as a value: equal pictures have equal pixels, whatever file they came from.

    `pixels` is uint8, (H, W, 3) in colour or (H, W) in grey, read-only. `original_size` is the (width, height) of
    the source, larger than `size` when the picture was reduced while it was read. Each of `remarks` says what was
    done to it then, as the end of a sentence that begins with the picture.
    """

    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    original_size: tuple[int, int] = field(default=(0, 0), repr=False)
    remarks: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        pixels: Any = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise TypeError(f"pixels must be a uint8 array, got {describe(pixels)}; use Picture.of(...) instead.")
        if (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
            raise ValueError(f"pixels must be (H, W, 3) or (H, W), got {pixels.shape}.")
        pixels = np.array(pixels, order="C")
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)
        if self.original_size == (0, 0):
            object.__setattr__(self, "original_size", self.size)

    @classmethod
    @ends_at_caller
    def of(cls, source: Any, *, name: str = "picture", background: int = BLACK, longest: int = MAX_SIDE) -> Picture:
        """A picture from a file, an array, a tensor or an object that has one.

        `source` is the path of a local file (PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF), its bytes, an open file, a
        `FileUpload` or its value, a PIL image, a numpy array, a torch tensor, or anything with an `image`, such as a
        `Shot`. Integers are scaled by their range (uint16 by 65535), floats must be in [0, 1]. Transparent parts show
        `background`; EXIF rotation is applied; of several frames the first is taken; a picture with more than
        `longest` pixels along its longer side is reduced. Anything else raises a ValueError or TypeError that names
        the argument `name`.
        """
        if isinstance(source, Picture):
            return source._reduced(longest)
        decoded = decode(source, name)
        pixels, remarks = flatten(decoded.image, background)
        if pixels.max() == 1:
            remarks = (*remarks, "holds nothing but 0 and 1 of 255, so it is black; multiply it by 255")
        return cls(pixels, remarks=decoded.remarks + remarks)._reduced(longest)

    @classmethod
    @ends_at_caller
    def with_transparency(cls, source: Any, *, name: str = "picture") -> tuple[Picture, Picture | None]:
        """A picture from anything `of` reads, in its own colours, and a mask that is white where it is transparent.

        The mask is None for an opaque picture. Raises as `of`.
        """
        decoded = decode(source, name)
        clear = opacity(decoded.image)
        whole = decoded.image if decoded.image.mode in ("L", "RGB") else decoded.image.convert("RGB")
        picture = cls(np.asarray(whole), remarks=decoded.remarks)._reduced(MAX_SIDE)
        return picture, None if clear is None else cls(255 - clear)._reduced(MAX_SIDE)

    @classmethod
    @ends_at_caller
    def mask(cls, source: Any, *, name: str = "mask") -> Picture:
        """A grey picture of where something acts, white where it does, from anything `of` reads.

        0 and 1 are black and white in every type; other whole numbers, and floats above 1, go to 255, or to 65535
        where they are larger. A shape painted on a transparent layer is white where it is opaque; black and white
        on such a layer is put on black. Colours count by their brightness. Where a mask could mean something else,
        `remarks` give the numbers. Raises as `of`.
        """
        if isinstance(source, Picture):
            return source._as_mask()
        pixels, remarks = mask_from(decode(source, name, scale_mask))
        return cls(pixels, remarks=remarks)._reduced(MAX_SIDE)

    @classmethod
    @ends_at_caller
    def from_base64(cls, text: str) -> Picture:
        """The picture written in `text`; the inverse of `to_base64`. Else a ValueError."""
        try:
            data = base64.b64decode(text, validate=True)
        except (ValueError, TypeError) as error:
            raise ValueError(f"a carried picture cannot be read: {why(error)}.") from error
        return cls.from_encoded(data)

    def to_base64(self) -> str:
        """`encoded` in base64."""
        return base64.b64encode(self.encoded).decode("ascii")

    @classmethod
    @ends_at_caller
    def from_encoded(cls, data: bytes) -> Picture:
        """The picture in a small lossless file; the inverse of `encoded`. Else a ValueError."""
        return cls(unpack(data, MAX_SIDE))

    @cached_property
    def encoded(self) -> bytes:
        """The picture as a small lossless file, for recipes: WebP, or PNG where WebP could not give it back."""
        return pack(self.pixels)

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
    def range(self) -> tuple[int, int]:
        """Its lowest and its highest value."""
        return int(self.pixels.min()), int(self.pixels.max())

    @cached_property
    def sha256(self) -> str:
        """The hash of shape and pixels, in hexadecimal."""
        digest = hashlib.sha256(str(self.pixels.shape).encode())
        digest.update(self.pixels.tobytes())
        return digest.hexdigest()

    def grey(self) -> Picture:
        """The same picture in grey."""
        if self.pixels.ndim == 2:
            return self
        return Picture(np.asarray(self.image.convert("L")), self.original_size, self.remarks)

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

    def _as_mask(self) -> Picture:
        pixels, brightened = brighten(self.pixels)
        if pixels.ndim == 2:
            return Picture(pixels, self.original_size, self.remarks) if brightened else self
        grey, remarks = grey_of(pixels)
        return Picture(grey, self.original_size, tuple(dict.fromkeys(self.remarks + remarks)))

    def _reduced(self, longest: int) -> Picture:
        from PIL import Image

        if max(self.size) <= longest:
            return self
        image = self.image
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        remark = "was reduced from {}×{} to {}×{}".format(*self.size, *image.size)
        return Picture(np.asarray(image), self.original_size, (*self.remarks, remark))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Picture({self.size[0]}×{self.size[1]}, sha256 {self.sha256[:8]})"
