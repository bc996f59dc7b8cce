"""PosePanel, DepthPanel and StylePanel without a kernel: a leaf is moved, and the picture follows."""

import gc
import threading
import weakref
import zlib

import numpy as np
import pytest
from sessions import pixels, until
from variety import MAP, OTHER, PLAIN, REFERENCE, SOFT

import ctrl
from widgets import DepthPanel, PosePanel, StylePanel
from widgets.live_panel import LivePanel

WAIT = 60.0
WAVING, RUNNING = ctrl.Skeleton.named("waving"), ctrl.Skeleton.named("running")
POSED = PLAIN.replace(controls=[ctrl.Edges(MAP, 0.5), ctrl.Pose(WAVING, ctrl.hold(0.8, until=0.5))])
DEEP = PLAIN.replace(controls=[ctrl.Depth(MAP, 0.6, mask=SOFT), ctrl.Edges(MAP, 0.5)])
STYLED = PLAIN.replace(
    styles=[ctrl.Style(REFERENCE, 0.6, negative=MAP), ctrl.Style(OTHER, 0.4, blocks="style", on=False)]
)
KINDS = [(PosePanel, POSED), (DepthPanel, DEEP), (StylePanel, STYLED)]


@pytest.fixture
def panel_of(model):
    made = []

    def make(kind, recipe):
        made.append(kind(model, recipe))
        return made[-1]

    yield make
    for one in made:
        one.close()


def button(panel, words):
    return next(
        knob.row
        for knob in panel._knobs
        if words in (getattr(knob.row, "description", ""), getattr(knob.row, "tooltip", ""))
    )


@pytest.mark.parametrize(("kind", "recipe"), KINDS, ids=lambda part: getattr(part, "__name__", ""))
def test_it_begins_with_the_recipe_as_it_is_given(panel_of, model, kind, recipe):
    panel = panel_of(kind, recipe)
    shot = panel.shot
    assert shot.recipe == recipe == panel.recipe
    assert np.array_equal(pixels(shot.image), pixels(ctrl.sample(model, recipe).image))
    assert len(panel.live.record()) == 1


def test_a_dragged_joint_is_in_the_recipe_and_the_rest_of_the_pose_stays(panel_of, model):
    panel = panel_of(PosePanel, POSED)
    figures = [dict(figure) for figure in panel.pad.figures]
    body = [list(point) for point in figures[0]["body"]]
    body[7] = [0.9, 0.1, True]
    panel.pad.set_state({"figures": [{**figures[0], "body": body}]})  # as the browser says it
    wanted = POSED.replace(controls=[POSED.controls[0], ctrl.Pose(panel.pad.skeleton, ctrl.hold(0.8, until=0.5))])
    assert panel.recipe == wanted != POSED
    assert np.allclose(panel.recipe.controls[1].picture.points[7], (0.9, 0.1))
    assert np.array_equal(pixels(panel.shot.image), pixels(ctrl.sample(model, wanted).image))


def test_a_recipe_without_a_pose_gets_a_figure_to_drag(panel_of):
    panel = panel_of(PosePanel, PLAIN)
    assert panel.recipe == PLAIN.replace(controls=[ctrl.Pose("standing")])
    panel.pad.people = [WAVING, RUNNING]
    assert panel.recipe == PLAIN.replace(controls=[ctrl.Pose([WAVING, RUNNING])])


def test_without_a_figure_the_pose_is_left_out_and_the_panel_says_so(panel_of):
    panel = panel_of(PosePanel, POSED)
    panel.pad.people = []
    assert panel.shot.recipe == POSED.replace(controls=POSED.controls[:1])
    until(lambda: "There is no figure" in panel.status.value)
    panel.pad.people = WAVING
    assert panel.shot.recipe == POSED
    until(lambda: "There is no figure" not in panel.status.value)


def test_a_pose_that_is_a_picture_is_refused_in_one_sentence(model):
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match=r"no joints to drag; .*ctrl\.detect\.pose"):
        PosePanel(model, PLAIN.replace(controls=[ctrl.Pose(MAP)]))
    assert not [one for one in set(threading.enumerate()) - before if one.name == "ctrl.Live"]


def test_a_panel_without_knobs_cannot_be_made(model):
    class Bare(LivePanel):
        pass

    for kind in (LivePanel, Bare):
        with pytest.raises(TypeError, match=r"abstract method '?knobs"):
            kind(model, PLAIN)


def test_painted_depth_is_in_the_recipe(panel_of, model):
    panel = panel_of(DepthPanel, DEEP)
    plane = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    panel.pad._handle_custom_msg({"kind": "plane", "id": "map"}, [memoryview(zlib.compress(plane.tobytes()))])
    panel.pad.set_state({"revision": panel.pad.revision + 1})
    wanted = DEEP.replace(controls=[ctrl.Depth(plane, 0.6, mask=SOFT), DEEP.controls[1]])
    assert panel.shot.recipe == wanted
    panel.pad.set_state({"inverted": True})
    assert panel.recipe.controls[0].picture == ctrl.Picture(255 - plane)
    assert np.array_equal(pixels(panel.shot.image), pixels(ctrl.sample(model, panel.recipe).image))


def test_a_blank_map_is_no_depth_until_something_is_painted(panel_of):
    panel = panel_of(DepthPanel, PLAIN)
    assert panel.shot.recipe == PLAIN and panel.pad.picture.size == (32, 32)
    until(lambda: "paint something" in panel.status.value)
    panel.pad.picture = ctrl.Picture(SOFT).image
    assert panel.shot.recipe == PLAIN.replace(controls=[ctrl.Depth(SOFT)])


def test_a_reference_is_weighed_switched_off_and_on(panel_of, model):
    panel = panel_of(StylePanel, STYLED)
    first, second = panel.shelf.items
    assert (first["on"], second["on"]) == (True, False)
    panel.shelf.set_state({"items": [{**first, "weight": 0.9}, {**second, "on": True}]})
    wanted = PLAIN.replace(styles=[ctrl.Style(REFERENCE, 0.9, negative=MAP), ctrl.Style(OTHER, 0.4, blocks="style")])
    assert panel.recipe == wanted
    assert np.array_equal(pixels(panel.shot.image), pixels(ctrl.sample(model, wanted).image))
    panel.shelf.set_state({"items": [{**first, "on": False}, second]})
    assert panel.recipe == PLAIN.replace(styles=[])


def test_weight_and_seed_act_beside_the_leaf(panel_of):
    panel = panel_of(PosePanel, POSED.replace(controls=[ctrl.Pose(WAVING, 0.8)]))
    weight, switch, _curve = panel._knobs[0].widgets
    weight.value = 0.3
    assert panel.recipe.controls[0] == ctrl.Pose(WAVING, 0.3)
    switch.value = False
    assert panel.recipe == PLAIN.replace(controls=[])
    panel.pad.people = RUNNING
    switch.value = True
    assert panel.recipe == PLAIN.replace(controls=[ctrl.Pose(RUNNING, 0.3)])


@pytest.mark.parametrize("kind", [PosePanel, DepthPanel])
def test_the_picture_can_be_put_under_the_pad(panel_of, kind):
    panel = panel_of(kind, POSED if kind is PosePanel else DEEP)
    shot = panel.shot
    button(panel, "put under the pad").click()
    assert np.array_equal(pixels(panel.pad.background), pixels(shot.image))
    assert panel.recipe == shot.recipe


def test_it_goes_on_from_another_recipe(panel_of):
    panel = panel_of(PosePanel, POSED)
    old = panel.pad
    panel.update(panel.recipe.replace(prompt="a blue box", controls=[ctrl.Pose(RUNNING)]))
    assert panel.shot.recipe == PLAIN.replace(prompt="a blue box", controls=[ctrl.Pose(RUNNING)])
    assert old.comm is None and panel.pad.skeleton == RUNNING and panel.pad in panel.children
    with pytest.raises(TypeError, match="recipe must be a Recipe"):
        panel.update("a fox")


def test_an_error_is_an_alert_with_plain_text(model):
    panel = StylePanel(model, PLAIN.replace(controls=[ctrl.Control("<b>", MAP)]))
    try:
        until(lambda: panel.view.problem)
        assert "<b>" in panel.view.problem["why"] and panel.view.problem["what"] and panel.view.problem["next"]
        assert "<b>" not in panel.status.value
        with pytest.raises(ValueError, match="has no ControlNet"):
            _ = panel.shot
    finally:
        panel.close()


def test_a_stopped_picture_is_a_sentence(model):
    panel = PosePanel(model, POSED.replace(steps=100))
    try:
        panel._stop.click()
        with pytest.raises(RuntimeError, match="stopped before it was finished"):
            _ = panel.shot
    finally:
        panel.close()


def test_in_colab_the_picture_is_made_in_the_foreground_and_the_panel_says_so(model, colab, monkeypatch):
    seen = []
    monkeypatch.setattr(PosePanel, "_show_frame", lambda panel, frame: seen.append((threading.current_thread(), frame)))
    panel = PosePanel(model, POSED)
    try:
        assert seen[-1][1].exact and seen[-1][1].recipe == POSED
        panel.pad.people = RUNNING
        assert seen[-1][1].exact and seen[-1][1].recipe == panel.recipe != POSED
        assert {thread for thread, _ in seen} == {threading.current_thread()}
        assert "Colab" in panel.children[-1].children[-1].value
    finally:
        panel.close()


def test_a_thousand_drags_leave_one_waiting_and_the_last_is_shown(panel_of):
    panel = panel_of(PosePanel, POSED)
    panel.shot  # noqa: B018
    threads = threading.active_count()
    figure = panel.pad.figures[0]
    for at in range(1000):
        body = [list(point) for point in figure["body"]]
        body[4] = [0.2 + at / 2000, 0.3, True]
        panel.pad.set_state({"figures": [{**figure, "body": body}]})
    shot = panel.shot
    assert np.allclose(shot.recipe.controls[1].picture.points[4], (0.2 + 999 / 2000, 0.3))
    until(lambda: threading.active_count() <= threads)  # a timer of a frame may run
    assert panel.live.record().moves[-1][1] == shot.recipe
    assert len(panel.history) < 100  # few of the thousand were finished: the latest won


def test_its_snapshot_has_each_picture_once_the_newest_first(panel_of):
    panel = panel_of(PosePanel, POSED)
    first = panel.shot.recipe
    panel.pad.people = RUNNING
    second = panel.shot.recipe
    for people in (WAVING, RUNNING):
        panel.pad.people = people
        assert panel.shot
    assert [shot.recipe for shot in panel.snapshot(interactive=True).shots] == [second, first]
    assert [shot.recipe for shot in panel.snapshot().shots] == [second]
    assert set(panel.snapshot()._repr_mimebundle_()) == {"text/plain", "image/png"}


def test_the_knobs_of_every_kind_of_part_are_closed(model):
    import ipywidgets

    from widgets import GuidancePanel

    open_before = set(ipywidgets.widgets.widget._instances)
    parts = {"regions": [ctrl.Region("a box", mask=MAP)], "loras": [ctrl.Lora("lcm", 0.5)]}
    panel = GuidancePanel(
        model, PLAIN.replace(**parts, directions=[ctrl.Direction("by day", "at night", 0.4)], controls=[ctrl.Pose(MAP)])
    )
    count = len(ipywidgets.widgets.widget._instances)
    panel.update(panel.recipe.replace(seed=3))
    assert len(ipywidgets.widgets.widget._instances) == count
    panel.close()
    assert set(ipywidgets.widgets.widget._instances) == open_before


@pytest.mark.slow
def test_a_hundred_panels_leave_no_thread_no_comm_and_no_widget(model):
    import ipywidgets

    before, open_before = set(threading.enumerate()), set(ipywidgets.widgets.widget._instances)
    dead = []
    for at in range(100):
        kind, recipe = KINDS[at % 3]
        panel = kind(model, recipe.replace(steps=1))
        leaf = panel.children[0]
        dead += [weakref.ref(panel), weakref.ref(leaf), weakref.ref(panel.view), weakref.ref(panel.live)]
        panel.close()
    del panel, leaf
    for thread in set(threading.enumerate()) - before:  # a leaf's look at its references
        thread.join(10)
    gc.collect()
    assert [one() for one in dead if one() is not None] == []
    assert set(ipywidgets.widgets.widget._instances) == open_before
    assert set(threading.enumerate()) <= before
