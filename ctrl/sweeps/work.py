"""What a sweep sends to its workers: a model, loaded once in each process, and a maker for each of its threads."""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ctrl.recipe import Recipe
from ctrl.sampling import Step
from ctrl.sweeps.folder import Needs, Owner
from ctrl.sweeps.tree import Made, Maker, about, times_of

if TYPE_CHECKING:
    from ctrl.model import Model

Key = bytes


class Work:
    """The model of a sweep, or a function that loads it.

    Pickled, it carries the function. In a process where it arrives twice it is the same object, with its model and
    what its makers remember: so a worker loads a model once, for all the pictures and sweeps of that model.
    """

    def __init__(self, source: Model | Callable[[], Model], key: Key | None = None) -> None:
        from ctrl.model import Model

        if not isinstance(source, Model) and not callable(source):
            raise TypeError(
                f"model must be a Model or a function that loads one, such as ctrl.load; got {type(source).__name__}."
            )
        self._source, self._key = source, key
        self._model = source if isinstance(source, Model) else None
        self._lock, self._mine = threading.Lock(), threading.local()

    @property
    def model(self) -> Model:
        """The model, loaded now if it is not yet."""
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _load(self) -> Model:
        from ctrl.model import Model

        model = self._source if isinstance(self._source, Model) else self._source()
        if not isinstance(model, Model):
            raise TypeError(f"model must be a function that returns a Model, and it returned {type(model).__name__}.")
        return model

    def times(self, recipe: Recipe) -> Sequence[float]:
        """The noise times of a recipe's run; about those, as long as no model is loaded here to ask."""
        return about(recipe) if self._model is None else times_of(self._model)(recipe)

    def make(self, recipe: Recipe, on_step: Callable[[Step], None] | None = None) -> Made:
        """The picture of a recipe; `on_step` is called after each step that is made."""
        if not hasattr(self._mine, "maker"):
            self._mine.maker = Maker(self.model)
        made: Made = self._mine.maker(recipe, on_step)
        return made

    def owner(self, needs: Needs) -> Owner:
        """Which model makes pictures with these needs."""
        return Owner.of(self.model, needs)

    def check_travels(self) -> None:
        """A TypeError where the standard library cannot send the work to another process."""
        try:
            pickle.dumps(self)
        except (pickle.PicklingError, AttributeError) as error:
            raise TypeError(
                "model must be a function that other processes can import, such as ctrl.load or "
                f"functools.partial(ctrl.load, 'a folder'); got {self._source!r:.60}."
            ) from error

    def __reduce__(self) -> tuple[Callable[..., Work], tuple[object, ...]]:
        from ctrl.model import Model

        if isinstance(self._source, Model):
            raise TypeError(
                "the executor's workers are other processes, to which a loaded model cannot be sent; give model as a "
                "function that loads it: ctrl.load, or functools.partial(ctrl.load, 'a folder')."
            )
        if self._key is None:
            self._key = _key(self._source)
        return _arrived, (self._key, self._source)


_here: dict[Key, Work] = {}  # of this process, the last that arrived
_door = threading.Lock()


def _arrived(key: Key, source: Callable[[], Model]) -> Work:
    with _door:
        if key not in _here:
            _here.clear()
            _here[key] = Work(source, key)
        return _here[key]


def _key(source: Callable[[], Model]) -> Key:
    """Equal for functions that pickle to the same bytes; of one that pickle cannot send, never equal to another."""
    try:
        return pickle.dumps(source)
    except (pickle.PicklingError, AttributeError, TypeError):  # some executors send more than pickle can
        return uuid.uuid4().bytes
