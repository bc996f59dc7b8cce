"""`Recipe.at`: the recipe of one step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_recipe import PICTURE, quick, recipes

import ctrl
from ctrl.recipe import Guidance, Recipe, as_number

TIMES = [1.0, 0.75, 0.5, 0.25]
MAP = np.full((8, 8), 200, np.uint8)


def test_schedules_are_numbers_and_what_is_off_is_gone():
    recipe = Recipe(
        "a",
        negative="b",
        controls=[ctrl.Depth(PICTURE, ctrl.ramp(0, 3)), ctrl.Edges(PICTURE, 0)],
        styles=[ctrl.Style(PICTURE, ctrl.hold(0.5, until=0.5), negative=MAP)],
        regions=[ctrl.Region("c", MAP, 0)],
        loras=[ctrl.Lora("d", 0)],
        guidance=ctrl.hold(7, start=0.5),
        strength=0.3,
    )
    first, *_, last = [recipe.at(i, TIMES) for i in range(4)]
    assert (first.controls, first.regions, first.loras, first.negative) == ((), (), (), "")
    assert first.guidance == Guidance(1.0)
    assert first.styles == (ctrl.Style(PICTURE, 0.5),)
    assert last.controls == (ctrl.Depth(PICTURE, 3, uncond=1),)
    assert (last.styles, last.negative, last.guidance) == ((), "b", Guidance(7.0))
    assert first.strength == Recipe.strength


def test_what_guidance_alone_uses_is_gone_without_it():
    refined = Guidance(1, rescale=0.5, rescale_in="v", map=MAP, apg=ctrl.APG(), zero=ctrl.CFGZero())
    assert Recipe("a", guidance=refined).at(0, TIMES).guidance == Guidance(1)
    perturbed = Guidance(1, rescale=0.5, rescale_in="v", perturb=[ctrl.SEG(2), ctrl.PAG(0), ctrl.PAG(3)])
    kept = Guidance(1, rescale=0.5, rescale_in="v", perturb=[ctrl.PAG(3), ctrl.SEG(2)])
    assert Recipe("a", guidance=perturbed).at(0, TIMES).guidance == kept
    control = ctrl.Depth(PICTURE, mode="control first")
    guided, free = (Recipe("a", controls=[control], guidance=g).at(0, TIMES).controls[0] for g in (6, 1))
    assert (guided.mode, guided.uncond, guided.branch_weights) == ("prompt first", 0.0, (0.0, 1.0))
    assert (free.mode, free.uncond) == ("prompt first", 1.0)


def test_a_step_held_still_depends_on_nothing_that_acts_on_the_model():
    guidance = Guidance(7, zero=ctrl.CFGZero(2), perturb=[ctrl.PAG()])
    steered = Recipe("a", negative="b", guidance=guidance, controls=[ctrl.Depth(PICTURE)], loras=[ctrl.Lora("x")])
    bare = Recipe("c", guidance=Guidance(1, zero=ctrl.CFGZero(2)))
    for index in range(2):
        assert steered.at(index, TIMES) == bare.at(index, TIMES)
        assert steered.at(index, TIMES).guidance.zero_init
    after = steered.at(2, TIMES)
    assert not after.guidance.zero_init and after.guidance.guided and after.guidance.zero == ctrl.CFGZero(0)


def test_a_window_by_noise_needs_no_more_than_the_times():
    recipe = Recipe("a", controls=[ctrl.Depth(PICTURE, ctrl.hold(1, until=0.5, by="noise"))])
    assert [len(recipe.at(i, TIMES).controls) for i in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize("index", [-1, 4])
def test_a_step_that_the_run_has_not_is_an_error(index):
    with pytest.raises(IndexError, match=f"from 0 to 3, .* got {index}"):
        Recipe("a").at(index, TIMES)


@quick
@given(recipes, st.randoms(use_true_random=False), st.integers(0, 3))
def test_order_does_not_matter_and_a_step_is_its_own_step(recipe, random, index):
    def shuffled(parts):
        return tuple(random.sample(parts, len(parts)))

    parts = {name: shuffled(getattr(recipe, name)) for name in ("controls", "styles", "regions")}
    guidance = Guidance.of(recipe.guidance)
    guidance = Guidance(**{**vars(guidance), "perturb": shuffled(guidance.perturb)})
    now = recipe.at(index, TIMES)
    assert recipe.replace(**parts, guidance=guidance).at(index, TIMES) == now
    for part in (*now.controls, *now.styles, *now.guidance.perturb):
        assert as_number(part.weight) > 0
    if not now.guidance.zero_init:
        assert now.at(index, TIMES) == now
