"""A live session in its thread: what it tells, what it survives, and that it ends."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from variety import MAP, PLAIN

import ctrl
from ctrl.live import Recording, Settings

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
    assert threading.active_count() == threads


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
    assert "failed" in {state.phase for state in states}


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


def test_what_it_is_given_is_checked(model):
    with pytest.raises(TypeError, match="model must be a Model"):
        ctrl.Live("model", RECIPE)
    with pytest.raises(TypeError, match="recipe must be a Recipe"):
        ctrl.Live(model, "a red ball")
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
    assert found["controls[0]"].steps == (0, 1) and found["controls[0]"].reason == ""
    assert found["guidance"].steps == (0, 1, 2, 3)
    reasons = [found[f"controls[{number}]"].reason for number in (1, 2, 3)]
    assert reasons == ["it is switched off", "its weight is 0", "its window is narrower than a step"]


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

    recording = Recording(((0.0, RECIPE), (0.2, RECIPE.replace(seed=1)), (0.5, RECIPE.replace(seed=2))))
    path = tmp_path / f"film{suffix}"
    recording.film(model, path)
    if suffix == ".mp4":
        film = cv2.VideoCapture(str(path))
        assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 5 + 8 + 25
        return
    with Image.open(path) as film:
        assert film.n_frames == 3
        if suffix == ".webp":
            film.seek(1)
            film.load()
            assert np.array_equal(pixels(film.convert("RGB")), fresh(model, RECIPE.replace(seed=1)))
    with pytest.raises(ValueError, match="must end in"):
        recording.film(model, tmp_path / "film.avi")


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
