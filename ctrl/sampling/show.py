"""A shot as HTML for a notebook: the picture, and beside it its seed, settings, time, notes and recipe."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ctrl.recipe import Recipe
from ctrl.sampling.saving import shown

if TYPE_CHECKING:
    from PIL.Image import Image


def shot_html(image: Image, recipe: Recipe, notes: Sequence[str], seconds: float | None) -> str:
    """A picture that carries its recipe if that is small, beside a table; the recipe's own table is folded."""
    left, data = 'style="text-align:left"', base64.b64encode(shown(image, recipe)).decode("ascii")
    size = f"{image.width}×{image.height}"
    rows = [("seed", f"{recipe.seed}"), ("steps", f"{recipe.steps}, {recipe.sampler}"), ("size", size)]
    rows += [] if seconds is None else [("time", f"{seconds:.1f} s")]
    rows += [("note", escape(note)) for note in notes]
    cells = [f"<tr><th {left}>{name}</th><td {left}>{text}</td></tr>" for name, text in rows]
    return (
        '<div style="display:flex;gap:1em;align-items:flex-start;flex-wrap:wrap">'
        f'<img src="data:image/png;base64,{data}" alt="{escape(str(recipe.prompt)[:200])}"/>'
        f"<div><table>{''.join(cells)}</table>"
        f"<details><summary>recipe</summary>{recipe._repr_html_()}</details></div></div>"
    )
