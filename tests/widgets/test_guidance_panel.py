"""GuidancePanel without a kernel: sliders in, frames out, and nothing left at the end."""

import threading

import numpy as np
import pytest
from sessions import pixels, until
from variety import MAP, PLAIN

import ctrl

RECIPE = PLAIN.replace(steps=2, guidance=5.0, controls=[ctrl.Pose(MAP, 0.8), ctrl.Edges(MAP, 0.5, on=False)])
WAIT = 60.0


@pytest.fixture
def panel(model):
    from widgets import GuidancePanel

    one = GuidancePanel(model, RECIPE)
    yield one
    one.close()


def hands(panel):
    """The moving widgets by their label, the switches as "label on"."""
    found = {}
    for knob in panel._knobs:
        for widget in knob.widgets:
            found[getattr(widget, "tooltip", None) or getattr(widget, "description", "") or widget.label] = widget
    return found


def shown(panel):
    return pixels(panel.view._now.image)


def test_it_begins_with_the_recipe_as_it_is_given(panel, model):
    assert panel.live.wait(WAIT).recipe == RECIPE == panel.recipe
    assert np.array_equal(shown(panel), pixels(ctrl.sample(model, RECIPE).image))
    assert panel.view._now.quality == "exact" and panel.view.alt == RECIPE.prompt


def test_every_slider_moves_its_part_and_the_picture_at_rest_is_exact(panel, model):
    moves = [
        ("guidance", 7.5, RECIPE.replace(guidance=7.5)),
        ("seed", 11, RECIPE.replace(guidance=7.5, seed=11)),
        ("steps", 3, RECIPE.replace(guidance=7.5, seed=11, steps=3)),
    ]
    for label, value, wanted in moves:
        hands(panel)[label].value = value
        assert panel.live.wait(WAIT).recipe == wanted == panel.recipe
        assert np.array_equal(shown(panel), pixels(ctrl.sample(model, wanted).image))
    hands(panel)["pose 1"].value = 0.3
    assert panel.recipe.controls[0].weight == 0.3
    hands(panel)["edges 2 on"].value = True
    assert panel.recipe.controls[1].on


def test_what_is_switched_off_keeps_its_weight(panel):
    hands(panel)["guidance on"].value = False
    assert panel.recipe == RECIPE.replace(guidance=1.0)
    hands(panel)["pose 1 on"].value = False
    assert panel.recipe == RECIPE.replace(guidance=1.0, controls=[])
    assert panel.recipe.controls[0].weight == 0.8
    hands(panel)["guidance on"].value = hands(panel)["pose 1 on"].value = True
    assert panel.recipe == RECIPE


def test_a_button_makes_a_curve_of_a_slider_and_a_slider_of_a_curve(panel, model):
    hands(panel)["guidance on"].value = False
    closed = [hands(panel)["pose 1"], hands(panel)["pose 1 as a curve over the steps"]]
    hands(panel)["pose 1 as a curve over the steps"].value = True
    assert panel.recipe == RECIPE.replace(guidance=1.0), "the same weight in every step"
    assert not any(one.comm for one in closed)
    shown_rows = [row for box in panel.children[1:] for row in box.children]
    assert hands(panel)["pose 1"] in [one for row in shown_rows for one in getattr(row, "children", ())]
    hands(panel)["steps"].value = 4
    assert hands(panel)["pose 1"].steps == 4
    hands(panel)["pose 1"].schedule = ctrl.ramp(1.2, 0.2)
    ramped = [ctrl.Pose(MAP, ctrl.ramp(1.2, 0.2)), RECIPE.controls[1]]
    assert panel.live.wait(WAIT).recipe == RECIPE.replace(guidance=1.0, steps=4, controls=ramped) == panel.recipe
    assert np.array_equal(shown(panel), pixels(ctrl.sample(model, panel.recipe).image))
    hands(panel)["guidance on"].value = True
    assert panel.recipe.guidance == 5.0, "another knob kept what it held"
    hands(panel)["pose 1 on"].value = False
    hands(panel)["pose 1 as a curve over the steps"].value = False
    assert (panel.recipe.controls[0].weight, panel.recipe.controls[0].on) == (1.2, False)
    assert hands(panel)["pose 1"].value == 1.2


def test_a_schedule_is_a_curve_and_the_rest_of_guidance_stays(model):
    from widgets import GuidancePanel

    guided = ctrl.Guidance(ctrl.ramp(6.0, 2.0), apg=ctrl.APG())
    panel = GuidancePanel(model, RECIPE.replace(guidance=guided))
    try:
        hands(panel)["guidance"].schedule = ctrl.ramp(9.0, 3.0, until=0.5)
        assert panel.recipe.guidance == ctrl.Guidance(ctrl.ramp(9.0, 3.0, until=0.5), apg=ctrl.APG())
        assert len(panel.live.record()) == 2  # the curve's four traits are one move
        hands(panel)["steps"].value = 4
        assert hands(panel)["guidance"].steps == 4
    finally:
        panel.close()


def test_a_thousand_moves_leave_one_waiting_and_the_last_is_shown(panel):
    threads = threading.active_count()
    slider = hands(panel)["guidance"]
    for at in range(1000):
        slider.value = 1 + at / 100
    frame = panel.live.wait(WAIT)
    assert frame.recipe == RECIPE.replace(guidance=slider.value)
    until(lambda: threading.active_count() <= threads)  # a timer of a frame may run


def test_an_error_is_an_alert_and_the_next_move_clears_it(model):
    from widgets import GuidancePanel

    panel = GuidancePanel(model, RECIPE.replace(controls=[ctrl.Control("<b>", MAP, on=False)]))
    try:
        panel.live.wait(WAIT)
        hands(panel)["<b> on"].value = True
        with pytest.raises(ValueError, match="has no ControlNet"):
            panel.live.wait(WAIT)
        until(lambda: panel.view.problem)
        assert "<b>" in panel.view.problem["why"] and panel.view.problem["next"] and panel.view.stale
        assert "<b>" not in panel.status.value
        hands(panel)["<b> on"].value = False
        panel.live.wait(WAIT)
        until(lambda: 'role="status"' in panel.status.value)
        assert not panel.view.stale and panel.view.problem == {}
    finally:
        panel.close()


def test_closing_ends_the_thread_and_every_widget(model):
    from widgets import GuidancePanel

    before = set(threading.enumerate())
    panel = GuidancePanel(model, RECIPE.replace(steps=100))
    inside = [one for knob in panel._knobs for one in knob.widgets]
    panel.close()
    panel.close()
    assert "ctrl.Live" not in {thread.name for thread in set(threading.enumerate()) - before}
    assert all(one.comm is None for one in [*inside, panel.view, panel.status, panel])


def test_another_seed_is_another_picture(panel):
    hands(panel)["Another seed"].click()
    assert panel.recipe.seed != RECIPE.seed


def test_what_is_no_model_is_refused_before_anything_is_made():
    from widgets import GuidancePanel

    with pytest.raises(TypeError, match="model must be a Model"):
        GuidancePanel("model", RECIPE)
