"""Where a picture comes from: a path, bytes, a file object, an upload, a shot, an array, a tensor or a PIL image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctrl.images.arrays import as_array
from ctrl.images.files import MAX_FILE

MAX_WRAPPERS = 4  # a shot in a widget in an upload …


def unwrap(source: Any, name: str) -> Any:
    """A path, bytes, or an object that may be an array, a tensor or an image.

    File objects and uploads (`ipywidgets.FileUpload` and its value) give the bytes of their file, and anything with
    an `image`, such as a `Shot`, gives that. Raises a ValueError or TypeError in a sentence for no upload or several.
    """
    for _ in range(MAX_WRAPPERS):
        inner = _inner(source, name)
        if inner is source:
            break
        source = inner
    if isinstance(source, bytes) and len(source) > MAX_FILE:
        raise ValueError(f"{name} is a file of {len(source)} bytes; at most {MAX_FILE} are read.")
    return source


def _inner(source: Any, name: str) -> Any:
    if isinstance(source, str | bytes):
        return source
    if isinstance(source, os.PathLike):
        return Path(os.fsdecode(source))
    if isinstance(source, memoryview) and source.ndim > 1:
        return as_array(source, name)
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if callable(getattr(source, "read", None)):
        return _read(source, name)
    if isinstance(source, Mapping):
        return _upload(source, name)
    if isinstance(source, tuple) and all(isinstance(entry, Mapping) for entry in source):
        return _single(list(source), name)
    if isinstance(source, list | tuple) and source:
        if all(isinstance(row, list | tuple) or getattr(row, "ndim", 0) == 1 for row in source):
            return as_array(source, name)
        return source[0] if len(source) == 1 else source
    for holder in ("image", "value"):  # a shot, a widget
        if not isinstance(source, type) and getattr(source, holder, None) is not None:
            return getattr(source, holder)
    return source


def _read(file: Any, name: str) -> bytes:
    """All of a file, or one byte more than the limit; from its beginning if it can seek."""
    try:
        if callable(getattr(file, "seekable", None)) and file.seekable():
            file.seek(0)
        data = file.read(MAX_FILE + 1)
    except (OSError, ValueError, TypeError) as error:  # closed, or with another `read`
        raise ValueError(f"{name} is a file object that cannot be read: {error}.") from error
    if not isinstance(data, bytes):
        raise TypeError(f"{name} is a file of text; open it in binary mode, 'rb'.")
    return data


def _upload(upload: Mapping[Any, Any], name: str) -> Any:
    """One entry of a FileUpload's value, or ipywidgets 7's mapping of file names to entries."""
    if "content" in upload:
        return upload["content"]
    if upload and all(isinstance(entry, Mapping) for entry in upload.values()):
        return _single(list(upload.values()), name)
    return upload


def _single(uploads: list[Any], name: str) -> Any:
    if len(uploads) != 1:
        raise ValueError(f"{name} must be one uploaded file, got {len(uploads)}; choose one.")
    return uploads[0]
