import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import ctrl
from ctrl.recipe import SAMPLERS, Recipe, Schedule, weight_at

part = st.floats(0, 1)
number = st.floats(0, 10)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
windows = st.tuples(part, part).map(sorted).filter(lambda pair: pair[0] < pair[1])
schedules = st.builds(lambda a, b, w: Schedule(a, b, *w), number, number, windows)
weights = st.one_of(number, schedules)
pictures = st.builds(
    ctrl.Picture.of,
    st.one_of(
        arrays.arrays(np.uint8, (8, 9), fill=st.just(7)),
        arrays.arrays(np.uint8, (9, 8, 3), fill=st.just(7)),
    ),
)
masks = st.none() | pictures
skeletons = st.one_of(
    st.sampled_from(["waving", "sitting"]).map(ctrl.Skeleton.named),
    st.builds(ctrl.Skeleton, arrays.arrays(np.float64, (18, 2), elements=part), arrays.arrays(np.bool_, 18)),
)
controls = st.one_of(
    st.builds(ctrl.Pose, skeletons | pictures, weights, masks),
    st.builds(ctrl.Depth, pictures, weights, masks),
    st.builds(ctrl.Edges, pictures, weights, masks),
)
sizes = st.sampled_from([(None, None), (64, 128)])
recipes = st.builds(
    lambda size, **rest: Recipe(width=size[0], height=size[1], **rest),
    sizes,
    prompt=text,
    negative=text,
    controls=st.lists(controls, max_size=2),
    styles=st.lists(st.builds(ctrl.Style, pictures, weights, masks), max_size=2),
    guidance=weights,
    steps=st.integers(1, 1000),
    sampler=st.sampled_from(SAMPLERS),
    seed=st.integers(0, 2**63 - 1),
    lora=st.sampled_from([None, "lcm"]),
)
quick = settings(max_examples=40, deadline=None)


@quick
@given(recipes)
def test_json_and_code_give_an_equal_recipe(recipe):
    back = Recipe.from_json(recipe.to_json())
    assert back == recipe
    assert hash(back) == hash(recipe)
    names = {"ctrl": ctrl}
    exec(recipe.code(), names)
    assert names["recipe"] == recipe


@quick
@given(recipes, st.integers(0, 2**63 - 1))
def test_replace_changes_one_thing(recipe, seed):
    other = recipe.replace(seed=seed)
    assert other.seed == seed
    assert other.replace(seed=recipe.seed) == recipe


@given(schedules, st.integers(1, 60))
def test_a_window_is_diffusers_window(schedule, count):
    for index in range(count):
        keep = 1.0 - float(index / count < schedule.start or (index + 1) / count > schedule.until)
        assert (index in schedule.steps(count)) == bool(keep)
        value = schedule.at(index, count)
        low, high = sorted((schedule.first, schedule.last))
        assert value == 0 if not keep else low - 1e-9 <= value <= high + 1e-9


def test_hold_and_ramp():
    assert [ctrl.hold(2.0, until=0.5).at(i, 4) for i in range(4)] == [2, 2, 0, 0]
    assert [ctrl.ramp(0, 3).at(i, 4) for i in range(4)] == [0, 1, 2, 3]
    assert [ctrl.ramp(1, 2, start=0.5).at(i, 4) for i in range(4)] == [0, 0, 1, 2]
    assert weight_at(0.5, 0, 9) == 0.5


def test_defaults_and_normalisation():
    recipe = Recipe(
        "a", controls=[ctrl.Pose(ctrl.Skeleton.named("waving"), weight=1)], guidance=np.float32(3)
    )
    assert isinstance(recipe.controls, tuple)
    assert recipe.guidance == 3.0
    assert isinstance(recipe.controls[0].weight, float)
    assert recipe.fast() == recipe.replace(sampler="lcm", lora="lcm", steps=4, guidance=1.0)


PICTURE = np.zeros((8, 8), np.uint8)
WRONG = [
    (lambda: Recipe(3), TypeError, "prompt must be a string, got int"),
    (lambda: Recipe("a\ud800"), ValueError, "not valid Unicode at character 1"),
    (lambda: Recipe("a" * 30_000), ValueError, "at most 20000"),
    (
        lambda: Recipe("a", guidence=3),
        TypeError,
        "Recipe has no argument 'guidence'; did you mean 'guidance'",
    ),
    (lambda: Recipe("a").replace(stepz=3), TypeError, "did you mean 'steps'"),
    (
        lambda: ctrl.Depth(PICTURE, wieght=1),
        TypeError,
        "Depth has no argument 'wieght'; did you mean 'weight'",
    ),
    (
        lambda: Recipe("a", guidance=float("nan")),
        ValueError,
        "guidance must be a number from 0 to 100, got nan",
    ),
    (lambda: Recipe("a", guidance=-1), ValueError, "guidance must be a number from 0 to 100, got -1"),
    (lambda: Recipe("a", guidance=True), TypeError, "guidance must be a number"),
    (lambda: Recipe("a", guidance="6"), TypeError, "guidance must be a number"),
    (lambda: Recipe("a", steps=0), ValueError, "steps must be a whole number from 1 to 1000, got 0"),
    (lambda: Recipe("a", steps=2.5), TypeError, "steps must be a whole number"),
    (lambda: Recipe("a", seed=-1), ValueError, "seed must be"),
    (lambda: Recipe("a", seed=2**64), ValueError, "seed must be"),
    (lambda: Recipe("a", sampler="dpm"), ValueError, r"sampler 'dpm' is unknown; did you mean 'dpm\+\+'"),
    (lambda: Recipe("a", lora="xyz"), ValueError, "there is lcm"),
    (lambda: Recipe("a", width=64), ValueError, "width and height go together"),
    (lambda: Recipe("a", width=64, height=True), TypeError, "height must be"),
    (lambda: Recipe("a", controls=ctrl.Depth(PICTURE)), TypeError, r"write \[control\]"),
    (lambda: Recipe("a", controls=[PICTURE]), TypeError, r"controls\[0\] must be Pose, Depth or Edges"),
    (lambda: Recipe("a", styles=[ctrl.Depth(PICTURE)]), TypeError, r"styles\[0\] must be Style"),
    (lambda: ctrl.Depth(PICTURE, weight=float("inf")), ValueError, "weight must be a number from 0 to 10"),
    (lambda: ctrl.Depth(PICTURE, weight=ctrl.hold(50)), ValueError, "weight must be a number from 0 to 10"),
    (lambda: ctrl.Depth(None), TypeError, "Depth's picture must be a picture"),
    (lambda: ctrl.hold(1, start=0.5, until=0.5), ValueError, "start must come before until"),
    (lambda: ctrl.hold(1, until=float("nan")), ValueError, "until must be"),
]


@pytest.mark.parametrize(("make", "kind", "sentence"), WRONG)
def test_a_wrong_argument_is_a_sentence(make, kind, sentence):
    with pytest.raises(kind, match=sentence):
        make()


GOOD = json.loads(Recipe("a", controls=[ctrl.Depth(PICTURE)]).to_json())


def changed(**changes):
    return json.dumps(GOOD | changes)


HOSTILE = [
    ("", "not JSON"),
    ("[" * 100_000, "nested too deeply"),
    ("[]", "not a recipe"),
    ('{"ctrl": 1}', "wrong or missing fields"),
    (changed(ctrl=2), "version 2"),
    (changed(extra=1), "'extra'"),
    (changed(seed=None), "seed must be"),
    (changed(seed=True), "seed must be"),
    (changed(steps=100_000), "steps must be"),
    (changed(controls={}), "must be lists"),
    (changed(controls=[None]), "must be a JSON object"),
    (changed(controls=[{"kind": "__class__"}]), "kind '__class__'"),
    (changed(controls=GOOD["controls"] * 40), "at most 16"),
    (changed(controls=[GOOD["controls"][0] | {"picture": {"png": "!!", "sha256": ""}}]), None),
    (changed(controls=[GOOD["controls"][0] | {"picture": {"png": "", "sha256": ""}}]), "cannot be read"),
    (changed(controls=[GOOD["controls"][0] | {"picture": "a.png"}]), "must be a JSON object"),
    (changed(controls=[GOOD["controls"][0] | {"picture": {"points": [[1]], "shown": []}}]), None),
    (changed(guidance={"first": 1}), "wrong or missing"),
    (changed(prompt=3), "prompt must be a string"),
    (json.dumps(GOOD)[:-1] + ', "seed": 4}', "twice"),
    (json.dumps(GOOD).replace("6.0", "NaN"), "holds NaN"),
    (json.dumps(GOOD).replace("6.0", "1e999"), "guidance must be"),
    (json.dumps(GOOD).replace('"seed": 0', '"seed": ' + "9" * 5000), None),
]


@pytest.mark.parametrize(("written", "sentence"), HOSTILE)
def test_a_hostile_recipe_is_refused(written, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe.from_json(written)


@quick
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3), max_leaves=4),
       st.sampled_from(sorted(GOOD)))  # fmt: skip
def test_any_field_may_hold_anything_and_nothing_but_a_valueerror_comes_of_it(value, name):
    with suppress(ValueError):
        Recipe.from_json(changed(**{name: value}))


def test_a_picture_that_is_not_the_one_saved_is_refused():
    other = ctrl.Picture.of(PICTURE + 1).to_base64()
    control = GOOD["controls"][0]
    swapped = control | {"picture": control["picture"] | {"png": other}}
    with pytest.raises(ValueError, match="sha256 differs"):
        Recipe.from_json(changed(controls=[swapped]))


def test_load_takes_json_too_and_explains_what_it_does_not(tmp_path):
    recipe = Recipe("a")
    (tmp_path / "a.json").write_text(recipe.to_json())
    assert Recipe.load(tmp_path / "a.json") == recipe
    ctrl.Picture.of(PICTURE).image.save(tmp_path / "bare.png")
    with pytest.raises(ValueError, match="PNG without a recipe"):
        Recipe.load(tmp_path / "bare.png")
    with pytest.raises(ValueError, match="there is no file"):
        Recipe.load(tmp_path / "none.png")
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match="not a PNG"):
        Recipe.load(tmp_path / "a.gif")
