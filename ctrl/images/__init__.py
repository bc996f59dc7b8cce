"""The image room: reading, checking and writing pictures."""

from ctrl.images.encode import (
    COMPOSITE,
    GENERATED,
    MAX_TEXT,
    Origin,
    encode,
    origin_of,
    png_pictures,
    png_with_text,
)
from ctrl.images.files import MAX_FILE, local_file, save, why
from ctrl.images.like import PictureLike
from ctrl.images.map_check import looks_like, map_notes
from ctrl.images.metadata import Generation, LoraUse, as_tag, lora_tags, read_generation, to_parameters
from ctrl.images.picture import BLACK, MAX_SIDE, WHITE, Picture
from ctrl.images.png import png_text

__all__ = [
    "BLACK",
    "COMPOSITE",
    "GENERATED",
    "MAX_FILE",
    "MAX_SIDE",
    "MAX_TEXT",
    "WHITE",
    "Generation",
    "LoraUse",
    "Origin",
    "Picture",
    "PictureLike",
    "as_tag",
    "encode",
    "local_file",
    "looks_like",
    "lora_tags",
    "map_notes",
    "origin_of",
    "png_pictures",
    "png_text",
    "png_with_text",
    "read_generation",
    "save",
    "to_parameters",
    "why",
]
