"""Blends of prompts and of seeds, and directions, as values: their ends, their spellings, and what is refused."""

import numpy as np
import pytest

import ctrl
from ctrl.recipe import Recipe

MASK = np.full((8, 8), 255, np.uint8)
CAT, DOG = "a cat", "a dog"
MIXED = Recipe(
    ctrl.Blend({CAT: ctrl.ramp(1, 0), DOG: 0.4}),
    ctrl.Blend([("blue", 1), ("grey", 3)]),
    regions=[ctrl.Region(ctrl.Blend({"a hat": 1, "a cap": 1}), MASK)],
    directions=[ctrl.Direction("by day", "at night", ctrl.hold(0.4, until=0.5)), ctrl.Direction("old", "new", -1)],
    seed=ctrl.SeedBlend(3, 8, 0.25),
)

SAME = {
    "a blend with one weight": (Recipe(ctrl.Blend({CAT: 0.3, DOG: 0})), Recipe(CAT)),
    "a blend of one prompt": (Recipe(ctrl.Blend({CAT: ctrl.hold(0.5)})), Recipe(CAT)),
    "a blend in another order": (Recipe(ctrl.Blend({CAT: 1, DOG: 3})), Recipe(ctrl.Blend({DOG: 3, CAT: 1}))),
    "a blend times two": (Recipe(ctrl.Blend({CAT: 1, DOG: 3})), Recipe(ctrl.Blend({CAT: 0.25, DOG: 0.75}))),
    "a negative blend without guidance": (
        Recipe(CAT, ctrl.Blend({DOG: 1, CAT: 1}), guidance=1),
        Recipe(CAT, guidance=1),
    ),
    "a region's blend of one": (
        Recipe(CAT, regions=[ctrl.Region(ctrl.Blend({DOG: 0.2}), MASK)]),
        Recipe(CAT, regions=[ctrl.Region(DOG, MASK)]),
    ),
    "a seed blend at its first": (Recipe(CAT, seed=ctrl.SeedBlend(3, 8, 0)), Recipe(CAT, seed=3)),
    "a seed blend at its second": (Recipe(CAT, seed=ctrl.SeedBlend(3, 8, 1)), Recipe(CAT, seed=8)),
    "a seed blend of one seed": (Recipe(CAT, seed=ctrl.SeedBlend(3, 3, 0.4)), Recipe(CAT, seed=3)),
    "a direction of weight 0": (Recipe(CAT, directions=[ctrl.Direction("day", "night", 0)]), Recipe(CAT)),
    "a direction that is off": (Recipe(CAT, directions=[ctrl.Direction("day", "night", on=False)]), Recipe(CAT)),
    "a direction to where it is": (Recipe(CAT, directions=[ctrl.Direction("day", "day", 2)]), Recipe(CAT)),
    "a direction backwards": (
        Recipe(CAT, directions=[ctrl.Direction("day", "night", -0.5)]),
        Recipe(CAT, directions=[ctrl.Direction("night", "day", 0.5)]),
    ),
}


@pytest.mark.parametrize("pair", SAME)
def test_spellings_of_one_picture_are_equal_and_hash_equally(pair):
    one, other = SAME[pair]
    assert one == other and one.hash == other.hash and one.canonical.canonical == one.canonical


def test_other_pictures_are_not_equal():
    blends = [ctrl.Blend({CAT: 0.4, DOG: 0.6}), ctrl.Blend({CAT: 0.6, DOG: 0.4}), CAT, DOG]
    seeds = [ctrl.SeedBlend(3, 8, 0.25), ctrl.SeedBlend(3, 8, 0.5), ctrl.SeedBlend(3, 9, 0.5), 3]
    directions = [[], [ctrl.Direction("day", "night", 0.4)], [ctrl.Direction("night", "day", 0.4)]]
    every = [
        *(Recipe(prompt) for prompt in blends),
        *(Recipe("", prompt) for prompt in blends),
        *(Recipe("", seed=seed) for seed in seeds),
        *(Recipe("x", directions=some) for some in directions),
    ]
    assert len({recipe.hash for recipe in every}) == len(every)


def test_at_a_step_schedules_are_shares_that_add_up_to_1():
    prompt = ctrl.Blend({CAT: ctrl.ramp(1, 0), DOG: ctrl.ramp(0, 1)})
    recipe = Recipe(prompt, steps=5, directions=[ctrl.Direction("day", "night", ctrl.hold(0.4, until=0.4))])
    times = [1 - index / 5 for index in range(5)]
    steps = [recipe.at(index, times) for index in range(5)]
    assert [step.prompt if isinstance(step.prompt, str) else dict(step.prompt.pairs) for step in steps] == [
        CAT, {CAT: 0.75, DOG: 0.25}, {CAT: 0.5, DOG: 0.5}, {CAT: 0.25, DOG: 0.75}, DOG
    ]  # fmt: skip
    assert [len(step.directions) for step in steps] == [1, 1, 0, 0, 0]
    late = Recipe(ctrl.Blend({CAT: ctrl.hold(2, start=0.4)}), steps=5)
    assert [late.at(index, times).prompt for index in range(5)] == ["", "", CAT, CAT, CAT]


def test_json_code_and_a_png_give_them_back(tmp_path, model):
    assert Recipe.from_json(MIXED.to_json()).to_json() == MIXED.to_json()
    space = {"ctrl": ctrl}
    exec(MIXED.code(), space)
    assert space["recipe"].to_json() == MIXED.to_json()
    assert "Blend({'a cat': ctrl.ramp(1.0, 0.0), 'a dog': 0.4})" in MIXED.code()
    assert "ctrl.Direction('by day', 'at night', weight=ctrl.hold(0.4, until=0.5))" in MIXED.code()
    shot = ctrl.sample(model, MIXED.replace(steps=2, width=32, height=32))
    shot.save(tmp_path / "mixed.png")
    assert Recipe.load(tmp_path / "mixed.png").to_json() == shot.recipe.to_json()
    shot.save(tmp_path / "mixed.webp")  # only AUTOMATIC1111's fields
    read = Recipe.load(tmp_path / "mixed.webp")
    assert read.seed == ctrl.SeedBlend(3, 8, 0.25)
    assert read.prompt == "a cat (1 to 0) + a dog (0.4)"


def test_a_difference_names_what_moved_and_from_which_step():
    old = Recipe(ctrl.Blend({CAT: 1, DOG: 1}), steps=10)
    (moved,) = old.diff(old.replace(prompt=ctrl.Blend({CAT: 1, DOG: 2})))
    assert moved.words == "prompt a cat (1) + a dog (1) → a cat (1) + a dog (2): from step 1"
    (seed,) = old.diff(old.replace(seed=ctrl.SeedBlend(0, 1, 0.5)))
    assert (seed.step, seed.words) == (0, "seed 0 → 0 to 1 (0.5): from step 1")
    late = ctrl.Direction("day", "night", ctrl.hold(1, start=0.5))
    (added,) = old.diff(old.replace(directions=[late]))
    assert added.step == 5
    silent = ctrl.Direction("day", "night", late.weight, on=False)
    (off,) = old.replace(directions=[late]).diff(old.replace(directions=[silent]))
    assert off.words == "Direction switched off: from step 6"
    later = ctrl.Blend({CAT: 1, DOG: ctrl.hold(1, until=0.7)})
    (late_prompt,) = old.diff(old.replace(prompt=later))
    assert late_prompt.step == 7


WRONG = [
    (lambda: ctrl.Blend({}), TypeError, "Blend takes 1 to 16 prompts with their weights"),
    (lambda: ctrl.Blend("a cat"), TypeError, "Blend takes 1 to 16 prompts with their weights"),
    (lambda: ctrl.Blend(["a cat"]), TypeError, "Blend takes pairs of a prompt and its weight"),
    (lambda: ctrl.Blend({"a cat": -1}), ValueError, "Blend's weight of 'a cat' must be a number from 0 to 10"),
    (lambda: ctrl.Blend({"a cat": "x"}), TypeError, "Blend's weight of 'a cat' must be a number"),
    (lambda: ctrl.Blend({"a cat": 0, "b": ctrl.hold(0)}), ValueError, "needs a weight above 0"),
    (lambda: ctrl.Blend([("a", 1), ("a", 2)]), ValueError, "must give each prompt one weight"),
    (lambda: ctrl.Blend({"(a:9)": 1}), ValueError, "a weight in the prompt must be"),
    (lambda: ctrl.Blend({3: 1}), TypeError, "Blend's prompt must be a string"),
    (lambda: ctrl.Blend(prompts={"a": 1}), TypeError, "Blend has no argument 'prompts'; here that is parts"),
    (lambda: ctrl.Region(ctrl.Blend({"a": ctrl.hold(1, until=0.5)}), MASK), ValueError, "takes a Blend of numbers"),
    (lambda: ctrl.SeedBlend(1, -2), ValueError, "SeedBlend's second seed must be a whole number"),
    (lambda: ctrl.SeedBlend(1, 2, 1.5), ValueError, "SeedBlend's weight must be a number from 0 to 1"),
    (lambda: ctrl.SeedBlend(1, 2, ctrl.hold(1)), TypeError, "SeedBlend's weight must be a number"),
    (lambda: ctrl.SeedBlend(1, 2, strength=1), TypeError, "here that is weight"),
    (lambda: ctrl.Direction("by (day:1.2)", "at night"), ValueError, "Direction's source takes no word weights"),
    (lambda: ctrl.Direction("a", "b", 11), ValueError, "Direction's weight must be a number from -10 to 10"),
    (lambda: ctrl.Direction("a", 3), TypeError, "Direction's target must be a string"),
    (lambda: ctrl.Direction("a", "b", on=1), TypeError, "on must be True or False"),
    (lambda: Recipe("a", directions=["day to night"]), TypeError, r"directions\[0\] must be Direction, got str"),
    (lambda: Recipe("a", seed=(3, 8)), TypeError, "seed must be a whole number"),
    (lambda: Recipe({"a cat": 1}), TypeError, "prompt must be a string or a Blend, got dict; write Blend"),
]


@pytest.mark.parametrize(("make", "kind", "sentence"), WRONG)
def test_a_wrong_argument_is_a_sentence(make, kind, sentence):
    with pytest.raises(kind, match=sentence) as raised:
        make()
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
