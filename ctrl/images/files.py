"""Files that pictures and recipes come from and go to; what they hold is not believed."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_FILE = 256 * 2**20  # bytes


def local_file(given: object, name: str, what: str) -> Path:
    """The regular file of this name, small enough to be read; `name` is the argument's, `what` what it must be.

    Anything else, an address, a folder, a pipe, a device or a name no file can have, raises a ValueError or TypeError.
    """
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{name} must be the path of {what}, got {type(given).__name__}.")
    if "://" in str(given):
        raise ValueError(f"{name} must be a local file, got the address {str(given)!r:.200}; download it first.")
    try:
        path = Path(os.fsdecode(given)).expanduser()
        size = path.stat().st_size if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, somebody's home that is not there, a NUL
        size = None
    if size is None:
        raise ValueError(f"{name} must be {what}, but there is no file {str(given)!r:.200}.")
    if size > MAX_FILE:
        raise ValueError(f"{name} is a file of {size} bytes; at most {MAX_FILE} are read.")
    return path


def why(error: Exception) -> str:
    """What a library says went wrong, as an end of a sentence."""
    said = " ".join(str(error).split()).rstrip(".")
    return f"{said:.200}" or type(error).__name__


def save(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all: a temporary file beside it, then a rename.

    Raises a ValueError, before anything is written, for more than `local_file` would read back.
    """
    path = Path(path).expanduser()
    if len(data) > MAX_FILE:
        raise ValueError(f"{path.name!r} would have {len(data)} bytes; at most {MAX_FILE} can be read back.")
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)  # noqa: SIM115
    temporary = Path(file.name)
    try:
        with file:
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
