"""CurvePad in Chromium: the curve is what `ctrl.Schedule` computes, and is changed by mouse, keys and numbers."""

import numpy as np
import pytest
from test_curve import SCHEDULES

from ctrl import curve, hold, ramp

COUNTS = (1, 4, 7, 20, 50)


@pytest.fixture
def pad():
    from widgets import CurvePad

    one = CurvePad(ramp(0.2, 1.0, start=0.1, until=0.8), steps=20)
    yield one
    one.close()


def bars(stage):
    """The values drawn, by step."""
    found = stage.page.evaluate(
        "[...document.querySelectorAll('.bar')].map((bar) => [+bar.dataset.step, +bar.dataset.value])"
    )
    return {int(step): value for step, value in found}


def drag(stage, locator, dx, dy):
    box = locator.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    stage.page.mouse.move(x, y)
    stage.page.mouse.down()
    stage.page.mouse.move(x + dx / 2, y + dy / 2)
    stage.page.mouse.move(x + dx, y + dy)
    stage.settle(30)
    stage.page.mouse.up()
    stage.settle(60)


@pytest.mark.parametrize("count", COUNTS)
def test_the_steps_drawn_are_those_that_ctrl_computes(stage, count):
    from widgets import CurvePad

    times = np.linspace(1, 1 / count, count).tolist()
    windows = [
        hold(1.0, start=a, until=b) for a, b in ((0, 0.2), (0.25, 0.5), (1 / 3, 2 / 3), (0.9, 1), (0.001, 0.999))
    ]
    for schedule in [*SCHEDULES, *windows]:
        pad = CurvePad(schedule, steps=count, times=times)
        stage.show(pad)
        stage.settle(40)
        inside = {i: pytest.approx(schedule.at(i, count, times)) for i in schedule.steps(count, times)}
        assert bars(stage) == inside, schedule
        stage.page.evaluate("unmount(models.length - 1)")
        pad.close()


def test_a_point_is_dragged_and_python_has_the_schedule(stage, pad):
    leaf = stage.show(pad)
    drag(stage, leaf.locator("[data-point='0']"), 60, -60)
    (x, y), last = pad.schedule.points
    assert 0.05 < x < 0.5 and 0.4 < y < 1.2 and last == (1.0, 1.0)
    assert (pad.schedule.start, pad.schedule.until) == (0.1, 0.8)
    leaf.get_by_role("button", name="Undo").click()
    stage.settle(40)
    assert pad.schedule == ramp(0.2, 1.0, start=0.1, until=0.8)


def test_a_window_handle_snaps_to_the_steps(stage, pad):
    leaf = stage.show(pad)
    drag(stage, leaf.locator("[data-edge=start] .knob"), 73, 0)
    assert pad.start == pytest.approx(round(pad.start * 20) / 20, abs=1e-4)
    assert 0.15 < pad.start < 0.3
    assert leaf.locator(".said").inner_text().startswith("Step ")
    stage.page.mouse.move(5, 5)
    stage.settle(40)
    assert f"in steps {round(pad.start * 20) + 1}–16 of 20." in leaf.locator(".said").inner_text()


def test_a_double_click_adds_a_point_and_delete_removes_it(stage, pad):
    leaf = stage.show(pad)
    box = leaf.locator("svg.plot").bounding_box()
    stage.page.mouse.dblclick(box["x"] + box["width"] * 0.4, box["y"] + 60)
    stage.settle(50)
    assert len(pad.points) == 3
    leaf.locator("[data-point='1']").focus()
    stage.page.keyboard.press("Delete")
    stage.settle(50)
    assert pad.schedule == ramp(0.2, 1.0, start=0.1, until=0.8)


def test_keys_move_points_and_window(stage, pad):
    leaf = stage.show(pad)
    leaf.locator("[data-point='1']").focus()
    stage.page.keyboard.press("ArrowDown")
    stage.page.keyboard.press("ArrowLeft")
    stage.settle(40)
    assert pad.points[1] == pytest.approx([0.95, 1 - 1 / 40])
    leaf.get_by_role("slider", name="End of the window").focus()
    stage.page.keyboard.press("ArrowRight")
    stage.settle(40)
    assert pad.until == pytest.approx(0.85)
    stage.page.keyboard.press("Control+z")
    stage.settle(40)
    assert pad.until == pytest.approx(0.8)


def test_numbers_can_be_typed(stage, pad):
    leaf = stage.show(pad)
    for name, value in (
        ("value of point 1", "2.5"),
        ("position of point 1 in percent", "25"),
        ("from %", "50"),
        ("until %", "40"),
    ):
        field = leaf.get_by_role("spinbutton", name=name, exact=True)
        field.fill(value)
        field.press("Enter")
        stage.settle(40)
    assert pad.points[0] == [0.25, 2.5]
    assert (pad.start, pad.until) == (0.5, pytest.approx(0.525)), "the end stays behind the start"
    assert "Acts in no step" in leaf.locator(".said").inner_text()
    leaf.get_by_label("Window by").select_option("noise")
    stage.settle(40)
    assert pad.by == "noise" and "the sampler decides" in leaf.locator(".said").inner_text()


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("Constant", hold(1.0)),
        ("Rise", ramp(0.0, 1.0)),
        ("Fall", ramp(1.0, 0.0)),
        ("Hill", curve((0, 0), (0.5, 1), (1, 0))),
    ],
)
def test_a_shape_is_one_press(stage, pad, name, schedule):
    leaf = stage.show(pad)
    leaf.get_by_role("button", name=name).click()
    stage.settle(40)
    assert pad.points == [list(point) for point in schedule.points]


def test_a_step_says_its_value_under_the_pointer(stage, pad):
    leaf = stage.show(pad)
    box = leaf.locator("svg.plot").bounding_box()
    stage.page.mouse.move(box["x"] + 42, box["y"] + 100)
    stage.settle(40)
    assert leaf.locator(".said").inner_text() == "Step 1 of 20: 0, outside the window"
    stage.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    stage.settle(40)
    step = int(leaf.locator(".said").inner_text().split()[1])
    assert float(leaf.locator(".said").inner_text().split()[-1]) == pytest.approx(
        pad.schedule.at(step - 1, 20), abs=1e-3
    )


def test_closing_leaves_no_listener_behind(stage, pad):
    stage.show(pad)
    stage.close()
    assert stage.page.evaluate("models[0].model.listening") == 0


@pytest.mark.parametrize("theme", ["light", "dark", "jupyter", "contrast"])
def test_it_can_be_read_by_everyone_and_fits_a_phone(stage, theme):
    from widgets import CurvePad

    stage.theme(theme)
    shape = curve((0, 1.0), (0.35, 6.0), (0.7, 8.0), (1, 3.0), start=0.1, until=0.85)
    one, other = CurvePad(shape, steps=20, limit=100, label="guidance"), CurvePad(0.8, steps=50)
    stage.show(one, other)
    stage.settle(80)
    stage.picture(f"curve-{theme}")
    assert stage.axe() == []
    assert stage.fits(360)
    stage.picture(f"curve-phone-{theme}")
    one.close()
    other.close()
