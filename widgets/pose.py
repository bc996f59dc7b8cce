"""`PosePad`: figures whose joints are dragged over a picture, as `ctrl.Skeleton` in and out."""

from __future__ import annotations

import io
import json
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ctrl import threads
from ctrl.skeleton import COLOURS, JOINTS, LIMBS, MIRRORED, POSES, People, Skeleton, pose_of
from widgets.encode import checked, jpeg
from widgets.leaf import Leaf, Message, module, styles, traitlets

Figure = dict[str, list[list[float]]]  # body (18), hand_left, hand_right (21), face: points [x, y, shown], fractions
PARTS = {"hand_left": "left_hand", "hand_right": "right_hand", "face": "face"}
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
        people: what `ctrl.Pose` takes: a `Skeleton`, `People`, several of them, keypoints, the name of a pose, or
            OpenPose JSON; None for a standing figure, [] for none.
        background: a PIL image to pose over, or None.
        width: of the canvas in pixels; the background's where there is one.
        height: likewise.
        detect: a function from a PIL picture to what `ctrl.Pose` takes, such as `ctrl.detect.pose`; with it the panel
            can take the figures of the background.

    `people` are the figures as Skeletons, hands and faces included, and `skeleton` is the first; assign to either to
    change what is shown. `figures` is the trait behind them, to observe. `moving` is true during a drag.

    Raises:
        TypeError: people are no pose, or the background is no PIL image.
        ValueError: there are more than 32 figures, or `ctrl.Pose` would refuse them.

    >>> pad = PosePad("waving")                               # doctest: +SKIP
    >>> recipe.replace(controls=[ctrl.Pose(pad.people)])      # doctest: +SKIP
    """

    _esm = f"const SKELETON = {json.dumps(_SKELETON, separators=(',', ':'))};\n" + module(
        "figures.js", "pose_canvas.js", "pose_hands.js", "pose_tools.js", "pose.js"
    )
    _css = styles("pose.css")

    figures = traitlets.List(traitlets.Dict()).tag(sync=True)
    width = traitlets.Int(512, min=8, max=4096).tag(sync=True)
    height = traitlets.Int(512, min=8, max=4096).tag(sync=True)
    moving = traitlets.Bool(default_value=False).tag(sync=True)
    can_detect = traitlets.Bool(default_value=False).tag(sync=True)
    opacity = traitlets.Float(0.5, min=0, max=1, help="of the background").tag(sync=True)

    def __init__(
        self,
        people: Any = None,
        *,
        background: Image.Image | None = None,
        width: int = 512,
        height: int = 512,
        detect: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        self._background: Image.Image | None = None
        self._detector = detect
        super().__init__(width=width, height=height, can_detect=detect is not None)
        self.people = "standing" if people is None else people
        if background is not None:
            self.background = background

    @property
    def people(self) -> tuple[Skeleton, ...]:
        """The figures."""
        return tuple(map(skeleton_of, self.figures))

    @people.setter
    def people(self, people: Any) -> None:
        self.figures = _figures(people)

    @property
    def skeleton(self) -> Skeleton:
        """The first figure; a ValueError where there is none."""
        if not self.figures:
            raise ValueError("the pad holds no figure; add one in the panel, or assign pad.skeleton.")
        return skeleton_of(self.figures[0])

    @skeleton.setter
    def skeleton(self, skeleton: Skeleton) -> None:
        self.people = skeleton

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
        self.say(_background_message(self._background))

    def to_json(self) -> str:
        """All figures as OpenPose JSON in pixels; a ValueError where there are none."""
        if not self.figures:
            raise ValueError("the pad holds no figure; add one in the panel, or assign pad.people.")
        return People(self.people).to_json(self.width, self.height)

    def load_json(self, text: str) -> None:
        """Show the figures of OpenPose JSON; its canvas becomes the pad's, but for a background's."""
        size = _canvas_of(text) or (self.width, self.height)
        figures = _figures(People.from_json(text, size=size))
        with self.hold_sync():
            if self._background is None:
                self.width, self.height = size
            self.figures = figures

    def opening(self) -> list[Message]:
        """The background, sent as a message to keep saved notebooks small."""
        return [_background_message(self._background)]

    def receive(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Handle a file dropped, pasted or opened in the browser."""
        if kind == "json":
            self.load_json(str(content["text"]))
        elif kind == "background":
            self.background = _opened(buffers[0]) if buffers else None
        elif kind == "detect":
            threads.start(self._detect, name="PosePad detect")

    def _detect(self) -> None:
        """Detect in a separate thread: a detector may take seconds, and messages must not wait for it."""
        try:
            if self._detector is None or self._background is None:
                raise ValueError("there is no picture, or no detector; make the pad with PosePad(detect=…).")
            self.people = self._detector(self._background)
            self.clear_problem()
        except Exception as error:
            self.show_problem(f"No figure was taken: {error}", details=traceback.format_exc())
        self.post("detected")


def figure_of(skeleton: Skeleton) -> Figure:
    """A Skeleton as the pad holds it."""
    figure = {"body": np.column_stack([skeleton.points, skeleton.shown]).tolist()}
    for part, name in PARTS.items():
        points = getattr(skeleton, name)
        figure[part] = [] if points is None else np.column_stack([points, points.any(1)]).tolist()
    return figure


def skeleton_of(figure: Figure) -> Skeleton:
    """What the pad holds as a Skeleton."""
    body = _clipped(figure["body"])  # (18, 3)
    parts = {name: _clipped(figure[part]) for part, name in PARTS.items() if figure.get(part)}
    hidden = {name: points[:, :2] * (points[:, 2:] > 0) for name, points in parts.items()}  # at (0, 0), as in OpenPose
    return Skeleton(body[:, :2], body[:, 2] > 0, **hidden)


def _clipped(points: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, 3) x, y and shown, not further from the canvas than a Skeleton may be."""
    return np.clip(np.array(points, np.float64), -1, 2)


def _figures(people: Any) -> list[Figure]:
    pose = () if isinstance(people, list | tuple) and not people else pose_of(people)
    if pose is None:
        raise TypeError(f"people must be what ctrl.Pose takes but for pictures, got {type(people).__name__}.")
    skeletons = (pose,) if isinstance(pose, Skeleton) else pose.skeletons if isinstance(pose, People) else ()
    if len(skeletons) > MAX_FIGURES:
        raise ValueError(f"a pad holds {MAX_FIGURES} figures at most, got {len(skeletons)}.")
    return [figure_of(skeleton) for skeleton in skeletons]


def _canvas_of(text: str) -> tuple[int, int] | None:
    """The canvas that OpenPose JSON names, if it does and a pad may have it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None  # People.from_json says what is wrong
    data = data[0] if isinstance(data, list) and data else data
    sides = [data.get(name) for name in ("canvas_width", "canvas_height")] if isinstance(data, dict) else [None, None]
    width, height = (side if isinstance(side, int) and 8 <= side <= 4096 else None for side in sides)
    return None if width is None or height is None else (width, height)


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
