"""A folder of finished pictures, by the hash of their recipes: an interrupted sweep goes on from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ctrl.images import save
from ctrl.recipe import Recipe
from ctrl.sampling import Shot


@dataclass(frozen=True)
class Folder:
    """PNGs that carry their recipes, and sweep.json, which names the model that made them."""

    path: Path

    def claim(self, model: str) -> None:
        """Make it the folder of this model; a ValueError if it is that of another."""
        self.path.mkdir(parents=True, exist_ok=True)
        note = self.path / "sweep.json"
        if not note.exists():
            save(note, json.dumps({"ctrl sweep": 1, "model": model}).encode())
            return
        try:
            owner = json.loads(note.read_text(encoding="utf-8"))["model"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"folder {self.path.name!r} has a sweep.json of something else; give another.") from error
        if owner != model:
            raise ValueError(f"folder {self.path.name!r} holds pictures by {owner}, not by {model}; give another.")

    def load(self, recipe: Recipe) -> Shot | None:
        """The finished shot of a recipe; None if there is none that can be read."""
        file = self._file(recipe)
        if not file.exists():
            return None
        try:
            with Image.open(file) as opened:
                image = opened.convert("RGB")
            known = Recipe.load(file)
        except (ValueError, OSError, UnidentifiedImageError):
            return None  # broken: it is made again
        return Shot(image, recipe) if known == recipe else None

    def save(self, shot: Shot) -> None:
        """Keep a finished shot."""
        shot.save(self._file(shot.recipe))

    def _file(self, recipe: Recipe) -> Path:
        return self.path / f"{recipe.hash}.png"
