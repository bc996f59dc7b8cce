"""`StyleShelf`: style reference pictures, each with its crop, weight, blocks and window.

The references are kept here as `ctrl.Style` values and shown in the browser as thumbnails; `shelf.styles` is the value
for a recipe.
"""

from __future__ import annotations

import io
import itertools
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import traitlets
from PIL import Image

import ctrl
from ctrl import threads
from widgets.encode import jpeg
from widgets.leaf import Leaf, Message, module, styles
from widgets.settings import EVERYWHERE, OWN

PRESETS = ("all", "style", "layout", "style+layout")
CUSTOM = "custom"  # blocks or a schedule that are no preset or number: kept unchanged
LIMIT = 16  # references on one shelf, as many as a recipe takes
THUMB, SEEN = 320, 112  # pixels along the longer side
FORMATS = ("PNG", "JPEG", "WEBP")


class StyleShelf(Leaf):
    """Style references to open, drop, paste, crop, weigh, order and switch off.

    Args:
        styles: `ctrl.Style` values, or pictures in any form a Style takes.
        sees: a function from a PIL picture to the part the image encoder sees, such as
            `model.ip_adapter().style_crop`. It is called in a thread. Without it only the crop is shown.

    `styles` are the references that are on, top first, as `ctrl.Style` values. `items` is a trait to observe: for each
    reference its id, name, whether it is on, `weight`, `blocks` (a preset), the window `start` to `until` and its
    `crop`: empty for the whole picture, or [x, y, side], the left, the top and the side of a square as fractions
    of the picture's width, height and shorter side. Settings that have no knob (a curve over the steps, weights of
    single blocks, negatives) are kept unchanged. Where `regions` are given, such as those of a `MapPad`, each card says
    in which of them its reference acts.

    >>> shelf = StyleShelf([ink_drawing], sees=model.ip_adapter().style_crop)    # doctest: +SKIP
    >>> recipe.replace(styles=shelf.styles)                              # doctest: +SKIP
    """

    _esm = module("knobs.js", "shelf_card.js", "shelf.js")
    _css = styles("shelf.css")

    items = traitlets.List(traitlets.Dict(), maxlen=LIMIT).tag(sync=True)
    presets = traitlets.List(traitlets.Unicode(), default_value=list(PRESETS)).tag(sync=True)
    places = traitlets.List(traitlets.Unicode(), help="names of regions in which a reference may act").tag(sync=True)
    revision = traitlets.Int(0, help="rises when a picture that was dropped has arrived").tag(sync=True)
    limit = traitlets.Int(LIMIT, read_only=True).tag(sync=True)

    def __init__(
        self, styles: Iterable[Any] = (), *, sees: Callable[[Image.Image], Any] | None = None, **traits: Any
    ) -> None:
        self._came: dict[str, ctrl.Style] = {}  # by id
        self._seen: dict[str, bytes] = {}
        self._regions: dict[str, Any] = {}  # masks by name
        self._sees = sees
        self._numbers = itertools.count(1)
        super().__init__(**traits)
        self.observe(self._follow, names="items")
        for style in styles:
            self.add(style)

    @property
    def regions(self) -> dict[str, Any]:
        """The masks of the regions in which a reference may act, by name, in any form that `ctrl.Style` takes."""
        return dict(self._regions)

    @regions.setter
    def regions(self, regions: Mapping[str, Any]) -> None:
        """Set the regions: a reference follows its own under the same name, and acts everywhere if it is gone."""
        self._regions = {name: ctrl.Region(name, mask).mask for name, mask in regions.items()}
        self.places = list(self._regions)
        there = {EVERYWHERE, OWN, *self.places}
        self.items = [item if item["where"] in there else {**item, "where": EVERYWHERE} for item in self.items]

    @property
    def styles(self) -> tuple[ctrl.Style, ...]:
        """The references that are on, top first."""
        return tuple(self._style(item) for item in self.items if item["on"])

    @styles.setter
    def styles(self, styles: Iterable[Any]) -> None:
        """Set the references; the cards of equal ones stay."""
        wanted = [style if isinstance(style, ctrl.Style) else ctrl.Style(style) for style in styles]
        if len(wanted) > LIMIT:
            raise ValueError(f"the shelf holds {LIMIT} references at most, got {len(wanted)}.")
        cards = [(item, self._style(item)) for item in self.items if item["on"]]
        items = []
        for style in wanted:
            at = next((at for at, (_, now) in enumerate(cards) if now == style), None)
            items.append(self._card(style) if at is None else cards.pop(at)[0])
        self.items = items

    def add(self, style: Any, *, name: str = "") -> None:
        """Put a `ctrl.Style`, or a picture, at the end of the shelf."""
        if len(self.items) >= LIMIT:
            raise ValueError(f"the shelf holds {LIMIT} references at most; remove one first.")
        came = style if isinstance(style, ctrl.Style) else ctrl.Style(style)
        self.items = [*self.items, self._card(came, name)]

    def _card(self, style: ctrl.Style, name: str = "") -> dict[str, Any]:
        key = f"s{next(self._numbers)}"
        self._came[key] = style
        self.say(self._reference(key, style))
        return _item(key, name or f"reference {key[1:]}", style, self._regions)

    def _style(self, item: dict[str, Any]) -> ctrl.Style:
        return _styled(self._came[item["id"]], item, self._regions)

    def opening(self) -> list[Message]:
        """The thumbnails, for a view that has just opened."""
        return [self._reference(key, style) for key, style in list(self._came.items())]

    def receive(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Handle a picture that was dropped, pasted or opened."""
        if kind == "add":
            self.add(_opened(buffers[0]), name=str(content.get("name", ""))[:60])

    def _follow(self, change: Any) -> None:
        """Forget removed references, and get the encoder's crop of new or newly cropped ones."""
        kept = {item["id"] for item in change["new"]}
        for memory in (self._came, self._seen):
            for key in memory.keys() - kept:
                del memory[key]
        if self._sees is None:
            return
        before = {item["id"]: item["crop"] for item in change["old"] or []}
        for item in change["new"]:
            if before.get(item["id"], "new") != item["crop"]:
                threads.start(self._look, item, name="StyleShelf sees")

    def _look(self, item: dict[str, Any]) -> None:
        """Get the encoder's crop in a separate thread: the first call loads the encoder."""
        came = self._came.get(item["id"])
        if came is None or self._sees is None:
            return
        try:
            picture = _cropped(came.pictures[0], item["crop"])
            seen = self._sees(picture.image.convert("RGB"))
        except Exception as error:
            self.show_problem(f"What the encoder sees cannot be shown: {error}", details=traceback.format_exc())
            return
        current = next((entry for entry in self.items if entry["id"] == item["id"]), None)
        if current is not None and current["crop"] == item["crop"]:  # else it was removed, or has a newer crop
            self._seen[item["id"]] = _thumbnail(seen, SEEN)
            self.say(self._reference(item["id"], came))

    def _reference(self, key: str, style: ctrl.Style) -> Message:
        pictures = style.pictures
        width, height = pictures[0].size
        seen = self._seen.get(key)
        content = {"id": key, "width": width, "height": height, "pictures": len(pictures)}
        return Message("reference", content, (_thumbnail(pictures[0].image, THUMB), *([seen] if seen else [])))


def _item(key: str, name: str, style: ctrl.Style, regions: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs' values for a style."""
    weight, start, until = style.weight, 0.0, 1.0
    if isinstance(weight, ctrl.Schedule):
        start, until = weight.start, weight.until
        weight = weight.points[0][1] if len(weight.points) == 1 and weight.by == "steps" else weight.highest
    blocks = style.blocks if style.blocks in PRESETS else CUSTOM
    return {
        "id": key,
        "name": name,
        "on": True,
        "weight": weight,
        "blocks": blocks,
        "start": start,
        "until": until,
        "crop": [],
        "where": EVERYWHERE
        if style.mask is None
        else next((name for name, mask in regions.items() if mask == style.mask), OWN),
    }


def _styled(came: ctrl.Style, item: dict[str, Any], regions: Mapping[str, Any]) -> ctrl.Style:
    """The style with the knobs' values; settings without a knob, and of knobs that were not moved, are unchanged."""
    was = _item(item["id"], "", came, regions)
    changed: dict[str, Any] = {}
    if any(item[knob] != was[knob] for knob in ("weight", "start", "until")):
        weight, start, until = (float(item[knob]) for knob in ("weight", "start", "until"))
        changed["weight"] = weight if (start, until) == (0, 1) else ctrl.hold(weight, start=start, until=until)
    if item["blocks"] not in (CUSTOM, was["blocks"]):
        changed["blocks"] = item["blocks"]
    if item["crop"]:
        changed["picture"] = _cropped(came.pictures[0], item["crop"])
    if item["where"] not in (OWN, was["where"]):
        changed["mask"] = regions.get(item["where"])
    return replace(came, **changed) if changed else came


def _cropped(picture: ctrl.Picture, crop: Sequence[float]) -> ctrl.Picture:
    """The square of a crop [x, y, side]; the whole picture for an empty crop."""
    if not crop:
        return picture
    width, height = picture.size
    x, y, part = (float(value) for value in crop)
    side = max(1, min(round(part * min(width, height)), width, height))
    left = min(max(0, round(x * width)), width - side)
    top = min(max(0, round(y * height)), height - side)
    return ctrl.Picture(picture.pixels[top : top + side, left : left + side])


def _thumbnail(image: Any, side: int) -> bytes:
    small = getattr(image, "image", image).convert("RGB")
    small.thumbnail((side, side))
    return jpeg(small, quality=85)


def _opened(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
        return image
    except Exception as error:
        raise ValueError(f"the picture cannot be read ({error}); use a PNG, JPEG or WebP.") from error
