"""The image room: every way a picture comes in or goes out."""

from ctrl.images.entrance import LONGEST
from ctrl.images.files import MAX_FILE, local_file, png_text, png_with_text, save, why
from ctrl.images.like import PictureLike
from ctrl.images.picture import BLACK, WHITE, Picture

__all__ = [
    "BLACK",
    "LONGEST",
    "MAX_FILE",
    "WHITE",
    "Picture",
    "PictureLike",
    "local_file",
    "png_text",
    "png_with_text",
    "save",
    "why",
]
