"""A folder of finished pictures, by the hash of their recipes: an interrupted sweep goes on from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctrl.images import Picture, save
from ctrl.recipe import Recipe
from ctrl.sampling import Shot

if TYPE_CHECKING:
    from ctrl.model import Model

SAMPLE = 8  # values of each tensor


@dataclass(frozen=True)
class Owner:
    """Which model makes the pictures: its name, a hash of a sample of its `weights`, and its `family`."""

    name: str
    weights: str
    family: str | None

    @staticmethod
    def of(model: Model) -> Owner:
        """Of a model: a few values of every tensor of its U-Net, autoencoder and text encoders go into the hash."""
        digest = hashlib.sha256(str(model.dtype).encode())
        for part in (model.unet, model.vae, *(one.encoder for one in model.parts.text_encoders)):
            for name, tensor in part.state_dict().items():
                flat = tensor.flatten()
                few = flat[:: max(1, len(flat) // SAMPLE)][:SAMPLE].double().tolist()
                digest.update(f"{name} {tuple(tensor.shape)} {few}".encode())
        return Owner(repr(model), digest.hexdigest()[:16], model.family.key)


@dataclass(frozen=True)
class Folder:
    """PNGs that carry their recipes, and sweep.json, which names the model that made them."""

    path: Path

    def claim(self, owner: Owner) -> None:
        """Make it the folder of this model; a ValueError if it is that of another."""
        self.path.mkdir(parents=True, exist_ok=True)
        note = self.path / "sweep.json"
        if not note.exists():
            save(note, json.dumps({"ctrl sweep": 1, "model": owner.name, "weights": owner.weights}).encode())
            return
        try:
            written = json.loads(note.read_text(encoding="utf-8"))
            name, weights = written["model"], written["weights"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"folder {self.path.name!r} has a sweep.json of something else; give another.") from error
        if name != owner.name:
            raise ValueError(f"folder {self.path.name!r} holds pictures by {name}, not by {owner.name}; give another.")
        if weights != owner.weights:
            raise ValueError(f"folder {self.path.name!r} holds pictures by other weights of {name}; give another.")

    def load(self, recipe: Recipe, owner: Owner) -> Shot | None:
        """The finished shot of a recipe; None if there is none that can be read."""
        file = self._file(recipe)
        if not file.exists():
            return None
        try:
            image = Picture.of(file).image.convert("RGB")
            known, notes = Recipe.load(file), self._notes(recipe)
        except (KeyError, TypeError, ValueError, OSError):
            return None  # broken: it is made again
        return Shot(image, recipe, notes, family=owner.family) if known == recipe else None

    def save(self, shot: Shot) -> None:
        """Keep a finished shot. Its notes, if it has any, are a file of their own, written first."""
        if shot.notes:
            save(self._file(shot.recipe).with_suffix(".json"), json.dumps({"notes": shot.notes}).encode())
        shot.save(self._file(shot.recipe))

    def _notes(self, recipe: Recipe) -> tuple[str, ...]:
        file = self._file(recipe).with_suffix(".json")
        return tuple(map(str, json.loads(file.read_text(encoding="utf-8"))["notes"])) if file.exists() else ()

    def _file(self, recipe: Recipe) -> Path:
        return self.path / f"{recipe.hash}.png"
