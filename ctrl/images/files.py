"""Files that pictures and recipes are read from and written to. Their contents are untrusted."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MAX_FILE = 256 * 2**20  # bytes


def local_file(source: object, name: str, what: str) -> Path:
    """The regular file of this name, small enough to be read; `name` is the argument's, `what` what it must be.

    Anything else, an address, a folder, a pipe, a device or a name no file can have, raises a ValueError or TypeError.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"{name} must be the path of {what}, got {type(source).__name__}.")
    if "://" in str(source):
        raise ValueError(f"{name} must be a local file, got the address {str(source)!r:.200}; download it first.")
    try:
        path = Path(os.fsdecode(source)).expanduser()
        size = path.stat().st_size if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, the home of an unknown user, a NUL
        size = None
    if size is None:
        raise ValueError(f"{name} must be {what}, but there is no file {str(source)!r:.200}.")
    if size > MAX_FILE:
        raise ValueError(f"{name} is a file of {size} bytes; at most {MAX_FILE} are read.")
    return path


def why(error: Exception) -> str:
    """A library's error message, as the end of a sentence."""
    message = " ".join(str(error).split()).rstrip(".")
    return f"{message:.200}" or type(error).__name__


def save(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` completely or not at all: a temporary file in its folder, then a rename.

    Raises a ValueError, before anything is written, for more than `local_file` would read back.
    """
    path = Path(path).expanduser()
    if len(data) > MAX_FILE:
        raise ValueError(f"{path.name!r} would have {len(data)} bytes; at most {MAX_FILE} can be read back.")
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)  # noqa: SIM115
    temporary = Path(file.name)
    try:
        with file:
            file.write(data)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
