"""Encode pictures: PNG, JPEG or WebP with text, pictures and a mark of their origin.

The mark is the IPTC's digital source type in XMP, which platforms and search engines read, and which the European
AI Act (Regulation 2024/1689, article 50) asks for: https://cv.iptc.org/newscodes/digitalsourcetype.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ctrl.images.picture import Picture
from ctrl.images.png import chunk, chunks

if TYPE_CHECKING:
    from PIL import Image

Format: TypeAlias = Literal["PNG", "JPEG", "WEBP"]
Origin: TypeAlias = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
GENERATED: Origin = "trainedAlgorithmicMedia"  # made from words, controls and references
COMPOSITE: Origin = "compositeWithTrainedAlgorithmicMedia"  # made from an image: image to image, inpainting
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"

MAX_TEXT = 60 * 2**20  # bytes of text in a PNG; Pillow opens none with more than 64 MiB
PICTURE = b"ctPi"  # a private chunk: ancillary, not to be copied by editors that do not know it
PART = 4 * 2**20  # bytes of a picture in one chunk
USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True, "quality": 20, "method": 1},
}


def encode(
    image: Image.Image,
    format: Format = "PNG",
    *,
    origin: Origin | None = GENERATED,
    texts: Mapping[str, str] | None = None,
    pictures: Iterable[Picture] = (),
) -> bytes:
    """The bytes of a picture file; WebP is lossless.

    `origin` is the mark of where the picture comes from, None for no mark. `texts` go into a PNG under their
    keywords; JPEG and WebP have a place for one, "parameters", in EXIF's UserComment. `pictures` go into a PNG, each
    once, for `png_pictures` to read. A ValueError says what does not fit.
    """
    options = dict(OPTIONS[format])
    texts = dict(texts or {})
    if format == "PNG":
        options["pnginfo"] = _png_info(texts, origin)
    else:
        if set(texts) - {"parameters"} or tuple(pictures):
            raise ValueError(f"a {format} file carries no text but 'parameters'; save as PNG.")
        if origin is not None:
            options["xmp"] = xmp(origin).encode()
        if texts:
            options["exif"] = _exif(texts["parameters"])
    buffer = io.BytesIO()
    image.convert("RGB" if format == "JPEG" else image.mode).save(buffer, format, **options)
    return _with_pictures(buffer.getvalue(), pictures)


def png_with_text(image: Image.Image, keyword: str, text: str) -> bytes:
    """`image` as a PNG that carries `text` and no mark of its origin."""
    return encode(image, origin=None, texts={keyword: text})


def xmp(origin: Origin) -> str:
    """An XMP packet that says how a picture was made."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{VOCABULARY}{origin}</Iptc4xmpExt:DigitalSourceType>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def origin_of(data: bytes) -> str | None:
    """The digital source type a picture file declares in its XMP, by its short name, or None."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=tuple(OPTIONS)) as image:
        xmp_field = image.info.get("xmp", b"")
    packet = xmp_field.decode("utf-8", "replace") if isinstance(xmp_field, bytes) else str(xmp_field)
    match = re.search(rf"DigitalSourceType\W{{1,20}}{re.escape(VOCABULARY)}(\w+)", packet)
    return match[1] if match else None


def png_pictures(data: bytes) -> dict[str, bytes]:
    """What `encode` wrote into a PNG file as `pictures`, by their sha256.

    Nothing is decoded, since a hostile file may hold thousands: `Picture.from_encoded` reads the ones that are
    wanted, whose sha256 must then be the right one.
    """
    parts: dict[bytes, bytearray] = {}
    for piece in chunks(data):
        if piece.kind == PICTURE:
            parts.setdefault(piece.body[:32], bytearray()).extend(piece.body[32:])
    return {digest.hex(): bytes(encoded) for digest, encoded in parts.items()}


def _png_info(texts: Mapping[str, str], origin: Origin | None) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if (size := sum(len(text.encode()) for text in texts.values())) > MAX_TEXT:
        raise ValueError(
            f"the texts have {size} bytes; a PNG with more than {MAX_TEXT} of them cannot be opened again."
        )
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    if origin is not None:
        info.add_itxt("XML:com.adobe.xmp", xmp(origin))
    return info


def _exif(text: str) -> Any:
    """UserComment, as AUTOMATIC1111 and Civitai write and read it."""
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    if len(exif.tobytes()) > 65_000:
        raise ValueError(f"'parameters' has {len(text)} characters, too many for EXIF; save as PNG.")
    return exif


def _with_pictures(data: bytes, pictures: Iterable[Picture]) -> bytes:
    """A PNG with each picture in chunks of its own before its last chunk, IEND."""
    added = bytearray()
    for picture in dict.fromkeys(pictures):
        encoded = picture.encoded
        for at in range(0, len(encoded), PART):
            added += bytes(chunk(PICTURE, bytes.fromhex(picture.sha256) + encoded[at : at + PART]))
    return data[:-12] + bytes(added) + data[-12:] if added else data
