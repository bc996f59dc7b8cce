"""The pictures of a `Gallery` as values, and the one file that keeps them: a ZIP of PNGs, recipes and a table."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from PIL import Image

from ctrl import Recipe
from widgets.encode import png

FORMAT, VERSION = "ctrl-session", 1
MAX_MEMBER = 64 * 2**20  # bytes of one picture or recipe
MAX_ENTRIES = 10_000
_NAME = re.compile(r"\d{5}\.(png|json)")


@dataclass(frozen=True, eq=False)
class Entry:
    """One picture of a gallery. `key` is its number there, `when` an ISO time; `recipe` may be None."""

    key: int
    image: Image.Image = field(repr=False)
    recipe: Recipe | None = field(repr=False)
    note: str
    when: str
    pinned: bool = False
    favourite: bool = False


def save(entries: Iterable[Entry], path: Path) -> None:
    """Write a session file."""
    with whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        table = [_write(archive, i, entry) for i, entry in enumerate(entries)]
        text = json.dumps({"format": FORMAT, "version": VERSION, "entries": table}, indent=1)
        archive.writestr("session.json", text)


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write. If writing fails, no file is left and an old one is unchanged."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).chmod(0o644)  # readable as pictures are: `mkstemp` makes files that are the owner's alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(data: bytes, *, first_key: int = 1) -> list[Entry]:
    """The entries in a session file's bytes, with keys from `first_key` on.

    Raises:
        ValueError: it is no session file, of a later version, or a part is missing, broken or too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            table = json.loads(_member(archive, "session.json"))
            _check(table)
            return [_read(archive, row, first_key + i) for i, row in enumerate(table["entries"])]
    except (zipfile.BadZipFile, KeyError, TypeError, RecursionError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"this is no session file that can be read completely: {error!r:.120}.") from error


def _write(archive: zipfile.ZipFile, index: int, entry: Entry) -> dict[str, Any]:
    picture, recipe = f"{index:05d}.png", f"{index:05d}.json" if entry.recipe is not None else None
    archive.writestr(picture, png(entry.image))
    if entry.recipe is not None:
        archive.writestr(f"{index:05d}.json", entry.recipe.to_json(), zipfile.ZIP_DEFLATED)
    marks = {"pinned": entry.pinned, "favourite": entry.favourite}
    return {"picture": picture, "recipe": recipe, "note": entry.note, "when": entry.when, **marks}


def _check(table: Any) -> None:
    if not isinstance(table, dict) or table.get("format") != FORMAT or not isinstance(table.get("entries"), list):
        raise ValueError("this ZIP is no session file: session.json does not say so; Gallery.save writes one.")
    if table.get("version") != VERSION:
        other = f"{table.get('version')!r:.20}"
        raise ValueError(f"the session file has version {other}, and {VERSION} is read here; update ctrl-diffusion.")
    if len(table["entries"]) > MAX_ENTRIES:
        raise ValueError(
            f"the session file has {len(table['entries'])} pictures; {MAX_ENTRIES} are the most that is read."
        )


def _read(archive: zipfile.ZipFile, row: dict[str, Any], key: int) -> Entry:
    image = Image.open(io.BytesIO(_member(archive, row["picture"])), formats=["PNG"])
    image.load()
    recipe = None if row["recipe"] is None else Recipe.from_json(_member(archive, row["recipe"]).decode("utf-8"))
    marks = {"pinned": row["pinned"] is True, "favourite": row["favourite"] is True}
    return Entry(key, image, recipe, str(row["note"]), str(row["when"]), **marks)


def _member(archive: zipfile.ZipFile, name: Any) -> bytes:
    if name != "session.json" and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"the session file names a part {name!r:.40}, which Gallery.save would not write.")
    info = archive.getinfo(name)
    if info.file_size > MAX_MEMBER:
        raise ValueError(
            f"{name} in the session file has {info.file_size} bytes; {MAX_MEMBER} are the most that is read."
        )
    return archive.read(info)
