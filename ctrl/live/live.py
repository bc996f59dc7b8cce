"""A live session: a worker thread that follows a changing recipe."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

import torch

from ctrl import threads
from ctrl.live.active import Activity, activity
from ctrl.live.callbacks import Callbacks, Event
from ctrl.live.follower import Follower
from ctrl.live.frame import Frame, State
from ctrl.live.mailbox import Mailbox, Wish
from ctrl.live.preview import Previewer, latents_of
from ctrl.live.record import Recording
from ctrl.live.settings import Settings
from ctrl.maps import Watch
from ctrl.memory import Memory
from ctrl.recipe import Recipe
from ctrl.recipe.checks import check_callback

if TYPE_CHECKING:
    from ctrl.model import Model


class Live:
    """Follows a changing recipe: `update` returns at once, frames come as they are made, the latest recipe wins.

    - `on_frame` and `on_state` are called from a thread of their own, one call at a time. While one of them is busy the
      run goes on, and only the newest frames and states wait; the last exact frame is never dropped. An exception in
      them becomes a state "failed".
    - `settings` choose previews, drafts, filling and memory; `tiny_vae` draws better previews (see `Previewer`).
    - `watch` is that of `ctrl.sample`: exact frames then carry the `attention` of the whole run, steps reused from an
      earlier recipe included. For a recipe that cannot be watched it is None, and the frame's notes say why.

    The frame at rest is exact: bit-equal to `ctrl.sample(model, recipe).image`. A change recomputes only the steps that
    it affects, and none for a picture made before. Use it in a `with` block, or `close` it.
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
        watch: Watch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from ctrl.model import Model

        if not isinstance(model, Model):
            raise TypeError(f"model must be a Model, got {type(model).__name__}; ctrl.load() makes one.")
        check_callback("on_frame", on_frame, "a Frame")
        check_callback("on_state", on_state, "a State")
        settings = Settings.of(settings)
        self._on_frame, self._on_state, self._clock = on_frame, on_state, clock
        self._mailbox = Mailbox(clock)
        previewer = Previewer(latents_of(model), tiny_vae)
        self._follower = Follower(model, self._mailbox, settings, clock, previewer, Watch.of(watch))
        self._began, self._lock = clock(), threading.Lock()
        self._record: list[tuple[float, Recipe]] = []
        self._done: Future[Frame] = Future()
        self._frame: Frame | None = None
        self._state = State("idle")
        self._broken = 0  # the number of the wish at which a callback raised an error
        self.model = model
        self.update(recipe)
        self._callbacks = Callbacks(self._handle, self._ended)
        self._thread = threads.start(self._work, name="ctrl.Live", stop=self._mailbox.close)

    def update(self, recipe: Recipe) -> None:
        """Request another recipe, from any thread. A recipe that was still waiting is dropped, from the record too."""
        _checked(recipe)
        with self._lock:
            if self._mailbox.closed:
                raise RuntimeError("the live session is closed; make a new ctrl.Live.")
            if self._done.done():
                self._done = Future()
            if self._mailbox.put(recipe, torch.get_num_threads()) is not None:
                self._record.pop()  # it was never started
            self._record.append((self._clock() - self._began, recipe))

    def cancel(self) -> None:
        """Stop the current run between two layers. The last frame stays; the next `update` starts a new run."""
        with self._lock:
            self._mailbox.stop()
            self._done.cancel()

    async def result(self) -> Frame:
        """The exact frame of the recipe that was requested last, once `on_frame` has returned.

        Raises:
            asyncio.CancelledError: the recipe was cancelled.
            Exception: what its run or a callback raised.
        """
        return await asyncio.shield(asyncio.wrap_future(self._done))

    def wait(self, timeout: float | None = None) -> Frame:
        """As `result`, for code that is not async.

        Raises:
            TimeoutError: the frame was not ready after `timeout` seconds.
            concurrent.futures.CancelledError: the recipe was cancelled.
            RuntimeError: called in a callback, which would wait for itself.
        """
        if threading.current_thread() is self._callbacks.thread and not self._done.done():
            raise RuntimeError(
                "wait was called in on_frame or on_state, which would wait for itself; use the callback's argument."
            )
        return self._done.result(timeout)

    @property
    def frame(self) -> Frame | None:
        """The last frame that was shown."""
        return self._frame

    @property
    def state(self) -> State:
        """The state shown last: whether the session runs or rests, and how far it is."""
        return self._state

    @property
    def recipe(self) -> Recipe:
        """The recipe that was requested last."""
        return self._record[-1][1]

    @property
    def watch(self) -> Watch | None:
        """The attention that exact frames carry. Setting it takes effect at the next `update`, of any recipe."""
        return self._follower.watch

    @watch.setter
    def watch(self, watch: Watch | None) -> None:
        self._follower.watch = Watch.of(watch)

    @property
    def cache(self) -> Memory:
        """The memory that the runs share, with its `bytes`, `limit`, `hits` and `misses`."""
        return self._follower.memory

    def active(self, recipe: Recipe | None = None) -> tuple[Activity, ...]:
        """The steps at which each part of a recipe acts; `recipe` defaults to the one requested last."""
        return activity(self.model, self.recipe if recipe is None else _checked(recipe))

    def record(self) -> Recording:
        """The session so far: every recipe that was started or is waiting, and when it was requested."""
        with self._lock:
            return Recording(tuple(self._record))

    def close(self) -> None:
        """End the session, and return when its threads have ended.

        The run ends after the layer it is in; callbacks still get the events that wait. A callback that closes the
        session waits for the run only.
        """
        with self._lock:
            self._mailbox.close()
        self._thread.join()
        if self._callbacks.thread is not threading.current_thread():
            self._callbacks.thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while self._mailbox.wait():
                if (dropped := self._mailbox.take_dropped()) is not None:
                    self._callbacks.put(Event(State("cancelled", dropped.recipe.hash), dropped))
                if (wish := self._mailbox.take()) is not None:
                    self._answer(wish)
        finally:
            self._callbacks.end()

    def _answer(self, wish: Wish) -> None:
        try:
            self._compute_in(wish.threads)
            for what in self._follower.follow(wish):
                self._callbacks.put(Event(what, wish))
            if not self._mailbox.interrupts:
                for what in self._follower.fill():
                    self._callbacks.put(Event(what, wish))
        except Exception as error:  # of any kind: the session reports it and goes on
            self._callbacks.put(Event(_failed(wish, f"{_said(error)}; change the recipe to go on"), wish, error))

    def _compute_in(self, threads: int | None) -> None:
        """Use as many torch threads as the thread that requested the recipe: sums in another number differ in bits.

        `torch.set_num_threads` does not reach threads that run already.
        """
        if threads is not None and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
            self.cache.clear()

    def _handle(self, event: Event) -> None:
        """Call a callback; one that raises an error ends the work for its recipe, whose other events are dropped."""
        if event.wish.number == self._broken:
            return
        try:
            self._show(event.what)
        except Exception as error:
            self._broken = event.wish.number
            self._mailbox.stop(event.wish)
            name = "on_state" if isinstance(event.what, State) else "on_frame"
            self._show_last(_failed(event.wish, f"{name} raised {type(error).__name__}: {_said(error)}; mend {name}"))
            self._settle(event.wish, error)
        else:
            if event.error is not None or (isinstance(event.what, Frame) and event.what.exact):
                self._settle(event.wish, event.error or event.what)

    def _show(self, what: Frame | State) -> None:
        if isinstance(what, State):
            self._state = what
            if self._on_state is not None:
                self._on_state(what)
        else:
            self._frame = what
            self._follower.frames.tick()
            if self._on_frame is not None:
                self._on_frame(what)

    def _settle(self, wish: Wish, outcome: Frame | State | Exception) -> None:
        """Resolve `result` with the exact frame or the error, if it is of the recipe requested last."""
        with self._lock:
            if wish.number != self._mailbox.count or self._done.done():  # it may be cancelled
                return
            if isinstance(outcome, Exception):
                self._done.set_exception(outcome)
            elif isinstance(outcome, Frame):
                self._done.set_result(outcome)

    def _ended(self) -> None:
        """Cancel `result`, even after a SystemExit from a callback: no caller of `wait` may wait forever."""
        with self._lock:
            self._mailbox.close()
            self._done.cancel()
        self._show_last(State("closed"))

    def _show_last(self, state: State) -> None:
        """Show a state outside a run; an exception in `on_state` is logged, since no run could fail by it."""
        try:
            self._show(state)
        except Exception:
            logging.getLogger(__name__).exception("on_state raised an error at the state %r", state.phase)


def _failed(wish: Wish, message: str) -> State:
    return State("failed", wish.recipe.hash, message=message)


def _said(error: Exception) -> str:
    """What an error says, as the beginning of a sentence."""
    return str(error).rstrip(".") or type(error).__name__


def _checked(recipe: object) -> Recipe:
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe, got {type(recipe).__name__}; write ctrl.Recipe('a red ball').")
    return recipe
