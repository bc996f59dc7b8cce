"""`Gallery`: a history of pictures, with their recipes to search, compare and use again."""

from __future__ import annotations

import datetime
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ctrl import Recipe
from widgets import session
from widgets.encode import checked, jpeg, png
from widgets.leaf import Leaf, Message, module, styles, traitlets
from widgets.session import Entry

THUMB = 192  # pixels a side
BATCH = 24  # thumbnails a message


class Gallery(Leaf):
    """A history of pictures: pin, favourite, search, compare, and use a recipe again.

    Pointing at a picture shows the differences of its recipe from `current`, and changes nothing.
    "Use these settings" puts the picture's entry into `used`; observe that trait, or give `on_use`.

    Args:
        current: the recipe that others are compared to; None for that of the newest picture.
        on_use: called with the recipe of "Use these settings".

    >>> gallery = Gallery(on_use=panel.update)          # doctest: +SKIP
    >>> gallery.add(ctrl.sample(model, recipe))         # doctest: +SKIP
    >>> gallery.save("evening.ctrl.zip")                # doctest: +SKIP
    """

    _esm = module("gallery_parts.js", "gallery.js")
    _css = styles("gallery.css")

    used = traitlets.Any(None, help="the entry whose settings were used last")
    compared = traitlets.List(traitlets.Int(), help="keys of the two pictures compared").tag(sync=True)

    def __init__(self, *, current: Recipe | None = None, on_use: Callable[[Recipe], object] | None = None) -> None:
        self._lock = threading.RLock()
        self._entries: dict[int, Entry] = {}
        self._removed: list[Entry] = []  # by the last removal, to be brought back
        self._next = 1
        self._current = current
        self._on_use = on_use
        super().__init__()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The pictures, oldest first."""
        with self._lock:
            return tuple(self._entries[key] for key in sorted(self._entries))

    @property
    def current(self) -> Recipe | None:
        """The recipe that others are compared to."""
        if self._current is not None:
            return self._current
        return next((entry.recipe for entry in reversed(self.entries) if entry.recipe is not None), None)

    @current.setter
    def current(self, recipe: Recipe | None) -> None:
        if recipe is not None and not isinstance(recipe, Recipe):
            raise TypeError(f"current must be a Recipe or None, got {type(recipe).__name__}.")
        self._current = recipe
        self.post("current", {"keys": self._same_as_current()})

    def add(self, picture: Any, recipe: Recipe | None = None, *, note: str = "", favourite: bool = False) -> Entry:
        """Add a `Shot`, or a PIL image with its recipe if it has one."""
        image = getattr(picture, "image", picture)
        recipe = getattr(picture, "recipe", None) if recipe is None else recipe
        if recipe is not None and not isinstance(recipe, Recipe):
            raise TypeError(f"recipe must be a Recipe or None, got {type(recipe).__name__}.")
        image = checked(image, name="picture")
        when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with self._lock:
            entry = Entry(self._next, image, recipe, note, when, favourite=favourite)
            self._insert([entry])
        return entry

    def mark(self, key: int, *, pinned: bool | None = None, favourite: bool | None = None) -> None:
        """Pin a picture to the front, or keep it as a favourite; None leaves a mark as it is."""
        with self._lock:
            old = self._entry(key)
            entry = replace(
                old,
                pinned=old.pinned if pinned is None else pinned,
                favourite=old.favourite if favourite is None else favourite,
            )
            self._entries[key] = entry
        self.post("marked", {"key": key, "pinned": entry.pinned, "favourite": entry.favourite})

    def remove(self, *keys: int) -> None:
        """Remove pictures; `bring_back` undoes it."""
        with self._lock:
            self._removed = [self._entry(key) for key in dict.fromkeys(keys)]
            for entry in self._removed:
                del self._entries[entry.key]
        self.compared = [key for key in self.compared if key in self._entries]
        self.post("removed", {"keys": list(keys), "same": self._same_as_current()})

    def clear(self, *, keep_favourites: bool = True) -> None:
        """Remove all pictures that are not favourites, or all pictures; `bring_back` undoes it."""
        self.remove(*(entry.key for entry in self.entries if not (entry.favourite and keep_favourites)))

    def bring_back(self) -> None:
        """Undo the last removal."""
        with self._lock:
            back, self._removed = self._removed, []
            self._insert(back)

    def save(self, path: str | Path) -> Path:
        """Write all pictures, recipes and marks to one session file that ends in .zip; returns where it is."""
        path = Path(path).expanduser()
        if path.suffix.lower() != ".zip":
            raise ValueError(f"path must end in .zip, since a session is a ZIP of PNGs and recipes; got {str(path)!r}.")
        if not path.parent.is_dir():
            raise ValueError(f"path leads to the folder {str(path.parent)!r}, which does not exist; make it first.")
        session.save(self.entries, path)
        return path.resolve()

    def read(self, path: str | Path) -> None:
        """Add the pictures of a session file, or of one PNG with a recipe inside."""
        path = Path(path).expanduser()
        self._take(path.name, path.read_bytes())

    def opening(self) -> list[Message]:
        """The list, and the thumbnails in batches."""
        entries = self.entries
        batches = [entries[i : i + BATCH] for i in range(0, len(entries), BATCH)]
        return [Message("entries", {"same": self._same_as_current()}), *map(_added, batches)]

    def receive(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Handle requests of the browser."""
        key = int(content.get("key", 0))
        if kind == "mark":
            self.mark(key, **{name: bool(content[name]) for name in ("pinned", "favourite") if name in content})
        elif kind == "remove":
            self.remove(key)
        elif kind == "clear":
            self.clear()
        elif kind == "bring back":
            self.bring_back()
        elif kind == "diff":
            self.post("diff", {**content, "lines": self._diff(content.get("from"), key)})
        elif kind == "full":
            self.post("full", {"key": key}, [png(self._entry(key).image)])
        elif kind == "use":
            self._use(self._entry(key))
        elif kind == "download":
            self.post("download", {"name": f"picture-{key}.png"}, [self._file(key)])
        elif kind == "save":
            self.post("said", {"text": f"Saved as {self.save(str(content['path']))}."})
        elif kind == "file":
            self._take(str(content["name"]), buffers[0])

    def _entry(self, key: int) -> Entry:
        if key not in self._entries:
            raise ValueError(f"the gallery has no picture {key} any more.")
        return self._entries[key]

    def _file(self, key: int) -> bytes:
        entry = self._entry(key)
        return png_with_recipe(entry.image, entry.recipe)

    def _insert(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._entries[entry.key] = entry
            self._next = max(self._next, entry.key + 1)
        for i in range(0, len(entries), BATCH):
            message = _added(entries[i : i + BATCH])
            self.post(message.kind, {**message.content, "same": self._same_as_current()}, message.buffers)

    def _use(self, entry: Entry) -> None:
        if entry.recipe is None:
            raise ValueError("this picture came without a recipe, so it has no settings to use.")
        self.current = entry.recipe
        self.used = replace(entry)  # a new object each time, so that observers are called when an entry is used twice
        if self._on_use is not None:
            self._on_use(entry.recipe)

    def _take(self, name: str, data: bytes) -> None:
        if data[:2] == b"PK":  # a ZIP
            with self._lock:
                self._insert(session.load(data, first_key=self._next))
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / (Path(name).name[-100:].strip(".") or "dropped")
            path.write_bytes(data)
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                recipe = Recipe.load(path)
            with Image.open(path) as image:
                image.load()
        note = "; ".join([f"from {name}", *(str(one.message).removeprefix(f"{path.name}: ") for one in found)])
        self.add(image.convert("RGBA" if "A" in image.mode else "RGB"), recipe, note=note)

    def _same_as_current(self) -> list[int]:
        current = self.current
        return [entry.key for entry in self.entries if entry.recipe is not None and entry.recipe == current]

    def _diff(self, other: Any, key: int) -> list[str] | None:
        """Lines from the current recipe, or from entry `other`, to that of `key`; None if one has no recipe."""
        start = self.current if other is None else self._entry(int(other)).recipe
        end = self._entry(key).recipe
        return None if start is None or end is None else [str(change) for change in start.diff(end)]


def _added(entries: Sequence[Entry]) -> Message:
    return Message("added", {"entries": list(map(_summary, entries))}, tuple(map(_thumb, entries)))


def _thumb(entry: Entry) -> bytes:
    small = entry.image.copy()
    small.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    return jpeg(small)


def _summary(entry: Entry) -> dict[str, Any]:
    """The content of an entry for the browser: shown and searched."""
    recipe = entry.recipe
    facts = [] if recipe is None else _facts(recipe)
    title = (str(recipe.prompt) if recipe is not None else entry.note) or "a picture without words"
    words = " ".join([title, *facts, entry.note, *([str(recipe.negative)] if recipe is not None else [])])
    shape = {"width": entry.image.width, "height": entry.image.height, "when": entry.when}
    marks = {"pinned": entry.pinned, "favourite": entry.favourite, "recipe": recipe is not None}
    return {"key": entry.key, "title": title, "facts": facts, "note": entry.note, "words": words, **shape, **marks}


def _facts(recipe: Recipe) -> list[str]:
    guidance = f"guidance {recipe.guidance:g}" if isinstance(recipe.guidance, int | float) else "guidance scheduled"
    facts = [f"seed {recipe.seed}", f"{recipe.steps} steps", recipe.sampler, guidance]
    facts += [str(control.kind) for control in recipe.controls]
    facts += ["style"] * len(recipe.styles) + [lora.name for lora in recipe.loras]
    return facts


def png_with_recipe(image: Image.Image, recipe: Recipe | None) -> bytes:
    """A PNG that carries its recipe, if there is one."""
    if recipe is None:
        return png(image)
    from ctrl import Shot  # loads torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        Shot(image, recipe).save(path)
        return path.read_bytes()
