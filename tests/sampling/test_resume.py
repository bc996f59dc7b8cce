"""A run resumed from any of its steps goes on to the same bits: every sampler, every task, every control."""

import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from variety import EVERYTHING, OTHER, PLAIN, SOFT, controls, few, recipes, styles, with_guidance

import ctrl
from ctrl.recipe import SAMPLERS

TASKS = {
    "text to image": {},
    "image to image": {"image": OTHER, "strength": 0.7},
    "inpainting": {"image": OTHER, "mask": SOFT, "strength": 1.0},
    "inpainting, in part": {"image": OTHER, "mask": SOFT, "strength": 0.6},
}


def values(steps):
    return [(step.index, step.latents, step.denoised, step.branches.cond, step.branches.uncond) for step in steps]


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


# This model predicts no flow, and its schedule makes "pndm" start with Runge-Kutta steps, from noise alone.
PAIRS = [
    (sampler, task)
    for sampler in SAMPLERS
    for task, changes in TASKS.items()
    if sampler != "flow euler" and not (sampler == "pndm" and changes.get("strength", 1.0) < 1)
]


@pytest.mark.quick(task=["text to image", "inpainting, in part"], sampler=["heun", "dpm++ 2m sde", "unipc"])
@pytest.mark.parametrize(("sampler", "task"), PAIRS)
def test_every_sampler_goes_on_from_every_step_in_every_task(model, sampler, task):
    recipe = PLAIN.replace(sampler=sampler, steps=6, guidance=ctrl.Guidance(5, apg=ctrl.APG()), **TASKS[task])
    whole = list(ctrl.steps(model, recipe))
    for step in whole[:-1]:
        assert same(values(ctrl.steps(model, recipe, after=step)), values(whole[step.index + 1 :]))


@pytest.mark.slow
@few(200)
@given(recipe=recipes(), data=st.data())
def test_random_recipes_go_on_from_a_random_step(model, recipe, data):
    recipe = recipe.replace(steps=data.draw(st.integers(2, 4), "steps"))
    whole = list(ctrl.steps(model, recipe))
    step = data.draw(st.sampled_from(whole), "step")
    assert same(values(ctrl.steps(model, recipe, after=step)), values(whole[step.index + 1 :]))


@pytest.mark.slow
@few(60)
@given(recipe=recipes(), data=st.data())
def test_a_change_that_begins_later_goes_on_from_before_it(model, recipe, data):
    """Where `old.at(i)` and `new.at(i)` agree up to a step, the old run's checkpoint before it serves the new run."""
    changes = {
        "controls": st.lists(controls, max_size=2),
        "styles": st.lists(styles, max_size=2),
        "guidance": st.sampled_from([ctrl.hold(4, start=0.5), ctrl.ramp(6, 0), 3.0]),
    }
    name = data.draw(st.sampled_from(sorted(changes)), "what changes")
    old = recipe.replace(steps=4)
    new = old.replace(**{name: data.draw(changes[name], "to")})
    before, after = list(ctrl.steps(model, old)), list(ctrl.steps(model, new))
    strength = 1.0 if old.image is None else old.strength
    times = model.times(old.sampler, old.spacing, old.steps, strength=strength)
    first = next((i for i in range(len(times)) if old.at(i, times) != new.at(i, times)), len(times))
    assert same(values(before[:first]), values(after[:first]))
    if first > 0:
        resumed = ctrl.steps(model, new, after=before[first - 1])
        assert same(values(resumed), values(after[first:]))


def test_one_checkpoint_serves_many_times(model):
    recipe = EVERYTHING.replace(steps=4)
    whole = list(ctrl.steps(model, recipe))
    checkpoint = whole[1].checkpoint
    for _ in range(2):
        assert same(values(ctrl.steps(model, recipe, after=checkpoint)), values(whole[2:]))
    picture = ctrl.sample(model, recipe, after=checkpoint).image
    assert picture.tobytes() == ctrl.sample(model, recipe).image.tobytes()


def test_after_the_last_step_there_is_only_the_picture(model):
    whole = list(ctrl.steps(model, PLAIN))
    assert list(ctrl.steps(model, PLAIN, after=whole[-1])) == []
    picture = ctrl.sample(model, PLAIN, after=whole[-1]).image
    assert picture.tobytes() == ctrl.sample(model, PLAIN).image.tobytes()


OTHERS_PROCESS = """
import pickle, sys
import torch
torch.set_num_threads(1)
import ctrl
folder, given, out = sys.argv[1:]
with open(given, "rb") as file:
    pairs = pickle.load(file)
model = ctrl.load(folder, device="cpu")
runs = [ctrl.steps(model, ctrl.Recipe.from_json(recipe), after=checkpoint) for recipe, checkpoint in pairs]
with open(out, "wb") as file:
    pickle.dump([[step.latents for step in run] for run in runs], file)
"""


@pytest.mark.slow
def test_checkpoints_go_to_another_process(model, folder, tmp_path):
    samplers = ("dpm++ 2m sde", "unipc", "pndm", "heun", "tcd")
    asked = [EVERYTHING.replace(steps=4, sampler=sampler) for sampler in samplers]
    runs = [list(ctrl.steps(model, recipe)) for recipe in asked]
    given, out = tmp_path / "given", tmp_path / "out"
    pairs = [(recipe.to_json(), run[1].checkpoint) for recipe, run in zip(asked, runs, strict=True)]
    given.write_bytes(pickle.dumps(pairs))
    subprocess.run([sys.executable, "-c", OTHERS_PROCESS, str(folder), str(given), str(out)], check=True)
    assert same(pickle.loads(out.read_bytes()), [[step.latents for step in run[2:]] for run in runs])


def test_perturbed_attention_goes_on_too(model):
    for recipe in (
        with_guidance(EVERYTHING.replace(steps=3), apg=ctrl.APG()),
        with_guidance(EVERYTHING.replace(steps=3), zero=ctrl.CFGZero(1)),
    ):
        whole = list(ctrl.steps(model, recipe))
        assert same(values(ctrl.steps(model, recipe, after=whole[0])), values(whole[1:]))


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "euler"},
        {"spacing": "trailing"},
        {"steps": 5},
        {"seed": 1},
        {"width": 64},
        {"image": OTHER},
        {"image": OTHER, "mask": SOFT},
    ],
    ids=lambda changes: " and ".join(changes),
)
def test_what_is_settled_before_the_first_step_cannot_change_after_it(model, changes):
    (step, *_) = ctrl.steps(model, PLAIN)
    with pytest.raises(ValueError, match="settled before the first step") as error:
        ctrl.steps(model, PLAIN.replace(**changes), after=step)
    assert next(iter(changes)) in str(error.value)


def test_after_must_be_a_step(model):
    with pytest.raises(TypeError, match="after must be a Step"):
        ctrl.steps(model, PLAIN, after=3)


def test_resuming_leaves_the_checkpoint_as_it_was(model):
    recipe = EVERYTHING.replace(steps=3, sampler="unipc")
    step = next(iter(ctrl.steps(model, recipe)))
    before = pickle.dumps(step.checkpoint)
    list(ctrl.steps(model, recipe, after=step))
    assert pickle.dumps(step.checkpoint) == before
