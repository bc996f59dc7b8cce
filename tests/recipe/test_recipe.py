import json
import os
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_recipes import PICTURE, part, quick, recipes, schedules, windows

import ctrl
from ctrl.recipe import Recipe, Schedule, weight_at


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


def by_steps(schedule):
    return Schedule(schedule.points, schedule.start, schedule.until)


@given(schedules.map(by_steps), st.integers(1, 60))
def test_a_window_is_diffusers_window(schedule, count):
    for index in range(count):
        keep = 1.0 - float(index / count < schedule.start or (index + 1) / count > schedule.until)
        assert (index in schedule.steps(count)) == bool(keep)
        value = schedule.at(index, count)
        low, high = min(v for _, v in schedule.points), schedule.highest
        assert value == 0 if not keep else low - 1e-9 <= value <= high + 1e-9


@given(windows, st.lists(part, min_size=1, max_size=30).map(lambda times: sorted(times, reverse=True)))
def test_a_window_by_noise_is_the_same_noise_whatever_the_steps(window, times):
    schedule = ctrl.hold(1.0, start=window[0], until=window[1], by="noise")
    inside = [1 - window[1] <= time <= 1 - window[0] for time in times]
    assert [schedule.at(i, len(times), times) for i in range(len(times))] == [float(one) for one in inside]


def test_comfyuis_example_of_a_window_by_noise():
    """30 steps of a linear spacing, 0.2 to 0.8: steps 6 to 23, as the table in the literature has it."""
    times = [(999 - round(i * 999 / 29)) / 999 for i in range(30)]
    assert ctrl.hold(1.0, start=0.2, until=0.8, by="noise").steps(30, times) == range(6, 24)


def test_hold_and_ramp_and_curve():
    assert [ctrl.hold(2.0, until=0.5).at(i, 4) for i in range(4)] == [2, 2, 0, 0]
    assert [ctrl.ramp(0, 3).at(i, 4) for i in range(4)] == [0, 1, 2, 3]
    assert [ctrl.ramp(1, 2, start=0.5).at(i, 4) for i in range(4)] == [0, 0, 1, 2]
    assert [ctrl.curve((0, 4), (0.5, 0), (1, 2)).at(i, 5) for i in range(5)] == [4, 2, 0, 1, 2]
    assert weight_at(0.5, 0, 9) == 0.5


def test_a_control_s_mode_is_a_row_of_the_table_of_branches_and_blocks():
    made = {mode: ctrl.Depth(PICTURE, mode=mode) for mode in ("balanced", "prompt first", "control first")}
    assert [made[mode].branch_weights for mode in made] == [(1, 1), (1, 1), (0, 1)]
    assert [made[mode].shallow_weaker for mode in made] == [False, True, True]
    assert ctrl.Depth(PICTURE, mode="control first", uncond=0.3).branch_weights == (0.3, 1)


@pytest.mark.slow
def test_a_recipe_s_hash_is_the_same_in_every_process():
    code = "import ctrl; print(ctrl.Recipe('a', controls=[ctrl.Pose(ctrl.Skeleton.named('waving'))]).hash)"
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout.strip()
        for env in (os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2"))
    }
    assert found == {Recipe("a", controls=[ctrl.Pose(ctrl.Skeleton.named("waving"))]).hash}
    assert Recipe("b").hash not in found


@quick
@given(recipes, recipes)
def test_equal_recipes_have_equal_hashes_and_no_difference(one, other):
    assert (one == other) == (one.hash == other.hash)
    assert (one.to_json() == other.to_json()) == (one.diff(other) == ())
    if one == other:
        assert {change.step for change in one.diff(other)} <= {None}
    assert one.diff(one) == ()


def test_a_difference_says_what_changes_and_from_which_step():
    old = Recipe("a", controls=[ctrl.Pose(ctrl.Skeleton.named("waving"))], negative="b")
    new = old.replace(
        guidance=ctrl.hold(6.0, until=0.5),
        controls=[ctrl.Pose(ctrl.Skeleton.named("waving"), weight=ctrl.hold(1, until=0.8))],
    )
    pose = next(change for change in old.diff(new) if change.words.startswith("Pose"))
    assert (pose.step, pose.words) == (
        16, "Pose weight 1 → 1 from 0 until 0.8, active in steps 1–16 of 20: from step 17"
    )  # fmt: skip
    guidance = next(change for change in old.diff(new) if change.words.startswith("guidance"))
    assert guidance.step == 10
    (off,) = old.replace(guidance=1.0).diff(old.replace(guidance=1.0, negative="c"))
    assert off.step is None and "no step is affected" in off.words
    (order,) = Recipe("a", controls=[ctrl.Depth(PICTURE), ctrl.Edges(PICTURE)]).diff(
        Recipe("a", controls=[ctrl.Edges(PICTURE), ctrl.Depth(PICTURE)])
    )
    assert order.step is None
    (steps,) = old.diff(old.replace(steps=30))
    assert steps.step == 0


def test_defaults_and_normalisation():
    recipe = Recipe("a", controls=[ctrl.Pose(ctrl.Skeleton.named("waving"), weight=1)], guidance=np.float32(3))
    assert isinstance(recipe.controls, tuple)
    assert recipe.guidance == 3.0
    assert isinstance(recipe.controls[0].weight, float)
    assert recipe.fast() == recipe.replace(sampler="lcm", loras=[ctrl.Lora("lcm")], steps=4, guidance=1.0)


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
    (lambda: Recipe("a", seed=None), ValueError, "got None; for any, draw one: random.randrange"),
    (lambda: Recipe("a", guidance="6"), TypeError, "guidance must be a number"),
    (lambda: Recipe("a", steps=0), ValueError, "steps must be a whole number from 1 to 1000, got 0"),
    (lambda: Recipe("a", steps=2.5), TypeError, "steps must be a whole number"),
    (lambda: Recipe("a", seed=-1), ValueError, "seed must be"),
    (lambda: Recipe("a", seed=2**64), ValueError, "seed must be"),
    (lambda: Recipe("a", sampler="eular"), ValueError, "sampler 'eular' is unknown; did you mean 'euler'"),
    (lambda: Recipe("a", loras=["lcm"]), TypeError, r"loras\[0\] must be Lora"),
    (lambda: Recipe("a", sampler="dpm++ 2m karras"), ValueError, r"sampler 'dpm\+\+ 2m karras' is unknown"),
    (lambda: Recipe("a", spacing="karas"), ValueError, "did you mean 'karras'"),
    (lambda: Recipe("a", mask=PICTURE), ValueError, "there is no image"),
    (lambda: Recipe("a", image=PICTURE, strength=1.5), ValueError, "strength must be a number from 0 to 1"),
    (lambda: ctrl.Control("", PICTURE), TypeError, "kind must be the name"),
    (lambda: ctrl.Depth(PICTURE, mode="guess"), ValueError, "mode 'guess' is unknown"),
    (lambda: ctrl.Depth(PICTURE, blocks=[]), TypeError, "blocks must be a list of weights"),
    (lambda: ctrl.Style([]), ValueError, "1 to 16 pictures, got 0"),
    (lambda: ctrl.Style(PICTURE, blocks={"mid_block": -1}), ValueError, "from 0 to 10, got -1"),
    (lambda: ctrl.Guidance(rescale=2), ValueError, "rescale must be"),
    (lambda: ctrl.Guidance(apg=3), TypeError, "apg must be APG"),
    (lambda: ctrl.Guidance(perturb=[3]), TypeError, r"perturb\[0\] must be PAG or SEG"),
    (lambda: ctrl.curve((0, 1), (0, 2)), ValueError, "rising positions"),
    (lambda: ctrl.hold(1, by="sigma"), ValueError, "by 'sigma' is unknown"),
    (lambda: ctrl.Region("a", None), TypeError, "mask must be a picture"),
    (lambda: Recipe("a", width=64), ValueError, "width and height go together"),
    (lambda: Recipe("a", width=64, height=True), TypeError, "height must be"),
    (lambda: Recipe("a", controls=ctrl.Depth(PICTURE)), TypeError, r"write \[control\]"),
    (lambda: Recipe("a", controls=[PICTURE]), TypeError, r"controls\[0\] must be Pose, Depth, Edges or Control"),
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


DEPTH = GOOD["controls"][0]
HOSTILE = [
    ("", "not JSON"),
    ("[" * 100_000, "nested too deeply"),
    ("[]", "not a recipe"),
    ('{"ctrl": 2}', "class None"),
    ('{"ctrl": 2, "is": "Depth", "picture": "a.png"}', "picture must be a picture in the recipe itself"),
    ('{"ctrl": 2, "is": "Recipe"}', "prompt"),
    ('{"ctrl": 2, "is": "Schedule", "points": [[0, 1]]}', "a Schedule and not a recipe"),
    ('{"ctrl": 2, "is": "os.system", "x": 1}', "class 'os.system'"),
    (changed(ctrl=1), "version 1"),
    (changed(ctrl=True), "version True"),
    (changed(extra=1), "'extra'"),
    (changed(seed=None), "seed must be"),
    (changed(seed=True), "seed must be"),
    (changed(steps=100_000), "steps must be"),
    (changed(controls={}), "class None"),
    (changed(controls=[None]), r"controls\[0\] must be"),
    (changed(controls=[{"is": "__class__"}]), "class '__class__'"),
    (changed(controls=[DEPTH | {"kind": "pose"}]), "no argument 'kind'"),
    (changed(controls=GOOD["controls"] * 40), "at most 16"),
    (changed(controls=[DEPTH | {"picture": {"is": "Picture", "png": "!!", "sha256": ""}}]), None),
    (changed(controls=[DEPTH | {"picture": {"is": "Picture", "png": "", "sha256": ""}}]), "cannot be read"),
    (changed(controls=[DEPTH | {"picture": "a.png"}]), "in the recipe itself"),
    (changed(controls=[DEPTH | {"mask": "/etc/passwd"}]), "in the recipe itself"),
    (changed(styles=[{"is": "Style", "picture": ["a.png"]}]), "in the recipe itself"),
    (changed(image="https://example.org/a.png"), "in the recipe itself"),
    (changed(guidance={"is": "Guidance", "map": "a.png"}), "in the recipe itself"),
    (changed(controls=[DEPTH | {"picture": {"is": "Skeleton", "points": [[1]], "shown": []}}]), None),
    (changed(guidance={"is": "Schedule", "first": 1}), "no argument 'first'"),
    (changed(guidance={"is": "Schedule", "points": []}), "points must be"),
    (changed(guidance=[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]), "nested too deeply"),
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
