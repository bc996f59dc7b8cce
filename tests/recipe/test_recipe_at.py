"""`Recipe.at`: the recipe of one step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_recipes import PICTURE, quick, recipes

import ctrl
from ctrl.recipe import Guidance, Recipe, as_number, batch_shape

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


def depth(**how):
    return Recipe("a", controls=[ctrl.Depth(PICTURE, **how)])


def guided(weight, **how):
    return Recipe("a", guidance=Guidance(weight, **how))


DEPTH, EDGES, STYLE, OTHER = ctrl.Depth(PICTURE), ctrl.Edges(MAP), ctrl.Style(PICTURE), ctrl.Style(MAP)
PAG, SEG = ctrl.PAG(), ctrl.SEG()
WHITE, BLACK = np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)
EQUAL = [
    (Recipe("a", controls=[DEPTH, EDGES]), Recipe("a", controls=[EDGES, DEPTH])),
    (Recipe("a", styles=[STYLE, OTHER]), Recipe("a", styles=[OTHER, STYLE])),
    (Recipe("a", loras=[ctrl.Lora("x"), ctrl.Lora("y")]), Recipe("a", loras=[ctrl.Lora("y"), ctrl.Lora("x")])),
    (depth(weight=0), Recipe("a")),
    (depth(on=False), Recipe("a")),
    (depth(weight=ctrl.ramp(0, 0)), Recipe("a")),
    (depth(weight=ctrl.hold(0.5)), depth(weight=0.5)),
    (depth(uncond=1), depth()),
    (depth(mode="control first", uncond=1), depth(mode="prompt first")),
    (Recipe("a", controls=[ctrl.Control("depth", PICTURE)]), depth()),
    (Recipe("a", styles=[ctrl.Style(PICTURE, on=False)]), Recipe("a", styles=[ctrl.Style(MAP, 0)])),
    (Recipe("a", styles=[ctrl.Style(PICTURE, combine="average")]), Recipe("a", styles=[ctrl.Style([PICTURE])])),
    (Recipe("a", regions=[ctrl.Region("b", MAP, on=False)]), Recipe("a")),
    (Recipe("a", loras=[ctrl.Lora("x", on=False), ctrl.Lora("y", 0)]), Recipe("a")),
    (guided(6), Recipe("a", guidance=6)),
    (Recipe("a", guidance=1, negative="b"), Recipe("a", guidance=0.5)),
    (guided(1, rescale=0.5, map=MAP, apg=ctrl.APG(), zero=ctrl.CFGZero()), Recipe("a", guidance=0)),
    (guided(6, perturb=[ctrl.PAG(0)]), Recipe("a")),
    (guided(6, perturb=[PAG, SEG]), guided(6, perturb=[SEG, PAG])),
    (Recipe("a", strength=0.3), Recipe("a")),
    (Recipe("a", sampler="dpm++"), Recipe("a")),
    (Recipe("a", guidance=ctrl.hold(6, by="noise")), Recipe("a", guidance=np.float32(6), steps=20.0)),
    (depth(mask=WHITE), depth()),
    (depth(mask=BLACK), Recipe("a")),
    (Recipe("a", styles=[ctrl.Style(PICTURE, mask=WHITE)]), Recipe("a", styles=[STYLE])),
    (Recipe("a", styles=[ctrl.Style(PICTURE, mask=BLACK)]), Recipe("a")),
    (Recipe("a", regions=[ctrl.Region("b", BLACK)]), Recipe("a")),
    (guided(6, map=WHITE), Recipe("a")),
    (Recipe("a", loras=[ctrl.Lora("x", 0.5), ctrl.Lora("x", 0.25)]), Recipe("a", loras=[ctrl.Lora("x", 0.75)])),
    (Recipe("a", loras=[ctrl.Lora("x", 0.5), ctrl.Lora("x", -0.5)]), Recipe("a")),
    (Recipe("a", loras=[ctrl.Lora("x", 9), ctrl.Lora("x", 9)]), Recipe("a", loras=[ctrl.Lora("x", 9)] * 2)),
    (Recipe("a", loras=[ctrl.Lora("x", 0.5, text=0.5)]), Recipe("a", loras=[ctrl.Lora("x", 0.5)])),
    (Recipe("a (red:1.0) ball"), Recipe("a red ball")),
    (Recipe("(a: 1.20) b"), Recipe("(a:1.2) b")),
    (Recipe("((a:1.1):1.2)"), Recipe(f"(a:{1.1 * 1.2!r})")),
    (Recipe(r"\(a\)", negative="(b:1)"), Recipe("(a)", negative="b")),
    (Recipe("a", regions=[ctrl.Region("(b:1)", MAP)]), Recipe("a", regions=[ctrl.Region("b", MAP)])),
]


def test_a_mask_of_words_is_kept_since_only_the_run_knows_it():
    words = ctrl.Words("ball")
    recipe = Recipe(
        "a ball", regions=[ctrl.Region("b", words)], controls=[ctrl.Depth(PICTURE, mask=words)],
        styles=[ctrl.Style(PICTURE, mask=words)], guidance=Guidance(6, map=words),
    )  # fmt: skip
    kept = recipe.canonical
    assert kept.regions[0].mask == recipe.regions[0].mask
    assert kept.controls[0].mask == kept.styles[0].mask == kept.guidance.map == words
    assert recipe == recipe.replace(seed=1).replace(seed=0) and recipe != recipe.replace(regions=[])


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_recipes_that_make_equal_pictures_are_equal_and_hash_equally(one, other):
    assert one == other
    assert hash(one) == hash(other) and one.hash == other.hash
    assert {change.step for change in one.diff(other)} <= {None}


UNEQUAL = [
    (depth(), Recipe("a")),
    (depth(weight=ctrl.hold(1, until=0.5)), depth()),
    (depth(uncond=0), depth()),
    (guided(1, zero=ctrl.CFGZero(1)), Recipe("a", guidance=1)),
    (guided(1, rescale=0.5, perturb=[PAG]), guided(1, perturb=[PAG])),
    (Recipe("a", controls=[DEPTH, DEPTH]), depth()),
    (Recipe("a", image=PICTURE, strength=0.3), Recipe("a", image=PICTURE)),
    (Recipe("a", negative="b"), Recipe("a")),
    (Recipe(r"\(a:1.2\)"), Recipe("(a:1.2)")),
    (depth(mask=MAP), depth()),
    (Recipe("a", image=PICTURE, mask=WHITE), Recipe("a", image=PICTURE)),
    (Recipe("a", loras=[ctrl.Lora("x", 0.5, text=0)]), Recipe("a", loras=[ctrl.Lora("x", 0.5)])),
]


@pytest.mark.parametrize(("one", "other"), UNEQUAL)
def test_recipes_that_may_make_other_pictures_are_not_equal(one, other):
    assert one != other and one.hash != other.hash


def test_what_was_written_comes_back_with_what_is_switched_off():
    recipe = Recipe("a", controls=[ctrl.Edges(MAP, 0.3, on=False), ctrl.Depth(PICTURE, 0)], negative="b", guidance=1)
    names = {"ctrl": ctrl}
    exec(recipe.code(), names)
    for back in (Recipe.from_json(recipe.to_json()), names["recipe"], recipe.replace(seed=1).replace(seed=0)):
        assert back.to_json() == recipe.to_json()
        assert back.controls == recipe.controls and back.negative == "b"


def test_a_batch_shares_everything_but_prompts_seed_and_pixels():
    one = Recipe("a", seed=1, controls=[ctrl.Depth(PICTURE, 0.5), ctrl.Edges(MAP, on=False)], styles=[ctrl.Style(MAP)])
    other = Recipe("b", negative="c", seed=2, controls=[ctrl.Depth(MAP, 0.5)], styles=[ctrl.Style(PICTURE)])
    assert batch_shape(one) == batch_shape(other)
    refined, averaged = Guidance(6, apg=ctrl.APG(0.5)), ctrl.Style([MAP, PICTURE], combine="average")
    for change in (
        {"guidance": refined}, {"steps": 3}, {"controls": [ctrl.Depth(MAP, 0.6)]}, {"controls": []},
        {"styles": [ctrl.Style([MAP, PICTURE])]}, {"styles": [ctrl.Style(MAP, blocks="style")]},
        {"controls": [ctrl.Depth(MAP, 0.5, mask=MAP)]}, {"loras": [ctrl.Lora("x")]}, {"width": 64, "height": 64},
        {"image": MAP}, {"regions": [ctrl.Region("a", MAP)]}, {"spacing": "karras"},
    ):  # fmt: skip
        assert batch_shape(one.replace(**change)) != batch_shape(one)
    less = one.replace(guidance=Guidance(6, apg=ctrl.APG(0.4)))
    assert batch_shape(less) != batch_shape(one.replace(guidance=refined))
    joined = one.replace(styles=[ctrl.Style([MAP, PICTURE])])
    assert batch_shape(one.replace(styles=[averaged])) != batch_shape(joined)


def test_parts_that_differ_in_weight_only_keep_to_batches_of_their_like():
    """Their order is that of their weights, which may change from step to step."""
    twins = Recipe("a", controls=[ctrl.Depth(MAP, 1), ctrl.Depth(MAP, ctrl.ramp(2, 0))])
    others = Recipe("a", controls=[ctrl.Depth(MAP, 1), ctrl.Depth(PICTURE, ctrl.ramp(2, 0))])
    assert batch_shape(twins) != batch_shape(others)
    assert batch_shape(twins) == batch_shape(
        twins.replace(controls=[ctrl.Depth(PICTURE, 1), ctrl.Depth(PICTURE, ctrl.ramp(2, 0))])
    )
    assert [[c.weight for c in twins.at(i, TIMES).controls] for i in (0, 3)] == [[1, 2], [1]]
