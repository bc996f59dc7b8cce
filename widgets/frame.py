"""`FrameView`: one picture in a notebook, with its caption and its alternative text.

The leaf is self-sufficient: it needs anywidget and a PIL picture, nothing of the engine, so it shows itself
in JupyterLab, Notebook, Voilà and marimo alike. Its whole state is three traits.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

try:
    import anywidget
    import traitlets
except ImportError as missing:
    raise ImportError(
        f"FrameView needs {missing.name}, which is not installed: "
        'run `pip install "ctrl-diffusion[widgets]"` and restart the kernel.'
    ) from missing

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


class FrameView(anywidget.AnyWidget):
    """Shows one picture, as wide as its place allows and never wider than its own pixels ask for.

    Args:
        image: the picture to begin with, or None for an empty frame.
        caption: words under the picture; plain text, never HTML.
        alt: what a screen reader says; the caption where this is empty.

    Raises:
        TypeError: the image is not a PIL image.
        ValueError: its mode has no faithful 8-bit PNG (16-bit, float, CMYK).

    >>> view = FrameView(shot.image, caption="guidance 6")    # doctest: +SKIP
    >>> view.show(other.image, caption="guidance 9")          # doctest: +SKIP
    """

    _esm = Path(__file__).with_name("frame.js")

    png = traitlets.Bytes(b"", help="the picture as a PNG; empty for none").tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)

    def __init__(self, image: Image.Image | None = None, *, caption: str = "", alt: str = "") -> None:
        super().__init__(png=b"" if image is None else _png(image), caption=caption, alt=alt)

    def show(self, image: Image.Image, *, caption: str = "", alt: str = "") -> None:
        """Put another picture in the frame; picture, caption and alt travel together, in one message."""
        png = _png(image)
        with self.hold_sync():
            self.png, self.caption, self.alt = png, caption, alt

    def clear(self) -> None:
        """Empty the frame."""
        with self.hold_sync():
            self.png, self.caption, self.alt = b"", "", ""


def _png(image: Image.Image) -> bytes:
    """The picture as lossless PNG bytes, upright, without the metadata it came with."""
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"image must be a PIL image, not {type(image).__name__}; "
            "for an array (H, W, 3) of uint8 use PIL.Image.fromarray(array)"
        )
    if image.mode not in _MODES:
        raise ValueError(
            f"image has mode {image.mode!r}, which a frame cannot show faithfully; accepted are "
            f"{', '.join(_MODES)}. Scale it to 0…255 if need be, then use image.convert('RGB')"
        )
    upright = ImageOps.exif_transpose(image)
    upright.info = {key: upright.info[key] for key in ("transparency",) if key in upright.info}
    buffer = io.BytesIO()
    upright.save(buffer, format="PNG", compress_level=1)  # level 6 takes a third longer to save a tenth
    return buffer.getvalue()
