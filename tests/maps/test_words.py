"""Words as masks: a run masks its parts by its own attention, exactly, resumably, and says what cannot be."""

import numpy as np
import pytest
import torch

import ctrl
from ctrl.live.trajectory import Kept, Trajectories, Trajectory
from ctrl.maps import WordMaps
from ctrl.memory import Memory
from ctrl.sampling.loop import _drain
from ctrl.sampling.walk import prepare, walk

rng = np.random.default_rng(0)
MAP, INK = (rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(2))
WORDS = ctrl.Words("red", start=0.5)
RECIPE = ctrl.Recipe("a red ball", steps=4, seed=7, negative="dark")
POSE = ctrl.Pose(ctrl.Skeleton.named("waving"), 0.8)


def parts(mask):
    """A recipe for every kind of part that takes a mask."""
    return {
        "control": RECIPE.replace(controls=[ctrl.Depth(MAP, 0.7, mask=mask)]),
        "two controls": RECIPE.replace(controls=[ctrl.Depth(MAP, 0.7, mask=mask), POSE]),
        "style": RECIPE.replace(styles=[ctrl.Style(INK, 0.6, mask=mask)]),
        "region": RECIPE.replace(regions=[ctrl.Region("a dog", mask)]),
        "region by bias": RECIPE.replace(regions=[ctrl.Region("ball", mask, by="bias")]),
        "guidance": RECIPE.replace(guidance=ctrl.Guidance(5.0, map=mask)),
        "edit": RECIPE.replace(edit=ctrl.Edit("a blue ball", mask=mask)),
    }


KINDS = parts(WORDS)


def latents(steps):
    return [step.latents for step in steps]


def equal(one, other):
    return len(one) == len(other) > 0 and all(map(torch.equal, one, other))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_before_its_start_a_mask_is_white_and_then_it_is_the_map_of_the_steps_before(model, kind):
    """By hand: the map of a word, read by an observer of its own, cut at half of its range, given as a picture."""
    steps = list(ctrl.steps(model, KINDS[kind]))
    white = RECIPE if kind.startswith("region") else parts(np.full((64, 64), 255, np.uint8))[kind]
    assert equal(latents(steps[:2]), latents(list(ctrl.steps(model, white))[:2]))
    watched = list(ctrl.steps(model, KINDS[kind], watch=ctrl.Watch(steps=(0, 0.5))))
    seen = watched[1].attention
    (heat,) = watched[1].checkpoint.words.mask(WORDS.asked, 0.5)
    if not kind.startswith("region"):
        by_hand = seen["red"].heat
        low, high = by_hand.min(), by_hand.max()
        assert np.array_equal(heat[0].numpy() > 0, by_hand > low + 0.5 * (high - low))
    mask = np.kron(heat[0].numpy() * 255, np.ones((4, 4))).astype(np.uint8)
    frozen = parts(mask)[kind]
    resumed = next(ctrl.steps(model, frozen, after=steps[1]))
    off = (resumed.latents - steps[2].latents).abs().max()
    effect = (list(ctrl.steps(model, white))[2].latents - steps[2].latents).abs().max()
    assert effect > (1e-4 if "bias" in kind else 1e-3)
    assert off < 0.3 * effect if kind == "style" else off < 1e-5  # a style's mask is shrunk by bicubic, as in diffusers


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_from_every_step_to_the_same_bits(model, kind):
    whole = list(ctrl.steps(model, KINDS[kind]))
    for step in whole[:-1]:
        assert equal(latents(ctrl.steps(model, KINDS[kind], after=step)), latents(whole[step.index + 1 :]))


def live(model, old, new):
    """The steps made of `new` after a session that made `old`, as `Live` makes them, and how many were there."""
    memory = Memory()
    runs = Trajectories(memory)
    for recipe in (old, new):
        run = prepare(model, [recipe], memory)
        steps = [moment.now for moment in run.moments]
        trajectory = Trajectory(recipe, run.model.revision, run.solver.times, steps)
        after, known = runs.begin(trajectory)
        shared, made = len(trajectory), []
        for step in walk(run, model, None if after is None else after.checkpoint, known):
            runs.add(trajectory, Kept(step.checkpoint, step.branches))
            made.append(step)
    return made, shared, known


CHANGES = {
    "another start": (KINDS["style"], parts(ctrl.Words("red", start=0.75))["style"], 2),
    "another start of an edit's": (KINDS["edit"], parts(ctrl.Words("red", start=0.75))["edit"], 2),
    "another start of a bias's": (KINDS["region by bias"], parts(ctrl.Words("red", start=0.75))["region by bias"], 2),
    "another word": (KINDS["control"], parts(ctrl.Words("ball", start=0.5))["control"], 0),
    "words instead of a picture": (parts(MAP[..., 0])["control"], KINDS["control"], 0),
    "words are gone": (KINDS["region"], RECIPE, 0),
    "guidance moves": (KINDS["style"], KINDS["style"].replace(guidance=4.0), 0),
    "guidance with a map moves": (KINDS["guidance"], RECIPE.replace(guidance=ctrl.Guidance(3.0, map=WORDS)), 0),
    "guidance gets another word": (
        KINDS["guidance"],
        RECIPE.replace(guidance=ctrl.Guidance(5.0, map=ctrl.Words("ball", start=0.5))),
        0,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_live_makes_what_a_fresh_run_makes(model, change):
    old, new, shared = CHANGES[change]
    steps, count, _ = live(model, old, new)
    assert equal(latents(steps), latents(list(ctrl.steps(model, new))[shared:]))
    assert count == shared


def test_guidance_that_moves_keeps_the_predictions_and_the_maps_of_its_step(model):
    _, _, known = live(model, KINDS["style"], KINDS["style"].replace(guidance=4.0))
    assert known is not None and WORDS.asked in known.checkpoint.words.maps


@pytest.mark.slow
def test_a_part_that_is_nowhere_before_its_start_is_absent_until_then(model):
    for kind in ("control", "style"):
        hidden = parts(ctrl.Words("red", start=0.5, before="nowhere"))[kind]
        steps = list(ctrl.steps(model, hidden))
        assert equal(latents(steps[:2]), latents(list(ctrl.steps(model, RECIPE))[:2]))
        assert not torch.equal(steps[2].latents, list(ctrl.steps(model, RECIPE))[2].latents)
    source = latents(ctrl.steps(model, RECIPE.replace(prompt="a blue ball")))
    edited = latents(ctrl.steps(model, parts(ctrl.Words("red", start=0.5, before="nowhere"))["edit"]))
    assert equal(edited[:2], source[:2]) and not torch.equal(edited[2], source[2])
    off = parts(ctrl.Words("red", start=0.5, before="nowhere"))["guidance"]
    cond = list(ctrl.steps(model, RECIPE.replace(guidance=1.0)))
    assert torch.allclose(next(ctrl.steps(model, off)).latents, cond[0].latents, atol=1e-6)


def test_a_control_that_hides_is_not_run(model):
    calls = []
    handle = model.controlnet("depth").module.register_forward_hook(lambda *_: calls.append(1))
    try:
        list(ctrl.steps(model, parts(ctrl.Words("red", start=0.5, before="nowhere"))["control"]))
    finally:
        handle.remove()
    assert len(calls) == 2


def test_a_mask_of_words_that_is_off_is_bit_equal_to_absent(model):
    off = RECIPE.replace(styles=[ctrl.Style(INK, 0.0, mask=WORDS)], regions=[ctrl.Region("a", WORDS, on=False)])
    assert off == RECIPE and off.hash == RECIPE.hash
    assert equal(latents(ctrl.steps(model, off)), latents(ctrl.steps(model, RECIPE)))


def test_the_order_of_parts_with_words_does_not_matter(model):
    controls = [ctrl.Depth(MAP, 0.7, mask=WORDS), ctrl.Depth(MAP, 0.7, mask=ctrl.Words("ball")), POSE]
    one, other = (RECIPE.replace(controls=order) for order in (controls, controls[::-1]))
    assert one == other and equal(latents(ctrl.steps(model, one)), latents(ctrl.steps(model, other)))


def test_watching_a_run_with_words_is_bit_neutral_and_keeps_the_numbers_of_the_recipe(model):
    recipe = RECIPE.replace(styles=[ctrl.Style(MAP, 0.4), ctrl.Style(INK, 0.6, mask=WORDS)])
    watched = ctrl.sample(model, recipe, watch=ctrl.Watch(influence=True))
    assert np.array_equal(watched.image, ctrl.sample(model, recipe).image)
    assert watched.attention.receipt.ok and watched.attention.influence.ok
    assert {"style 0", "style 1"} <= set(watched.attention.sources)
    whole, part = (watched.attention.style(number).heat for number in range(2))
    assert np.allclose(whole, 1, atol=1e-5) and part.min() < 0.99


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_a_mask_of_an_edits_words_is_of_all_their_attention(model, share, guidance):
    """An edit makes two terms of the prompt's: what the words keep, and what they have of the source."""
    edit = ctrl.Edit("a blue ball", cross=share, self_attention=0)
    words = ctrl.Words("ball", start=0.5)
    edited = RECIPE.replace(edit=edit, guidance=guidance, styles=[ctrl.Style(INK, 0.6, mask=words)])
    step = list(ctrl.steps(model, edited, watch=ctrl.Watch(steps=(0, 0.5))))[1]
    heat, mask = step.attention["ball"].heat, step.checkpoint.words.mask(words.asked, 0.5)
    low, high = heat.min(), heat.max()
    assert np.array_equal(mask[0, 0].numpy() > 0, heat > low + 0.5 * (high - low))
    assert 0 < mask.mean() < 1


def test_a_batch_masks_each_picture_by_its_own_word(model):
    recipes = [KINDS["style"], KINDS["style"].replace(prompt="the ball is red", seed=8)]
    together = _drain(prepare(model, recipes, None), model)
    for shot, recipe in zip(together, recipes, strict=True):
        alone = np.asarray(ctrl.sample(model, recipe).image).astype(int)
        assert np.abs(alone - np.asarray(shot.image)).max() <= 2


def test_a_recipe_with_words_is_the_same_as_json_and_as_code():
    recipe = KINDS["two controls"].replace(
        regions=[ctrl.Region("a dog", ctrl.Words(["red", "ball"], 0.2, 0.4))],
        guidance=ctrl.Guidance(5.0, map=ctrl.Words("ball", occurrence=0, before="nowhere")),
        edit=ctrl.Edit("a dog", mask=ctrl.Words("red")),
    )
    again = ctrl.Recipe.from_json(recipe.to_json())
    assert again == recipe and again.hash == recipe.hash
    assert eval(recipe.code().split("recipe = ")[1], {"ctrl": ctrl, "picture_1": MAP}) == recipe
    assert recipe != recipe.replace(guidance=ctrl.Guidance(5.0, map=ctrl.Words("ball")))
    assert recipe.regions[0].mask.before == "nowhere"


def test_a_difference_names_the_words_and_the_step_they_act_from():
    later = parts(ctrl.Words("red", start=0.75))["style"]
    (change,) = KINDS["style"].diff(later)
    assert change.step == 2 and "'red' gets attention" in str(change)
    (gone,) = KINDS["style"].diff(RECIPE.replace(styles=[ctrl.Style(INK, 0.6)]))
    assert gone.step == 0  # from the first step on the map is read


def test_a_word_that_is_not_in_the_prompt_is_refused_in_one_sentence_before_the_first_step(model):
    with pytest.raises(ValueError, match=r"^mask: 'hat' is not in 'a red ball'; its words are a, red, ball\.$"):
        ctrl.steps(model, parts(ctrl.Words("hat"))["control"])
    with pytest.raises(ValueError, match="'red' is there 1 times, and occurrences count from 0; got 1"):
        ctrl.steps(model, parts(ctrl.Words("red", occurrence=1))["region"])
    ctrl.steps(model, RECIPE.replace(controls=[ctrl.Depth(MAP, mask=ctrl.Words("hat"), on=False)]))


NOT_WORDS = [
    (lambda: ctrl.Words(""), TypeError, "words must be a word or phrase"),
    (lambda: ctrl.Words([]), TypeError, "words must be a word or phrase"),
    (lambda: ctrl.Words(["red", 3]), TypeError, "words must be a word or phrase"),
    (lambda: ctrl.Words("red", start=1.5), ValueError, "start must be a number from 0 to 1"),
    (lambda: ctrl.Words("red", threshold="half"), TypeError, "threshold must be a number"),
    (lambda: ctrl.Words("red", before="later"), ValueError, "before 'later' is unknown"),
    (lambda: ctrl.Words("red", begin=0.5), TypeError, "Words has no argument 'begin'"),
    (lambda: RECIPE.replace(image=MAP, mask=WORDS), TypeError, "cannot be Words; give the mask of another shot"),
    (lambda: ctrl.Depth(WORDS), TypeError, "picture"),
]


@pytest.mark.parametrize(("make", "error", "says"), NOT_WORDS)
def test_what_cannot_be_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_the_frozen_form_is_the_mask_of_a_shot(model):
    shot = ctrl.sample(model, RECIPE, watch=ctrl.Watch())
    frozen = RECIPE.replace(styles=[ctrl.Style(INK, 0.6, mask=shot.attention["red"].mask(0.4))])
    assert ctrl.sample(model, frozen).image.size == (64, 64)


def test_a_state_without_a_map_makes_no_mask():
    state = WordMaps()
    assert state.mask(WORDS.asked, 0.5) is None
    maps = [torch.full((1, 2, 2), float(number)) for number in range(5)]
    for heat in maps:
        state = state.after({WORDS.asked: heat})
    assert [float(heat.mean()) for heat in state.maps[WORDS.asked]] == [2, 3, 4]
    assert state.after({}).maps.keys() == state.maps.keys()


def test_a_mask_that_never_acts_is_noted(model):
    for kind in ("style", "edit"):
        late = ctrl.sample(model, parts(ctrl.Words("red", start=0.99))[kind])
        assert [note for note in late.notes if "never acts" in note] == [
            "the mask where 'red' gets attention never acts: its start, 0.99, is after the last of 4 steps"
        ]
    assert not [note for note in ctrl.sample(model, KINDS["style"]).notes if "never acts" in note]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_makes_masks_too(folder, dtype):
    half = ctrl.load(folder, device="cpu", dtype=dtype)
    recipe = KINDS["two controls"].replace(styles=[ctrl.Style(INK, 0.6, mask=WORDS)], regions=[ctrl.Region("a", WORDS)])
    assert ctrl.sample(half, recipe).image.size == (64, 64)


def test_a_control_masked_by_words_is_not_judged_by_a_mask_that_is_gone(model):
    (one,) = ctrl.sample(model, KINDS["control"]).obeys(depth=lambda image: image)
    assert one.value is None and "made of attention during the run" in one.reason
