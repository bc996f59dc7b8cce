"""What AUTOMATIC1111's web UI writes into prompts: texts that change during the run, and LoRAs."""

import numpy as np
import pytest
import torch

import ctrl
from ctrl.recipe import Recipe
from ctrl.recipe.changing import at_every_step

STEPS = 4
RECIPE = Recipe("", "a [dog:cat:3]", steps=STEPS, seed=7, width=32, height=32)

TEXTS = {  # a prompt, and its texts in four steps
    "a [red:blue:0.5] ball": ["a red ball"] * 2 + ["a blue ball"] * 2,
    "a [red:blue:1] ball": ["a red ball"] + ["a blue ball"] * 3,
    "a [red:blue:.3] ball": ["a red ball"] + ["a blue ball"] * 3,
    "a [ red : blue : 0.99 ] ball": ["a  red  ball"] * 3 + ["a  blue  ball"],
    "a ball[ on grass:0.5]": ["a ball"] * 2 + ["a ball on grass"] * 2,
    "a ball[ on grass::0.5]": ["a ball on grass"] * 2 + ["a ball"] * 2,
    "a [red|blue|green] ball": ["a red ball", "a blue ball", "a green ball", "a red ball"],
    "[a:[b:c:3]:1]": ["a", "b", "b", "c"],
    "[a|[b:c:2]]": ["a", "b", "a", "c"],
    "([a:b:2]:1.2) [c]": ["(a:1.2) [c]"] * 2 + ["(b:1.2) [c]"] * 2,
    "[(a:1.2):[b]:2]": ["(a:1.2)"] * 2 + ["[b]"] * 2,
    r"[\[a\]:b\:c:2]": [r"\[a\]"] * 2 + [r"b\:c"] * 2,
    "[a:b:0]": ["b"] * 4,
    "[a:b:0.0]": ["b"] * 4,
    "[a:b:1]": ["a"] + ["b"] * 3,
    "[a:b:1.0]": ["a"] * 4,  # a number with a point is a share, as in the web UI since its release 1.6
    "[a:b:2.5]": ["a"] * 4,
    "[a:b:40]": ["a"] * 4,
    **{text: [text] * 4 for text in ("[a]", "[a:b]", "[at 10:30]", "[16:9]", "[a:b:c:2]", "[a:b|c:2]")},
    **{text: [text] * 4 for text in ("[a:2", "a:b:2]")},
}  # fmt: skip


@pytest.mark.parametrize("prompt", TEXTS)
def test_each_step_has_its_text(prompt):
    times = [1, 0.7, 0.4, 0.1]
    recipe = RECIPE.replace(prompt=prompt)
    for index, text in enumerate(TEXTS[prompt]):
        assert recipe.at(index, times).prompt == RECIPE.replace(prompt=text).at(index, times).prompt
    assert recipe.prompt == prompt
    assert Recipe.from_json(recipe.to_json()) == recipe
    whole = recipe.canonical
    assert whole.canonical == whole


def test_other_numbers_of_evaluations_change_at_the_same_part_of_the_way():
    blend = at_every_step("[a:b:0.5]", 20)
    for count in (2, 3, 9, 39):
        weights = [[weight.at(index, count) for _, weight in blend.pairs] for index in range(count)]
        assert all(sum(pair) == pytest.approx(1) for pair in weights)
        assert [pair[0] for pair in weights] == sorted((pair[0] for pair in weights), reverse=True)
        assert (weights[0], weights[-1]) == ([1, 0], [0, 1])


def test_a_change_during_the_run_is_two_runs(model):
    recipe = RECIPE.replace(prompt="a [red:blue:0.5] ball")
    steps = list(ctrl.steps(model, recipe))
    first = list(ctrl.steps(model, RECIPE.replace(prompt="a red ball")))[1]
    assert torch.equal(steps[1].latents, first.latents)
    rest = list(ctrl.steps(model, RECIPE.replace(prompt="a blue ball"), after=first))
    assert torch.equal(steps[3].latents, rest[-1].latents)
    shot = ctrl.sample(model, recipe, watch=ctrl.Watch())
    assert "the prompt: it changes during the run, between 'a red ball', 'a blue ball'" in shot.notes
    assert shot.attention["blue"].share > 0
    assert shot.recipe == recipe


def test_what_cannot_change_is_said():
    with pytest.raises(ValueError, match="may change among 16 texts, got 20 in"):
        Recipe("|".join(map(str, range(20))).join("[]"), steps=20)
    with pytest.raises(ValueError, match="edit takes a prompt that is text"):
        RECIPE.replace(prompt="[a:b:2]", edit=ctrl.Edit("c"))
    with pytest.raises(ValueError, match="weight in the prompt"):
        RECIPE.replace(prompt="[(a:9):b:2]")


def test_a_lora_in_the_prompt_is_one_of_the_recipe_where_the_model_has_it(model):
    def picture(prompt, *loras):
        shot = ctrl.sample(model, RECIPE.replace(prompt=prompt, loras=loras))
        assert shot.recipe.prompt == prompt
        return np.asarray(shot.image), [note for note in shot.notes if "lora" in note.lower()]

    for prompt, lora in {
        "a ball <lora:lcm:0.5>": ctrl.Lora("lcm", 0.5),
        "<lora:lcm>a ball": ctrl.Lora("lcm"),
        "<lyco:lcm:0.5>a ball": ctrl.Lora("lcm", 0.5),
        "a <lora:lcm:te=0.5:unet=0.25>ball": ctrl.Lora("lcm", 0.25, text=0.5),
        "a <lora:lcm:0.5:0.25>ball": ctrl.Lora("lcm", 0.25, text=0.5),
    }.items():
        found, notes = picture(prompt)
        expected, _ = picture("a ball", lora)
        assert np.array_equal(found, expected)
        text = "" if lora.text is None else f", text={lora.text:g}"
        assert notes[0].endswith(f"is read as loras=[ctrl.Lora('lcm', {lora.weight:g}{text})]")
    plain, _ = picture("a ball")
    assert not np.array_equal(found, plain)
    missing, notes = picture("a ball <lora:toy:0.8>")
    assert np.array_equal(missing, plain)
    reason = (
        "the model has no LoRA 'toy'; load one by ctrl.load(..., lora=...) and give it as loras=[ctrl.Lora('toy', 0.8)]"
    )
    assert notes == [f"the prompt: '<lora:toy:0.8>' has no effect: {reason}"]
    assert RECIPE.replace(prompt="a <lora:lcm:0.5>") != RECIPE.replace(prompt="a")
    _, notes = picture("a ball <lora:lcm:99>")
    assert "is read as text" in notes[0]
