import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from fingerprint import fingerprint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from variety import share

import ctrl
from ctrl.sampling import sample_many

rng = np.random.default_rng(0)
MAP, OTHER, REFERENCE = (rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(3))
LEFT = np.zeros((64, 64), np.uint8)
LEFT[:, :32] = 255
RECIPE = ctrl.Recipe("a red ball", steps=4, seed=7)
FULL = RECIPE.replace(
    controls=[ctrl.Pose(ctrl.Skeleton.named("waving"), 0.8), ctrl.Depth(MAP, ctrl.ramp(1, 0), mask=LEFT)],
    styles=[ctrl.Style(REFERENCE, 0.6, mask=LEFT), ctrl.Style(OTHER, 0.4)],
)
few = settings(max_examples=share(5), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pixels(model, recipe):
    return np.asarray(ctrl.sample(model, recipe).image)


def test_steps_tell_where_they_are(model):
    steps = list(ctrl.steps(model, RECIPE))
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert [step.progress for step in steps] == [0.25, 0.5, 0.75, 1.0]
    assert all(step.latents.shape == step.denoised.shape == (1, 8, 16, 16) for step in steps)
    assert steps[1].preview().size == (64, 64)
    assert np.array_equal(model.decode(steps[-1].latents)[0], ctrl.sample(model, RECIPE).image)


@pytest.mark.parametrize("sampler", ["dpm++", "euler", "euler a", "ddim", "unipc", "lcm"])
def test_the_last_step_believes_in_what_it_made(model, sampler):
    *_, last = ctrl.steps(model, RECIPE.replace(sampler=sampler, steps=12))
    near = (last.denoised - last.latents).abs().mean() / last.latents.abs().mean()
    assert near < 0.3


def test_steps_may_be_kept_and_scribbled_on(model):
    for step in ctrl.steps(model, RECIPE):
        step.latents.zero_()
        step.denoised.zero_()
    *_, fresh = ctrl.steps(model, RECIPE)
    again = list(ctrl.steps(model, RECIPE))
    assert step.latents.abs().max() == 0
    assert torch.equal(again[-1].latents, fresh.latents)


def parts_of(step):
    """Every tensor that a step hands out."""
    found = [step.latents, step.denoised, step.branches.cond, step.branches.uncond, *step.branches.perturbed]
    return [part for part in found if part is not None]


def test_scribbling_does_not_reach_the_run(model):
    run = ctrl.steps(model, RECIPE)
    for step in run:
        for part in parts_of(step):
            part.fill_(float("nan"))
    assert step.index == 3


@pytest.mark.parametrize("guidance", [1.0, ctrl.Guidance(6.0, apg=ctrl.APG(), perturb=[ctrl.PAG(2.0)])])
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("sampler", ["dpm++", "pndm", "unipc"])  # they remember predictions
def test_scribbling_changes_no_later_step(model, sampler, kind, guidance):
    own = dict(model.parts.scheduler) | {"prediction_type": kind}
    model = ctrl.Model(replace(model.parts, scheduler=own), model.extras, device=model.device, dtype=model.dtype)
    recipe = RECIPE.replace(sampler=sampler, guidance=guidance)
    expected = [[part.clone() for part in parts_of(step)] for step in ctrl.steps(model, recipe)]
    for step, own in zip(ctrl.steps(model, recipe), expected, strict=True):
        for part, was in zip(parts_of(step), own, strict=True):
            assert torch.equal(part, was)
        for part in parts_of(step):
            part.fill_(9.0)


def test_what_was_scribbled_on_a_step_is_not_in_its_checkpoint(model):
    kept = list(ctrl.steps(model, RECIPE))
    scribbled = list(ctrl.steps(model, RECIPE))[1]
    for part in parts_of(scribbled):
        part.fill_(9.0)
    *_, last = ctrl.steps(model, RECIPE, after=scribbled.checkpoint)
    assert torch.equal(last.latents, kept[-1].latents)


def test_same_recipe_same_picture_other_seed_another(model):
    assert (pixels(model, FULL) == pixels(model, FULL)).all()
    assert (pixels(model, FULL) != pixels(model, FULL.replace(seed=8))).any()


@few
@given(st.booleans(), st.booleans(), st.sampled_from([1.0, 5.0]))
def test_weight_zero_is_bit_equal_to_absent(model, keep_control, keep_style, guidance):
    base = RECIPE.replace(
        guidance=guidance,
        controls=FULL.controls[:1] if keep_control else (),
        styles=FULL.styles[:1] if keep_style else (),
    )
    zero = base.replace(
        controls=[*base.controls, ctrl.Depth(MAP, 0.0), ctrl.Edges(MAP, ctrl.hold(0))],
        styles=[*base.styles, ctrl.Style(OTHER, 0.0)],
    )
    assert (pixels(model, base) == pixels(model, zero)).all()


def test_weight_zero_protects_from_a_broken_controlnet(model):
    net = model.controlnet("edges")
    weight = net.module.controlnet_mid_block.weight
    kept = weight.detach().clone()
    expected = pixels(model, RECIPE)
    try:
        weight.fill_(float("nan"))
        assert (pixels(model, RECIPE.replace(controls=[ctrl.Edges(MAP, 0.0)])) == expected).all()
        late = RECIPE.replace(controls=[ctrl.Edges(MAP, ctrl.hold(1, start=0.9))])  # narrower than a step
        assert (pixels(model, late) == expected).all()
        with pytest.raises(FloatingPointError, match="step 1 of 4"):
            ctrl.sample(model, RECIPE.replace(controls=[ctrl.Edges(MAP)]))
    finally:
        weight.copy_(kept)


@few
@given(st.permutations(range(3)), st.permutations(range(2)))
def test_the_order_of_controls_and_styles_does_not_matter(model, order, styles):
    parts = [*FULL.controls, ctrl.Edges(OTHER, 0.7)]
    recipe = FULL.replace(controls=parts)
    other = recipe.replace(controls=[parts[i] for i in order], styles=[FULL.styles[i] for i in styles])
    assert (pixels(model, recipe) == pixels(model, other)).all()


def test_a_mask_of_zeros_is_absent_and_of_ones_is_none(model):
    nothing, everything = np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)
    for make, part in ((ctrl.Depth, "controls"), (ctrl.Style, "styles")):
        picture = MAP if make is ctrl.Depth else REFERENCE
        plain = pixels(model, RECIPE.replace(**{part: [make(picture)]}))
        masked = [
            pixels(model, RECIPE.replace(**{part: [make(picture, mask=mask)]})) for mask in (nothing, everything, LEFT)
        ]
        assert (masked[0] == pixels(model, RECIPE)).all()
        assert np.abs(masked[1].astype(int) - plain).max() < 2
        assert (masked[2] != plain).any()


def test_guidance_may_cross_one(model):
    crossing = RECIPE.replace(guidance=ctrl.ramp(6, 0), styles=FULL.styles, controls=FULL.controls)
    asked = []
    handle = model.unet.register_forward_pre_hook(lambda _, args: asked.append(len(args[0])))
    try:
        ctrl.sample(model, crossing)
    finally:
        handle.remove()
    assert asked == [2, 2, 2, 1]
    first = next(iter(ctrl.steps(model, crossing)))
    assert torch.equal(first.latents, next(iter(ctrl.steps(model, crossing.replace(guidance=6)))).latents)


def test_break_leaves_the_model_untouched(model):
    ctrl.sample(model, FULL)
    before = fingerprint(model)
    for step in ctrl.steps(model, FULL):
        assert fingerprint(model) == before  # between steps too
        assert torch.is_grad_enabled()  # the run's no_grad is its own
        if step.index == 1:
            break
    assert fingerprint(model) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("part", ["unet", "vae", "controlnet"])
def test_an_exception_leaves_the_model_untouched(model, error, part):
    expected = pixels(model, FULL)
    before = fingerprint(model)
    module = model.controlnet("pose").module if part == "controlnet" else getattr(model, part)
    inner = module.mid_block if part != "vae" else module.decoder

    def fail(*_):
        raise error("stop")

    handle = inner.register_forward_pre_hook(fail)
    try:
        with pytest.raises(error, match="stop"):
            ctrl.sample(model, FULL)
    finally:
        handle.remove()
    assert fingerprint(model) == before
    assert (pixels(model, FULL) == expected).all()


@pytest.mark.slow
def test_the_lora_leaves_no_trace(model):
    expected, before = pixels(model, FULL), fingerprint(model)
    assert (pixels(model, FULL.replace(loras=[ctrl.Lora("lcm")])) != expected).any()
    assert fingerprint(model) == before
    assert (pixels(model, FULL) == expected).all()
    adapted = model.with_loras([("lcm", 1.0)])
    own = {id(p) for p in adapted.unet.parameters()} - {id(p) for p in model.unet.parameters()}
    assert 0 < len(own) < len(list(model.unet.parameters()))


def test_an_exception_of_the_callback_ends_the_run(model):
    ctrl.sample(model, FULL)  # loads all that it needs
    before = fingerprint(model)

    def stop(step):
        raise RuntimeError(f"enough at {step.index}")

    with pytest.raises(RuntimeError, match="enough at 0"):
        ctrl.sample(model, FULL, on_step=stop)
    assert fingerprint(model) == before


@pytest.mark.slow
def test_threads_take_turns(model):
    recipes = [RECIPE, FULL, RECIPE.replace(guidance=1), FULL.replace(guidance=9)]
    expected = [pixels(model, recipe) for recipe in recipes]
    found = [None] * 4

    def run(at):
        found[at] = pixels(model, recipes[at])

    threads = [threading.Thread(target=run, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(expected, found, strict=True):
        assert (one == other).all()


@pytest.mark.slow
def test_many_are_close_to_each(model):
    recipes = [FULL.replace(seed=seed, prompt=f"a {'red' if seed else 'blue'} ball") for seed in range(3)]
    recipes += [RECIPE, RECIPE.replace(negative="blue", seed=4), RECIPE.replace(sampler="euler a")]
    recipes += [RECIPE.replace(controls=[ctrl.Depth(picture)]) for picture in (MAP, OTHER)]
    batches = []
    inner = model.decode
    model.decode = lambda latents: (batches.append(len(latents)), inner(latents))[1]
    try:
        shots = sample_many(model, recipes)
    finally:
        del model.decode
    assert sorted(batches) == [1, 2, 2, 3]
    assert [shot.recipe for shot in shots] == recipes
    for shot in shots:
        single = pixels(model, shot.recipe).astype(int)
        assert np.abs(np.asarray(shot.image) - single).max() <= 2
    assert sample_many(model, []) == []


def test_a_saved_picture_gives_back_its_recipe(model, tmp_path):
    shot = ctrl.sample(model, FULL)
    shot.save(tmp_path / "shot.png")
    back = ctrl.Recipe.load(tmp_path / "shot.png")
    assert back == FULL
    assert (pixels(model, back) == np.asarray(shot.image)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["shot.png"]


def test_other_sizes(model):
    wide = RECIPE.replace(width=96, height=48, controls=FULL.controls, styles=FULL.styles)
    assert ctrl.sample(model, wide).image.size == (96, 48)
    with pytest.raises(ValueError, match="width must be a multiple of 4 for this model, got 66; try 64"):
        ctrl.sample(model, RECIPE.replace(width=66, height=64))


def test_notes_say_what_was_not_done(model):
    recipe = RECIPE.replace(
        prompt="abcdefghij" * 40,
        negative="blue",
        guidance=1,
        controls=[
            ctrl.Depth(MAP, ctrl.hold(1, start=0.9)),
            ctrl.Edges(np.zeros((16, 8), np.uint8)),
            ctrl.Pose(np.zeros((4200, 4200), np.uint8)),
        ],
    )
    notes = "\n".join(ctrl.sample(model, recipe).notes)
    for words in (
        "the prompt was too long",
        "guidance 1 is off, so the negative prompt has no effect",
        "Depth acts in 0 of 4 steps",
        "Edges: the picture of 8×16 was stretched to 64×64",
        "Edges: the picture of 8×16 was enlarged to 64×64",
        "Pose: the picture was reduced from 4200×4200 to 4096×4096",
    ):
        assert words in notes
    assert ctrl.sample(model, RECIPE).notes == ()


def test_the_weights_of_a_region_s_words_act(model):
    plain, same, other = (
        pixels(model, RECIPE.replace(regions=[ctrl.Region(words, LEFT)]))
        for words in ("a red hat", "a (red:1.0) hat", "a (red:3) hat")
    )
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, other)
