"""The pictures of a sweep side by side, with their labels."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, FONT = 8, 13
PAPER, INK = (250, 249, 246), (40, 40, 48)
Box = tuple[int, int, int, int]


def sheet(
    images: Sequence[Image.Image], rows: Sequence[str], columns: Sequence[str]
) -> tuple[Image.Image, tuple[Box, ...]]:
    """A picture of the cells, row after row, and the box (left, top, right, bottom) of each in it."""
    font = ImageFont.load_default(FONT)
    width, height = (max(one.size[side] for one in images) for side in (0, 1))
    left = GAP + max(_width(font, text) for text in rows)
    across = max(width, *(_width(font, text) for text in columns))
    top = GAP + FONT + GAP
    size = (left + len(columns) * (across + GAP) + GAP, top + len(rows) * (height + GAP))
    made = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(made)
    for column, text in enumerate(columns):
        pen.text((left + GAP + column * (across + GAP), GAP), text, fill=INK, font=font)
    for row, text in enumerate(rows):
        pen.text((GAP, top + row * (height + GAP) + height // 2), text, fill=INK, font=font, anchor="lm")
    boxes = []
    for at, image in enumerate(images):
        row, column = divmod(at, len(columns))
        x, y = left + GAP + column * (across + GAP), top + row * (height + GAP)
        made.paste(image.convert("RGB"), (x, y))
        boxes.append((x, y, x + image.width, y + image.height))
    return made, tuple(boxes)


def _width(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    return round(font.getlength(text)) if text else 0
