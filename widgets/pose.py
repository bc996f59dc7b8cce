"""`PosePad`: figures whose joints are dragged over a picture, as `ctrl.Skeleton` in and out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ctrl.skeleton import COLOURS, JOINTS, LIMBS, MIRRORED, POSES, Skeleton
from widgets import openpose
from widgets.encode import checked, jpeg
from widgets.leaf import Leaf, Message, module, styles, traitlets
from widgets.openpose import Figure

_SKELETON = {
    "joints": JOINTS,
    "limbs": LIMBS,
    "colours": COLOURS,
    "mirrored": MIRRORED.tolist(),
    "poses": {name: [[round(1000 * x), round(1000 * y), seen] for x, y, seen in pose] for name, pose in POSES.items()},
}
MAX_FIGURES = 32
MAX_BACKGROUND = 1500  # pixels a side, of what the browser is sent


class PosePad(Leaf):
    """Any number of figures to drag into shape, over a picture if there is one.

    Args:
        people: one `Skeleton`, several, or None for a standing figure.
        background: a PIL image to pose over, or None.
        width: of the canvas in pixels; the background's where there is one.
        height: likewise.

    `people` are the figures as Skeletons and `skeleton` is the first; assign to either to change what is shown.
    `figures` is the trait behind them, to observe; it carries hands and faces too. `moving` is true during a drag.

    Raises:
        TypeError: people are no Skeletons, or the background is no PIL image.
        ValueError: more than 32 figures.

    >>> pad = PosePad(ctrl.Skeleton.named("waving"))          # doctest: +SKIP
    >>> recipe.replace(controls=(ctrl.Pose(pad.skeleton),))   # doctest: +SKIP
    """

    _esm = f"const SKELETON = {json.dumps(_SKELETON, separators=(',', ':'))};\n" + module(
        "figures.js", "pose_canvas.js", "pose_hands.js", "pose_tools.js", "pose.js"
    )
    _css = styles("pose.css")

    figures = traitlets.List(traitlets.Dict()).tag(sync=True)
    width = traitlets.Int(512, min=8, max=4096).tag(sync=True)
    height = traitlets.Int(512, min=8, max=4096).tag(sync=True)
    moving = traitlets.Bool(default_value=False).tag(sync=True)
    opacity = traitlets.Float(0.5, min=0, max=1, help="of the background").tag(sync=True)

    def __init__(
        self,
        people: Skeleton | Iterable[Skeleton] | None = None,
        *,
        background: Image.Image | None = None,
        width: int = 512,
        height: int = 512,
    ) -> None:
        self._background: Image.Image | None = None
        super().__init__(width=width, height=height)
        self.people = Skeleton.named("standing") if people is None else people
        if background is not None:
            self.background = background

    @property
    def people(self) -> tuple[Skeleton, ...]:
        """The figures, without their hands and faces."""
        return tuple(map(skeleton_of, self.figures))

    @people.setter
    def people(self, people: Skeleton | Iterable[Skeleton]) -> None:
        several = (people,) if isinstance(people, Skeleton) else tuple(people)
        for one in several:
            if not isinstance(one, Skeleton):
                raise TypeError(f"people must be Skeletons, got {type(one).__name__}; use Skeleton.from_json for JSON.")
        self.figures = _counted([figure_of(one) for one in several])

    @property
    def skeleton(self) -> Skeleton:
        """The first figure; a ValueError where there is none."""
        if not self.figures:
            raise ValueError("the pad holds no figure; add one in the panel, or assign pad.skeleton.")
        return skeleton_of(self.figures[0])

    @skeleton.setter
    def skeleton(self, skeleton: Skeleton) -> None:
        self.people = (skeleton,)

    @property
    def background(self) -> Image.Image | None:
        """The picture under the figures. Assigning one gives the canvas its size; None takes it away."""
        return self._background

    @background.setter
    def background(self, image: Image.Image | None) -> None:
        self._background = None if image is None else checked(image, name="background")
        if self._background is not None:
            with self.hold_sync():
                self.width, self.height = self._background.size
        self._post_background()

    def to_json(self) -> str:
        """All figures as OpenPose JSON, in pixels, with hands and faces."""
        return openpose.write(self.figures, self.width, self.height)

    def load_json(self, text: str) -> None:
        """Show the figures of OpenPose JSON, with hands and faces; anything else raises a ValueError."""
        figures, size = openpose.read(text)
        with self.hold_sync():
            if size is not None and self._background is None:
                self.width, self.height = size
            self.figures = _counted(figures)

    def opening(self) -> list[Message]:
        """The background, which travels as a message to keep saved notebooks small."""
        return [_background_message(self._background)]

    def receive(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """A file dropped, pasted or opened in the browser."""
        if kind == "json":
            self.load_json(str(content["text"]))
        elif kind == "background":
            self.background = _opened(buffers[0]) if buffers else None

    def _post_background(self) -> None:
        message = _background_message(self._background)
        self.post(message.kind, message.content, message.buffers)


def figure_of(skeleton: Skeleton) -> Figure:
    """A Skeleton as the pad holds it."""
    points = zip(skeleton.points.tolist(), skeleton.shown.tolist(), strict=True)
    body = [[round(x, 6), round(y, 6), float(shown)] for (x, y), shown in points]
    return {"body": body, "hand_left": [], "hand_right": [], "face": []}


def skeleton_of(figure: Figure) -> Skeleton:
    """What the pad holds as a Skeleton; hands and faces stay behind."""
    body = np.array(figure["body"], np.float64)  # (18, 3)
    return Skeleton(np.clip(body[:, :2], -1, 2), body[:, 2] > 0)


def _counted(figures: list[Figure]) -> list[Figure]:
    if len(figures) > MAX_FIGURES:
        raise ValueError(f"a pad holds {MAX_FIGURES} figures at most, got {len(figures)}.")
    return figures


def _background_message(image: Image.Image | None) -> Message:
    if image is None:
        return Message("background")
    small = image.convert("RGB")
    small.thumbnail((MAX_BACKGROUND, MAX_BACKGROUND))
    return Message("background", {}, (jpeg(small, quality=88),))


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the background is no picture that can be opened: {error}.") from error
