"""A live session as a value: the recipes that were requested, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from ctrl.images import local_file
from ctrl.images import save as save_whole
from ctrl.memory import Memory
from ctrl.recipe import Recipe
from ctrl.sampling import Shot, sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.live.live import Live
    from ctrl.model import Model

FILMS = (".gif", ".webp", ".mp4")
RATE = 25  # frames a second of an MP4
LAST = 1.0  # seconds that the last picture stays


@dataclass(frozen=True)
class Recording:
    """Pairs of (seconds since the beginning, recipe), in the order of the requests."""

    moves: tuple[tuple[float, Recipe], ...]

    def __len__(self) -> int:
        return len(self.moves)

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all; `Recording.load` reads it back."""
        moves = [{"seconds": seconds, "recipe": recipe.to_json()} for seconds, recipe in self.moves]
        save_whole(path, json.dumps({"ctrl recording": 1, "moves": moves}).encode())

    @staticmethod
    def load(path: str | Path) -> Recording:
        """Read the recording in a file; a ValueError if it holds none."""
        try:
            read = json.loads(local_file(path, "path", "a recording").read_bytes())
            moves = tuple((float(move["seconds"]), Recipe.from_json(move["recipe"])) for move in read["moves"])
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{Path(path).name} is no recording of a live session; give a file of Recording.save."
            ) from error
        return Recording(moves)

    def replay(self, live: Live) -> Iterator[Recipe]:
        """Request each recipe of a live session in turn, and wait for its exact frame; the pauses are left out."""
        for _, recipe in self.moves:
            live.update(recipe)
            live.wait()
            yield recipe

    def shots(self, model: Model) -> Iterator[Shot]:
        """Every recipe's exact picture, made again."""
        memory = Memory()
        for _, recipe in self.moves:
            yield sample(model, recipe, memory=memory, progress=False)

    def film(self, model: Model, path: str | Path) -> None:
        """Render every move exactly, each shown as long as it was, to a .gif, .webp or .mp4, whole or not at all.

        Pictures of several sizes keep their pixels, on black of the largest width and height.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() not in FILMS:
            raise ValueError(f"path must end in {', '.join(FILMS)}, got {path.name!r}.")
        if not self.moves:
            raise ValueError("the recording is empty; update the live session at least once.")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"path lies in {str(path.parent)!r}, which is no folder; make it first.")
        pictures = _of_one_size([shot.image for shot in self.shots(model)])
        seconds = [later - sooner for (sooner, _), (later, _) in zip(self.moves, self.moves[1:], strict=False)]
        durations = [*seconds, LAST]
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            made = Path(folder) / path.name
            if path.suffix.lower() == ".mp4":
                _write_mp4(made, pictures, durations)
            else:
                first, *rest = pictures
                milliseconds = [max(20, round(1000 * one)) for one in durations]
                first.save(made, save_all=True, append_images=rest, duration=milliseconds, loop=0, lossless=True)
            made.replace(path)


def _of_one_size(pictures: Sequence[Image]) -> list[Image]:
    """The pictures, smaller ones in the middle of black."""
    width, height = (max(sides) for sides in zip(*(picture.size for picture in pictures), strict=True))
    placed = []
    for picture in pictures:
        left, top = (width - picture.width) // 2, (height - picture.height) // 2
        placed.append(picture.crop((-left, -top, width - left, height - top)))  # what is outside comes out black
    return placed


def _write_mp4(path: Path, pictures: Sequence[Image], durations: Sequence[float]) -> None:
    import cv2

    size = pictures[0].size
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, size)
    if not writer.isOpened():
        raise OSError(f"{path.name} cannot be written as an MP4 by this OpenCV; give a .gif or .webp.")
    try:
        for picture, duration in zip(pictures, durations, strict=True):
            pixels = np.asarray(picture)[..., ::-1]
            for _ in range(max(1, round(duration * RATE))):
                writer.write(np.ascontiguousarray(pixels))
    finally:
        writer.release()
