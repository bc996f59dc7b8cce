"""A folder of finished pictures, by the hash of their recipes: an interrupted sweep goes on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctrl.images import Picture, save
from ctrl.recipe import Recipe
from ctrl.sampling import Shot

if TYPE_CHECKING:
    from ctrl.model import Model

VERSION = 2  # of sweep.json


@dataclass(frozen=True)
class Needs:
    """What pictures depend on besides the model itself: `kinds` of controls, IP-`adapters` and LoRAs by name."""

    kinds: tuple[str, ...]
    adapters: tuple[str | None, ...]
    loras: tuple[str, ...]

    @staticmethod
    def of(recipes: Sequence[Recipe]) -> Needs:
        """Of recipes, and of those that they are aligned to."""
        whole = [recipe.canonical for recipe in recipes]
        whole += [one.aligned.reference for one in whole if one.aligned is not None]
        kinds = {part.kind for one in whole for part in one.controls}
        adapters = {part.adapter for one in whole for part in one.styles}
        loras = {lora.name for one in whole for lora in one.loras}
        return Needs(tuple(sorted(kinds)), tuple(sorted(adapters, key=str)), tuple(sorted(loras)))


@dataclass(frozen=True)
class Owner:
    """Which model makes the pictures: its name, hashes of its `weights` by network, and its `family`."""

    name: str
    weights: Mapping[str, str]
    family: str | None

    @staticmethod
    def of(model: Model, needs: Needs) -> Owner:
        """Of a model, as far as pictures with these needs depend on it."""
        loras = [name for name in needs.loras if name in model.loras]  # a prompt may name others
        weights = model.fingerprints(needs.kinds, needs.adapters, loras)
        return Owner(repr(model), weights, model.family.key)


@dataclass(frozen=True)
class Folder:
    """PNGs that carry their recipes, and sweep.json, which names the model that made them."""

    path: Path

    def claim(self, owner: Owner) -> None:
        """Make it the folder of this model; a ValueError if it is that of another, or of other weights."""
        self.path.mkdir(parents=True, exist_ok=True)
        note = self.path / "sweep.json"
        name, known = self._read(note) if note.exists() else (owner.name, {})
        if name != owner.name:
            raise ValueError(f"folder {self.path.name!r} holds pictures by {name}, not by {owner.name}; give another.")
        other = [network for network, now in owner.weights.items() if known.get(network, now) != now]
        if other:
            what = f"other weights of {name} ({', '.join(other)})"
            raise ValueError(f"folder {self.path.name!r} holds pictures by {what}; give another.")
        if known != (weights := {**known, **owner.weights}):
            save(note, json.dumps({"ctrl sweep": VERSION, "model": owner.name, "weights": weights}).encode())

    def _read(self, note: Path) -> tuple[str, dict[str, str]]:
        """The model in a sweep.json, and its weights; a ValueError for another program's file."""
        try:
            written = json.loads(note.read_text(encoding="utf-8"))
            version = written["ctrl sweep"]
            if version == VERSION:
                return written["model"], dict(written["weights"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"folder {self.path.name!r} has a sweep.json of something else; give another.") from error
        raise ValueError(f"folder {self.path.name!r} is of another version of ctrl ({version!r:.20}); give another.")

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
