"""`AttentionPanel`: what each word, style picture and control did to a shot, explored without a round trip."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from widgets.heat import INFLUENCE, Heat, TokenHeat, Word

if TYPE_CHECKING:
    from ctrl import Shot

THUMBNAIL = 64  # pixels
AREA = """from PIL import Image, ImageDraw
area = Image.new("L", shot.image.size)
outline = [(x * area.width, y * area.height) for x, y in {place}]
ImageDraw.Draw(area).polygon(outline, fill="white")
shot.attention.at(area)"""


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
        Word(one.text, one.start, one.end, one.source, _picture(shot, one), _code(attention, one))
        for one in stack.entries
    ]
    shares, parties = stack.shares, _parties(attention, stack.steps, stack.shares.shape[3:])
    if parties:
        maps = np.stack(list(parties.values()), axis=1)  # (steps, parties, h, w)
        shares = np.concatenate([shares, np.broadcast_to(maps, (len(shares), *maps.shape))], axis=2)
        words += [
            Word(name, source=INFLUENCE, code=f"shot.attention.influence.party({name!r}){{step}}") for name in parties
        ]
    names = [f"step {step + 1} of {attention.receipt.count}" for step in stack.steps]
    return Heat.of(
        shot.image,
        words,
        shares,
        layers=stack.layers,
        steps=names or ("all steps",),
        attends=attention.ground.between,
        places=attention.ground.grid if attention.ground.between is not None else (0, 0),
        code=AREA,
        first=stack.steps[0] if stack.steps else 0,
        note=str(attention.receipt),
    )


def _code(attention: Any, entry: Any) -> str:
    """The Python of an entry's map, see `Word`."""
    if entry.picture is not None:
        return f"shot.attention.style({entry.source.split()[1]}, {entry.picture}{{chosen}}){{step}}"
    words = attention.text(entry.source).words
    occurrence = next(word.occurrence for word in words if word.start == entry.start)
    given = [("occurrence", occurrence, 0), ("source", entry.source, "prompt")]
    more = "".join(f", {name}={value!r}" for name, value, usual in given if value != usual)
    return f"shot.attention.map({entry.text!r}{more}{{chosen}}){{step}}"


def _parties(attention: Any, steps: Sequence[int], size: tuple[int, int]) -> dict[str, Any]:
    """The influence maps (steps, h, w) by party, at the size of the attention maps; empty if it was not watched.

    At a step without such a party it is 0; without a history there is one map, the mean.
    """
    if attention.split is None:
        return {}
    found = {}
    for name in attention.influence.parties:
        party = attention.influence.party(name)
        maps = [party.steps.get(step, np.zeros_like(party.heat)) for step in steps] or [party.heat]
        found[name] = np.stack([_sized(one, size) for one in maps]).clip(min=0)
    return found


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
