"""The image room: every way a picture comes in or goes out."""

from ctrl.images.files import MAX_FILE, local_file, png_text, png_with_text, save, why
from ctrl.images.map_check import looks_like, map_notes
from ctrl.images.picture import BLACK, MAX_SIDE, WHITE, Picture

__all__ = [
    "BLACK",
    "MAX_FILE",
    "MAX_SIDE",
    "WHITE",
    "Picture",
    "local_file",
    "looks_like",
    "map_notes",
    "png_text",
    "png_with_text",
    "save",
    "why",
]
