"""`AttentionPanel`: what each word, style picture and control did to a shot, explored without a round trip."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from widgets.heat import INFLUENCE, Heat, TokenHeat, Word

if TYPE_CHECKING:
    from ctrl import Shot

THUMBNAIL = 64  # pixels


class AttentionPanel(TokenHeat):
    """A watched shot: hover a word to see its heat, a place to see its words and the places it attends to.

    >>> AttentionPanel(ctrl.sample(model, recipe, watch=ctrl.Watch(history=True)))    # doctest: +SKIP

    With `history=True` steps can be scrubbed, with `influence=True` it shows the party (words, style,
    control) with the largest influence on each place. A ValueError if the shot was not watched, a RuntimeError if its
    maps fail their check. The selection is in the traits of `TokenHeat`.
    """

    def __init__(self, shot: Shot, **chosen: Any) -> None:
        super().__init__(heat_of(shot), **chosen)

    def show_shot(self, shot: Shot) -> None:
        """Show another shot; the look stays."""
        self.show(heat_of(shot))


def heat_of(shot: Shot) -> Heat:
    """The `Heat` of a watched shot."""
    attention = shot.attention
    if attention is None:
        raise ValueError("the shot was not watched: sample it with watch=ctrl.Watch(history=True).")
    stack = attention.stack()
    words = [
        Word(entry.text, entry.start, entry.end, entry.source, _picture(shot, entry)) for entry in stack.entries
    ]
    shares, parties = stack.shares, _parties(attention, stack.shares.shape[3:])
    if parties:
        maps = np.stack(list(parties.values()))[None, None]
        shares = np.concatenate([shares, np.broadcast_to(maps, (*shares.shape[:2], *maps.shape[2:]))], axis=2)
        words += [Word(name, source=INFLUENCE) for name in parties]
    names = [f"step {step + 1} of {attention.receipt.count}" for step in stack.steps]
    return Heat.of(
        shot.image,
        words,
        shares,
        layers=stack.layers,
        steps=names or ("all steps",),
        attends=attention.ground.between,
        places=attention.ground.grid if attention.ground.between is not None else (0, 0),
        code="shot.attention.map({word}, layers={layers})  # steps: {steps}",
        note=str(attention.receipt),
    )


def _parties(attention: Any, size: tuple[int, int]) -> dict[str, Any]:
    """The influence maps by party, at the size of the attention maps; empty if influence was not watched."""
    if attention.split is None:
        return {}
    return {name: _sized(heat, size).clip(min=0) for name, heat in attention.influence.parties.items()}


def _sized(values: Any, size: tuple[int, int]) -> Any:
    from PIL import Image

    height, width = size
    return np.asarray(Image.fromarray(np.asarray(values, np.float32)).resize((width, height), Image.Resampling.BOX))


def _picture(shot: Shot, entry: Any) -> bytes | None:
    """The reference picture of a style, as a small PNG."""
    if entry.picture is None:
        return None
    style = shot.recipe.styles[int(entry.source.split()[1])]
    at = entry.picture if style.combine == "concat" else 0
    small, buffer = style.pictures[at].image.convert("RGB"), io.BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(buffer, "PNG")
    return buffer.getvalue()
