"""Blends of prompts and seeds, and directions, on a model: exact at their ends, the formula between them."""

import numpy as np
import pytest
import tiny_formats
import torch
from variety import LEFT, LONG, MAP, OTHER, PLAIN, SOFT, run

import ctrl
from ctrl.blending import between
from ctrl.conditioning import Conditioning
from ctrl.memory import Memory
from ctrl.sampling.begin import begin
from ctrl.sampling.run import Run

RED, BLUE = "a (red:1.3) ball", "a blue hat"
RECIPE = PLAIN.replace(steps=3, guidance=4.0)
IMAGE = RECIPE.replace(image=OTHER, strength=0.7)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    return ctrl.load(tiny_formats.save_folder(tiny_formats.sdxl(), tmp_path_factory.mktemp("sdxl")), device="cpu")


def blended(weight):
    return ctrl.Blend({RED: 1 - weight, BLUE: weight})


def day_to_night(weight):
    return [ctrl.Direction("by day", "at night", weight)]


ENDS = {  # a recipe with a live value at a weight, and the plain recipes at its ends
    "prompt": (lambda w: RECIPE.replace(prompt=blended(w)), RECIPE.replace(prompt=RED), RECIPE.replace(prompt=BLUE)),
    "a long prompt": (
        lambda w: RECIPE.replace(prompt=ctrl.Blend({BLUE: 1 - w, LONG: w})),
        RECIPE.replace(prompt=BLUE),
        RECIPE.replace(prompt=LONG),
    ),
    "negative": (
        lambda w: RECIPE.replace(negative=ctrl.Blend({"": 1 - w, BLUE: w})), RECIPE, RECIPE.replace(negative=BLUE)
    ),
    "region": (
        lambda w: RECIPE.replace(regions=[ctrl.Region(blended(w), LEFT)]),
        RECIPE.replace(regions=[ctrl.Region(RED, LEFT)]),
        RECIPE.replace(regions=[ctrl.Region(BLUE, LEFT)]),
    ),
    "seed": (
        lambda w: RECIPE.replace(seed=ctrl.SeedBlend(3, 8, w), sampler="euler"),
        RECIPE.replace(seed=3, sampler="euler"),
        RECIPE.replace(seed=8, sampler="euler"),
    ),
    "seed of a random sampler": (
        lambda w: RECIPE.replace(seed=ctrl.SeedBlend(3, 8, w), sampler="euler a"),
        RECIPE.replace(seed=3, sampler="euler a"),
        RECIPE.replace(seed=8, sampler="euler a"),
    ),
    "seed of an image": (
        lambda w: IMAGE.replace(seed=ctrl.SeedBlend(3, 8, w)), IMAGE.replace(seed=3), IMAGE.replace(seed=8)
    ),
    "seed of a mask": (
        lambda w: IMAGE.replace(seed=ctrl.SeedBlend(3, 8, w), mask=SOFT),
        IMAGE.replace(seed=3, mask=SOFT),
        IMAGE.replace(seed=8, mask=SOFT),
    ),
    "direction": (lambda w: RECIPE.replace(directions=day_to_night(w)), RECIPE, None),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_the_ends_are_bit_equal_to_the_plain_runs_and_between_them_is_another_picture(model, name):
    at, first, second = ENDS[name]
    ends = [(0.0, first)] + ([(1.0, second)] if second is not None else [])
    for weight, plain in ends:
        assert torch.equal(run(model, at(weight)), run(model, plain))
        assert at(weight).hash == plain.hash
    assert not any(torch.equal(run(model, at(0.5)), run(model, plain)) for _, plain in ends)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prompt", "negative", "direction", "seed"])
def test_the_ends_are_exact_on_sdxl_too_whose_pooled_embedding_moves_along(sdxl, name):
    at, first, second = ENDS[name]
    for weight, plain in [(0.0, first)] + ([(1.0, second)] if second is not None else []):
        assert torch.equal(run(sdxl, at(weight)), run(sdxl, plain))
    assert not torch.equal(run(sdxl, at(0.5)), run(sdxl, first))


def texts(model, recipe):
    return Conditioning(model, (32, 32), Memory()).texts(recipe.canonical)


def test_a_blend_is_the_mean_of_embeddings_pooled_ones_and_word_weights(sdxl):
    red, blue = (texts(sdxl, RECIPE.replace(prompt=prompt))[0] for prompt in (RED, BLUE))
    mixed = texts(sdxl, RECIPE.replace(prompt=ctrl.Blend({RED: 3, BLUE: 1})))[0]
    assert torch.allclose(mixed.states, 0.75 * red.states + 0.25 * blue.states, atol=1e-6)
    assert torch.allclose(mixed.pooled, 0.75 * red.pooled + 0.25 * blue.pooled, atol=1e-6)
    assert torch.allclose(mixed.weights, 0.75 * red.weights + 0.25)
    assert red.weights.max() > 1 and blue.weights is None


def test_a_direction_moves_the_prompt_and_nothing_else(sdxl):
    plain = RECIPE.replace(prompt=RED, negative="grey", regions=[ctrl.Region(BLUE, LEFT)])
    moved, uncond, region = texts(sdxl, plain.replace(directions=day_to_night(0.4)))
    before, *others = texts(sdxl, plain)
    day, night = (texts(sdxl, RECIPE.replace(prompt=prompt))[0] for prompt in ("by day", "at night"))
    assert torch.allclose(moved.states, before.states + 0.4 * (night.states - day.states), atol=1e-6)
    assert torch.allclose(moved.pooled, before.pooled + 0.4 * (night.pooled - day.pooled), atol=1e-6)
    assert torch.equal(moved.weights, before.weights)
    assert all(torch.equal(one.states, other.states) for one, other in zip((uncond, region), others, strict=True))


def test_noise_between_two_seeds_lies_on_their_great_circle_and_keeps_its_size(model):
    def noise(seed):
        return begin(Run.of(model, [RECIPE.replace(seed=seed)], Memory())).noise[0]

    one, other = noise(3), noise(8)
    cosine = (one * other).sum() / (one.norm() * other.norm())
    angle = torch.arccos(cosine)
    for weight in (0.25, 0.5, 0.9):
        found = noise(ctrl.SeedBlend(3, 8, weight))
        wanted = (torch.sin((1 - weight) * angle) * one + torch.sin(weight * angle) * other) / torch.sin(angle)
        assert torch.allclose(found, wanted, atol=1e-5)
        assert abs(found.std() / one.std() - 1) < 0.1
    assert torch.allclose(between(one, one * 1.0, 0.3), one, atol=1e-6)
    assert torch.allclose(between(one, -one, 0.25), 0.5 * one, atol=1e-6)  # parallel: a straight line


def test_a_schedule_of_a_blend_goes_from_one_prompt_to_the_other(model):
    travel = RECIPE.replace(prompt=ctrl.Blend({RED: ctrl.ramp(1, 0), BLUE: ctrl.ramp(0, 1)}))
    first = [step.denoised for step in ctrl.steps(model, RECIPE.replace(prompt=RED))]
    found = [step.denoised for step in ctrl.steps(model, travel)]
    assert torch.equal(found[0], first[0]) and not torch.equal(found[1], first[1])
    *_, middle, _ = ctrl.steps(model, travel)
    (last,) = ctrl.steps(model, RECIPE.replace(prompt=BLUE), after=middle)
    assert torch.equal(found[-1], last.denoised)


def test_a_batch_of_live_values_is_near_each_alone(model):
    recipes = [
        RECIPE.replace(prompt=blended(0.3), seed=ctrl.SeedBlend(3, 8, 0.4)),
        RECIPE.replace(prompt=RED, directions=day_to_night(0.7), seed=1),
        RECIPE.replace(prompt=ctrl.Blend({BLUE: ctrl.ramp(1, 0), LONG: ctrl.ramp(0, 1)})),
        RECIPE,
    ]
    for shot, recipe in zip(ctrl.sample_many(model, recipes), recipes, strict=True):
        alone = np.asarray(ctrl.sample(model, recipe).image).astype(int)
        assert np.abs(np.asarray(shot.image) - alone).max() <= 2  # of 255


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": blended(0.4)},
        {"directions": day_to_night(0.6)},
        {"negative": ctrl.Blend({"grey": 1, BLUE: 3})},
        {"seed": ctrl.SeedBlend(3, 8, 0.5)},
        {"prompt": blended(0.4), "controls": [ctrl.Pose(MAP, 0.3)]},
    ],
)
def test_a_move_of_a_live_value_calls_no_text_encoder(model, change):
    memory, calls = Memory(), []
    start = RECIPE.replace(
        prompt=blended(0.3), negative=ctrl.Blend({"grey": 1, BLUE: 1}), directions=day_to_night(0.4),
        seed=ctrl.SeedBlend(3, 8, 0.2), controls=[ctrl.Pose(MAP, 0.5)],
    )  # fmt: skip
    hook = model.parts.text_encoders[0].encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        ctrl.sample(model, start, memory=memory)
        assert len(calls) == 5  # two prompts, grey, by day, at night; the blue hat is read once
        moved = ctrl.sample(model, start.replace(**change), memory=memory)
        assert len(calls) == 5
        assert np.array_equal(moved.image, ctrl.sample(model, start.replace(**change)).image)
    finally:
        hook.remove()


def test_watching_a_blend_changes_nothing_and_finds_the_words_of_each_prompt(model):
    recipe = RECIPE.replace(prompt=ctrl.Blend({RED: 1, "two dogs": 1}), seed=ctrl.SeedBlend(3, 8, 0.5))
    shot = ctrl.sample(model, recipe, watch=ctrl.Watch())
    assert np.array_equal(np.asarray(shot.image), np.asarray(ctrl.sample(model, recipe).image))
    words = [word.text for word in shot.attention.receipt.texts["prompt"].words]
    assert words == ["a", "red", "ball", "two", "dogs"]
    assert shot.attention["dogs"].share > 0 and shot.attention["ball"].share > 0
    travel = RECIPE.replace(prompt=ctrl.Blend({BLUE: ctrl.ramp(1, 0), LONG: ctrl.ramp(0, 1)}))
    with pytest.raises(ValueError, match="watch needs a prompt of one length"):
        ctrl.sample(model, travel, watch=ctrl.Watch())


def test_notes_name_the_prompts_of_a_blend_and_a_window_that_never_acts(model):
    recipe = RECIPE.replace(
        prompt=ctrl.Blend({"a ball BREAK a hat": 1, BLUE: 1}),
        directions=[ctrl.Direction("by day", "at night", ctrl.hold(1, start=0.4, until=0.4001))],
    )
    notes = ctrl.sample(model, recipe).notes
    assert any(note.startswith("the prompt: 'BREAK' is read as the end of a chunk") for note in notes)
    assert "Direction acts in 0 of 3 steps: its window is narrower than a step" in notes
    assert ctrl.sample(model, RECIPE.replace(prompt=blended(0.5), directions=day_to_night(0.5))).notes == ()
