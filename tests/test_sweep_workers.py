"""Sweeps by others' hands: any executor makes the same pictures, and a worker that dies takes no finished one along."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sweep_worker
import torch
from variety import MAP, OTHER, PLAIN

import ctrl
from ctrl.sweeps.pool import Pool

RECIPE = PLAIN.replace(steps=4, guidance=5.0, controls=[ctrl.Pose(MAP, 0.8), ctrl.Depth(OTHER, 0.5)])
SWEEP = partial(ctrl.sweep, progress=False)
WAIT = 300.0  # seconds that an executor may take to start a worker on a busy machine


def pixels(sweep):
    return [np.asarray(shot.image) for shot in sweep]


def equal(sweep, other):
    return len(sweep) == len(other) and all(map(np.array_equal, pixels(sweep), pixels(other)))


class AtOnce(Executor):
    """Runs a call as it is submitted; after `good` of them it is broken."""

    def __init__(self, good=1000):
        self.good, self.closed = good, False

    def submit(self, fn, /, *args, **kwargs):
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = Future()
        self.good -= 1
        if self.good < -1:  # broken, and by now known to be
            raise BrokenExecutor("the pool is broken")
        if self.good < 0:
            future.set_exception(BrokenExecutor("the pool is broken"))
            return future
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.closed = True


def failing(error, times):
    """Doubles numbers; 3 fails so many times first."""
    left = [times]

    def double(number):
        if number == 3 and left[0]:
            left[0] -= 1
            raise error
        return 2 * number

    return double


def test_what_fails_is_tried_again_and_the_rest_is_made_meanwhile():
    with Pool(AtOnce(), 2) as pool:
        found = list(pool.each(failing(OSError("gone"), 2), range(6)))
    assert dict(found) == {n: 2 * n for n in range(6)} and found[-1] == (3, 6)


def test_what_fails_too_often_ends_it_after_what_was_finished_is_handed_out():
    found = []
    with Pool(AtOnce(), 2) as pool, pytest.raises(OSError, match="gone"):
        for one in pool.each(failing(OSError("gone"), 3), range(6)):
            found.append(one)
    assert dict(found) == {n: 2 * n for n in range(6) if n != 3}


@pytest.mark.parametrize(
    "error", [ValueError("no such LoRA"), TypeError("no number"), FloatingPointError("not finite")]
)
def test_what_was_asked_wrongly_is_not_tried_again(error):
    with Pool(AtOnce(), 5) as pool, pytest.raises(type(error), match=str(error)):
        list(pool.each(failing(error, 1), range(6)))


def test_an_executor_that_breaks_gives_what_it_finished_and_says_what_to_do():
    found = []
    with (
        Pool(AtOnce(good=4), 2) as pool,
        pytest.raises(BrokenExecutor, match="Give a function that makes the executor"),
    ):
        for one in pool.each(lambda number: 2 * number, range(9)):
            found.append(one)
    assert dict(found) == {0: 0, 1: 2, 2: 4, 3: 6}


def test_a_function_that_makes_executors_is_asked_for_another_until_all_is_done():
    made = []

    def fresh():
        made.append(AtOnce(good=4))
        return made[-1]

    with Pool(fresh, 0) as pool:
        with pytest.raises(BrokenExecutor):
            list(pool.each(str, range(9)))
        assert len(made) == 1
    made.clear()
    with Pool(fresh, 1) as pool:
        assert dict(pool.each(str, range(9))) == {n: str(n) for n in range(9)}
    assert len(made) == 3 and all(one.closed for one in made)


def test_executors_that_break_before_anything_is_finished_are_given_up():
    made = []

    def fresh():
        made.append(AtOnce(good=0))
        return made[-1]

    with Pool(fresh, 2) as pool, pytest.raises(BrokenExecutor):
        list(pool.each(str, range(9)))
    assert len(made) == 3


class AtEveryCall(AtOnce):
    """Is broken, says so of every call and takes more."""

    def submit(self, fn, /, *args, **kwargs):
        self.good = 0
        return super().submit(fn, *args, **kwargs)


def test_executors_that_break_and_still_take_calls_are_given_up():
    with Pool(AtEveryCall(), 2) as pool, pytest.raises(BrokenExecutor, match=r"the pool is broken\. Give a function"):
        list(pool.each(str, range(9)))
    made = []

    def fresh():
        made.append(AtEveryCall())
        return made[-1]

    with Pool(fresh, 2) as pool, pytest.raises(BrokenExecutor, match=r"the pool is broken$"):
        list(pool.each(str, range(9)))
    assert len(made) == 3


def test_an_executor_that_was_given_stays_open():
    executor = AtOnce()
    with Pool(executor, 2) as pool:
        list(pool.each(str, range(3)))
    assert not executor.closed and executor.submit(str, 4).result(WAIT) == "4"


@pytest.mark.parametrize("executor", ["threads", 4, lambda: "threads"])
def test_what_is_no_executor_is_refused(model, executor):
    with pytest.raises(TypeError, match="executor must be a"):
        SWEEP(model, RECIPE, {"seed": [1]}, executor=executor)


@pytest.mark.parametrize("retries", [-1, 1.5, "2"])
def test_what_is_no_number_of_retries_is_refused(model, retries):
    with pytest.raises((TypeError, ValueError), match="retries must be a whole number"):
        SWEEP(model, RECIPE, {"seed": [1]}, retries=retries)


@pytest.mark.slow
def test_threads_make_the_same_pictures_and_share_steps_each_by_itself(model):
    axes = {"seed": range(3), "controls[0].weight": [ctrl.hold(0.8, until=until) for until in (0.5, 1.0)]}
    with ThreadPoolExecutor(2) as executor:
        sweep = SWEEP(model, RECIPE, axes, executor=executor)
        assert executor.submit(str, 1).result(WAIT) == "1"
    assert equal(sweep, SWEEP(model, RECIPE, axes))
    assert sweep.evaluations + sweep.saved == 6 * 4
    with ThreadPoolExecutor(1) as executor:
        assert SWEEP(model, RECIPE, axes, executor=executor).saved == 3 * 2  # all that can be shared


def test_threads_load_a_model_once(folder, tmp_path, model):
    load = partial(sweep_worker.load, folder, tmp_path / "log")
    sweep = SWEEP(lambda: load(), RECIPE, {"seed": range(4)}, executor=lambda: ThreadPoolExecutor(3))
    assert equal(sweep, SWEEP(model, RECIPE, {"seed": range(4)}))
    assert sweep_worker.loaded_in(tmp_path / "log") == [os.getpid()]


def test_a_recipe_that_fails_in_a_worker_fails_as_it_does_here(model):
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="LoRA 'unheard'"):
        SWEEP(model, RECIPE.replace(loras=[ctrl.Lora("unheard")]), {"seed": range(2)}, executor=executor)


def test_an_on_shot_that_raises_ends_the_sweep_and_what_waits_is_not_made(model):
    class Enough(Exception):
        pass

    told = []

    def enough(shot, done, count):
        told.append(shot.recipe.seed)
        raise Enough

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(Enough):
            SWEEP(model, RECIPE, {"seed": range(40)}, executor=executor, on_shot=enough)
        calls = executor.submit(lambda: 1)  # in line behind whatever was not taken back
        assert calls.result(WAIT) == 1
    assert len(told) == 1


def spawned(workers):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize(
    ("source", "words"),
    [("model", "a loaded model cannot be sent; give model as a function"), ("lambda", "other processes can import")],
)
def test_processes_are_refused_what_cannot_be_sent_to_them(model, source, words):
    with ProcessPoolExecutor(1) as executor, pytest.raises(TypeError, match=words):
        SWEEP(model if source == "model" else lambda: model, RECIPE, {"seed": [1]}, executor=executor)


@pytest.mark.slow
def test_spawned_processes_load_the_model_once_and_make_the_same_pictures(model, folder, tmp_path):
    load, log = partial(sweep_worker.load, folder, tmp_path / "log"), tmp_path / "log"
    with spawned(2) as executor:
        sweep = SWEEP(load, RECIPE, {"seed": range(6)}, executor=executor, folder=tmp_path / "kept")
        more = SWEEP(load, RECIPE, {"seed": range(4, 8)}, executor=executor)  # the workers have the model
    assert equal(sweep, SWEEP(model, RECIPE, {"seed": range(6)}))
    assert equal(more, SWEEP(model, RECIPE, {"seed": range(4, 8)}))
    found = sweep_worker.loaded_in(log)
    assert 1 <= len(found) <= 2 and len(set(found)) == len(found) and os.getpid() not in found
    assert len(list((tmp_path / "kept").glob("*.png"))) == 6


@pytest.mark.slow
def test_a_process_that_is_killed_takes_no_finished_picture_along(model, folder, tmp_path):
    log, kept, told = tmp_path / "log", tmp_path / "kept", []
    load = partial(sweep_worker.load, folder, log)

    def kill_one(shot, done, count):
        told.append(shot.recipe.seed)
        if done == 2:
            os.kill(sweep_worker.loaded_in(log)[-1], signal.SIGKILL)

    with spawned(2) as executor, pytest.raises(ctrl.Unfinished, match="of 8 pictures are finished") as raised:
        SWEEP(load, RECIPE, {"seed": range(8)}, executor=executor, folder=kept, on_shot=kill_one)
    assert isinstance(raised.value.__cause__, BrokenExecutor)
    finished = [shot.recipe.seed for shot in raised.value.shots]
    assert finished == told and 2 <= len(finished) < 8
    assert len(list(kept.glob("*.png"))) == len(finished)
    told.clear()
    sweep = SWEEP(load, RECIPE, {"seed": range(8)}, executor=lambda: spawned(2), folder=kept, on_shot=kill_one)
    assert not {*told} & {*finished} and len(told) == 8 - len(finished)  # made once, for all the deaths
    assert equal(sweep, SWEEP(model, RECIPE, {"seed": range(8)}))


needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install ctrl-diffusion[ray]")


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, with room for two workers."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        here = Path(__file__).parent
        patch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent)]))
        patch.setenv("RAY_worker_register_timeout_seconds", "600")  # on a busy machine Ray's 60 pass too soon
        _begin(ray)
        yield ray
        ray.shutdown()


def _begin(ray, tries=3):
    """Start Ray, again where it gives up after the 30 seconds that it has for it: too few on a busy machine."""
    how = {"include_dashboard": False, "object_store_memory": 100 << 20, "log_to_driver": False}
    try:
        ray.init(num_cpus=2, num_gpus=0, **how)
    except Exception as error:
        ray.shutdown()
        if tries == 1 or "timed out" not in str(error):
            raise
        _begin(ray, tries - 1)


THIRTY_TWO = {
    "guidance": [3, 6, ctrl.ramp(6, 2), ctrl.hold(4, until=0.5)],
    "controls[1].weight": [0, 1],
    "seed": range(4),
}


@needs_ray
@pytest.mark.slow
def test_a_sweep_of_ray_is_the_serial_one_through_a_killed_worker_and_a_resumption(cluster, model, folder, tmp_path):
    log, kept, told, killed = tmp_path / "log", tmp_path / "kept", [], []
    load = partial(sweep_worker.load, folder, log)

    def kill_one_then_stop(shot, done, count):
        told.append(shot.recipe)
        if done == 5:
            killed.append(sweep_worker.loaded_in(log)[-1])
            os.kill(killed[0], signal.SIGKILL)
        if done == 20:
            raise KeyboardInterrupt

    with ctrl.RayExecutor(2, cpus=1) as executor:
        with pytest.raises(KeyboardInterrupt):
            SWEEP(load, RECIPE, THIRTY_TWO, executor=executor, folder=kept, on_shot=kill_one_then_stop)
        assert len(told) == len(list(kept.glob("*.png"))) == 20
        later = []
        sweep = SWEEP(
            load, RECIPE, THIRTY_TWO, executor=executor, folder=kept, on_shot=lambda shot, *_: later.append(shot.recipe)
        )
    assert len(later) == 12 and not {*later} & {*told}
    assert equal(sweep, SWEEP(model, RECIPE, THIRTY_TWO)) and len(sweep) == 32
    found = sweep_worker.loaded_in(log)
    assert len(found) == 3 == len(set(found)), "one load in each of two actors, and one in that which took the place"


@needs_ray
@pytest.mark.slow
def test_an_executor_of_ray_keeps_the_manners_of_executors(cluster):
    with ctrl.RayExecutor(1, cpus=1) as executor:
        assert executor.submit(pow, 2, exp=5).result(WAIT) == 32
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(WAIT)
        slow = executor.submit(sum, range(10))
        until = time.monotonic() + WAIT
        while not (slow.running() or slow.done()) and time.monotonic() < until:
            time.sleep(0.01)
        line = [executor.submit(pow, n, 2) for n in range(50)]
        executor.shutdown(cancel_futures=True)
        assert slow.result() == 45 and any(future.cancelled() for future in line)
        assert all(future.cancelled() or future.result() == n * n for n, future in enumerate(line))
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(pow, 2, 2)
    assert cluster.is_initialized()  # as it was found


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"workers": 3, "cpus": 1}, "room for 2 workers of 1 cores and 0 GPUs; 3 are wanted"),
        ({"cpus": 3}, "room for 0 workers of 3 cores"),
        ({"gpus": 1}, "0 GPUs has room for 0 workers"),
        ({"cpus": 0}, "cpus must be a whole number from 1"),
        ({"workers": 0}, "workers must be a whole number from 1"),
        ({"gpus": -1}, "gpus must be a number, 0 or more"),
    ],
)
def test_more_workers_than_a_cluster_has_room_for_are_refused(cluster, how, words):
    with pytest.raises(ValueError, match=words):
        ctrl.RayExecutor(**how)


class StandIn:
    """Ray's part in the executor, in this process: actors that can be lost, and what was asked of the cluster."""

    class exceptions:
        class RayActorError(Exception):
            pass

    def __init__(self, cpus, gpus):
        self.there, self.made, self.killed, self.running = {"CPU": cpus, "GPU": gpus}, [], [], False

    def is_initialized(self):
        return self.running

    def init(self, **how):
        self.running = True

    def shutdown(self):
        self.running = False

    def cluster_resources(self):
        return self.there

    def remote(self, **how):
        return lambda cls: SimpleNamespace(remote=lambda *args: self._actor(cls(*args), how))

    def _actor(self, actor, how):
        self.made.append(how)
        return SimpleNamespace(call=SimpleNamespace(remote=lambda *call: partial(actor.call, *call)))

    def get(self, ref):
        return ref()

    def kill(self, actor):
        self.killed.append(actor)


@pytest.fixture
def standing_in(monkeypatch):
    """Puts a stand-in of Ray in its place; its actors are in this process, whose threads are not theirs to set."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)

    def put(cpus, gpus):
        ray = StandIn(cpus, gpus)
        monkeypatch.setitem(sys.modules, "ray", ray)
        return ray

    return put


def lost():
    raise StandIn.exceptions.RayActorError("the actor died")


def test_a_lost_actor_is_replaced_and_only_the_call_it_was_at_fails(standing_in):
    ray = standing_in(cpus=2, gpus=0)
    with ctrl.RayExecutor(1, cpus=1) as executor:
        calls = [executor.submit(*call) for call in [(pow, 2, 3), (lost,), (divmod, 1, 0), (pow, 2, 4)]]
    assert calls[0].result(WAIT) == 8 and calls[3].result(WAIT) == 16
    assert isinstance(calls[1].exception(WAIT), StandIn.exceptions.RayActorError)
    assert isinstance(calls[2].exception(WAIT), ZeroDivisionError)
    assert ray.made == 2 * [{"num_cpus": 1, "num_gpus": 0.0}] and len(ray.killed) == 1
    assert not ray.running  # it was started for the executor
    left = [2]

    def dies_twice(number):
        if number == 3 and left[0]:
            left[0] -= 1
            lost()
        return number

    with Pool(lambda: ctrl.RayExecutor(2, cpus=1), 2) as pool:
        assert dict(pool.each(dies_twice, range(8))) == {n: n for n in range(8)}


@pytest.mark.parametrize(
    ("cpus", "gpus", "given", "made"),
    [
        (16, 4, {}, 4 * [{"num_cpus": 1, "num_gpus": 1.0}]),  # one a GPU
        (16, 0, {}, 4 * [{"num_cpus": 4, "num_gpus": 0.0}]),  # one for four cores
        (2, 0, {}, [{"num_cpus": 2, "num_gpus": 0.0}]),
        (16, 1, {"gpus": 0.5, "cpus": 2}, 2 * [{"num_cpus": 2, "num_gpus": 0.5}]),
    ],
)
def test_there_are_as_many_actors_as_the_cluster_has_room_for(standing_in, cpus, gpus, given, made):
    ray = standing_in(cpus, gpus)
    all_at_once = threading.Barrier(len(made))
    with ctrl.RayExecutor(**given) as executor:
        calls = [executor.submit(all_at_once.wait, 30) for _ in made]
        assert sorted(call.result(WAIT) for call in calls) == [*range(len(made))]
    assert ray.made == made


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'ctrl-diffusion\[ray\]'"):
        ctrl.RayExecutor()
