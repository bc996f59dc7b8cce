"""Tasks by the workers of an executor: results as they come, failures tried again, and nothing finished is lost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from queue import SimpleQueue
from typing import Any, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")
REFUSALS = (TypeError, ValueError, ArithmeticError)  # of a wrong recipe or model: they would come again
LOG = logging.getLogger(__name__)


class Here:
    """This thread in place of an executor: one task after another, none tried again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def each(self, task: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
        """Every item with its result, in their order."""
        return ((item, task(item)) for item in items)


class Pool:
    """An executor, or a function that makes one, which is called again when an executor breaks.

    A task that fails is tried again up to `retries` times, unless its error is one of `REFUSALS`. An executor that was
    given stays open; those that the function made are shut down.
    """

    def __init__(self, given: Executor | Callable[[], Executor], retries: int) -> None:
        if not isinstance(given, Executor) and not callable(given):
            raise TypeError(
                "executor must be a concurrent.futures.Executor, or a function that makes one; "
                f"got {type(given).__name__}."
            )
        self._given, self._retries = given, retries
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._drop()

    def each(self, task: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
        """Every item with its result, in the order in which they finish.

        An item's last error is raised, and a BrokenExecutor where there is no other executor, or these break without a
        result more than `retries` times in a row. All results that were there by then are yielded first.
        """
        left, fruitless = dict.fromkeys(items), 0
        while left:
            try:
                for item, result in self._round(task, list(left)):
                    del left[item]
                    fruitless = 0
                    yield item, result
            except BrokenExecutor as error:
                if isinstance(self._given, Executor):
                    raise BrokenExecutor(
                        f"{str(error).rstrip('.')}. Give a function that makes the executor, and another takes its "
                        "place when it breaks."
                    ) from error
                fruitless += 1
                if fruitless > self._retries:
                    raise
                LOG.warning("the executor broke (%s); another makes the %d that are left", error, len(left))
                self._drop()

    def _round(self, task: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
        """As `each`, by one executor, until it breaks."""
        executor, tries, todo = self._open(), dict.fromkeys(items, self._retries), deque(items)
        waiting: dict[Future[R], T] = {}
        finished: SimpleQueue[Future[R]] = SimpleQueue()
        broken: BrokenExecutor | None = None
        try:
            while True:
                try:
                    while todo and broken is None:
                        future = executor.submit(task, todo[0])
                        waiting[future] = todo.popleft()
                        future.add_done_callback(finished.put)
                except BrokenExecutor as error:
                    broken = error
                if not waiting:
                    break
                future = finished.get()
                item, failure = waiting.pop(future), _failure(future)
                if failure is None:
                    yield item, future.result()
                elif isinstance(failure, BrokenExecutor):
                    broken = failure
                elif isinstance(failure, REFUSALS) or not tries[item]:
                    raise failure
                else:
                    LOG.warning("a task failed and is tried again: %s: %s", type(failure).__name__, failure)
                    tries[item] -= 1
                    todo.append(item)
            if broken is not None:
                raise broken
        except Exception:  # raised again after the results that came in beside it
            while not finished.empty():
                future = finished.get()
                if future in waiting and _failure(future) is None:
                    yield waiting[future], future.result()
            raise
        finally:
            for future in waiting:
                future.cancel()

    def _open(self) -> Executor:
        if isinstance(self._given, Executor):
            return self._given
        if self._executor is None:
            made: object = self._given()
            if not isinstance(made, Executor):
                raise TypeError(
                    f"executor must be a function that makes a concurrent.futures.Executor; it made {made!r:.60}."
                )
            self._executor = made
        return self._executor

    def _drop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


def _failure(future: Future[Any]) -> BaseException | None:
    """What a future that is done ended in, None for a result."""
    return CancelledError() if future.cancelled() else future.exception()
