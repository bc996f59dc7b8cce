"""Maps drawn as pictures: over the picture, as outlines, in sheets. PIL in, PIL out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ctrl.maps.checks import largest, part, whole
from ctrl.maps.colours import coloured, table
from ctrl.maps.refine import resized
from ctrl.maps.sums import Array

DARK, LIGHT, CAPTION, GAP = (24, 24, 24), (240, 240, 240), 18, 6
LONGEST = 384  # pixels of a cell of a sheet


def scaled(heat: Array, most: float | None) -> Array:
    """Shares as parts of `most`, the share drawn brightest; of the map's own largest where it is None."""
    if most is not None:
        largest("most", most)
    top = float(heat.max(initial=0)) if most is None else most
    return heat / top if top > 0 else np.zeros_like(heat)


def overlay(heat: Array, picture: Image.Image, *, colours: str, strength: float, most: float | None) -> Image.Image:
    """The map over the picture: its colour, and as opaque as it is strong, up to `strength`."""
    part("strength", strength, "full colour")
    width, height = picture.size
    parts = resized(scaled(heat, most)[None], height, width)[0].clip(0, 1)
    alpha = strength * np.sqrt(parts)[..., None]
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float32)
    below = 0.65 * grey + 0.35 * np.asarray(picture.convert("RGB"), np.float32)
    mixed = (1 - alpha) * below + alpha * coloured(parts, colours).astype(np.float32)
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))


def outline(mask: np.ndarray[Any, np.dtype[np.uint8]], picture: Image.Image) -> Image.Image:
    """The picture with the edge of a mask (H, W), light within dark, so that it shows on any ground."""
    drawn = np.array(picture.convert("RGB"))
    edges, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thick = max(1, round(min(picture.size) / 128))
    cv2.drawContours(drawn, edges, -1, DARK, 3 * thick)
    cv2.drawContours(drawn, edges, -1, LIGHT, thick)
    return Image.fromarray(drawn)


def parties(maps: Mapping[str, Array], picture: Image.Image) -> Image.Image:
    """The picture coloured by which of some maps (h, w) is largest, with a legend under it."""
    width, height = picture.size
    large = np.stack([resized(one[None], height, width)[0] for one in maps.values()])
    chosen = large.argmax(0)
    colours = table("batlow")[np.linspace(0, 255, len(maps)).round().astype(int)]
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float32)
    mixed = 0.45 * grey + 0.55 * colours[chosen].astype(np.float32)
    page = Image.new("RGB", (width, height + CAPTION * len(maps)), DARK)
    page.paste(Image.fromarray(mixed.astype(np.uint8)), (0, 0))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default()
    for number, (name, colour) in enumerate(zip(maps, colours, strict=True)):
        top = height + number * CAPTION
        draw.rectangle((3, top + 4, 13, top + 14), fill=tuple(int(one) for one in colour))
        draw.text((18, top + 2), f"{name}  {float((chosen == number).mean()):.0%}", fill=LIGHT, font=font)
    return page


def bare(heat: Array, size: tuple[int, int], *, colours: str, most: float | None) -> Image.Image:
    """The map alone, its cells as squares, at a (width, height)."""
    flat = Image.fromarray(coloured(scaled(heat, most), colours))
    return flat.resize(size, Image.Resampling.NEAREST)


def sheet(pictures: Sequence[Image.Image], captions: Sequence[str], *, columns: int | None = None) -> Image.Image:
    """Pictures of one size side by side, each under its caption."""
    if columns is not None:
        whole("columns", columns, "pictures side by side")
    columns = min(len(pictures), columns or max(1, round(len(pictures) ** 0.5 + 0.5)))
    width, height = _fitted(pictures[0].size)
    rows = -(-len(pictures) // columns)
    size = (columns * (width + GAP) + GAP, rows * (height + CAPTION + GAP) + GAP)
    page = Image.new("RGB", size, DARK)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default()
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x = GAP + number % columns * (width + GAP)
        y = GAP + number // columns * (height + CAPTION + GAP)
        draw.text((x + 2, y + 2), _cut(caption, draw, font, width), fill=LIGHT, font=font)
        page.paste(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), (x, y + CAPTION))
    return page


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, LONGEST / max(size))
    return round(size[0] * scale), round(size[1] * scale)


def _cut(text: str, draw: ImageDraw.ImageDraw, font: Any, width: int) -> str:
    """The text, or as much of it as fits."""
    while len(text) > 2 and draw.textlength(text, font=font) > width - 2:
        text = text[:-2].rstrip() + "…"
    return text
