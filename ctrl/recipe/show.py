"""Recipes and differences as text and HTML for notebooks: only the fields that are not their defaults."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from ctrl.images import Picture
from ctrl.recipe.as_code import brief
from ctrl.recipe.as_json import changed
from ctrl.skeleton import People, Skeleton

THUMBNAIL = 64  # pixels


def recipe_text(recipe: Any) -> str:
    """A line for each field that is not its default."""
    lines = [f"    {name}={line}," for name, value in changed(recipe) for line in [brief(value)]]
    return "\n".join(["Recipe(", *lines, ")"])


def recipe_html(recipe: Any) -> str:
    """A table of the fields that are not their defaults, with thumbnails of the pictures."""
    parts = [(name, value if isinstance(value, tuple) else (value,)) for name, value in changed(recipe)]
    return _table([(escape(name), "<br/>".join(map(_cell, values))) for name, values in parts])


def difference_html(changes: Sequence[Any]) -> str:
    """A table of changes, each with the first step it affects."""
    if not changes:
        return "<i>no difference</i>"
    steps = ["–" if change.step is None else f"step {change.step + 1}" for change in changes]
    return _table([(step, escape(change.words)) for step, change in zip(steps, changes, strict=True)])


def _cell(value: Any) -> str:
    thumbnails = [
        f' <img src="data:image/png;base64,{_thumbnail(picture)}" alt="" style="vertical-align:middle"/>'
        for picture in _pictures(value)
    ]
    return f"<code>{escape(brief(value))}</code>{''.join(thumbnails)}"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = [
        f'<tr><th style="text-align:left;vertical-align:top">{head}</th><td style="text-align:left">{cell}</td></tr>'
        for head, cell in rows
    ]
    return f"<table>{''.join(cells)}</table>"


def _pictures(value: Any) -> Iterator[Picture | Skeleton | People]:
    """The pictures and skeletons in a value, each once, in the order of its fields."""
    if isinstance(value, Picture | Skeleton | People):
        yield value
    elif isinstance(value, tuple):
        for entry in value:
            yield from _pictures(entry)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _pictures(getattr(value, field.name))


def _thumbnail(shown: Picture | Skeleton | People) -> str:
    """A small PNG in base64."""
    picture = shown if isinstance(shown, Picture) else Picture(shown.draw(2 * THUMBNAIL, 2 * THUMBNAIL))
    image = picture.image
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
