"""Studio without a kernel: knobs and pads in, pictures out, and nothing left at the end."""

import gc
import io
import json
import threading
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sessions import pixels, until
from variety import LEFT, MAP, PLAIN, SOFT

import ctrl
from widgets import settings
from widgets.grids import Grid

EDGES = ctrl.Edges(MAP, 0.5, on=False)
RECIPE = PLAIN.replace(
    steps=2,
    guidance=5.0,
    controls=[ctrl.Pose("waving", 0.8), EDGES],
    styles=[ctrl.Style(MAP, 0.4)],
)
WAIT = 120.0


@pytest.fixture
def studio(model):
    from widgets import Studio

    one = Studio(model, RECIPE)
    yield one
    one.close()


def say(studio, kind, **content):
    studio._handle_custom_msg({"kind": kind, **content}, [])


def move(studio, name, **values):
    """A row moved in the browser."""
    rows = [row | (values if row["name"] == name else {}) for row in studio.rows]
    studio.set_state({"rows": rows})


def test_it_begins_with_the_recipe_as_it_is_given(studio, model):
    assert settings.same(studio.recipe, RECIPE)
    assert studio.live.wait(WAIT).recipe == RECIPE
    assert np.array_equal(pixels(studio.picture._now.image), pixels(ctrl.sample(model, RECIPE).image))
    assert len(studio.live.record()) == 1, "making the pads asked for nothing"
    until(lambda: studio.progress.get("phase") == "idle")
    assert studio.cost["evaluations"] == 2 and studio.cost["seconds"] > 0
    assert studio.offers["samplers"][0] == "ddpm" and "karras" in studio.offers["spacings"]


def test_every_knob_moves_its_part_and_the_picture_at_rest_is_exact(studio, model):
    for values in (
        {"guidance": 7.5},
        {"seed": 11},
        {"prompt": "a blue ball"},
        {"negative": "red"},
        {"sampler": "ddim"},
    ):
        (name, value), wanted = *values.items(), studio.recipe.replace(**values)
        if name == "guidance":
            move(studio, "guidance", weight=value)
        else:
            studio.set_state(values)
        assert studio.recipe == wanted
    move(studio, "controls[0]", weight=0.3)
    move(studio, "controls[1]", on=True)
    assert studio.recipe.controls[0].weight == 0.3 and studio.recipe.controls[1].on
    frame = studio.live.wait(WAIT)
    assert np.array_equal(pixels(frame.image), pixels(ctrl.sample(model, studio.recipe).image))


def test_a_switch_keeps_what_it_switches_off(studio):
    move(studio, "guidance", on=False)
    assert studio.recipe.guidance == 1.0 and "guidance" in studio.reasons
    move(studio, "guidance", on=True)
    assert studio.recipe.guidance == 5.0
    studio.set_state({"fast": True})
    assert studio.recipe == RECIPE.fast() and studio.steps == 4
    studio.set_state({"fast": False})
    assert studio.recipe == RECIPE


def test_figures_styles_maps_and_curves_are_taken_from_their_pads(studio):
    studio.pose.people = "standing"
    assert studio.recipe.controls[0] == ctrl.Pose("standing", 0.8)
    studio.shelf.items = [studio.shelf.items[0] | {"weight": 0.9}]
    assert studio.recipe.styles == (ctrl.Style(MAP, 0.9),)
    grey = Image.linear_gradient("L").resize((32, 32))
    studio.map.picture = grey
    assert studio.recipe.controls[2] == ctrl.Depth(grey)
    studio.map.add_region("a box", Image.new("L", (32, 32), 9))
    assert studio.recipe.regions[0].prompt == "a box"
    studio.shelf.items = [studio.shelf.items[0] | {"where": "a box"}]
    for mask in (Image.new("L", (32, 32), 255), grey):
        studio.map.add_region("a box", mask)
        assert studio.recipe.styles[0].mask == studio.recipe.regions[0].mask == ctrl.Region("a box", mask).mask
    assert [item["where"] for item in studio.shelf.items] == ["a box"]
    studio.curve.schedule = ctrl.ramp(9.0, 3.0)
    assert studio.recipe.guidance == ctrl.ramp(9.0, 3.0)
    studio.curve_of = "controls[0]"
    assert studio.curve.schedule == ctrl.hold(0.8) and studio.curve.limit == 10
    studio.curve.schedule = ctrl.ramp(1.0, 0.0)
    assert studio.recipe.controls[0].weight == ctrl.ramp(1.0, 0.0)


def test_an_emptied_pad_switches_its_control_off_and_what_comes_next_switches_it_on(studio):
    studio.pose.people = []
    assert studio.pose.people == () and not studio.recipe.controls[0].on
    studio.pose.people = "standing"
    assert studio.recipe.controls[0] == ctrl.Pose("standing", 0.8)
    move(studio, "controls[0]", on=False)
    studio.pose.people = "running"
    assert settings.same(studio.recipe, RECIPE.replace(controls=[ctrl.Pose("running", 0.8, on=False), EDGES]))
    grey = Image.linear_gradient("L").resize((32, 32))
    studio.map.picture = grey
    studio.map._handle_custom_msg({"kind": "plane", "id": "map"}, [])  # cleared in the browser
    studio.map.set_state({"revision": studio.map.revision + 1})
    assert not studio.map.painted and not studio.recipe.controls[2].on
    studio.map.picture = grey
    assert studio.recipe.controls[2] == ctrl.Depth(grey)


def test_a_pose_is_added_with_the_figures_of_the_pad_or_a_standing_one(studio):
    say(studio, "remove", name="controls[0]")
    say(studio, "add", what="pose")
    assert studio.recipe.controls[1] == ctrl.Pose("waving")
    say(studio, "remove", name="controls[1]")
    studio.pose.people = []
    say(studio, "add", what="pose")
    assert studio.recipe.controls[1] == ctrl.Pose("standing") and studio.problem == {}
    assert studio.pose.people == (ctrl.Skeleton.named("standing"),)


def test_undo_brings_knobs_and_pads_back(studio):
    studio.pose.people = "standing"
    studio.set_state({"seed": 99})
    studio.map.add_region("a box", Image.new("L", (32, 32), 255))
    for _ in range(3):
        say(studio, "undo")
    assert settings.same(studio.recipe, RECIPE) and studio.seed == RECIPE.seed
    assert studio.pose.people == (ctrl.Skeleton.named("waving"),) and studio.map.regions == {}
    assert studio.can == {"undo": False, "redo": True}
    for _ in range(3):
        say(studio, "redo")
    assert studio.recipe.regions[0].prompt == "a box" and studio.recipe.seed == 99 and "a box" in studio.map.regions
    assert settings.same(studio.live.recipe, studio.recipe)


def test_the_map_is_shown_in_the_shape_of_the_picture(studio):
    assert studio.map.shape == 1
    studio.set_state({"width": 64, "height": 32})
    assert studio.map.shape == 2 and (studio.map.width, studio.map.height) == (32, 32)


def test_what_a_pad_cannot_show_stays_as_it_is(model):
    from widgets import Studio

    large = np.random.default_rng(1).integers(0, 255, (64, 48, 3), np.uint8)
    given = RECIPE.replace(controls=[ctrl.Pose(MAP, 0.4), ctrl.Depth(large, 0.5)], regions=[ctrl.Region("x" * 80, MAP)])
    studio = Studio(model, given)
    try:
        assert settings.same(studio.recipe, given)
        studio.map.add_region("a box", Image.new("L", (32, 32), 9))
        assert studio.recipe.controls == given.controls
        assert [one.prompt for one in studio.recipe.regions] == ["x" * 80, "a box"]
    finally:
        studio.close()


def test_a_recipe_shown_on_the_pads_stays_as_it_is(studio):
    large = np.random.default_rng(1).integers(0, 255, (64, 48), np.uint8)
    halves = [ctrl.Region("a box", LEFT, 0.7), ctrl.Region("a hat", 255 - LEFT, 0.6), ctrl.Region("a ball", SOFT, 0.5)]
    given = RECIPE.replace(controls=[ctrl.Pose("running", 0.4), ctrl.Depth(large, on=False)], regions=halves)
    studio.update(given)
    assert settings.same(studio.recipe, given)
    assert [*studio.map.regions] == ["a box", "a hat", "a ball"] and studio.map.painted
    say(studio, "undo")
    assert settings.same(studio.recipe, RECIPE) and not studio.can["undo"]


def test_blends_are_shown_as_words_and_a_seed_and_stay_until_their_knob_moves(model):
    from widgets import Studio

    prompt = ctrl.Blend({"a red ball": 0.6, "a blue box": 0.4})
    given = RECIPE.replace(prompt=prompt, negative=ctrl.Blend({"red": 1, "grey": 2}), seed=ctrl.SeedBlend(3, 8, 0.25))
    studio = Studio(model, given)
    try:
        assert settings.same(studio.recipe, given)
        assert (studio.prompt, studio.negative, studio.seed) == (str(prompt), str(given.negative), 3)
        studio.set_state({"seed": 5})
        assert settings.same(studio.recipe, given.replace(seed=ctrl.SeedBlend(5, 8, 0.25)))
        studio.set_state({"prompt": "a moon"})
        assert settings.same(studio.recipe, given.replace(prompt="a moon", seed=ctrl.SeedBlend(5, 8, 0.25)))
    finally:
        studio.close()


def test_a_region_whose_mask_is_words_stays_while_others_are_painted(model):
    from widgets import Studio

    given = RECIPE.replace(regions=[ctrl.Region("a green ball", ctrl.Words("ball"))])
    studio = Studio(model, given)
    try:
        assert settings.same(studio.recipe, given) and studio.map.regions == {}
        studio.map.add_region("a box", Image.new("L", (32, 32), 255))
        assert [one.prompt for one in studio.recipe.regions] == ["a green ball", "a box"]
        assert studio.recipe.regions[0] == given.regions[0]
        say(studio, "undo")
        assert settings.same(studio.recipe, given) and studio.map.regions == {}
    finally:
        studio.close()


def test_a_curve_beyond_the_limit_of_the_next_part_is_left_behind(studio):
    studio.curve.schedule = ctrl.ramp(30.0, 3.0)
    studio.curve_of = "controls[0]"
    assert studio.curve.schedule == ctrl.hold(0.8) and studio.recipe.controls[0].weight == 0.8
    say(studio, "remove", name="controls[0]")
    studio.curve_of = "guidance"
    assert studio.curve.schedule == ctrl.ramp(30.0, 3.0)


def test_the_picture_lies_under_the_pads_until_a_person_brings_another(studio):
    studio.live.wait(WAIT)
    until(lambda: studio.map.background is not None and studio.pose.background is not None)
    mine = Image.new("RGB", (32, 32), "blue")
    studio.pose.background = mine
    studio.set_state({"seed": 5})
    frame = studio.live.wait(WAIT)
    until(lambda: np.array_equal(pixels(studio.map.background), pixels(frame.image)))
    assert np.array_equal(pixels(studio.pose.background), pixels(mine))


def test_what_the_picture_does_not_need_comes_after_it(studio, monkeypatch):
    studio.live.wait(WAIT)
    until(lambda: studio.map.background is not None)
    told = []

    def tell(leaf, post, kind, content=None, buffers=()):
        told.append((type(leaf).__name__, kind, (content or {}).get("quality")))
        post(kind, content, buffers)
        if kind == "frame":
            leaf.receive("shown", {"number": content["number"]}, [])  # as a browser does

    for leaf in studio._pads.all:
        monkeypatch.setattr(leaf, "post", partial(tell, leaf, leaf.post))
    studio.picture.receive("shown", {"number": 1000}, [])
    move(studio, "guidance", weight=6.0)
    studio.live.wait(WAIT)
    until(lambda: ("MapPad", "backdrop", None) in told and ("PosePad", "background", None) in told)
    frames = [one for one in told if one[:2] == ("FrameView", "frame")]
    exact = told.index(("FrameView", "frame", "exact"))
    assert len(frames) <= 2, "a preview and the finished picture"
    assert {one for one in told[:exact] if one not in frames} <= {("Gallery", "current", None)}
    assert studio.cost["evaluations"] + studio.cost["reused"] == 2


def test_the_cost_of_a_picture_is_what_was_computed_for_it(studio):
    studio.live.wait(WAIT)
    studio.set_state({"steps": 5})
    studio.live.wait(WAIT)
    until(lambda: studio.cost == {"evaluations": 5, "reused": 0, "seconds": studio.cost["seconds"]})
    say(studio, "undo")
    frame = studio.live.wait(WAIT)
    assert (frame.count, frame.reused) == (2, 2)
    until(lambda: (studio.cost["evaluations"], studio.cost["reused"]) == (0, 2))


def test_a_draft_is_seen_before_the_first_picture(model, monkeypatch):
    from widgets import FrameView, Studio

    shown, show = [], FrameView.show
    monkeypatch.setattr(
        FrameView, "show", lambda view, image, **words: (shown.append(words), show(view, image, **words))
    )
    studio = Studio(model, RECIPE.replace(steps=12))
    studio.live.wait(WAIT)
    studio.close()
    assert shown[0]["draft"] and shown[0]["caption"].endswith("of 12")


def test_why_a_knob_cannot_act_is_said(studio):
    studio.set_state({"negative": "blue"})
    move(studio, "guidance", weight=1.0)
    move(studio, "controls[0]", start=0.4, until=0.45)
    assert studio.reasons["negative"].startswith("without guidance")
    assert studio.reasons["controls[0]"] == "its window is narrower than a step"
    assert studio.reasons["controls[1]"] == "it is switched off"


def test_a_change_that_cannot_be_taken_is_an_alert_and_changes_nothing(studio):
    studio.set_state({"width": 20_000, "height": 20_000})
    assert studio.problem["what"] == "This change was not taken." and "width" in studio.problem["why"]
    assert studio.recipe == RECIPE and (studio.width, studio.height) == (32, 32)
    studio.set_state({"seed": 3})
    assert studio.problem == {}


def test_a_refused_knob_goes_back_and_leaves_the_others_free(studio):
    before = studio.rows
    move(studio, "controls[0]", start=0.9, until=0.2)
    assert "start must come before until" in studio.problem["why"] and studio.rows == before
    move(studio, "guidance", weight=7.0)
    assert studio.recipe.guidance == 7.0 and studio.problem == {}


def test_refused_words_stay_to_be_mended(studio):
    studio.set_state({"prompt": "a (red:99) ball"})
    assert "99" in studio.problem["why"] and studio.prompt == "a (red:99) ball" and studio.recipe == RECIPE
    studio.set_state({"prompt": RECIPE.prompt})
    assert studio.problem == {}, "they are as they were"


def test_a_recipe_that_cannot_be_made_is_an_alert_and_the_next_one_clears_it(studio):
    studio.update(RECIPE.replace(controls=[ctrl.Control("<b>", MAP)]))
    until(lambda: studio.problem)
    assert "<b>" in studio.problem["why"] and studio.problem["next"] and studio.picture.stale
    assert studio.reasons["controls[0]"] == "this model has no ControlNet for '<b>'"
    say(studio, "undo")
    studio.live.wait(WAIT)
    until(lambda: not studio.problem and not studio.picture.stale)


def test_a_run_that_begins_shows_none_of_the_steps_of_the_one_before(studio):
    studio.live.wait(WAIT)
    until(lambda: studio.progress["phase"] == "idle")
    told = []
    studio.observe(lambda change: told.append(change["new"]), names="progress")
    studio.set_state({"steps": 3})
    studio.live.wait(WAIT)
    until(lambda: studio.progress["phase"] == "idle")
    begun = next(one for one in told if one["phase"] == "running")
    assert (begun["step"], begun["count"]) == (0, 3) and told[-1]["step"] > 0


def test_cancel_keeps_the_last_frame_and_says_where(studio):
    studio.live.wait(WAIT)
    studio.set_state({"steps": 500})
    until(lambda: studio.progress["phase"] == "running" and studio.progress["step"] > 2)
    say(studio, "cancel")
    until(lambda: studio.progress["phase"] == "cancelled")
    until(lambda: studio.picture.stale.startswith("cancelled at "))
    assert studio.picture.stale.endswith(" of 500")


def test_the_code_that_is_shown_makes_an_equal_recipe(studio):
    studio.sent = []
    studio.send = lambda content, buffers=None: studio.sent.append(content)
    say(studio, "code")
    names = {"ctrl": ctrl}
    exec(studio.sent[-1]["text"], names)
    assert names["recipe"] == studio.recipe


def test_a_saved_picture_has_its_recipe(studio, tmp_path):
    frame = studio.live.wait(WAIT)
    until(lambda: studio._shown is not None)
    studio.sent = []
    studio.send = lambda content, buffers=None: studio.sent.append(buffers)
    say(studio, "save")
    (tmp_path / "it.png").write_bytes(studio.sent[-1][0])
    assert ctrl.Recipe.load(tmp_path / "it.png") == frame.recipe
    assert np.array_equal(pixels(Image.open(tmp_path / "it.png")), pixels(frame.image))


def test_a_snapshot_has_the_picture_or_a_page_with_its_heat_and_the_history(studio, model):
    first = studio.shot
    studio.gallery.mark(studio.gallery.entries[0].key, favourite=True)
    studio.gallery.add(Image.new("RGB", (8, 8)), note="a picture without a recipe")
    for seed in range(12):
        studio.gallery.add(first.image, RECIPE.replace(seed=20 + seed))
    studio.set_state({"seed": 3})
    (still,) = studio.snapshot().shots
    assert still.recipe == RECIPE.replace(seed=3) and still.attention is None
    shown, *earlier = studio.snapshot(interactive=True).shots
    assert np.array_equal(pixels(shown.image), pixels(ctrl.sample(model, shown.recipe).image))
    assert shown.recipe == still.recipe and shown.attention["ball"].overlay().size == shown.image.size
    assert [one.recipe.seed for one in earlier] == [*range(31, 21, -1), RECIPE.seed], "the newest, and the favourite"
    studio.cancel()
    studio.set_state({"steps": 50})
    studio.cancel()
    with pytest.raises(RuntimeError, match="stopped before it was finished"):
        studio.snapshot()


def test_settings_from_the_history_come_back_but_for_a_locked_seed(studio):
    studio.live.wait(WAIT)
    until(lambda: studio.gallery.entries)
    studio.set_state({"seed": 5, "prompt": "a moon"})
    studio.gallery._use(studio.gallery.entries[0])
    assert studio.recipe == RECIPE
    studio.set_state({"seed": 6, "locked": True})
    studio.gallery._use(studio.gallery.entries[0])
    assert studio.recipe == RECIPE.replace(seed=6)


def test_a_grid_is_made_and_a_picture_of_it_is_used(studio):
    studio.live.wait(WAIT)
    say(studio, "grid", axes=[["seed", "0-1"], ["guidance", "3, 6"]])
    until(lambda: "evaluations" in studio.grid)
    assert len(studio._sheet) == 4
    say(studio, "use cell", at=3)
    assert (studio.recipe.seed, studio.recipe.guidance) == (1, 6.0)
    for values, why in (("lots", "'lots' is none"), ("0-99", "64 at most")):
        say(studio, "grid", axes=[["seed", values]])
        assert why in studio.problem["why"] and studio.problem["next"]
    say(studio, "grid", axes=[["seed", "1"]])
    assert studio.problem == {}


def test_a_grid_that_is_stopped_ends_after_the_step_that_is_being_made(model):
    told, evaluations, reached, go_on = [], [], threading.Event(), threading.Event()
    grid = Grid(model, lambda *count: told.append(count), told.append, told.append)

    def wait(*_):
        evaluations.append(1)
        reached.set()
        go_on.wait(WAIT)

    hook = model.unet.register_forward_pre_hook(wait)
    try:
        grid.begin(RECIPE.replace(steps=8), [("seed", "0-3")])
        assert reached.wait(WAIT)
        grid.stop()
        go_on.set()
        grid.close()
    finally:
        hook.remove()
    assert len(evaluations) == 1 and told == [(0, 4), (0, 0)]


def test_a_grid_offers_every_weight_and_keeps_what_else_guidance_has(studio):
    paths = [path for path, *_ in studio.axes]
    assert {"guidance", "controls[0].weight", "controls[1].weight", "styles[0].weight"} <= set(paths)
    studio.update(RECIPE.replace(guidance=ctrl.Guidance(5.0, rescale=0.7), styles=[], image=MAP))
    paths = [path for path, *_ in studio.axes]
    assert "guidance.weight" in paths and "strength" in paths and "styles[0].weight" not in paths
    say(studio, "grid", axes=[["guidance.weight", "3"]])
    until(lambda: "evaluations" in studio.grid)
    assert studio._sheet[0].recipe.guidance == ctrl.Guidance(3.0, rescale=0.7)


def test_how_far_it_obeys_is_measured_on_request_where_detectors_must_be_loaded(model, monkeypatch):
    from widgets import Studio

    monkeypatch.setattr(model, "family", replace(model.family, key="sd15"))
    asked = []

    def measured(shot):
        if not asked:
            asked.append(shot)
            raise ImportError("the detector 'openpose' needs controlnet_aux")
        return [{"name": "controls[0]", "measure": "PCK", "value": 0.5, "reason": ""}]

    monkeypatch.setattr("widgets.studio.measured", measured)
    studio = Studio(model, RECIPE)
    try:
        studio.live.wait(WAIT)
        until(lambda: studio._shown is not None and studio.pose.background is not None)
        assert studio.offers["obedience"] == "on request" and studio.obedience == [] and not asked
        say(studio, "measure")
        until(lambda: "controlnet_aux" in studio.problem.get("why", ""))
        assert studio.offers["obedience"] == "on request", "it can be asked again"
        say(studio, "measure")
        until(lambda: studio.obedience)
        assert studio.obedience[0]["value"] == 0.5
        asked.clear()  # the next one fails
        studio.update(RECIPE.replace(seed=11))
        until(lambda: studio.offers["obedience"] == "on request")
        assert studio.obedience == [], "that of an earlier picture"
    finally:
        studio.close()


def test_while_it_rests_its_words_are_looked_into(studio):
    studio.live.wait(WAIT)
    studio.set_state({"tab": "words"})
    until(lambda: studio.heat.heat is not None)
    assert [word.text for word in studio.heat.heat.words if word.source == "prompt"] == ["a", "red", "ball"]
    studio.set_state({"prompt": "a blue box"})
    assert studio.shot.attention is not None, "what moves now is watched on its way"
    until(lambda: [word.text for word in studio.heat.heat.words if word.source == "prompt"] == ["a", "blue", "box"])
    studio.set_state({"tab": "pose", "seed": 3})
    assert studio.shot.attention is None


@pytest.mark.slow
def test_a_thousand_moves_leave_one_waiting_and_the_last_is_shown(studio):
    threads = threading.active_count()
    for at in range(1000):
        move(studio, "guidance", weight=2 + at / 100)
    frame = studio.live.wait(WAIT)
    assert frame.recipe == RECIPE.replace(guidance=2 + 999 / 100)
    until(lambda: threading.active_count() <= threads)  # a timer of a frame may run
    say(studio, "undo")
    assert studio.recipe == RECIPE, "one drag is one step back"


def test_its_state_is_small(studio):
    studio.live.wait(WAIT)
    from ipywidgets import Widget

    every = [studio, *studio._pads.all]
    state = {one.model_id: one.get_state() for leaf in every for one in (leaf, leaf.layout)}
    size = len(json.dumps(state, default=lambda value: value.model_id if isinstance(value, Widget) else str(value)))
    assert size < 50_000, size


@pytest.mark.slow
def test_a_hundred_closed_panels_leave_nothing(model):
    from widgets import Studio

    dead, before = [], set(threading.enumerate())
    for _ in range(100):
        one = Studio(model, RECIPE)
        dead += [weakref.ref(each) for each in (one, *one._pads.all, one.live)]
        one.close()
        assert all(leaf.comm is None for leaf in (one, *one._pads.all))
        del one
    gc.collect()
    assert [ref() for ref in dead if ref() is not None] == []
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {"ctrl.Live", "ctrl.Studio", "ctrl.Studio grid"} & left


def test_what_is_no_model_or_recipe_is_refused_before_anything_is_made(model):
    from widgets import Studio

    threads = threading.active_count()
    for given, words in ((("model", RECIPE), "model must be a Model"), ((model, "a ball"), "recipe must be a Recipe")):
        with pytest.raises(TypeError, match=words):
            Studio(*given)
    with pytest.raises(TypeError, match="size"):
        Studio(model, RECIPE, size=3)
    assert threading.active_count() == threads


def test_a_picture_of_another_program_brings_its_settings_and_says_what_it_left_out(studio):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(
        "parameters",
        "a red ball\nNegative prompt: blue\nSteps: 12, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, "
        "Seed: 42, Size: 64x64, Model: v1-5, Clip skip: 2",
    )
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG", pnginfo=info)
    studio.gallery._handle_custom_msg({"kind": "file", "name": "00042.png"}, [memoryview(buffer.getvalue())])
    assert studio.gallery.problem == {}
    entry = studio.gallery.entries[-1]
    assert entry.recipe.seed == 42 and entry.recipe.spacing == "karras" and entry.recipe.guidance == 7.5
    assert entry.note.startswith("from 00042.png; ")


def test_in_colab_pictures_are_made_in_the_foreground(model, colab):
    from widgets import Studio

    studio = Studio(model, RECIPE)
    try:
        assert studio.live.frame.exact and studio.picture._now.quality == "exact", "the constructor waited for it"
        assert "foreground" in studio.notice
        studio.set_state({"seed": 3})
        assert studio.live.frame.recipe == RECIPE.replace(seed=3) and studio.progress["phase"] == "idle"
    finally:
        studio.close()
