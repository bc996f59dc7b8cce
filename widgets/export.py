"""Finished pictures as one HTML page that needs no kernel, no network and no package: `page`, and `Snapshot`.

The page holds the leaves' own modules and the pictures, as PNGs with their recipes. Its policy lets it load nothing
else. Text of users is escaped, and data stands in a script block that is not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from widgets.attention import heat_of
from widgets.frame import Frame, FrameView
from widgets.gallery import Gallery, png_with_recipe
from widgets.heat import Heat, TokenHeat
from widgets.leaf import Leaf, Message, styles
from widgets.session import whole

import ctrl  # isort: skip

ENDINGS = (".html", ".htm")
MAX_SHOTS = 50  # each is compared to every other
HEIGHTS = {"frame": 220, "heat": 760, "gallery": 330}  # pixels of each part of the page, of a frame beside its picture
SHOWN = (320, 560)  # pixels: how wide FrameView shows a picture, at least and at most
_HERE = Path(__file__).parent
_OWN = {"layout", "problem"}  # traits that are no state of a page
READABLE = 2**17  # characters of code, pictures included


def page(path: str | Path, shot: ctrl.Shot, *earlier: ctrl.Shot) -> Path:
    """Write one HTML file that shows a shot, its recipe and Python, and works from the disk, offline.

    If the shot was watched, words and places can be explored as in `AttentionPanel`. `earlier` are further shots, the
    newest first: they are listed as in `Gallery`, with what differs, to compare and to show.

    Returns where the file is. A ValueError if the path does not end in .html or its folder does not exist.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"path must end in .html, got {str(path)!r}.")
    if not path.parent.is_dir():
        raise ValueError(f"path leads to the folder {str(path.parent)!r}, which does not exist; make it first.")
    data = page_html((shot, *earlier)).encode("utf-8")
    with whole(path) as file:
        file.write(data)
    return path.resolve()


def page_html(shots: Sequence[ctrl.Shot]) -> str:
    """The text of the page; the first shot is shown."""
    if len(shots) > MAX_SHOTS:
        raise ValueError(f"a page holds at most {MAX_SHOTS} shots, got {len(shots)}.")
    for at, shot in enumerate(shots):
        if not isinstance(shot, ctrl.Shot):
            raise TypeError(f"shots[{at}] must be a Shot, got {type(shot).__name__}; ctrl.sample makes one.")
    watched, several = any(shot.attention is not None for shot in shots), len(shots) > 1
    leaves: dict[str, type[Leaf]] = {
        "frame": FrameView,
        **({"heat": TokenHeat} if watched else {}),
        **({"gallery": Gallery} if several else {}),
    }
    data = {
        "leaves": {name: {"esm": leaf._esm, "state": _state(leaf())} for name, leaf in leaves.items()},
        "shots": [_shot(shot) for shot in shots],
        "history": _history(shots) if several else None,
    }
    recipes = (
        f'<div data-shot="{at}"{" hidden" if at else ""}>{shot.recipe._repr_html_()}{_notes(shot)}</div>'
        for at, shot in enumerate(shots)
    )
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
        allowed=f"'sha256-{digest}'",
        title=escape(_title(shots[0])),
        css=styles(*(f"{name}.css" for name in leaves), "page.css"),
        recipes="\n".join(recipes),
        history='<section><h2>The pictures before</h2><div id="gallery"></div></section>' if several else "",
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        script=script,
    )


@dataclass(frozen=True)
class Snapshot:
    """Finished pictures as the output of a cell, for a reader without a kernel: a PNG, or the page in a frame.

    The frame is a sandbox: what is in it cannot reach the notebook around it.
    """

    shots: tuple[ctrl.Shot, ...] = field(repr=False)
    interactive: bool = False

    @property
    def html(self) -> str:
        """The page in an `<iframe>`."""
        parts = ["frame"]
        parts += ["heat"] if any(shot.attention is not None for shot in self.shots) else []
        parts += ["gallery"] if len(self.shots) > 1 else []
        width, high = self.shots[0].image.size
        height = min(max(width, SHOWN[0]), SHOWN[1]) * high // width + sum(HEIGHTS[part] for part in parts)
        look = f"width:100%;height:{height}px;border:0;resize:vertical"
        name = escape(_title(self.shots[0]), quote=True)
        return (
            f'<iframe sandbox="allow-scripts allow-downloads" style="{look}" title="{name}" '
            f'srcdoc="{escape(page_html(self.shots), quote=True)}"></iframe>'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        shot = self.shots[0]
        still = {"text/plain": _title(shot), "image/png": base64.b64encode(shot._repr_png_()).decode("ascii")}
        return {**still, "text/html": self.html} if self.interactive else still


def _shot(shot: ctrl.Shot) -> dict[str, Any]:
    frame = Frame(0, shot.image, "exact", "; ".join(shot.notes), str(shot.recipe.prompt))
    picture = frame.message("now", lossless=True)
    return {
        "title": _title(shot),
        "code": _code(shot.recipe),
        "file": _base64(png_with_recipe(shot.image, shot.recipe)),
        "frame": {"kind": picture.kind, **picture.content},
        "heat": None if shot.attention is None else _heat(heat_of(shot)),
    }


def _heat(heat: Heat) -> dict[str, Any]:
    reset = {"pinned": [], "place": [], "active_layers": [], "step": 0, "code": heat.code}
    return {"state": reset, "message": _packed(heat.message())}


def _history(shots: Sequence[ctrl.Shot]) -> dict[str, Any]:
    """The shots as a gallery holds them; the oldest, which is the last, has key 1."""
    gallery = Gallery()
    for shot in reversed(shots):
        gallery.add(shot)
    added = [message for message in gallery.opening() if message.kind == "added"]
    gallery.close()
    keys = range(len(shots), 0, -1)
    return {
        "entries": [entry for message in added for entry in message.content["entries"]],
        "thumbs": [_base64(thumb) for message in added for thumb in message.buffers][::-1],
        "same": [
            [key for key, other in zip(keys, shots, strict=True) if other.recipe == shot.recipe] for shot in shots
        ],
        "diffs": [[[str(change) for change in shot.recipe.diff(other.recipe)] for other in shots] for shot in shots],
    }


def _state(leaf: Leaf) -> dict[str, Any]:
    """The traits that a leaf's module reads, at their defaults."""
    names = [name for name in leaf.keys if not name.startswith("_") and name not in _OWN]
    state = {name: getattr(leaf, name) for name in names}
    leaf.close()
    return {**state, "problem": {}}


def _code(recipe: ctrl.Recipe) -> str:
    code = recipe.code(inline=True)
    if len(code) <= READABLE:
        return f"import ctrl\n\n{code}"
    return (
        "# Save the picture from this page: the recipe, with its control pictures, travels in the PNG.\n"
        'import ctrl\n\nrecipe = ctrl.Recipe.load("picture.png")\n'
    )


def _title(shot: ctrl.Shot) -> str:
    return " ".join(str(shot.recipe.prompt).split()) or "A picture without words"


def _notes(shot: ctrl.Shot) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in shot.notes)
    return f"<ul>{notes}</ul>" if notes else ""


def _packed(message: Message) -> list[Any]:
    content = {"kind": message.kind, **message.content, "count": len(message.buffers)}
    return [content, [_base64(part) for part in message.buffers]]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
