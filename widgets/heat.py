"""`TokenHeat`: heat maps of words, style pictures and places, explored in the browser without the kernel.

The leaf needs anywidget, Pillow and numpy, nothing of the engine: it takes a `Heat`, plain arrays with their scales.
The maps are sent once, as bytes; hovering, choosing layers and scrubbing steps need no message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import traitlets
from PIL import Image

from widgets.encode import checked, png
from widgets.leaf import Leaf, Message, module, styles

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
MAX_PICTURE = 1024  # pixels along the longer side; the browser needs no more
INFLUENCE = "influence"
LOOKS = ("heat", "spotlight", "outline", "decided")
WHEN = ("all", "one")


@dataclass(frozen=True)
class Word:
    """One word, style picture or party that has maps.

    `start` and `end` are its characters in the text of its `source`, the heading that it is listed under: "prompt",
    "negative", "style", "region", …. The source "influence" is special: its entries are parties ("words", "style 1",
    "the model itself") with their shares of the influence. `picture` is a small PNG shown in place of the text. `code`
    is the Python that makes its map: the selection replaces `{chosen}` in it by arguments, such as `, layers=["mid"]`,
    or by nothing, and `{step}` by nothing or, for one step, such as `.steps[3]`.
    """

    text: str
    start: int = 0
    end: int = 0
    source: str = "prompt"
    picture: bytes | None = field(default=None, repr=False)
    code: str = ""


@dataclass(frozen=True, eq=False)
class Heat:
    """The content of a `TokenHeat`, as plain arrays. `Heat.of` makes one from shares.

    - `picture`: a PNG.
    - `maps`: uint8 (layers, steps, words, h, w); `scales`: float32 (layers, steps, words), the share of
      attention that byte 255 means.
    - `layers`, `steps`: their names, such as "up 16×16" and "t = 0.72".
    - `attends`: uint8 (n, n), row i is the attention of place i, on a grid of `places` (rows, columns), n = rows ·
      columns; `attends_scales`: float32 (n,). Empty if self-attention was not watched.
    - `code`: the Python that asks a place; its outline, points (x, y) in [0, 1], replaces `{place}` in it. `first`: the
      number of the first step in code. `note`: a line below everything, for receipts.

    Raises a ValueError that names the field whose shape does not fit.
    """

    picture: bytes = field(repr=False)
    words: tuple[Word, ...]
    maps: Bytes = field(repr=False)
    scales: Floats = field(repr=False)
    layers: tuple[str, ...]
    steps: tuple[str, ...]
    attends: Bytes = field(default_factory=lambda: np.zeros((0, 0), np.uint8), repr=False)
    attends_scales: Floats = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    places: tuple[int, int] = (0, 0)
    unit: str = "of attention"
    code: str = ""
    first: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        leading = (len(self.layers), len(self.steps), len(self.words))
        count = self.places[0] * self.places[1]
        if self.maps.ndim != 5 or 0 in self.maps.shape:
            raise ValueError(f"maps must be (layers, steps, words, h, w) with none of them 0, got {self.maps.shape}.")
        _check("maps", self.maps, (*leading, *self.maps.shape[3:]), "uint8")
        _check("scales", self.scales, leading, "float32")
        _check("attends", self.attends, (count, count), "uint8")
        _check("attends_scales", self.attends_scales, (count,), "float32")
        if not self.picture.startswith(b"\x89PNG"):
            raise ValueError("picture must be the bytes of a PNG; Heat.of takes a PIL image.")

    @classmethod
    def of(
        cls,
        picture: Image.Image,
        words: Sequence[Word | str | tuple[Any, ...]],
        shares: Any,
        *,
        layers: Sequence[str] = (),
        steps: Sequence[str] = (),
        attends: Any = None,
        places: tuple[int, int] | None = None,
        **rest: Any,
    ) -> Heat:
        """A heat from shares: floats in [0, 1], (words, h, w) or with (layers, steps) in front.

        `words` are `Word`s, their texts, or (text, start, end, source). `attends` is self-attention (n, n) of float
        on a grid of `places` (rows, columns), the square of n if left out. `rest` are further fields.
        """
        values = _finite("shares", np.asarray(shares, np.float32))
        values = values.reshape((1,) * (5 - values.ndim) + values.shape)
        maps, scales = _quantised(values, (3, 4))
        between = (
            np.zeros((0, 0), np.float32) if attends is None else _finite("attends", np.asarray(attends, np.float32))
        )
        rows, row_scales = _quantised(between, (1,))
        side = round(len(rows) ** 0.5)
        return cls(
            _png(picture),
            tuple(_word(word) for word in words),
            maps,
            scales,
            tuple(layers) or tuple(f"layer {at + 1}" for at in range(maps.shape[0])),
            tuple(steps) or tuple(f"step {at + 1}" for at in range(maps.shape[1])),
            rows,
            row_scales,
            places or (side, side),
            **rest,
        )

    def message(self) -> Message:
        """What the browser is sent."""
        pictures = [word.picture for word in self.words if word.picture is not None]
        order = iter(range(len(pictures)))
        words = [asdict(word) | {"picture": None if word.picture is None else next(order)} for word in self.words]
        content = {
            "words": words,
            "layers": list(self.layers),
            "steps": list(self.steps),
            "shape": list(self.maps.shape),
            "places": list(self.places),
            "first": self.first,
            "unit": self.unit,
            "note": self.note,
        }
        arrays = (self.maps, self.scales, self.attends, self.attends_scales)
        return Message("heat", content, (self.picture, *(array.tobytes() for array in arrays), *pictures))


class TokenHeat(Leaf):
    """Hover a word to see where it acts, hover or circle a place to see its words and the places it attends to.

    >>> TokenHeat(heat)    # doctest: +SKIP

    The selection is in traits, which can be read, set and observed: `pinned` (indices of at most two words),
    `active_layers` (indices; empty for all), `when` ("all" steps or "one") and `step`, `look` ("heat",
    "spotlight", "outline", "decided"), `place`: empty, a point, or an outline of points (x, y) in [0, 1].
    """

    _esm = module("knobs.js", "raster.js", "heat_maps.js", "heat_choice.js", "heat_parts.js", "heat.js")
    _css = styles("heat.css")

    pinned = traitlets.List(traitlets.Int(min=0), maxlen=2).tag(sync=True)
    active_layers = traitlets.List(traitlets.Int(min=0)).tag(sync=True)
    when = traitlets.Enum(WHEN, "all").tag(sync=True)
    step = traitlets.Int(0, min=0).tag(sync=True)
    look = traitlets.Enum(LOOKS, "heat").tag(sync=True)
    colours = traitlets.Enum(("inferno", "cividis", "batlow", "grey"), "inferno").tag(sync=True)
    strength = traitlets.Float(0.85, min=0, max=1).tag(sync=True)
    threshold = traitlets.Float(0.5, min=0, max=1, help="of the maximum, for the outline").tag(sync=True)
    same_scale = traitlets.Bool(default_value=False, help="one scale for all words").tag(sync=True)
    cells = traitlets.Bool(default_value=False, help="show the cells of the maps as squares").tag(sync=True)
    place = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    code = traitlets.Unicode("", help="Python that asks a {place}").tag(sync=True)

    def __init__(self, heat: Heat | None = None, **chosen: Any) -> None:
        self.heat = heat
        super().__init__(**({"code": heat.code} if heat else {}), **chosen)

    def show(self, heat: Heat) -> None:
        """Show another heat; the selected words and place are reset, the look stays."""
        self.heat = heat
        with self.hold_sync():
            self.pinned, self.place, self.active_layers, self.step, self.code = [], [], [], 0, heat.code
        self._open_view()

    def opening(self) -> Iterable[Message]:
        """The message with the maps, or the one for no maps."""
        return (self.heat.message() if self.heat else Message("nothing"),)


def _word(word: Word | str | tuple[Any, ...]) -> Word:
    if isinstance(word, Word):
        return word
    return Word(word) if isinstance(word, str) else Word(*word)


def _check(name: str, array: np.ndarray[Any, Any], shape: tuple[int, ...], kind: str) -> None:
    if array.shape != shape or array.dtype != kind:
        raise ValueError(f"{name} must be {kind} {shape}, got {array.dtype} {array.shape}.")


def _quantised(values: Floats, axes: tuple[int, ...]) -> tuple[Bytes, Floats]:
    """The values as bytes, and for each map the value that 255 means."""
    scales = values.max(axis=axes, initial=0.0).astype(np.float32)
    whole = np.where(scales > 0, scales, 1).reshape(scales.shape + (1,) * len(axes))
    return np.round(values / whole * 255).astype(np.uint8), scales


def _finite(name: str, values: Floats) -> Floats:
    if not np.isfinite(values).all() or values.min(initial=0.0) < 0:
        raise ValueError(f"{name} must be finite and not negative; shares of attention are in [0, 1].")
    return values


def _png(picture: Image.Image) -> bytes:
    small = checked(picture, name="picture").convert("RGB")
    small.thumbnail((MAX_PICTURE, MAX_PICTURE))
    return png(small)
