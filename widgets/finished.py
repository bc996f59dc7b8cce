"""The finished pictures of a live session as shots, and as outputs that stay in a notebook."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ctrl import Live, Model, Shot
from widgets.export import Snapshot
from widgets.gallery import png_with_recipe
from widgets.leaf import Message

if TYPE_CHECKING:
    from ctrl.live import Frame

HISTORY = 12  # finished pictures on the page of a snapshot, the one that is shown among them


def shot_of(frame: Frame, model: Model) -> Shot:
    """An exact frame as a shot, with its attention where the session watches."""
    return Shot(frame.image, frame.recipe, frame.notes, frame.attention, model.family.key)


def finished(live: Live) -> Shot:
    """The finished picture of the recipe requested last; waits until it is made.

    A RuntimeError if it was stopped; what its run raised, if it failed.
    """
    try:
        frame = live.wait()
    except concurrent.futures.CancelledError as error:
        raise RuntimeError("the picture was stopped before it was finished; move something to go on.") from error
    return shot_of(frame, live.model)


def file_of(shot: Shot | None) -> Message:
    """A finished picture as a PNG with its recipe, for the browser to save; a ValueError where there is none."""
    if shot is None:
        raise ValueError("there is no finished picture yet; wait until it is marked as exact.")
    return Message("file", {"name": f"{shot.recipe.hash[:8]}.png"}, (png_with_recipe(shot.image, shot.recipe),))


def snapshot(shot: Shot, earlier: Iterable[Shot] = (), *, interactive: bool) -> Snapshot:
    """A shot as a picture, or as a page with the `earlier` ones, the newest first, each recipe once."""
    if not interactive:
        return Snapshot((shot,))
    made: dict[object, Shot] = {}
    for one in (shot, *earlier):
        made.setdefault(one.recipe, one)
    return Snapshot(tuple(made.values())[:HISTORY], interactive=True)
