"""The texts in a picture file: chunks of a PNG, EXIF of a JPEG or WebP. Their contents are untrusted."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

from ctrl.images.files import why
from ctrl.images.png import SIGNATURE, Chunk, chunks

if TYPE_CHECKING:
    from PIL import Image

MAX_TEXT = 16 * 2**20  # bytes of one text, and of all of them
FORMATS = ("JPEG", "WEBP")
EXIF_IFD, USER_COMMENT, DESCRIPTION, MAKE, MODEL = 0x8769, 0x9286, 0x010E, 0x010F, 0x0110


def read_texts(data: bytes) -> dict[str, str]:
    """Texts by their keywords, the first of each; a ValueError for a file that cannot be read."""
    texts = _png_texts(data) if data[: len(SIGNATURE)] == SIGNATURE else {}
    for keyword, text in _exif_texts(data).items():
        texts.setdefault(keyword, text)
    return texts


def _png_texts(data: bytes) -> dict[str, str]:
    texts: dict[str, str] = {}
    left = MAX_TEXT
    for chunk in chunks(data):
        if chunk.kind in (b"tEXt", b"iTXt", b"zTXt") and left > 0 and chunk.intact:
            keyword, text = _chunk_text(chunk, left)
            left -= len(text)
            texts.setdefault(keyword, text)
    return texts


def _chunk_text(chunk: Chunk, most: int) -> tuple[str, str]:
    """Keyword and text, no more than `most` bytes of it."""
    keyword, _, rest = chunk.body.partition(b"\0")
    compressed, encoding = chunk.kind == b"zTXt", "latin-1"
    if chunk.kind == b"iTXt":
        compressed, encoding = rest[:1] == b"\1", "utf-8"
        rest = (
            rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        )  # after flag and method: the language, the keyword in it
    elif compressed:
        rest = rest[1:]
    if compressed:
        try:
            rest = zlib.decompressobj().decompress(rest, most)
        except zlib.error:
            rest = b""
    return keyword.decode("latin-1"), rest[:most].decode(encoding, "replace")


def _exif_texts(data: bytes) -> dict[str, str]:
    """UserComment, and what ComfyUI's nodes write into the camera's make and model: "prompt:{…}"."""
    try:
        exif = _exif(data)
        values = {"UserComment": exif.get_ifd(EXIF_IFD).get(USER_COMMENT)}
        tags = [exif.get(tag) for tag in (DESCRIPTION, MAKE, MODEL)]
    except Exception as error:  # a broken file leads Pillow to any of a dozen kinds
        raise ValueError(f"the picture cannot be read: {why(error)}.") from error
    texts = {keyword: text for keyword, value in values.items() if (text := _decoded(value))}
    for text in filter(None, map(_decoded, tags)):
        keyword, _, rest = text.partition(":")
        if keyword.lower() in ("prompt", "workflow"):
            texts.setdefault(keyword.lower(), rest)
    return texts


def _exif(data: bytes) -> Image.Exif:
    """EXIF without decoding the picture, which Pillow would do for a PNG."""
    from PIL import Image

    if data[: len(SIGNATURE)] != SIGNATURE:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.getexif()
    exif = Image.Exif()
    body = next((chunk.body for chunk in chunks(data) if chunk.kind == b"eXIf"), b"")
    exif.load(b"Exif\0\0" + body if body else b"")
    return exif


def _decoded(value: Any) -> str:
    """EXIF's text: a prefix of eight bytes names its encoding, UTF-16 of either order for UNICODE."""
    if isinstance(value, str):
        return value.strip("\0 ")[:MAX_TEXT]
    if not isinstance(value, bytes) or not value or len(value) > MAX_TEXT:
        return ""
    prefix, body = value[:8], value[8:]
    if prefix == b"UNICODE\0":
        little = body[1:200:2].count(0) > body[0:200:2].count(0)
        return body.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\0 \ufeff")
    return (body if prefix in (b"ASCII\0\0\0", bytes(8)) else value).decode("utf-8", "replace").strip("\0 ")
