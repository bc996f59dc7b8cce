"""A live session in its thread: what it tells, what it survives, and that it ends."""

import asyncio
import gc
import random
import sys
import threading
import time
import tracemalloc
from concurrent.futures import CancelledError
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from variety import MAP, PLAIN

import ctrl
from ctrl.live import Recording, Settings, record
from ctrl.live.active import activity

RECIPE = PLAIN.replace(steps=3, guidance=5.0, controls=[ctrl.Pose(MAP, 0.8)])
WAIT = 60.0


def pixels(picture):
    return np.asarray(picture)


def fresh(model, recipe):
    return pixels(ctrl.sample(model, recipe).image)


def test_it_follows_and_the_frame_at_rest_is_exact(model):
    frames, states = [], []
    with ctrl.Live(model, RECIPE, frames.append, states.append) as live:
        for weight in (5.0, 6.0, 7.0):
            live.update(RECIPE.replace(guidance=weight))
            frame = live.wait(WAIT)
            assert frame.exact and np.array_equal(pixels(frame.image), fresh(model, RECIPE.replace(guidance=weight)))
        assert live.frame is frames[-1] and live.recipe == RECIPE.replace(guidance=7.0)
        assert 0 < live.cache.bytes <= live.cache.limit
    assert states[-1].phase == "closed" == live.state.phase


def test_result_can_be_awaited(model):
    async def run():
        with ctrl.Live(model, RECIPE) as live:
            first = await asyncio.wait_for(live.result(), WAIT)
            live.update(RECIPE.replace(seed=1))
            second = await asyncio.wait_for(live.result(), WAIT)
            return first, second

    first, second = asyncio.run(run())
    assert (first.recipe, second.recipe) == (RECIPE, RECIPE.replace(seed=1))


def test_a_thousand_updates_leave_one_waiting_and_lose_none(model):
    threads = threading.active_count()
    with ctrl.Live(model, RECIPE) as live:
        live.wait(WAIT)
        for number in range(1000):
            live.update(RECIPE.replace(guidance=1 + number / 100))
        frame = live.wait(WAIT)
        assert frame.recipe == RECIPE.replace(guidance=10.99)
        assert np.array_equal(pixels(frame.image), fresh(model, frame.recipe))
        assert len(live.cache) < 60
    assert threading.active_count() <= threads, "one that an earlier test left may end meanwhile"


@pytest.mark.slow
def test_updates_that_nobody_waits_for_grow_no_memory(model):
    recipes = [RECIPE.replace(guidance=1 + number / 1000) for number in range(2000)]
    with ctrl.Live(model, RECIPE) as live:
        live.wait(WAIT)
        with model.lock:  # the worker waits for the model, as if an evaluation took seconds
            for recipe in recipes[:50]:
                live.update(recipe)
            gc.collect()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            for recipe in recipes[50:]:
                live.update(recipe)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert after - before < 20_000
            assert len(live.record()) <= 3 and live.record().moves[-1][1] is recipes[-1]
        assert live.wait(WAIT).recipe == recipes[-1]


@pytest.mark.slow
def test_frames_at_rest_leave_no_tensors_behind(model):
    def alive():
        gc.collect()
        return sum(isinstance(found, torch.Tensor) for found in gc.get_objects())

    weights = [3.0, 4.0, 5.0]
    settings = Settings(memory=1 << 17)
    with ctrl.Live(model, RECIPE, settings=settings) as live:
        counts = []
        for number in range(24):
            live.update(RECIPE.replace(guidance=10 + number / 8, seed=number % 2))
            live.wait(WAIT)
            counts.append(alive())
        assert max(counts[12:]) <= max(counts[:12]), "new pictures push old ones out"
        for weight in weights:
            live.update(RECIPE.replace(guidance=weight))
            live.wait(WAIT)
        before = alive()
        for weight in 3 * weights:
            live.update(RECIPE.replace(guidance=weight))
            live.wait(WAIT)
        assert alive() <= before, "pictures seen before make no tensor that stays"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sessions_in_a_hurry_and_samples_on_one_model_end_with_what_each_gives_alone(model, seed):
    draw = random.Random(seed)
    wanted = [RECIPE.replace(seed=draw.randrange(9), guidance=draw.choice([1.0, 3.0, 5.0])) for _ in range(8)]
    alone = {recipe: fresh(model, recipe) for recipe in wanted}
    found = {}

    def hurry(name, live):
        for recipe in wanted:
            live.update(recipe)
            time.sleep(draw.choice([0, 0.01]))
        found[name] = live.wait(WAIT)

    with ctrl.Live(model, wanted[1]) as one, ctrl.Live(model, wanted[2], settings=Settings(fill=2)) as other:
        hands = [threading.Thread(target=hurry, args=pair) for pair in (("one", one), ("other", other))]
        for hand in hands:
            hand.start()
        samples = [fresh(model, recipe) for recipe in wanted[:3]]
        for hand in hands:
            hand.join(WAIT)
    for frame in found.values():
        assert frame.recipe == wanted[-1] and np.array_equal(pixels(frame.image), alone[wanted[-1]])
    assert sorted(found) == ["one", "other"]
    assert all(np.array_equal(sample, alone[recipe]) for sample, recipe in zip(samples, wanted, strict=False))


def test_update_returns_at_once(model):
    with ctrl.Live(model, RECIPE.replace(steps=30)) as live:
        with model.lock:  # the worker waits for the model; nobody waits for the worker
            began = time.monotonic()
            for seed in range(100):
                live.update(RECIPE.replace(seed=seed))
            assert time.monotonic() - began < 5
        assert live.wait(WAIT).recipe == RECIPE.replace(seed=99)


@pytest.mark.parametrize(
    "broken",
    [RECIPE.replace(width=34, height=34), RECIPE.replace(controls=[ctrl.Control("scribble", MAP)])],
    ids=["a size", "a kind"],
)
def test_an_error_is_told_and_the_session_goes_on(model, broken):
    states = []
    with ctrl.Live(model, RECIPE, on_state=states.append) as live:
        live.wait(WAIT)
        live.update(broken)
        with pytest.raises(ValueError, match=r"multiple of|has no ControlNet"):
            live.wait(WAIT)
        failed = [state for state in states if state.phase == "failed"]
        assert len(failed) == 1 and failed[0].message.endswith("change the recipe to go on")
        live.update(RECIPE.replace(seed=2))
        assert np.array_equal(pixels(live.wait(WAIT).image), fresh(model, RECIPE.replace(seed=2)))


def test_a_callback_that_raises_is_told_too(model):
    states, calls = [], []

    def show(frame):
        calls.append(frame)
        if len(calls) == 1:
            raise RuntimeError("the browser is gone")

    with ctrl.Live(model, RECIPE, show, states.append) as live:
        with pytest.raises(RuntimeError, match="the browser is gone"):
            live.wait(WAIT)
        live.update(RECIPE.replace(seed=3))
        assert live.wait(WAIT).exact
    failed = [state.message for state in states if state.phase == "failed"]
    assert failed == ["on_frame raised RuntimeError: the browser is gone; mend on_frame"]


def test_cancelling_keeps_the_last_frame(model):
    started = threading.Event()
    with ctrl.Live(model, RECIPE) as live:
        first = live.wait(WAIT)
        hook = model.unet.register_forward_pre_hook(lambda *_: started.set())
        live.update(RECIPE.replace(seed=4, steps=200))
        started.wait(WAIT)
        hook.remove()
        live.cancel()
        with pytest.raises(CancelledError):
            live.wait(WAIT)
        assert live.frame is first or live.frame.kind == "preview"
        live.update(RECIPE.replace(seed=5))
        assert live.wait(WAIT).recipe == RECIPE.replace(seed=5)


def test_what_is_cancelled_is_told_also_before_it_was_begun(model):
    told, cancelled = [], threading.Event()

    def tell(state):
        told.append(state)
        cancelled.set() if state.phase == "cancelled" else None

    with ctrl.Live(model, RECIPE, on_state=tell) as live:
        live.wait(WAIT)
        for seed in range(10):
            cancelled.clear()
            live.update(RECIPE.replace(steps=200, seed=seed))
            live.cancel()
            assert cancelled.wait(WAIT)
            assert told[-1].recipe == RECIPE.replace(steps=200, seed=seed).hash


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the thread that exits
@pytest.mark.parametrize("hand", ["cancels", "waits", "exits"])
def test_whatever_a_callback_does_with_its_own_session_nobody_waits_for_ever(model, hand):
    states, hands = [], {"cancels": lambda: live.cancel(), "waits": lambda: live.wait(), "exits": sys.exit}
    quiet = Settings(previews=None)
    live = ctrl.Live(model, RECIPE, lambda frame: hands[hand](), states.append, settings=quiet)
    with pytest.raises(RuntimeError if hand == "waits" else CancelledError):
        live.wait(WAIT)
    live.close()
    assert [state.phase for state in states if state.phase in ("failed", "closed")] == (
        ["failed", "closed"] if hand == "waits" else ["closed"]
    )


def test_closing_under_load_ends_soon_and_update_then_says_so(model):
    live = ctrl.Live(model, RECIPE.replace(steps=500))
    began = time.monotonic()
    live.close()
    assert time.monotonic() - began < WAIT / 2
    live.close()
    with pytest.raises(RuntimeError, match="closed"):
        live.update(RECIPE)


def test_two_sessions_and_a_sample_on_one_model_give_what_each_gives_alone(model):
    wanted = [RECIPE.replace(seed=seed) for seed in range(3)]
    expected = [fresh(model, recipe) for recipe in wanted]
    with ctrl.Live(model, wanted[0]) as one, ctrl.Live(model, wanted[1]) as other:
        third = pixels(ctrl.sample(model, wanted[2]).image)
        found = [pixels(one.wait(WAIT).image), pixels(other.wait(WAIT).image), third]
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_closing_waits_for_no_more_than_a_layer_though_a_recipe_waits_that_needs_the_step(model):
    begun, go, reached = threading.Event(), threading.Event(), []

    def first(*_):
        begun.set()
        assert go.wait(WAIT)

    last = [module for module in model.unet.modules() if type(module).__name__ == "Attention"][-1]
    hooks = [
        model.unet.register_forward_pre_hook(first),
        last.register_forward_pre_hook(lambda *_: reached.append(1)),
    ]
    try:
        live = ctrl.Live(model, RECIPE)
        assert begun.wait(WAIT)
        live.update(RECIPE.replace(guidance=ctrl.curve((0, 5), (0.5, 5), (1, 9))))
        end = threading.Thread(target=live.close)
        end.start()
        while not live._mailbox.closed:
            time.sleep(0.001)
        go.set()
        end.join(WAIT)
    finally:
        for hook in hooks:
            hook.remove()
    assert not reached and live.state.phase == "closed"


def test_what_it_is_given_is_checked(model):
    with pytest.raises(TypeError, match="model must be a Model"):
        ctrl.Live("model", RECIPE)
    with pytest.raises(TypeError, match="recipe must be a Recipe"):
        ctrl.Live(model, "a red ball")
    for wrong, sentence in {
        "on_frame": (3, "on_frame must be a function of a Frame"),
        "on_state": (lambda: None, "on_state must be a function of one argument, a State"),
        "settings": ({"fill": 2}, "settings must be ctrl.live.Settings"),
        "tiny_vae": ("taesd", "tiny_vae must be a loaded autoencoder"),
    }.items():
        with pytest.raises(TypeError, match=sentence[1]):
            ctrl.Live(model, RECIPE, **{wrong: sentence[0]})
    with pytest.raises(ValueError, match="previews must be"):
        Settings(previews=-1)
    with pytest.raises(ValueError, match="fill must be"):
        Settings(fill=1.5)


def test_active_says_where_each_part_acts_and_why_one_does_not(model):
    recipe = RECIPE.replace(
        steps=4,
        controls=[
            ctrl.Pose(MAP, ctrl.hold(0.8, until=0.5)),
            ctrl.Depth(MAP, on=False),
            ctrl.Edges(MAP, 0.0),
            ctrl.Edges(MAP, ctrl.hold(1, start=0.4, until=0.4001)),
        ],
    )
    with ctrl.Live(model, recipe) as live:
        found = {one.name: one for one in live.active()}
        with pytest.raises(TypeError, match="recipe must be a Recipe"):
            live.active("a red ball")
    assert found["controls[0]"].steps == (0, 1) and found["controls[0]"].reason == ""
    assert found["guidance"].steps == (0, 1, 2, 3)
    reasons = [found[f"controls[{number}]"].reason for number in (1, 2, 3)]
    assert reasons == ["it is switched off", "its weight is 0", "its window is narrower than a step"]


def test_active_knows_masks_of_words_that_are_black_at_first_and_steps_without_a_prediction(model):
    late, early = (ctrl.Words("ball", start=start, before="nowhere") for start in (0.5, 0.0))
    recipe = RECIPE.replace(
        steps=4,
        regions=[ctrl.Region("a box", late), ctrl.Region("a hat", early)],
        controls=[
            ctrl.Pose(MAP, mask=ctrl.Words("ball", start=0.5)),
            ctrl.Depth(MAP, ctrl.hold(1, until=0.5), mask=late),
        ],
    )
    found = {one.name: one for one in activity(model, recipe)}
    assert {name: one.steps for name, one in found.items()} == {
        "guidance": (0, 1, 2, 3),
        "controls[0]": (0, 1, 2, 3),  # everywhere before its start
        "controls[1]": (),
        "regions[0]": (2, 3),
        "regions[1]": (1, 2, 3),  # the first step makes its map
    }
    assert found["controls[1]"].reason == "its mask, or zero-init, leaves no step for it to act in"
    begun = recipe.replace(guidance=ctrl.Guidance(5.0, zero=ctrl.CFGZero(2)))
    found = {one.name: one.steps for one in activity(model, begun)}
    assert found == {
        "guidance": (2, 3),
        "controls[0]": (2, 3),
        "controls[1]": (),
        "regions[0]": (3,),  # the first step that is predicted makes its map
        "regions[1]": (3,),
    }


def test_active_knows_that_another_part_may_have_made_the_map_of_its_words(model):
    late = ctrl.Depth(MAP, ctrl.hold(1, start=0.5), mask=ctrl.Words("ball", start=0.0, before="nowhere"))
    alone = RECIPE.replace(steps=4, controls=[late])
    assert {one.name: one.steps for one in activity(model, alone)}["controls[0]"] == (3,)
    beside = alone.replace(regions=[ctrl.Region("a hat", ctrl.Words("ball", start=0.0))])
    assert {one.name: one.steps for one in activity(model, beside)}["controls[0]"] == (2, 3)


def test_a_recording_saves_replays_and_renders_exactly(model, tmp_path):
    moves = [RECIPE, RECIPE.replace(guidance=7.0), RECIPE.replace(seed=1)]
    with ctrl.Live(model, moves[0]) as live:
        live.wait(WAIT)
        for recipe in moves[1:]:
            live.update(recipe)
            live.wait(WAIT)
        recording = live.record()
    recording.save(tmp_path / "session.json")
    again = Recording.load(tmp_path / "session.json")
    assert [recipe for _, recipe in again.moves] == moves
    times = [seconds for seconds, _ in again.moves]
    assert times == sorted(times) and times[0] >= 0
    for shot, recipe in zip(again.shots(model), moves, strict=True):
        assert np.array_equal(pixels(shot.image), fresh(model, recipe))
    with ctrl.Live(model, RECIPE) as live:
        assert list(again.replay(live)) == moves
    with pytest.raises(ValueError, match="is no recording"):
        (tmp_path / "other.json").write_text("{}")
        Recording.load(tmp_path / "other.json")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_a_recording_becomes_a_film(model, tmp_path, suffix):
    import cv2
    from PIL import Image

    wide = RECIPE.replace(seed=2, width=64, height=32)
    recording = Recording(((0.0, RECIPE), (0.2, RECIPE.replace(seed=1)), (0.5, wide)))
    path = tmp_path / f"film{suffix}"
    recording.film(model, path)
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".mp4":
        film = cv2.VideoCapture(str(path))
        assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 5 + 8 + 25
        assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 64
        return
    with Image.open(path) as film:
        assert film.n_frames == 3
        if suffix == ".webp":
            film.seek(1)
            film.load()
            shown = pixels(film.convert("RGB"))
            assert np.array_equal(shown[:, 16:48], fresh(model, RECIPE.replace(seed=1)))
            assert not shown[:, :16].any() and not shown[:, 48:].any()
    with pytest.raises(ValueError, match="must end in"):
        recording.film(model, tmp_path / "film.avi")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_a_film_that_fails_leaves_the_file_as_it_was(model, tmp_path, monkeypatch, suffix):
    from PIL import Image

    def fails(*args, **kwargs):
        raise OSError("no room on the disk")

    monkeypatch.setattr(Image.Image, "save", fails)
    monkeypatch.setattr(record, "_write_mp4", fails)
    path = tmp_path / f"film{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match="no room"):
        Recording(((0.0, RECIPE),)).film(model, path)
    assert [(one, one.read_bytes()) for one in tmp_path.iterdir()] == [(path, b"before")]


def test_an_on_state_that_always_raises_is_logged_and_the_session_still_ends(model, caplog):
    def broken(state):
        raise RuntimeError(f"no room for {state.phase}")

    live = ctrl.Live(model, RECIPE, on_state=broken)
    with pytest.raises(RuntimeError, match="no room for running"):
        live.wait(WAIT)
    live.close()
    assert [record.getMessage() for record in caplog.records if record.name == "ctrl.live.live"] == [
        "on_state raised an error at the state 'failed'",
        "on_state raised an error at the state 'closed'",
    ]


class Busy:
    """An `on_frame` that is busy with its first frame until it is let go."""

    def __init__(self):
        self.frames, self.go, self.begun = [], threading.Event(), threading.Event()

    def __call__(self, frame):
        self.frames.append(frame)
        self.begun.set()
        assert self.go.wait(WAIT)


@contextmanager
def drawn(model):
    """A semaphore that is released by every picture that is decoded."""
    made = threading.Semaphore(0)
    hook = model.vae.decoder.register_forward_hook(lambda *_: made.release())
    try:
        yield made
    finally:
        hook.remove()


ALL = Settings(previews=0.0)


def test_a_slow_on_frame_holds_up_no_run_and_gets_the_newest_frames_alone(model):
    show, recipes = Busy(), [RECIPE.replace(seed=seed) for seed in range(5)]
    with drawn(model) as made, ctrl.Live(model, recipes[0], show, settings=ALL) as live:
        assert show.begun.wait(WAIT) and made.acquire(timeout=WAIT), "its preview: no map of these latents is known yet"
        for number, recipe in enumerate(recipes):
            if number:
                live.update(recipe)
            assert made.acquire(timeout=WAIT), "its picture is made while on_frame is busy"
        assert len(show.frames) == 1
        show.go.set()
        last = live.wait(WAIT)
    first, *later = show.frames
    assert (first.kind, first.recipe) == ("preview", recipes[0])
    assert len(later) <= 3 and {frame.recipe for frame in later} <= set(recipes[-2:])
    assert (
        last is later[-1]
        and last.recipe == recipes[-1]
        and np.array_equal(pixels(last.image), fresh(model, recipes[-1]))
    )


def test_a_slow_on_frame_gets_the_last_exact_frame_though_a_later_run_is_cancelled(model):
    show, states = Busy(), []
    with drawn(model) as made, ctrl.Live(model, RECIPE, show, states.append, settings=ALL) as live:
        assert made.acquire(timeout=WAIT) and made.acquire(timeout=WAIT), "a preview, and the picture"
        began = threading.Event()
        hook = model.unet.register_forward_pre_hook(lambda *_: began.set())
        live.update(RECIPE.replace(seed=1, steps=200))
        assert began.wait(WAIT)
        hook.remove()
        live.cancel()
        show.go.set()
    assert [frame.recipe for frame in show.frames if frame.exact] == [RECIPE]
    assert {frame.kind for frame in show.frames[2:]} <= {"preview"} and len(show.frames) <= 3
    assert states[-1].phase == "closed"


def test_a_slow_on_state_is_told_the_newest_state_of_each_phase(model):
    states, go = [], threading.Event()

    def tell(state):
        states.append(state)
        assert go.wait(WAIT)

    with drawn(model) as made, ctrl.Live(model, RECIPE, None, tell, settings=Settings(previews=None)) as live:
        for seed in range(1, 6):
            assert made.acquire(timeout=WAIT)
            live.update(RECIPE.replace(seed=seed))
        assert made.acquire(timeout=WAIT)
        go.set()
        live.wait(WAIT)
    assert len(states) <= 6 and [state.phase for state in states[-2:]] == ["idle", "closed"]
    assert states[-2].recipe == RECIPE.replace(seed=5).hash


def test_a_session_may_be_moved_and_closed_by_its_own_callback(model):
    frames = []

    def show(frame):
        frames.append(frame)
        if frame.recipe == RECIPE:
            live.update(RECIPE.replace(seed=1))
        else:
            live.close()

    phases, closed = [], threading.Event()

    def tell(state):
        phases.append(state.phase)
        closed.set() if state.phase == "closed" else None

    with model.lock:  # until `live` is bound
        live = ctrl.Live(model, RECIPE, show, tell, settings=Settings(previews=None))
    assert closed.wait(WAIT)
    assert [frame.recipe for frame in frames] == [RECIPE, RECIPE.replace(seed=1)]
    assert live.state.phase == phases[-1] == "closed"
    with pytest.raises(RuntimeError, match="closed"):
        live.update(RECIPE)


def test_an_awaited_result_may_be_given_up_and_awaited_again(model):
    async def run(live):
        with model.lock, pytest.raises(TimeoutError):  # the worker waits for the model
            live.update(RECIPE.replace(seed=6))
            await asyncio.wait_for(live.result(), 0.01)
        return await asyncio.wait_for(live.result(), WAIT)

    with ctrl.Live(model, RECIPE) as live:
        live.wait(WAIT)
        assert asyncio.run(run(live)).recipe == RECIPE.replace(seed=6)
        live.cancel()
        assert live.wait(WAIT).recipe == RECIPE.replace(seed=6), "what is finished is not cancelled"


def test_it_computes_in_as_many_threads_as_the_one_who_asks(model):
    counts = []

    def note(*_):
        counts.append(torch.get_num_threads())
        raise RuntimeError("that is enough")

    with ctrl.Live(model, RECIPE, settings=Settings(previews=None)) as live:
        live.wait(WAIT)
        hook, before = model.unet.register_forward_pre_hook(note), torch.get_num_threads()
        try:
            torch.set_num_threads(before + 1)
            live.update(RECIPE)  # seen before, by sums that round in another way
            with pytest.raises(RuntimeError, match="enough"):
                live.wait(WAIT)
        finally:
            torch.set_num_threads(before)
            hook.remove()
        assert counts == [before + 1]
        live.update(RECIPE)
        assert np.array_equal(pixels(live.wait(WAIT).image), fresh(model, RECIPE))
