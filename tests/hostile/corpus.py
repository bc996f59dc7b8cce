"""Files as an enemy would write them, made anew for every test run and never stored.

Each is written by a function, read by one of the public ways in, and either gives a value or is refused by a sentence.
Rows B6.1-6, 10, 11, 13, 14 and 33 of the list of inputs to survive are in `tensor_files`; B6.7-9, 12 and 15-30 in
`model_folders`; B1.8, 10, 11, 36-38 and B6.36, 37 in `picture_files`; B6.36-48 in `recipe_files`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {
    "model": "",  # a folder: a copy of the good one, spoilt
    "processor": "",  # the same, asked for what a style sees
    "single": ".safetensors",
    "controlnet": ".safetensors",
    "adapter": ".safetensors",
    "lora": ".safetensors",
    "picture": ".png",
    "recipe": ".json",
}
MARK = "planted_offence"  # in every piece of code of the corpus
PLANTED = "planted_module"  # a module that lies where the reading process looks for modules


@dataclass(frozen=True)
class Hostile:
    """One file or folder; `says` is what the refusal must say, None where it may be read."""

    name: str
    road: str
    make: Callable[[Path], object]
    says: str | None = None

    def place(self, folder: Path) -> Path:
        """Where it is written and read."""
        return folder / self.road / f"{self.name}{SUFFIXES[self.road]}".replace(" ", "_").replace("/", "-")


def text(content: str) -> Callable[[Path], object]:
    """A file that holds this."""
    return lambda path: path.write_text(content, encoding="utf-8")


def data(content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    """A file of these bytes, which may be made when it is written."""
    return lambda path: path.write_bytes(content() if callable(content) else content)
