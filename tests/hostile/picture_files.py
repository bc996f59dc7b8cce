"""Hostile pictures: PNGs that lie chunk by chunk, and other formats by its name."""

from __future__ import annotations

import io
import struct
import zlib

from corpus import MARK, Hostile, data
from PIL import Image
from tensor_files import archived

BEGIN = b"\x89PNG\r\n\x1a\n"
RGB, GREY, PALETTE = 2, 0, 3


def chunk(kind: bytes, body: bytes, *, crc: int | None = None, length: int | None = None) -> bytes:
    """A chunk, whose checksum and length may lie."""
    checked = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body) if length is None else length) + kind + body + struct.pack(">I", checked)


def head(width: int = 16, height: int = 16, *, depth: int = 8, colour: int = RGB, interlace: int = 0) -> bytes:
    """The first chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


PIXELS = chunk(b"IDAT", zlib.compress((b"\0" + bytes(48)) * 16))
END = chunk(b"IEND", b"")


def png(*before: bytes, first: bytes | None = None, pixels: bytes = PIXELS, after: bytes = b"") -> bytes:
    """A PNG with chunks of one's choice."""
    return BEGIN + (head() if first is None else first) + b"".join(before) + pixels + after + END


def exif(orientation: int, kind: int = 3) -> bytes:
    """A chunk that says how to turn the picture."""
    field = struct.pack("<HHIHH", 0x0112, kind, 1, orientation, 0)
    return chunk(b"eXIf", b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + field + bytes(4))


def frame(width: int, height: int, at: int = 0) -> bytes:
    """A chunk that begins a frame of an animation."""
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, at, at, 1, 1, 0, 0))


def bomb(size: int) -> bytes:
    """Zeros, compressed a thousandfold."""
    return zlib.compress(bytes(size), 9)


def other(kind: str, **how: object) -> bytes:
    """A small picture in another format."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (1, 2, 3)).save(buffer, kind, **how)
    return buffer.getvalue()


def animated(kind: str, count: int) -> bytes:
    """A picture of many frames, no two alike."""
    frames = [Image.new("RGB", (16, 16), (at % 256, at // 256, 9)) for at in range(count)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def spoilt_text() -> dict[str, bytes]:
    """Text and profiles that are larger than they look."""
    return {
        "zTXt bomb": png(chunk(b"zTXt", b"ctrl-recipe\0\0" + bomb(3 << 20))),
        "zTXt bomb of 100 MB": png(chunk(b"zTXt", b"a\0\0" + bomb(100 << 20))),
        "zTXt bomb at the end": png(after=chunk(b"zTXt", b"a\0\0" + bomb(100 << 20))),
        "iTXt bomb": png(chunk(b"iTXt", b"a\0\1\0\0\0" + bomb(100 << 20))),
        "many zTXt": png(*[chunk(b"zTXt", b"a\0\0" + bomb(1 << 20))] * 200),
        "iCCP bomb": png(chunk(b"iCCP", b"a\0\0" + bomb(100 << 20))),
        "tEXt of 3 MB": png(chunk(b"tEXt", b"a\0" + b"x" * (3 << 20))),
        "ten thousand chunks": png(*[chunk(b"tEXt", b"a\0b")] * 10_000),
        "ten thousand strange chunks": png(*[chunk(b"quIz", b"")] * 10_000),
        "a strange critical chunk": png(chunk(b"QUIZ", b"")),
        "text without an end": png(chunk(b"tEXt", b"abc")),
    }


def spoilt_frame() -> dict[str, bytes]:
    """Heads, pixels and ends that lie."""
    return {
        "a good one": png(),
        "wrong checksum of the head": png(first=head()[:-4] + b"abcd"),
        "wrong checksum of the pixels": png(pixels=PIXELS[:-4] + b"abcd"),
        "20000 by 20000": png(first=head(20_000, 20_000)),
        "2^31 by 2^31": png(first=head(2**31 - 1, 2**31 - 1)),
        "9000 by 9000": png(first=head(9000, 9000, depth=1, colour=GREY)),
        "8000 by 8000 without pixels": png(first=head(8000, 8000, depth=1, colour=GREY)),
        "0 by 0": png(first=head(0, 0)),
        "1 by 1": png(first=head(1, 1)),
        "four million by 8": png(first=head(4_000_000, 8, depth=1, colour=GREY)),
        "depth 3": png(first=head(depth=3)),
        "colour 9": png(first=head(colour=9)),
        "interlace 7": png(first=head(interlace=7)),
        "two heads": png(head(4096, 4096)),
        "no head": BEGIN + PIXELS + END,
        "no pixels": png(pixels=b""),
        "no end": png()[: -len(END)],
        "no palette": png(first=head(colour=PALETTE)),
        "long palette": png(chunk(b"PLTE", bytes(3 * 300)), first=head(colour=PALETTE)),
        "long transparency": png(chunk(b"tRNS", bytes(5000))),
        "pixels that are no zlib": png(pixels=chunk(b"IDAT", b"x" * 99)),
        "pixels of 200 MB": png(pixels=chunk(b"IDAT", bomb(200 << 20))),
        "length of 2^32-1": png(chunk(b"tEXt", b"a\0b", length=2**32 - 1)),
        "length of 2^31": png(pixels=chunk(b"IDAT", b"", length=2**31)),
        "animated": png(chunk(b"acTL", struct.pack(">II", 2, 0)), frame(16, 16)),
        "two billion frames": png(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "a frame outside": png(chunk(b"acTL", struct.pack(">II", 2, 0)), frame(2**30, 2**30, at=9)),
        "EXIF of noise": png(chunk(b"eXIf", b"II*\0" + b"\xff" * 64)),
        "EXIF of another type": png(exif(6, kind=2)),
        **{f"EXIF {turn}": png(exif(turn)) for turn in range(10)},
        **{f"cut at {at}": png()[:at] for at in range(0, 120, 7)},
    }


def by_another_name() -> dict[str, bytes]:
    """What is no PNG, and perhaps no picture."""
    jpeg, tiff, gif, avif = other("JPEG"), other("TIFF"), other("GIF"), other("AVIF")
    huge = b"ispe" + bytes(4) + struct.pack(">II", 2**31 - 1, 2**31 - 1)
    sized = jpeg.replace(b"\x00\x10\x00\x10\x03", b"\xff\xdc\xff\xdc\x03")
    assert sized != jpeg
    directory = struct.unpack("<I", tiff[4:8])[0]
    last = directory + 2 + 12 * struct.unpack("<H", tiff[directory : directory + 2])[0]
    return {
        "JPEG": jpeg,
        "JPEG cut": jpeg[:300],
        "JPEG of 65500": sized,
        "WEBP cut": other("WEBP")[:20],
        "BMP of 2^31": other("BMP")[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + other("BMP")[26:],
        "BMP below zero": other("BMP")[:18] + struct.pack("<ii", -16, -16) + other("BMP")[26:],
        "TIFF that turns in a circle": tiff[:last] + struct.pack("<I", directory) + tiff[last + 4 :],
        "TIFF of noise": tiff[:8] + b"\xff" * (len(tiff) - 8),
        "GIF": gif,
        "GIF cut": gif[: len(gif) // 2],
        "GIF of 65535": gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:],
        "GIF whose frame is outside": gif.replace(b"," + bytes(4), b"," + struct.pack("<HH", 60_000, 60_000)),
        "GIF of many frames": animated("GIF", 500),
        "GIF of noise": gif[:20] + b"\xff" * 500,
        "AVIF": avif,
        "AVIF cut": avif[: len(avif) // 2],
        "AVIF of noise": avif[:40] + b"\xff" * len(avif),
        "AVIF of 2^31": avif.replace(b"ispe" + bytes(4) + struct.pack(">II", 16, 16), huge),
        "AVIF of many frames": animated("AVIF", 20),
        "WEBP of many frames": animated("WEBP", 50),
        "EPS": other("EPS"),
        "EPS that runs": f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%{MARK}) (w) file\n".encode(),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "PDF": b"%PDF-1.7\n",
        "ICO": other("ICO"),
        "zip": archived(),
        "script": f"#!/bin/sh\necho {MARK}\n".encode(),
        "nothing": b"",
        "nothing but zeros": bytes(10_000),
    }


def corpus() -> list[Hostile]:
    """Every picture."""
    strange = ("EPS", "EPS that runs", "SVG", "PDF", "ICO", "zip", "script", "nothing")
    large = ("20000 by 20000", "2^31 by 2^31", "9000 by 9000", "JPEG of 65500")
    refused = dict.fromkeys(strange, "is none of PNG") | dict.fromkeys(large, "megapixels|exceeds limit")
    found = spoilt_text() | spoilt_frame() | by_another_name()
    return [Hostile(name, "picture", data(content), refused.get(name)) for name, content in found.items()]
