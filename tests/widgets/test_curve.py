"""CurvePad without a kernel: schedules in and out."""

import pytest

from ctrl import Schedule, curve, hold, ramp

SCHEDULES = [
    hold(1.0),
    hold(0.0),
    hold(0.7, start=0.2, until=0.8),
    ramp(9.0, 3.0),
    ramp(0.0, 1.0, start=0.1, until=0.45),
    curve((0.0, 0.2), (0.3, 1.7), (0.31, 0.4), (1.0, 1.0)),
    curve((0.25, 1.0), (0.75, 0.5), until=0.5, by="noise"),
]


@pytest.fixture
def pad():
    from widgets import CurvePad

    one = CurvePad(steps=20)
    yield one
    one.close()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_comes_out_as_it_went_in(pad, schedule):
    pad.schedule = schedule
    assert pad.schedule == schedule


def test_a_number_is_the_same_in_every_step(pad):
    pad.schedule = 0.8
    assert pad.schedule == hold(0.8)


@pytest.mark.parametrize("wrong", ["1", None, True, [(0, 1)]])
def test_what_is_no_schedule_is_refused_and_changes_nothing(pad, wrong):
    with pytest.raises(TypeError, match="schedule must be a Schedule or a number"):
        pad.schedule = wrong
    assert pad.schedule == hold(1.0)


def test_a_schedule_above_the_limit_is_refused_with_the_cure(pad):
    with pytest.raises(ValueError, match=r"goes up to 11, above limit=10; lower it or raise the limit"):
        pad.schedule = ramp(0, 11)
    from widgets import CurvePad

    assert CurvePad(ramp(0, 11), limit=100).schedule == ramp(0, 11)


def test_noise_times_must_be_one_a_step():
    from widgets import CurvePad

    with pytest.raises(ValueError, match=r"one an evaluation, got 3 for steps=20"):
        CurvePad(times=[1, 0.5, 0])


def test_whoever_observes_finds_a_valid_schedule_at_every_change(pad):
    pad.schedule = hold(1.0, start=0.0, until=0.3)
    seen = []
    pad.observe(lambda change: seen.append(pad.schedule), ["points", "start", "until", "by"])
    pad.schedule = ramp(0.0, 1.0, start=0.5, until=0.9, by="noise")
    pad.set_state({"start": 0.95, "until": 1.0, "points": [[0.5, 2]]})
    assert set(seen) == {ramp(0.0, 1.0, start=0.5, until=0.9, by="noise"), Schedule(((0.5, 2.0),), 0.95, 1.0, "noise")}
