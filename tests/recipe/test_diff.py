"""`Recipe.diff` against real runs: the step it names is the first that comes out differently."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from variety import share

import ctrl
from ctrl.recipe import Guidance, Recipe


def noise(seed, *shape):
    return ctrl.Picture.of(np.random.default_rng(seed).integers(0, 255, shape or (64, 64, 3), np.uint8))


MAP, OTHER, SOFT = noise(0), noise(1), noise(2, 64, 64)
LEFT = ctrl.Picture.of(np.repeat([[255, 0]], 64, axis=0).repeat(32, axis=1).astype(np.uint8))
by = st.sampled_from(["steps", "noise"])
windows = st.sampled_from([(0, 0.5), (0.5, 1), (0.25, 0.75), (0, 1)])
schedules = st.builds(
    lambda first, last, window, by: ctrl.ramp(first, last, start=window[0], until=window[1], by=by),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from([0.5, 2.0]),
    windows,
    by,
)
weights = st.sampled_from([0.0, 0.5, 1.0]) | schedules
scales = st.sampled_from([1.0, 3.0]) | st.builds(
    lambda window, by: ctrl.hold(3.0, start=window[0], until=window[1], by=by), windows, by
)
controls = st.builds(
    lambda kind, *how, on: kind(*how, on=on),
    st.sampled_from([ctrl.Depth, ctrl.Edges]),
    st.sampled_from([MAP, OTHER]),
    weights,
    st.sampled_from([None, LEFT]),
    st.sampled_from(["balanced", "prompt first", "control first"]),
    st.sampled_from([None, 0.0, 0.5]),
    on=st.sampled_from([True, True, False]),
)
styles = st.builds(
    lambda picture, weight, negative: ctrl.Style(picture, weight, negative=negative),
    st.sampled_from([MAP, OTHER]),
    weights,
    st.sampled_from([None, SOFT]),
)
perturbations = st.lists(st.builds(ctrl.PAG, weights) | st.builds(ctrl.SEG, weights), max_size=1)
guidances = st.builds(
    Guidance,
    scales,
    st.sampled_from([0.0, 0.7]),
    st.just("prediction"),
    st.sampled_from([None, SOFT]),
    st.sampled_from([None, ctrl.APG()]),
    st.sampled_from([None, None, ctrl.CFGZero(), ctrl.CFGZero(2)]),
    perturbations,
)
regions = st.builds(ctrl.Region, st.just("blue"), st.just(LEFT), st.sampled_from([0, 0.5, 1]))
loras = st.builds(ctrl.Lora, st.just("lcm"), st.sampled_from([0.0, 0.5]), st.booleans())
changes = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.sampled_from(["a red ball", "a (red:1.3) ball"]),
        "negative": st.sampled_from(["", "blue"]),
        "regions": st.lists(regions, max_size=1),
        "controls": st.lists(controls, max_size=2),
        "styles": st.lists(styles, max_size=1),
        "loras": st.lists(loras, max_size=1),
        "guidance": scales | guidances,
    },
)  # fmt: skip
runs = st.sampled_from(
    [*((name, None) for name in ("euler", "heun", "dpm++ 2m", "pndm", "euler a")), ("dpm++ 2m", MAP), ("heun", MAP)]
)
bases = st.builds(
    lambda change, run: Recipe(
        **({"prompt": "a red ball"} | change), sampler=run[0], image=run[1], steps=6, strength=0.6
    ),
    changes,
    runs,
)  # fmt: skip
several = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "phases": [Phase.explicit, Phase.generate],  # a smaller example would take minutes to find
}


def latents(model, recipe):
    return [step.latents for step in ctrl.steps(model, recipe)]


def first_apart(one, other):
    pairs = zip(one, other, strict=True)
    return next((index for index, pair in enumerate(pairs) if not torch.equal(*pair)), None)


@settings(max_examples=share(60), **several)
@given(bases, changes)
def test_two_runs_first_come_apart_in_the_step_that_diff_names(model, old, change):
    new = old.replace(**change)
    steps = [found.step for found in old.diff(new, model) if found.step is not None]
    assert min(steps, default=None) == first_apart(latents(model, old), latents(model, new))


@settings(max_examples=share(200), **several)
@given(bases, changes)
def test_without_a_model_a_step_is_the_same_or_is_said_to_be_unknown(model, old, change):
    new = old.replace(**change)
    for with_model, without in zip(old.diff(new, model), old.diff(new), strict=True):
        assert without.step == with_model.step or (without.step is None and "pass model=" in without.words)


SCHEDULED = Recipe("a red ball", controls=[ctrl.Depth(MAP, ctrl.hold(1, until=0.5))], steps=10, strength=0.5)
LONGER = [ctrl.Depth(MAP, ctrl.hold(1, until=0.8))]


def noisy(recipe):
    return recipe.replace(controls=[ctrl.Depth(MAP, ctrl.hold(1, until=recipe.controls[0].weight.until, by="noise"))])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (noisy(SCHEDULED), noisy(SCHEDULED.replace(controls=LONGER))),
        (SCHEDULED.replace(image=MAP), SCHEDULED.replace(image=MAP, controls=LONGER)),
        (SCHEDULED.replace(sampler="heun"), SCHEDULED.replace(sampler="heun", controls=LONGER)),
    ],
    ids=["a window by noise", "image to image", "two evaluations a step"],
)
def test_only_the_sampler_knows_the_step(model, old, new):
    (change,) = old.diff(new)
    assert change.step is None and "pass model=" in change.words
    (change,) = old.diff(new, model)
    assert change.step == first_apart(latents(model, old), latents(model, new)) > 0
    assert change.words.endswith(f"from step {change.step + 1}")


def test_a_change_that_holds_from_the_start_needs_no_model():
    old = noisy(SCHEDULED).replace(sampler="heun")
    assert [change.step for change in old.diff(old.replace(prompt="blue", seed=3, steps=4))] == [0, 0, 0]
    assert [change.step for change in old.diff(old.replace(guidance=7, negative="b"))] == [0, 0]


def test_a_difference_is_asked_of_recipes_and_a_model():
    with pytest.raises(TypeError, match="other must be a Recipe, got str"):
        SCHEDULED.diff("a")
    with pytest.raises(TypeError, match="model must be a Model, got str"):
        SCHEDULED.diff(SCHEDULED, "model")


def test_changes_that_undo_each_other_affect_no_step():
    old = Recipe("a", controls=[ctrl.Depth(MAP, mode="prompt first")])
    new = Recipe("a", controls=[ctrl.Depth(MAP, mode="control first", uncond=1)])
    assert [change.step for change in old.diff(new)] == [None, None]


def test_regions_that_come_and_go_are_told_apart_by_their_words():
    regions = [ctrl.Region("a blue box", LEFT), ctrl.Region("a " * 40, LEFT)]
    words = [change.words for change in SCHEDULED.replace(regions=regions).diff(SCHEDULED.replace(regions=[]))]
    assert words[0].startswith("Region 'a blue box' removed") and "…' removed" in words[1]
    assert len(words[1]) < 100
