"""Sweeps: every cell is what `sample` makes, shared steps are made once, and nothing finished is lost."""

import math
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from PIL import Image, ImageDraw
from variety import LONG, MAP, OTHER, PLAIN

import ctrl
from ctrl.sweeps.axes import brief

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


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["euler", "euler a", "dpm++ 2m", "unipc", "ddim", "pndm"])
def test_sharing_keeps_every_bit_with_every_kind_of_sampler(model, sampler):
    axes = {"controls[0].weight": [ctrl.hold(0.8, until=u) for u in (0.5, 1.0)], "guidance": [3, 6]}
    sweep = ctrl.sweep(model, RECIPE.replace(sampler=sampler), axes)
    assert sweep.saved > 0 and equal(sweep, model)


def test_a_run_that_another_goes_along_with_shares_no_step_with_one_alone(model):
    late = ctrl.hold(0.7, start=0.5)
    axes = {"aligned": [None, ctrl.StyleAligned(ctrl.Recipe("a box", seed=3), late), None]}
    sweep = ctrl.sweep(model, RECIPE, axes | {"guidance": [5.0, 6.0]}, progress=False)
    assert sweep.saved == 2 * 1 + 8 and equal(sweep, model), "of each pair one evaluation, and the last pair was there"


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
    sheet, boxes = sweep.sheet, sweep.boxes
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


def test_the_best_comes_first_of_equals_the_earlier_and_what_has_no_measure_last(model):
    sweep = ctrl.sweep(model, RECIPE.replace(steps=1), {"seed": [3, 1, 2, 4]})
    for nothing in (math.nan, None):  # None is what `obeys` says of what it cannot measure
        measure = {3: 0.5, 1: nothing, 2: 0.9, 4: 0.5}
        found = sweep.sort_by(lambda shot, measure=measure: measure[shot.recipe.seed])
        assert [shot.recipe.seed for shot in found] == [2, 3, 4, 1]


def test_a_sweep_is_indexed_as_a_sequence_is(model):
    sweep = ctrl.sweep(model, RECIPE.replace(steps=1), {"seed": range(3)})
    assert sweep[np.int64(1)] is sweep[1] is sweep[-2] and sweep[1:] == sweep.shots[1:]
    with pytest.raises(IndexError):
        sweep[3]


def test_labels_are_a_few_words_whatever_the_value():
    same = ctrl.Picture.of(MAP)
    texts = [
        brief(one)
        for one in (same, MAP, Image.fromarray(MAP), ctrl.ramp(6, 2), 0.25, 3, True, "ddim", None, (ctrl.Lora("lcm"),))
    ]
    assert texts[0] == texts[1] == texts[2] == f"picture {same.sha256[:8]}"
    assert texts[3:] == ["6 to 2 from 0 until 1", "0.25", "3", "True", "ddim", "None", "1 of them"]
    assert len(brief("word " * 40)) == 32 and "\n" not in brief(np.eye(3).tolist())


def test_the_table_is_a_frame_of_pandas_and_without_pandas_its_rows(model, monkeypatch):
    sweep = ctrl.sweep(model, RECIPE.replace(steps=1), {("guidance", "controls[0].weight"): [(3, 0.5), (6, 1)]})
    table = sweep.table(bright=lambda shot: pixels(shot.image).mean())
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["guidance", "controls[0].weight", "hash", "bright"]
    assert table["controls[0].weight"].tolist() == [0.5, 1] and table["hash"][1] == sweep[1].recipe.hash
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert sweep.table() == sweep.rows() and len(sweep.rows()) == 2


def test_the_labels_say_what_differs(model, monkeypatch):
    written = []
    font = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda pen, at, text, **how: written.append(text) or font(pen, at, text, **how)
    )
    axes = {("steps", "sampler"): [(1, "euler"), (2, "ddim")], "controls[0].weight": [0.25, 1.0], "seed": [0, 1]}
    assert ctrl.sweep(model, RECIPE, axes).sheet.width > 2 * 32
    rows = [
        f"{one}, controls[0].weight {w}"
        for one in ("steps 1, sampler euler", "steps 2, sampler ddim")
        for w in (0.25, 1)
    ]
    assert written == ["seed 0", "seed 1", *rows]


def test_every_picture_is_handed_out_as_soon_as_it_is_finished(model, evaluations):
    told = []
    sweep = ctrl.sweep(
        model, RECIPE, {"seed": range(3)}, on_shot=lambda shot, *count: told.append((shot, *count, len(evaluations)))
    )
    assert [one[1:] for one in told] == [(1, 3, 4), (2, 3, 8), (3, 3, 12)]
    assert [shot for shot, *_ in told] == list(sweep)


def test_what_on_step_raises_ends_the_sweep_after_that_step_and_the_next_is_whole(model, evaluations):
    told = []

    def enough(step):
        told.append(step.index)
        if len(told) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ctrl.sweep(model, RECIPE, {"seed": range(3)}, on_step=enough)
    assert told == [0, 1, 2, 3, 0, 1] and len(evaluations) == 6
    assert equal(ctrl.sweep(model, RECIPE, {"seed": range(3)}, on_step=told.append), model)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("on_step", 3, "a function of a Step, got 3"),
        ("on_step", lambda: None, "a function of one argument, a Step"),
        ("on_shot", lambda shot: None, "a function of 3 arguments, a Shot, the number done, the number in all"),
    ],
    ids=["a number", "too few", "too few of three"],
)
def test_a_callback_that_cannot_be_called_so_is_refused_first(model, evaluations, name, given, message):
    with pytest.raises(TypeError, match=f"{name} must be {message}"):
        ctrl.sweep(model, RECIPE, {"seed": range(3)}, **{name: given})
    assert evaluations == []


def test_on_step_and_an_executor_exclude_each_other(model):
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(ValueError, match="on_step must be left out with an executor"),
    ):
        ctrl.sweep(model, RECIPE, {"seed": range(3)}, executor=executor, on_step=print)


def test_an_error_after_the_first_picture_holds_those_that_were_finished(model):
    unheard = {"loras": [(), (ctrl.Lora("unheard"),)]}
    with pytest.raises(ctrl.Unfinished, match=r"1 of 2 pictures .* no LoRA 'unheard'") as raised:
        ctrl.sweep(model, RECIPE, unheard)
    (shot,) = raised.value.shots
    assert shot.recipe == RECIPE and np.array_equal(pixels(shot.image), pixels(ctrl.sample(model, RECIPE).image))
    assert isinstance(raised.value.__cause__, ValueError)
    with pytest.raises(ValueError, match="no LoRA 'unheard'"):
        ctrl.sweep(model, RECIPE, {"loras": unheard["loras"][1:]})


def test_a_function_may_load_the_model(model):
    axes = {"guidance": [ctrl.curve((0, 5), (0.5, 5), (1, end)) for end in (1.5, 3)]}
    sweep = ctrl.sweep(lambda: model, RECIPE, axes)
    assert sweep.saved == ctrl.sweep(model, RECIPE, axes).saved > 0 and equal(sweep, model)


def test_a_folder_resumes_and_what_is_broken_is_made_again(model, evaluations, tmp_path):
    def interrupt(shot, done, count):
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
    sweep = ctrl.sweep(model, RECIPE, axes, folder=tmp_path, on_shot=lambda shot, *one: told.append(one))
    assert len(evaluations) == sweep.evaluations == 3 * 4 and told == [(2, 4), (3, 4), (4, 4)]
    assert equal(sweep, model)
    with Image.open(finished[0]) as image:
        assert ctrl.Recipe.load(finished[0]).seed in range(4) and image.size == (32, 32)


def torn(data):
    """A PNG whose pixels end early, where Pillow looks for the next chunk and finds none."""
    at = data.index(b"IDAT")
    return data[: at - 4] + (10).to_bytes(4, "big") + data[at:]


DAMAGES = {".png": (torn, lambda data: data[:-40], lambda data: b""), ".json": (lambda data: b"{}", lambda data: b"[]")}


@pytest.mark.parametrize(("ending", "damage"), [(end, one) for end, some in DAMAGES.items() for one in some])
def test_whatever_is_damaged_in_a_folder_is_made_again(model, evaluations, tmp_path, ending, damage):
    recipe = RECIPE.replace(prompt=LONG * 2, steps=1)  # a prompt with a note
    (made,) = ctrl.sweep(model, recipe, {"seed": [1]}, folder=tmp_path)
    file = tmp_path / f"{made.recipe.hash}{ending}"
    file.write_bytes(damage(file.read_bytes()))
    evaluations.clear()
    (again,) = ctrl.sweep(model, recipe, {"seed": [1]}, folder=tmp_path)
    assert len(evaluations) == 1 and replace(again, image=made.image) == made
    assert np.array_equal(pixels(again.image), pixels(made.image))


def test_a_folder_of_another_model_is_refused(model, tmp_path):
    (tmp_path / "sweep.json").write_text('{"ctrl sweep": 2, "model": "Model(\'another\')", "weights": {}}')
    with pytest.raises(ValueError, match=r"holds pictures by Model\('another'\), not by .*; give another"):
        ctrl.sweep(model, RECIPE, {"seed": [1]}, folder=tmp_path)


def test_a_folder_of_other_weights_is_refused_though_the_name_is_the_same(folder, tmp_path):
    ctrl.sweep(ctrl.load(folder, device="cpu"), RECIPE, {"seed": [1]}, folder=tmp_path)
    other = ctrl.load(folder, device="cpu")
    with torch.no_grad():
        next(other.unet.parameters()).mul_(1.5)
    with pytest.raises(ValueError, match="holds pictures by other weights of"):
        ctrl.sweep(other, RECIPE, {"seed": [1]}, folder=tmp_path)


NETWORKS = {
    "control pose": lambda model: model.controlnet("pose").module.parameters(),
    "the first IP-Adapter": lambda model: [model.ip_adapter().encoder.visual_projection.weight],
}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_folder_tells_other_weights_of_what_its_recipes_use(folder, tmp_path, network):
    model, recipe = ctrl.load(folder, device="cpu"), RECIPE.replace(steps=1)
    styled = recipe.replace(styles=[ctrl.Style(MAP)], loras=[ctrl.Lora("lcm", 0.5)])
    for one in (recipe.replace(controls=[]), styled, recipe):  # a folder may hold several sweeps
        ctrl.sweep(model, one, {"seed": [1]}, folder=tmp_path)
    with torch.no_grad():
        for weight in NETWORKS[network](model):
            weight.mul_(1.5)
    with pytest.raises(ValueError, match=rf"holds pictures by other weights of .* \({network}\); give another"):
        ctrl.sweep(model, styled, {"seed": [1]}, folder=tmp_path)
    (made,) = ctrl.sweep(model, recipe.replace(controls=[]), {"seed": [1]}, folder=tmp_path)
    assert np.array_equal(pixels(made.image), pixels(ctrl.sample(model, made.recipe).image))


def test_a_folder_tells_another_lora_of_the_same_name(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(folder, tmp_path / folder.name)
    file = other / "lora" / "pytorch_lora_weights.safetensors"
    save_file({name: 2 * weight for name, weight in load_file(file).items()}, file)
    recipe = RECIPE.replace(steps=1, loras=[ctrl.Lora("lcm", 0.5)])
    ctrl.sweep(ctrl.load(folder, device="cpu"), recipe, {"seed": [1]}, folder=tmp_path / "made")
    with pytest.raises(ValueError, match=r"other weights of .* \(lora lcm\); give another"):
        ctrl.sweep(ctrl.load(other, device="cpu"), recipe, {"seed": [1]}, folder=tmp_path / "made")


def test_a_folder_of_another_version_says_so(model, tmp_path):
    (tmp_path / "sweep.json").write_text('{"ctrl sweep": 1, "model": "x", "weights": "0"}')
    with pytest.raises(ValueError, match=r"is of another version of ctrl \(1\); give another"):
        ctrl.sweep(model, RECIPE, {"seed": [1]}, folder=tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"model": "x"}', '{"model": "x", "weights": "0"}'])
def test_a_folder_of_something_else_is_refused(model, tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ValueError, match=r"has a sweep\.json of something else"):
        ctrl.sweep(model, RECIPE, {"seed": [1]}, folder=tmp_path)


def test_what_comes_out_of_a_folder_is_the_shot_that_went_in(model, tmp_path, evaluations):
    recipe = RECIPE.replace(prompt=LONG * 2)
    (made,) = ctrl.sweep(model, recipe, {"seed": [1]}, folder=tmp_path)
    evaluations.clear()
    (known,) = ctrl.sweep(model, recipe, {"seed": [1]}, folder=tmp_path)
    assert made.notes and not evaluations
    assert np.array_equal(pixels(made.image), pixels(known.image))
    assert replace(known, image=made.image) == made and known.family == made.family


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
