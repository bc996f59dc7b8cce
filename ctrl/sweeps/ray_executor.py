"""Ray's actors as an executor: one for each GPU of a cluster, or for each few cores."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from ctrl.recipe.checks import integer

P = ParamSpec("P")
R = TypeVar("R")
CPUS = 4  # of an actor that has no GPU
Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class RayExecutor(Executor):
    """Runs calls in Ray's actors (https://docs.ray.io, extra `ray`), on every machine of the cluster.

        with ctrl.RayExecutor() as executor:
            ctrl.sweep(functools.partial(ctrl.load, "a folder"), recipe, axes, executor=executor)

    - `workers` is the number of actors, by default as many as the cluster has room for.
    - `gpus` each has: 1 where the cluster has any, else 0. Less than 1 lets several share a GPU.
    - `cpus` each has, and so many threads: 1 beside a GPU, else 4, or all where there are fewer.

    An actor whose process or machine is lost is replaced by a new one, and the call that it was at ends in Ray's
    RayActorError; a sweep then tries it again. Ray is started on this machine if the program has not done
    `ray.init(address=...)` before, and then ended by `shutdown`.

    Raises an ImportError without ray, and a ValueError for more actors than the cluster has room for.
    """

    def __init__(self, workers: int | None = None, *, cpus: int | None = None, gpus: float | None = None) -> None:
        self._ray = _ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            self._ray.init(include_dashboard=False, logging_level="warning")
        try:
            self._plan(workers, cpus, gpus)
        except BaseException:
            self._end_ray()
            raise
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._closed, self._door, self._serving = False, threading.Lock(), self._workers
        self._threads = [
            threading.Thread(target=self._serve, name=f"ctrl.RayExecutor {number}", daemon=True)
            for number in range(self._workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call a function in the first actor that is free. Function, arguments and result are pickled by Ray."""
        future: Future[R] = Future()
        with self._door:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._jobs.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # Executor's
        """End the actors once their calls are done, all those that were submitted or, cancelled, those begun."""
        with self._door:
            if not self._closed:
                self._closed = True
                if cancel_futures:
                    self._cancel()
                for _ in self._threads:
                    self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _plan(self, workers: int | None, cpus: int | None, gpus: float | None) -> None:
        there = self._ray.cluster_resources()
        cores, cards = int(there.get("CPU", 0)), float(there.get("GPU", 0))
        self._gpus = float(cards > 0) if gpus is None else _share(gpus)
        usual = 1 if self._gpus else min(CPUS, max(1, cores))
        self._cpus = usual if cpus is None else integer("cpus", cpus, 1, 4096)
        room = cores // self._cpus
        if self._gpus:
            room = min(room, int(cards / self._gpus))
        self._workers = room if workers is None else integer("workers", workers, 1, 100_000)
        if not 0 < self._workers <= room:
            raise ValueError(
                f"the cluster of {cores} cores and {cards:g} GPUs has room for {room} workers of {self._cpus} cores "
                f"and {self._gpus:g} GPUs; {self._workers or 'at least 1'} are wanted: lower workers, cpus or gpus."
            )

    def _serve(self) -> None:
        """Hand jobs to one actor, and to the next if that is lost."""
        actor = None
        try:
            while (job := self._jobs.get()) is not None:
                actor = self._run(actor, *job)
                del job  # nothing of it is held while waiting for the next
            if actor is not None:
                self._ray.kill(actor)
        finally:
            with self._door:
                self._serving -= 1
                if not self._serving:
                    self._end_ray()

    def _run(
        self, actor: Any, future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...], how: dict[str, Any]
    ) -> Any:
        """Make a call in an actor, a new one if it is None; the actor, None if it was lost."""
        if not future.set_running_or_notify_cancel():
            return actor
        try:
            if actor is None:
                make = self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus)(_Actor)
                actor = make.remote(self._cpus)
            result = self._ray.get(actor.call.remote(function, args, how))
        except BaseException as error:
            future.set_exception(error)
            return None if isinstance(error, self._ray.exceptions.RayActorError) else actor
        future.set_result(result)
        return actor

    def _cancel(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is not None:
                job[0].cancel()

    def _end_ray(self) -> None:
        if self._started:
            self._started = False
            self._ray.shutdown()


class _Actor:
    """Calls functions in a process of its own."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function's result."""
        return function(*args, **kwargs)


def _share(gpus: object) -> float:
    if isinstance(gpus, bool) or not isinstance(gpus, int | float) or not 0 <= gpus < math.inf:
        raise ValueError(f"gpus must be a number, 0 or more, got {gpus!r:.60}.")
    return float(gpus)


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise ImportError(
            "RayExecutor needs ray: pip install 'ctrl-diffusion[ray]', in a checkout pip install '.[ray]'."
        ) from error
