"""Sweeps: every cell is what `sample` makes, shared steps are made once, and nothing finished is lost."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from PIL import Image
from variety import MAP, OTHER, PLAIN

import ctrl

RECIPE = PLAIN.replace(steps=4, guidance=5.0, controls=[ctrl.Pose(MAP, 0.8), ctrl.Depth(OTHER, 0.5)])


def pixels(image):
    return np.asarray(image)


def equal(sweep, model):
    return all(np.array_equal(pixels(s.image), pixels(ctrl.sample(model, s.recipe).image)) for s in sweep)


@pytest.fixture
def evaluations(model):
    """How often the U-Net was evaluated so far."""
    made = []
    hook = model.unet.register_forward_pre_hook(lambda *_: made.append(1))
    yield made
    hook.remove()


def test_every_cell_is_what_sample_makes_in_the_order_of_the_axes(model):
    sweep = ctrl.sweep(model, RECIPE, {"guidance": [3, 6], "controls[1].weight": [0, 1], "seed": range(2)})
    assert len(sweep) == 8 and equal(sweep, model)
    wanted = RECIPE.replace(guidance=6, controls=[RECIPE.controls[0], ctrl.Depth(OTHER, 0)], seed=1)
    assert sweep[1, 0, 1].recipe == wanted == sweep[5].recipe == sweep[-1, 0, -1].recipe


def test_shared_steps_are_made_once_and_counted_truly(model, evaluations):
    late = [ctrl.curve((0, 5), (0.5, 5), (1, end)) for end in (1.5, 3, 5)]
    sweep = ctrl.sweep(model, RECIPE, {"guidance": late})
    assert sweep.evaluations == len(evaluations) == 4 + 1 + 1  # two steps shared, and the third's evaluation
    assert sweep.saved == 12 - 6
    assert equal(sweep, model)


@pytest.mark.parametrize("sampler", ["euler", "euler a", "dpm++ 2m", "unipc", "ddim", "pndm"])
def test_sharing_keeps_every_bit_with_every_kind_of_sampler(model, sampler):
    axes = {"controls[0].weight": [ctrl.hold(0.8, until=u) for u in (0.5, 1.0)], "guidance": [3, 6]}
    sweep = ctrl.sweep(model, RECIPE.replace(sampler=sampler), axes)
    assert sweep.saved > 0 and equal(sweep, model)


def test_recipes_of_one_hash_are_one_picture(model, evaluations):
    sweep = ctrl.sweep(model, RECIPE, {"controls[0].on": [False, False], "controls[0].weight": [0.3, 0.9]})
    assert len(evaluations) == sweep.evaluations == 4 and len(sweep) == 4 and sweep.saved == 12
    assert [shot.recipe.controls[0].weight for shot in sweep] == [0.3, 0.9, 0.3, 0.9]


def test_linked_axes_move_together(model):
    sweep = ctrl.sweep(model, RECIPE, {("steps", "sampler"): [(2, "euler"), (3, "ddim")], "seed": [0, 1]})
    found = [(shot.recipe.steps, shot.recipe.sampler, shot.recipe.seed) for shot in sweep]
    assert found == [(2, "euler", 0), (2, "euler", 1), (3, "ddim", 0), (3, "ddim", 1)]
    assert equal(sweep, model)


def test_the_sheet_gives_its_recipes_back(model):
    sweep = ctrl.sweep(model, RECIPE.replace(steps=1), {"guidance": [3, 6], "seed": range(3)})
    sheet, boxes = sweep.sheet, sweep._sheet()[1]
    for shot, (left, top, right, low) in zip(sweep, boxes, strict=True):
        assert np.array_equal(pixels(sheet.crop((left, top, right, low))), pixels(shot.image))
        assert sweep.under(left, top) == sweep.under(right - 1, low - 1) == shot.recipe
    assert sweep.under(0, 0) is None
    assert sweep._repr_png_().startswith(b"\x89PNG")


def test_rows_say_what_was_tried_and_measured_and_the_best_comes_first(model):
    sweep = ctrl.sweep(model, RECIPE.replace(steps=1), {"seed": [3, 1, 2]})
    rows = sweep.rows(bright=lambda shot: pixels(shot.image).mean())
    assert [row["seed"] for row in rows] == [3, 1, 2] and rows[0]["hash"] == sweep[0].recipe.hash
    best = max(rows, key=lambda row: row["bright"])
    assert sweep.sort_by(lambda shot: pixels(shot.image).mean())[0].recipe.seed == best["seed"]


def test_a_folder_resumes_and_what_is_broken_is_made_again(model, evaluations, tmp_path):
    def interrupt(done, count):
        if done == 2:
            raise KeyboardInterrupt

    axes = {"seed": range(4)}
    with pytest.raises(KeyboardInterrupt):
        ctrl.sweep(model, RECIPE, axes, folder=tmp_path, on_shot=interrupt)
    finished = sorted(tmp_path.glob("*.png"))
    assert len(finished) == 2
    finished[0].write_bytes(finished[0].read_bytes()[:100])
    evaluations.clear()
    told = []
    sweep = ctrl.sweep(model, RECIPE, axes, folder=tmp_path, on_shot=lambda *one: told.append(one))
    assert len(evaluations) == sweep.evaluations == 3 * 4 and told == [(2, 4), (3, 4), (4, 4)]
    assert equal(sweep, model)
    with Image.open(finished[0]) as image:
        assert ctrl.Recipe.load(finished[0]).seed in range(4) and image.size == (32, 32)


def test_a_folder_of_another_model_is_refused(model, tmp_path):
    (tmp_path / "sweep.json").write_text('{"model": "Model(\'another\')"}')
    with pytest.raises(ValueError, match=r"holds pictures by Model\('another'\), not by .*; give another"):
        ctrl.sweep(model, RECIPE, {"seed": [1]}, folder=tmp_path)


def test_threads_make_the_same_pictures(model):
    with ThreadPoolExecutor(2) as executor:
        sweep = ctrl.sweep(model, RECIPE, {"seed": range(3), "guidance": [3, 6]}, executor=executor)
    assert equal(sweep, model) and sweep.evaluations == sum(shot.recipe.steps for shot in sweep)


@pytest.mark.slow
def test_processes_load_the_model_once_and_make_the_same_pictures(model, folder, tmp_path):
    load = partial(ctrl.load, folder, device="cpu")
    with ProcessPoolExecutor(1) as executor:
        sweep = ctrl.sweep(load, RECIPE, {"seed": range(3)}, executor=executor, folder=tmp_path)
    assert equal(sweep, model) and len(list(tmp_path.glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"guidence": [1]}, "'guidence', which is not there; there is prompt"),
        ({"controls[2].weight": [1]}, "number 2 of 2"),
        ({"guidance.apg": [1]}, "has no parts"),
        ({"guidance": [101]}, "guidance must be a number from 0 to 100"),
        ({"guidance": []}, "1 to 10000 values, got 0"),
        ({"controls[x]": [1]}, "is no path"),
        ({("seed", "steps"): [(1, 2, 3)]}, "takes a tuple of 2 values"),
        ({("seed", "steps"): [(1, 2)], "seed": [1]}, "name 'seed' twice"),
        ({"seed": range(200), "steps": range(1, 101)}, "make 20000 recipes"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(model, evaluations, axes, words):
    with pytest.raises(ValueError, match=words):
        ctrl.sweep(model, RECIPE, axes)
    assert not evaluations


@pytest.mark.parametrize("axes", [{}, [("seed", [1])], {"seed": 3}, {"prompt": "a red ball"}, {(): []}])
def test_what_are_no_axes_is_refused(model, axes):
    with pytest.raises(TypeError, match=r"axes must|must have a list|must be a path"):
        ctrl.sweep(model, RECIPE, axes)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="model must be a Model or a function"):
        ctrl.sweep("atelier", RECIPE, {"seed": [1]})
