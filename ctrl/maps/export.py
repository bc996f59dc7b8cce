"""Maps written to files that carry how they were made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ctrl.images import png_with_text, save
from ctrl.maps.checks import whole

KEYWORD = "ctrl-attention"


def png(path: str | Path, image: Image.Image, settings: Mapping[str, Any]) -> None:
    """Write an image as a PNG that carries `settings` in JSON."""
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"path must end in .png, since the settings travel in a PNG; got {str(path)!r}.")
    save(path, png_with_text(image, KEYWORD, json.dumps(settings)))


def gif(path: str | Path, frames: Sequence[Image.Image], settings: Mapping[str, Any], milliseconds: int) -> None:
    """Write frames as an endless GIF whose comment is `settings` in JSON."""
    if Path(path).suffix.lower() != ".gif":
        raise ValueError(f"path must end in .gif, got {str(path)!r}.")
    whole("milliseconds", milliseconds, "milliseconds a step")
    buffer = io.BytesIO()
    first, *rest = frames
    comment = json.dumps(settings).encode("ascii")
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0, comment=comment)
    save(path, buffer.getvalue())
