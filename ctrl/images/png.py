"""The chunks of PNG files, and the recipe in one.

They are read without Pillow, so that a hostile text chunk costs no memory and the picture can still be opened.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Chunk:
    """One chunk: its kind, such as b"tEXt", its body, and the checksum that was written with it."""

    kind: bytes
    body: bytes
    checksum: int

    @property
    def intact(self) -> bool:
        """Whether the checksum is right."""
        return zlib.crc32(self.kind + self.body) == self.checksum

    def __bytes__(self) -> bytes:
        return struct.pack(">I", len(self.body)) + self.kind + self.body + struct.pack(">I", self.checksum)


def chunks(data: bytes) -> Iterator[Chunk]:
    """Every chunk of a PNG file; a ValueError for what is none or was not written completely."""
    if data[:8] != SIGNATURE:
        raise ValueError("this is not a PNG file; a recipe travels in a PNG from Shot.save, or in JSON.")
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if len(data) < at + 12 + length:
            raise ValueError("the PNG file ends in the middle of a chunk; it was not written completely.")
        end = at + 8 + length
        yield Chunk(kind, data[at + 8 : end], struct.unpack(">I", data[end : end + 4])[0])
        at = end + 4


def chunk(kind: bytes, body: bytes) -> Chunk:
    """A chunk with its checksum."""
    return Chunk(kind, body, zlib.crc32(kind + body))


def png_text(data: bytes, keyword: str) -> str | None:
    """The text chunk named `keyword` in a PNG file, or None.

    Only uncompressed chunks count, and a second one is an error.
    """
    text = None
    for piece in chunks(data):
        if piece.kind == b"tEXt" and piece.body.startswith(keyword.encode() + b"\0"):
            if not piece.intact:
                raise ValueError("the recipe in this PNG is damaged: its checksum is wrong.")
            if text is not None:
                raise ValueError("this PNG carries two recipes; it was not written by Shot.save.")
            text = piece.body[len(keyword) + 1 :].decode("latin-1")
    return text
