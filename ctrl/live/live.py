"""A live session: a worker thread that follows a changing recipe."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from ctrl.live.active import Activity, activity
from ctrl.live.follower import Follower
from ctrl.live.frame import Frame, State
from ctrl.live.mailbox import Mailbox, Wish
from ctrl.live.preview import Previewer
from ctrl.live.record import Recording
from ctrl.live.settings import Settings
from ctrl.memory import Memory
from ctrl.recipe import Recipe

if TYPE_CHECKING:
    from ctrl.model import Model


class Live:
    """Follows a changing recipe: `update` returns at once, frames come as they are made, the latest recipe wins.

    - `on_frame` and `on_state` are called from the session's own thread, one call at a time; what they raise ends up in
      a state "failed".
    - `settings` choose previews, drafts, filling and memory; `tiny_vae` draws better previews (see `Previewer`).

    The frame at rest is exact: bit-equal to `ctrl.sample(model, recipe).image`. A change recomputes only the steps that
    it reaches, and none for a picture seen before. Use it in a `with` block, or `close` it.
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        on_frame: Callable[[Frame], None] | None = None,
        on_state: Callable[[State], None] | None = None,
        *,
        settings: Settings | None = None,
        tiny_vae: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from ctrl.model import Model

        if not isinstance(model, Model):
            raise TypeError(f"model must be a Model, got {type(model).__name__}; ctrl.load() makes one.")
        settings = Settings() if settings is None else settings
        self._on_frame, self._on_state, self._clock = on_frame, on_state, clock
        self._mailbox = Mailbox(clock)
        self._follower = Follower(model, self._mailbox, settings, clock, Previewer(model.family.key, tiny_vae))
        self._began, self._lock = clock(), threading.Lock()
        self._record: list[tuple[float, Recipe]] = []
        self._done: Future[Frame] = Future()
        self._frame: Frame | None = None
        self._state = State("idle")
        self.model = model
        self.update(recipe)
        self._thread = threading.Thread(target=self._work, name="ctrl.Live", daemon=True)
        self._thread.start()

    def update(self, recipe: Recipe) -> None:
        """Ask for another recipe, from any thread; one that still waited is forgotten."""
        if not isinstance(recipe, Recipe):
            raise TypeError(f"recipe must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")
        with self._lock:
            if self._mailbox.closed:
                raise RuntimeError("the live session is closed; make a new ctrl.Live.")
            if self._done.done():
                self._done = Future()
            self._record.append((self._clock() - self._began, recipe))
            self._mailbox.put(recipe)

    def cancel(self) -> None:
        """Stop what is being made, between two layers; the last frame stays, and the next `update` goes on."""
        with self._lock:
            self._mailbox.stop()
            self._done.cancel()

    async def result(self) -> Frame:
        """The exact frame of the recipe that was asked for last."""
        return await asyncio.shield(asyncio.wrap_future(self._done))

    def wait(self, timeout: float | None = None) -> Frame:
        """As `result`, for code that is not async: a TimeoutError after `timeout` seconds."""
        return self._done.result(timeout)

    @property
    def frame(self) -> Frame | None:
        """The last frame that was shown."""
        return self._frame

    @property
    def state(self) -> State:
        """What the session is doing."""
        return self._state

    @property
    def recipe(self) -> Recipe:
        """The recipe that was asked for last."""
        return self._record[-1][1]

    @property
    def cache(self) -> Memory:
        """Everything kept from one picture to the next: its `bytes`, its `limit`, its `hits` and `misses`."""
        return self._follower.memory

    def active(self, recipe: Recipe | None = None) -> tuple[Activity, ...]:
        """At which of the run's steps each part of a recipe acts; without one, of the recipe asked for last."""
        return activity(self.model, self.recipe if recipe is None else recipe)

    def record(self) -> Recording:
        """The session so far: every recipe that was asked for, and when."""
        with self._lock:
            return Recording(tuple(self._record))

    def close(self) -> None:
        """End the session. Returns when its thread has ended, which takes at most a layer of the model."""
        with self._lock:
            self._mailbox.close()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self) -> None:
        while self._mailbox.wait():
            wish = self._mailbox.take()
            if wish is None:
                continue
            try:
                for told in self._follower.follow(wish):
                    self._tell(told)
                self._settle(wish)
                if not self._mailbox.interrupts:
                    for told in self._follower.fill():
                        self._tell(told)
            except Exception as error:  # whatever it is: the session goes on, and says what went wrong
                self._fail(wish, error)
        self._done.cancel()
        self._show_last(State("closed"))

    def _tell(self, told: Frame | State) -> None:
        if isinstance(told, State):
            self._show(told)
        else:
            self._frame = told
            if self._on_frame is not None:
                self._on_frame(told)

    def _show(self, state: State) -> None:
        self._state = state
        if self._on_state is not None:
            self._on_state(state)

    def _settle(self, wish: Wish) -> None:
        """Hand out the exact frame, if it is of the recipe asked for last."""
        with self._lock:
            frame = self._frame
            if self._mailbox.peek() is None and frame is not None and frame.exact and frame.recipe is wish.recipe:
                self._done.set_result(frame)

    def _fail(self, wish: Wish, error: Exception) -> None:
        with self._lock:
            if self._mailbox.peek() is None and not self._done.done():
                self._done.set_exception(error)
        self._show_last(State("failed", wish.recipe.hash, message=f"{error}; change the recipe to go on"))

    def _show_last(self, state: State) -> None:
        """Show a state after which no callback is left to tell: what `on_state` raises then is logged."""
        try:
            self._show(state)
        except Exception:
            logging.getLogger(__name__).exception("on_state raised an error at the state %r", state.phase)
