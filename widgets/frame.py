"""`FrameView`: shows pictures as they are made; they can be compared, zoomed and scrubbed.

The leaf needs anywidget and PIL pictures, nothing of the engine. Pictures are sent as messages, never as state, so a
saved notebook stays small; the last ones are kept here and sent to every view that opens.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from widgets.encode import checked, jpeg, png
from widgets.flow import Flow
from widgets.leaf import Leaf, Message, module, styles, traitlets

SMALL = 256 * 256  # pixels; a preview up to this size is sent lossless at once


@dataclass(frozen=True)
class Frame:
    """One picture with its caption and alternative text. `quality` is "draft", "exact" or "" for neither."""

    number: int
    image: Image.Image
    quality: str
    caption: str
    alt: str

    def message(self, place: str, *, lossless: bool) -> Message:
        """For the browser: `place` is "now" or "before"."""
        width, height = self.image.size
        content = {
            "place": place,
            "number": self.number,
            "quality": self.quality,
            "lossless": lossless,
            "caption": self.caption,
            "alt": self.alt,
            "width": width,
            "height": height,
        }
        return Message("frame", content, (png(self.image) if lossless else jpeg(self.image),))


class FrameView(Leaf):
    """Shows a picture, a stream of them, two to compare, or the previews of one run or two.

    Drafts are sent as JPEG, and in full quality when no newer one follows; at most two are unacknowledged at a time,
    and of the others only the newest is kept. Every method may be called from any thread.

    Args:
        image: the picture to begin with, or None for an empty frame.
        caption: words under the picture; plain text, never HTML.
        alt: the alternative text for screen readers; the caption if this is empty.

    Raises:
        TypeError: the image is not a PIL image.
        ValueError: its mode has no faithful 8-bit PNG (16-bit, float, CMYK).

    >>> view = FrameView(shot.image, caption="guidance 6")            # doctest: +SKIP
    >>> view.show(step.preview, draft=True, caption="step 3 of 20")   # doctest: +SKIP
    >>> view.compare(before.image, after.image)                       # doctest: +SKIP
    >>> view.frames(previews, beside=other_previews)                  # doctest: +SKIP
    """

    _esm = module("frame_stream.js", "frame_tools.js", "frame.js")
    _css = styles("frame.css")

    stale = traitlets.Unicode("", help="why the picture no longer fits the settings").tag(sync=True)

    def __init__(self, image: Image.Image | None = None, *, caption: str = "", alt: str = "") -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._now: Frame | None = None
        self._before: Frame | None = None
        self._pinned = False  # the user keeps `_before`, whatever is shown next
        self._runs: tuple[tuple[Image.Image, ...], ...] = ()
        self._run_captions: tuple[str, ...] = ()
        self._flow: Flow[Frame] = Flow(self._send_now)
        self._words = (caption, alt)
        super().__init__()
        if image is not None:
            self.show(image, caption=caption, alt=alt)

    @property
    def png(self) -> bytes:
        """The picture as a lossless PNG; empty for none."""
        return b"" if self._now is None else png(self._now.image)

    @property
    def caption(self) -> str:
        """The words under the picture; assign to change only them."""
        return self._words[0]

    @caption.setter
    def caption(self, text: str) -> None:
        self._set_words(text, self.alt)

    @property
    def alt(self) -> str:
        """The alternative text for screen readers; assign to change only it."""
        return self._words[1]

    @alt.setter
    def alt(self, text: str) -> None:
        self._set_words(self.caption, text)

    def show(self, image: Image.Image, *, draft: bool = False, caption: str = "", alt: str = "") -> None:
        """Show another picture; a `draft` is marked as one. Caption and alternative text are replaced too."""
        frame = self._frame(image, "draft" if draft else "exact", caption, alt)
        with self._lock:
            dropped = self._before is not None and not self._pinned
            scrubbed, self._runs = bool(self._runs), ()
            self._now, self._words = frame, (caption, alt)
            if dropped:
                self._before = None
        if dropped or scrubbed:
            self.say(self._layout())
        if self.stale:
            self.stale = ""
        self._flow.offer(frame)

    def compare(
        self, before: Image.Image, after: Image.Image, *, captions: tuple[str, str] = ("before", "after")
    ) -> None:
        """Show two pictures by divider, flipping, difference or side by side."""
        first = self._frame(before, "", captions[0], "", name="before")
        second = self._frame(after, "", captions[1], "", name="after")
        with self._lock:
            self._before, self._now, self._pinned, self._runs = first, second, False, ()
            self._words = (captions[1], "")
        self._refresh()

    def frames(
        self,
        images: Iterable[Image.Image],
        beside: Iterable[Image.Image] | None = None,
        *,
        captions: Sequence[str] = (),
    ) -> None:
        """Scrub the previews of a run, or of two side by side; `captions` has one for each step."""
        runs = tuple(
            tuple(checked(image, name=f"{name}[{i}]") for i, image in enumerate(previews))
            for name, previews in (("images", images), ("beside", beside))
            if previews is not None
        )
        for name, run in zip(("images", "beside"), runs, strict=False):
            if not run:
                raise ValueError(f"{name} holds no picture; give the previews of one run.")
        with self._lock:
            self._runs, self._run_captions = runs, tuple(map(str, captions))
            self._before, self._pinned, self._words = None, False, ("", "")
            self._now = Frame(next(self._numbers), runs[0][-1], "", "", "")
        self._refresh()

    def mark_stale(self, why: str) -> None:
        """Dim the picture and say why it no longer fits, until the next one is shown."""
        self.stale = why

    def clear(self) -> None:
        """Empty the frame."""
        with self._lock:
            self._now = self._before = None
            self._runs, self._pinned, self._words = (), False, ("", "")
        self._refresh()

    def close(self) -> None:
        """Close the widget and stop sending."""
        self._flow.close()
        super().close()

    def opening(self) -> list[Message]:
        """The layout, then the pictures it shows, lossless."""
        with self._lock:
            frames = () if self._runs else (("before", self._before), ("now", self._now))
        sent = [frame.message(place, lossless=True) for place, frame in frames if frame is not None]
        return [self._layout(), *sent]

    def receive(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Handle acknowledgements and requests of the browser."""
        if kind == "shown":
            self._flow.acknowledge(int(content["number"]))
        elif kind == "sharpen":
            self._sharpen(int(content["number"]))
        elif kind == "still":
            self._send_still(content)
        elif kind == "pin":
            with self._lock:
                self._pinned = bool(content["pinned"])
                self._before = self._now if self._pinned else None
            self.say(*self.opening())

    def _frame(self, image: Image.Image, quality: str, caption: str, alt: str, *, name: str = "image") -> Frame:
        return Frame(next(self._numbers), checked(image, name=name), quality, caption, alt)

    def _set_words(self, caption: str, alt: str) -> None:
        with self._lock:
            self._words = (caption, alt)
            if self._now is not None:
                self._now = replace(self._now, caption=caption, alt=alt)
        self.post("words", {"caption": caption, "alt": alt})

    def _send_now(self, frame: Frame) -> None:
        self.say(frame.message("now", lossless=frame.quality != "draft"))

    def _sharpen(self, number: int) -> None:
        frame = self._now
        if frame is not None and frame.number == number:
            self.say(frame.message("now", lossless=True))

    def _send_still(self, content: dict[str, Any]) -> None:
        with self._lock:
            now, runs = self._now, self._runs
        if now is None or content["set"] != now.number:
            return  # requested before other pictures were shown
        image = runs[int(content["run"])][int(content["index"])]
        lossless = bool(content["lossless"]) or image.width * image.height <= SMALL
        size = {"width": image.width, "height": image.height, "lossless": lossless}
        self.post("still", {**content, **size}, [png(image) if lossless else jpeg(image)])

    def _layout(self) -> Message:
        with self._lock:
            content = {
                "set": 0 if self._now is None else self._now.number,
                "runs": [len(run) for run in self._runs],
                "captions": list(self._run_captions),
                "before": self._before is not None,
                "now": self._now is not None,
                "pinned": self._pinned,
                "caption": self.caption,
                "alt": self.alt,
            }
        return Message("layout", content)

    def _refresh(self) -> None:
        """Send everything that is shown again, lossless."""
        self._flow.drop()
        if self.stale:
            self.stale = ""
        self.say(*self.opening())
