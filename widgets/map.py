"""`MapPad`: a grey map (depth or a mask) and a palette of named regions, painted in the browser.

The leaf needs anywidget, Pillow and numpy, nothing of the engine. The results are PIL pictures:
`ctrl.Depth(pad.picture)`, and `pad.regions["sky"]` wherever a mask is taken.
"""

from __future__ import annotations

import io
import itertools
import re
import threading
import traceback
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from PIL import Image

from ctrl import threads
from widgets.encode import checked, png
from widgets.leaf import Leaf, Message, module, styles

Plane = np.ndarray[Any, np.dtype[np.uint8]]
MAP = "map"
SUBJECTS = ("depth", "mask")
TOOLS = ("brush", "eraser", "lasso", "gradient", "fill")
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#999999")
LONGEST = 1024  # pixels along a side
MAX_REGIONS = 32
FORMATS = ("PNG", "JPEG", "WEBP")


class MapPad(Leaf):
    """Paint a map and regions over a picture; open, drop, paste or photograph one, or have its map detected.

    Args:
        picture: the map to begin with, a PIL or ctrl picture, white near or inside; None for black.
        size: (width, height) in pixels; that of `picture` or `background` if left out, else 512 × 512.
        subject: "depth" or "mask", the kind of the grey map.
        regions: names of regions, or names with masks.
        background: a picture to paint over; it is no part of the map.
        detect: a function from a PIL picture to its map (PIL or anything with `.image`), such as `ctrl.detect.depth`.

    `picture` and `regions` are the results; `revision` is a trait to observe, which rises with every change to one of
    them. Further traits are the tool and its numbers: `layer` ("map" or "regions"), `tool`, `radius` and
    `soft` of the brush, `value`, `value_to` of a gradient, the range `low` to `high`, `inverted`, `veil`, `relief`.
    """

    _esm = module(
        "knobs.js", "planes.js", "relief.js", "map_store.js", "map_pen.js", "map_intake.js", "map_parts.js", "map.js"
    )
    _css = styles("map.css")

    width = traitlets.Int(512, min=1, max=LONGEST).tag(sync=True)
    height = traitlets.Int(512, min=1, max=LONGEST).tag(sync=True)
    shape = traitlets.Float(0.0, min=0, help="width by height as shown; 0 for that of its pixels").tag(sync=True)
    subject = traitlets.Enum(SUBJECTS, "depth").tag(sync=True)
    palette = traitlets.List(traitlets.Dict(), maxlen=MAX_REGIONS, help="id, name and colour of regions").tag(sync=True)
    active = traitlets.Unicode("", help="id of the region that is painted").tag(sync=True)
    layer = traitlets.Enum((MAP, "regions"), MAP).tag(sync=True)
    tool = traitlets.Enum(TOOLS, "brush").tag(sync=True)
    radius = traitlets.Float(24.0, min=0.5, help="of the brush, in pixels").tag(sync=True)
    soft = traitlets.Float(0.4, min=0, max=1, help="the part of the radius that fades").tag(sync=True)
    value = traitlets.Float(255.0, min=0, max=255).tag(sync=True)
    value_to = traitlets.Float(0.0, min=0, max=255, help="at the end of a gradient").tag(sync=True)
    low = traitlets.Float(0.0, min=0, max=255, help="what black stands for").tag(sync=True)
    high = traitlets.Float(255.0, min=0, max=255, help="what white stands for").tag(sync=True)
    inverted = traitlets.Bool(default_value=False).tag(sync=True)
    veil = traitlets.Float(0.5, min=0, max=1, help="how much of the background shows").tag(sync=True)
    relief = traitlets.Bool(default_value=False, help="the 2.5-D look").tag(sync=True)
    can_detect = traitlets.Bool(default_value=False).tag(sync=True)
    revision = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        picture: Any = None,
        *,
        size: tuple[int, int] | None = None,
        subject: str = "depth",
        regions: Iterable[str] | Mapping[str, Any] = (),
        background: Any = None,
        detect: Callable[[Image.Image], Any] | None = None,
        **chosen: Any,
    ) -> None:
        self._lock = threading.RLock()
        self._planes: dict[str, Plane] = {}
        self._numbers = itertools.count(1)  # of messages, so that several views of one pad take each once
        self._background: bytes | None = None
        self._detector = detect
        width, height = size or _size_of(picture, "picture", _size_of(background, "background", (512, 512)))
        super().__init__(width=width, height=height, subject=subject, can_detect=detect is not None, **chosen)
        if picture is not None:
            self.picture = picture
        if background is not None:
            self.background = background
        masks = regions if isinstance(regions, Mapping) else dict.fromkeys(regions)
        for name, mask in masks.items():
            self.add_region(name, mask)

    @property
    def picture(self) -> Image.Image:
        """The grey map, mode "L", with its range and inversion."""
        with self._lock:
            plane = self._planes.get(MAP, np.zeros((self.height, self.width), np.uint8))
        levels = np.floor(self.low + np.arange(256) * (self.high - self.low) / 255 + 0.5).astype(np.uint8)
        shown = levels[plane]
        return Image.fromarray(255 - shown if self.inverted else shown)

    @picture.setter
    def picture(self, image: Any) -> None:
        plane = self._fitted(image, "picture")
        with self.hold_sync():
            self.low, self.high, self.inverted = 0.0, 255.0, False
        self._put(MAP, plane)

    @property
    def painted(self) -> bool:
        """Whether there is a grey map: one that was given, painted or detected, and not cleared."""
        return MAP in self._planes

    @property
    def regions(self) -> dict[str, Image.Image]:
        """The mask of each region that was painted, by name, mode "L" and white inside. They do not overlap."""
        with self._lock:
            return {
                region["name"]: Image.fromarray(self._planes[region["id"]])
                for region in self.palette
                if region["id"] in self._planes
            }

    @property
    def background(self) -> Image.Image | None:
        """The picture that is painted over."""
        return None if self._background is None else _opened(self._background)

    @background.setter
    def background(self, image: Any) -> None:
        self._background = None
        if image is not None:
            fitted = (
                _pil(image, "background").convert("RGB").resize((self.width, self.height), Image.Resampling.LANCZOS)
            )
            self._background = png(fitted)
        self.say(self._background_message())

    def add_region(self, name: Any, mask: Any = None, *, colour: str | None = None) -> None:
        """Add a named region, or replace the mask of an existing one; white is inside."""
        if not isinstance(name, str) or not 0 < len(name) <= 60:
            raise ValueError(f"name must be a string of 1 to 60 characters, got {name!r:.80}.")
        known = {region["name"]: region["id"] for region in self.palette}
        if name not in known:
            if len(known) == MAX_REGIONS:
                raise ValueError(f"a palette holds at most {MAX_REGIONS} regions.")
            known[name] = next(f"r{n}" for n in range(1, MAX_REGIONS + 2) if f"r{n}" not in known.values())
            entry = {"id": known[name], "name": name, "colour": colour or COLOURS[len(self.palette) % len(COLOURS)]}
            self.palette = [*self.palette, entry]
            self.active = self.active or entry["id"]
        if mask is not None:
            self._take_from_others(known[name], self._fitted(mask, "mask"))

    def opening(self) -> list[Message]:
        """All planes and the background, for a view that has just opened."""
        with self._lock:
            planes = [self._plane_message(name, plane, opening=True) for name, plane in self._planes.items()]
        return [*planes, self._background_message(), Message("opened")]

    def receive(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Handle a painted plane, a picture to paint over, or a request to detect its map."""
        if kind == "plane":
            self._store(str(content["id"]), buffers[0] if buffers else None)
        elif kind == "backdrop":
            _opened(buffers[0])
            self._background = bytes(buffers[0])
        elif kind == "detect":
            threads.start(self._detect, name="MapPad detect")

    def _store(self, name: str, packed: bytes | None) -> None:
        if not re.fullmatch(r"map|r\d{1,3}", name):
            raise ValueError(f"a plane is called 'map' or 'r' and a number, got {name!r:.20}.")
        count = self.width * self.height
        data = b"" if packed is None else zlib.decompressobj().decompress(packed, count + 1)
        if packed is not None and len(data) != count:
            raise ValueError(f"a plane of {self.width} × {self.height} has {count} bytes, got {len(data)}.")
        with self._lock:
            if packed is None:
                self._planes.pop(name, None)
            else:
                self._planes[name] = np.frombuffer(data, np.uint8).reshape(self.height, self.width)

    def _detect(self) -> None:
        """Detect in a separate thread: a detector may take seconds, and messages must not wait for it."""
        try:
            picture = self.background
            if self._detector is None or picture is None:
                raise ValueError("there is no picture, or no detector; make the pad with MapPad(detect=…).")
            self._put(MAP, self._fitted(self._detector(picture), "the detector's map"))
            self.clear_problem()
        except Exception as error:
            self.show_problem(f"Nothing was detected: {error}", details=traceback.format_exc())
        self.post("done")

    def _take_from_others(self, name: str, mask: Plane) -> None:
        with self._lock:
            others = [plane for plane in self._planes if plane not in (MAP, name)]
        for other in others:
            self._put(other, (self._planes[other] * (255.0 - mask) / 255 + 0.5).astype(np.uint8))
        self._put(name, mask)

    def _put(self, name: str, plane: Plane) -> None:
        with self._lock:
            self._planes[name] = plane
        self.say(self._plane_message(name, plane, opening=False))
        self.revision += 1

    def _background_message(self) -> Message:
        return Message("backdrop", {}, () if self._background is None else (self._background,))

    def _plane_message(self, name: str, plane: Plane, *, opening: bool) -> Message:
        content = {"id": name, "opening": opening, "number": next(self._numbers)}
        return Message("plane", content, (zlib.compress(plane.tobytes(), 3),))

    def _fitted(self, image: Any, name: str) -> Plane:
        grey = _pil(image, name).convert("L")
        size = (self.width, self.height)
        return np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.LANCZOS))


def _pil(image: Any, name: str) -> Image.Image:
    """A PIL picture, or the one that a `ctrl.Picture` holds."""
    return checked(getattr(image, "image", image), name=name)


def _size_of(image: Any, name: str, otherwise: tuple[int, int]) -> tuple[int, int]:
    if image is None:
        return otherwise
    width, height = _pil(image, name).size
    scale = min(1, LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _opened(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if max(image.size) > 4 * LONGEST:
            raise ValueError(f"it has {image.width} × {image.height} pixels.")
        return image.convert("RGB")
    except Exception as error:
        raise ValueError(f"the picture cannot be read ({error}); use a PNG, JPEG or WebP.") from error
