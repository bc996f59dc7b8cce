import math

import numpy as np
import pytest
import torch
from diffusers import (
    AdaptiveProjectedGuidance,
    ClassifierFreeGuidance,
    ClassifierFreeZeroStarGuidance,
    PerturbedAttentionGuidance,
)
from diffusers.pipelines.pag.pag_utils import PAGMixin
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from hypothesis import given, settings
from hypothesis import strategies as st
from variety import share

from ctrl.guidance import (
    GuidanceState,
    Space,
    apg,
    cfg,
    guide,
    optimized_scale,
    perturb,
    rescale,
    weight_map,
    zero_init,
)
from ctrl.predictions import KINDS, Level
from ctrl.recipe import APG, PAG, SEG, CFGZero, Guidance
from ctrl.rows import Branches

SHAPE = (2, 4, 6, 5)  # two pictures, not square
FEW = settings(max_examples=share(40), deadline=None)
HALVES = (torch.float32, torch.float16, torch.bfloat16)
SEEDS = st.integers(0, 10_000)
WEIGHTS = st.floats(0, 20)


def drawn(seed, count=2, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=draw).to(dtype) for _ in range(count)]


def space(kind="epsilon", sample=None, alpha=0.6, sigma=0.8):
    return Space(drawn(99, 1)[0] if sample is None else sample, Level(alpha, sigma, 0.5), kind)


def guided_by(branches, guidance, mask=None, here=None, state=None):
    """The prediction and the next state; in a space of its own and from no state, if not given."""
    return guide(branches, guidance, mask, here or space(), state or GuidanceState())


def close(one, other, rtol=1e-5, atol=1e-5):
    return torch.allclose(one, other, rtol=rtol, atol=atol)


# --- spaces


@pytest.mark.parametrize(("kind", "within"), [("epsilon", "prediction"), ("sample", "x0"), ("v_prediction", "v")])
def test_a_prediction_that_is_there_already_is_not_touched(kind, within):
    prediction = drawn(1, 1, torch.float16)[0]
    assert space(kind).into(prediction, within) is prediction
    assert space(kind).back(prediction, within) is prediction


@pytest.mark.parametrize("within", ["v", "x0"])
@pytest.mark.parametrize("kind", KINDS)
def test_spaces_are_entered_in_float32_and_left_as_they_were(kind, within):
    [prediction] = drawn(1, 1, torch.float16)
    here = space(kind, prediction + 1)
    there = here.into(prediction, within)
    same = (kind, within) in (("v_prediction", "v"), ("sample", "x0"))
    assert there.dtype == (torch.float16 if same else torch.float32)
    assert close(here.back(there, within).float(), prediction.float(), atol=1e-4)
    how = Guidance(6.0, apg=APG(), rescale=0.7, rescale_in=within)
    assert guided_by(Branches(prediction, here.sample), how, here=here)[0].dtype == torch.float16


# --- classifier-free guidance and its map


@FEW
@given(SEEDS, WEIGHTS)
def test_guidance_is_bit_equal_to_diffusers(seed, weight):
    cond, uncond = drawn(seed)
    guided = cfg(cond, uncond, weight)
    assert torch.equal(guided, uncond + weight * (cond - uncond))
    if not math.isclose(weight, 1.0):
        assert torch.equal(guided, ClassifierFreeGuidance(weight).forward(cond, uncond).pred)


@FEW
@given(SEEDS, WEIGHTS, WEIGHTS, st.floats(-1, 2))
def test_guidance_is_affine_in_its_weight_and_cond_at_one(seed, first, second, part):
    cond, uncond = drawn(seed)
    between = cfg(cond, uncond, first + part * (second - first))
    one, other = cfg(cond, uncond, first), cfg(cond, uncond, second)
    assert close(between, one + part * (other - one), atol=1e-3)
    assert close(cfg(cond, uncond, 1.0), cond)
    assert torch.equal(cfg(cond, uncond, 0.0), uncond)


@pytest.mark.parametrize("dtype", HALVES)
@FEW
@given(seed=SEEDS, weight=WEIGHTS)
def test_a_map_of_ones_is_the_number_to_the_last_bit(dtype, seed, weight):
    cond, uncond = drawn(seed, dtype=dtype)
    for mask in (torch.ones(1, 1, 6, 5), torch.ones(2, 1, 48, 40)):
        mapped = cfg(cond, uncond, weight_map(weight, mask, (6, 5)))
        assert mapped.dtype == dtype
        assert torch.equal(mapped, cfg(cond, uncond, weight))
        both = [guided_by(Branches(cond, uncond), Guidance(weight), m)[0] for m in (mask, None)]
        assert torch.equal(*both)


def test_a_map_is_full_where_white_and_off_where_black():
    mask = torch.zeros(1, 1, 12, 10)
    mask[..., :4] = 1
    mask[..., 4:6] = 0.5
    weights = weight_map(7.5, mask, (6, 5))
    assert weights.shape == (1, 1, 6, 5)
    assert torch.equal(weights[0, 0, 0], torch.tensor([7.5, 7.5, 4.25, 1.0, 1.0]))
    cond, uncond = drawn(5)
    mapped = cfg(cond, uncond, weights)
    assert torch.equal(mapped[..., :2], cfg(cond, uncond, 7.5)[..., :2])
    assert close(mapped[..., 3:], cond[..., 3:])


def test_off_is_cond_itself_and_asks_for_no_uncond():
    [cond] = drawn(1, 1)
    for how in (Guidance(1.0), Guidance(7.0, rescale=0.7, apg=APG(), zero=CFGZero())):
        for mask in (None, torch.ones(1, 1, 6, 5)):
            prediction, state = guided_by(Branches(cond), how, mask)
            assert prediction is cond
            assert state.average is None


@FEW
@given(SEEDS, st.sampled_from([Guidance(1.0), Guidance(1.0, apg=APG(0.0, -0.5, 2.0))]))
def test_guidance_may_cross_one_without_a_jump(seed, how):
    cond, uncond = drawn(seed)
    off = guided_by(Branches(cond), how)[0]
    on = guided_by(Branches(cond, uncond), Guidance(1.0 + 1e-6, apg=how.apg))[0]
    assert close(on, off, atol=1e-4)


# --- rescale


@pytest.mark.parametrize("dtype", HALVES)
@FEW
@given(seed=SEEDS, phi=st.floats(0, 1))
def test_rescale_is_bit_equal_to_diffusers(dtype, seed, phi):
    cond, uncond = drawn(seed, dtype=dtype)
    guided = cfg(cond, uncond, 7.5)
    assert torch.equal(rescale(guided, cond, phi), rescale_noise_cfg(guided, cond, guidance_rescale=phi))
    if phi > 0:
        how = Guidance(7.5, rescale=phi)
        expected = rescale_noise_cfg(guided, cond, guidance_rescale=phi)
        assert torch.equal(guided_by(Branches(cond, uncond), how)[0], expected)


@FEW
@given(SEEDS, st.sampled_from(["prediction", "v", "x0"]))
def test_no_rescale_is_absent_to_the_last_bit(seed, within):
    cond, uncond = drawn(seed)
    how = Guidance(7.5, rescale=0.0, rescale_in=within)
    assert torch.equal(guided_by(Branches(cond, uncond), how)[0], cfg(cond, uncond, 7.5))


@FEW
@given(SEEDS, st.floats(0.1, 1), st.floats(0.2, 10))
def test_rescale_in_v_is_what_it_says(seed, phi, sigma):
    """Derived again with the σ of k-diffusion: v = (x/(σ² + 1) − x0) · √(σ² + 1)/σ, for an ε model."""
    cond, uncond, noisy = (part.double() for part in drawn(seed, 3))  # noisy = x0 + σ · noise
    unit = math.sqrt(sigma**2 + 1)

    def v(epsilon):
        return (noisy / unit**2 - (noisy - sigma * epsilon)) * unit / sigma

    guided = v(uncond) + 6 * (v(cond) - v(uncond))
    deviation = v(cond).std((1, 2, 3), keepdim=True) / guided.std((1, 2, 3), keepdim=True)
    mixed = phi * guided * deviation + (1 - phi) * guided
    expected = (noisy - (noisy / unit**2 - mixed * sigma / unit)) / sigma
    here = space("epsilon", noisy / unit, 1 / unit, sigma / unit)
    how = Guidance(6.0, rescale=phi, rescale_in="v")
    assert close(guided_by(Branches(cond, uncond), how, here=here)[0], expected, 1e-8, 1e-8)


@pytest.mark.parametrize("within", ["prediction", "v", "x0"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_rescale_gives_cond_s_deviation_in_its_space(within, kind):
    cond, uncond = drawn(7)
    here = space(kind)
    guided = guided_by(Branches(cond, uncond), Guidance(7.5, rescale=1.0, rescale_in=within), here=here)[0]
    deviations = [here.into(one, within).std((1, 2, 3)) for one in (guided, cond)]
    assert close(*deviations, rtol=1e-4)


def test_the_spaces_of_rescale_differ_for_noise_and_agree_where_they_are_one():
    cond, uncond = drawn(7)
    outs = {
        (kind, within): guided_by(
            Branches(cond, uncond), Guidance(7.5, rescale=0.7, rescale_in=within), here=space(kind)
        )[0]
        for kind in KINDS
        for within in ("prediction", "v", "x0")
    }
    assert torch.equal(outs["v_prediction", "prediction"], outs["v_prediction", "v"])
    assert torch.equal(outs["sample", "prediction"], outs["sample", "x0"])
    assert not close(outs["epsilon", "prediction"], outs["epsilon", "v"], atol=1e-2)
    assert not close(outs["epsilon", "v"], outs["epsilon", "x0"], atol=1e-2)


# --- APG


def numpy_apg(cond, uncond, weight, eta, threshold, momentum, average):
    """Algorithm 1 of the paper, picture by picture."""
    out, running = np.empty_like(cond), np.empty_like(cond)
    for i in range(len(cond)):
        c, difference = cond[i].ravel(), (cond[i] - uncond[i]).ravel() + momentum * average[i].ravel()
        running[i] = difference.reshape(cond[i].shape)
        length = np.linalg.norm(difference)
        if 0 < threshold < length:
            difference = difference * threshold / length
        parallel = (difference @ c) / (c @ c) * c
        out[i] = (c + (weight - 1) * (difference - parallel + eta * parallel)).reshape(cond[i].shape)
    return out, running


SETTINGS = st.tuples(st.floats(0, 1.5), st.floats(-1, 1), st.sampled_from([0.0, 0.5, 5.0, 15.0]))


@FEW
@given(SEEDS, st.floats(1, 15), SETTINGS)
def test_apg_is_the_paper_s_algorithm(seed, weight, setting):
    eta, momentum, threshold = setting
    how, average, state = APG(eta, momentum, threshold), np.zeros(SHAPE), None
    for step in range(3):
        cond, uncond = drawn(seed + step)
        expected, average = numpy_apg(cond.numpy(), uncond.numpy(), weight, eta, threshold, momentum, average)
        guided, state = apg(cond, uncond, weight, how, state)
        assert close(guided, torch.from_numpy(expected).float(), 1e-4, 1e-4)
        assert close(state, torch.from_numpy(average).float(), 1e-4, 1e-4)


@FEW
@given(SEEDS, st.floats(1.5, 15), SETTINGS)
def test_apg_is_diffusers_in_its_original_formulation(seed, weight, setting):
    """To rounding: diffusers projects in float64, we in float32, and it weighs by w − 1."""
    eta, momentum, threshold = setting
    theirs = AdaptiveProjectedGuidance(
        guidance_scale=weight - 1,
        adaptive_projected_guidance_momentum=momentum,
        adaptive_projected_guidance_rescale=threshold,
        eta=eta,
        use_original_formulation=True,
    )
    theirs.set_state(step=0, num_inference_steps=10, timestep=torch.tensor(900))
    theirs.prepare_inputs({})  # makes its momentum buffer
    how, state = Guidance(weight, apg=APG(eta, momentum, threshold)), GuidanceState()
    for step in range(3):
        cond, uncond = drawn(seed + step)
        here = space("sample")  # theirs has no other
        ours, state = guided_by(Branches(cond, uncond), how, here=here, state=state)
        assert close(ours, theirs.forward(cond, uncond).pred, 1e-4, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(seed=SEEDS, weight=WEIGHTS, mapped=st.booleans())
def test_apg_with_everything_off_is_guidance(kind, seed, weight, mapped):
    cond, uncond = drawn(seed)
    mask = torch.linspace(0, 1, 30).view(1, 1, 6, 5) if mapped else None
    plain = guided_by(Branches(cond, uncond), Guidance(weight), mask, space(kind))[0]
    off = Guidance(weight, apg=APG(eta=1.0, momentum=0.0, threshold=0.0))
    assert close(guided_by(Branches(cond, uncond), off, mask, space(kind))[0], plain, 1e-4, 1e-4)


@FEW
@given(SEEDS)
def test_apg_leaves_nothing_parallel_to_the_picture_it_is_in(seed):
    cond, uncond = drawn(seed)
    here = space("v_prediction")
    guided, _ = guided_by(Branches(cond, uncond), Guidance(8.0, apg=APG(eta=0.0)), here=here)
    x0, change = here.into(cond, "x0"), here.into(guided, "x0") - here.into(cond, "x0")
    cosine = torch.cosine_similarity(x0.flatten(1), change.flatten(1))
    assert close(cosine, torch.zeros(2), atol=1e-4)


def test_apg_is_in_x0_whatever_is_predicted():
    (cond, uncond), how = drawn(2), Guidance(8.0, apg=APG())
    here = space("sample")
    guided = guided_by(Branches(cond, uncond), how, here=here)[0]
    for kind in KINDS[:2]:
        there = space(kind)
        pair = [there.level.convert(one, there.sample, have="sample", want=kind) for one in (cond, uncond)]
        found = guided_by(Branches(*pair), how, here=there)[0]
        assert close(there.into(found, "x0"), guided, 1e-4, 1e-4)
        assert not close(found, guided_by(Branches(*pair), how, here=here)[0], atol=1e-2)


def test_the_memory_of_apg_is_a_value_to_go_on_from():
    how, states, outs = Guidance(8.0, apg=APG()), [GuidanceState()], []
    for step in range(4):
        prediction, state = guided_by(Branches(*drawn(step)), how, state=states[-1])
        outs.append(prediction)
        states.append(state)
    again, _ = guided_by(Branches(*drawn(2)), how, state=states[2])
    fresh, _ = guided_by(Branches(*drawn(2)), how)
    assert torch.equal(again, outs[2])
    assert not close(fresh, again, atol=1e-2)
    _, kept = guided_by(Branches(drawn(2)[0]), how, state=states[2])  # off at this step
    assert kept is states[2]


# --- CFG-Zero*


@FEW
@given(SEEDS, st.floats(1.5, 15))
def test_cfg_zero_is_bit_equal_to_diffusers(seed, weight):
    cond, uncond = drawn(seed)
    theirs = ClassifierFreeZeroStarGuidance(weight, zero_init_steps=1)
    theirs.set_state(step=0, num_inference_steps=10, timestep=torch.tensor(900))
    silent = guided_by(Branches(cond, uncond), Guidance(weight, zero=CFGZero(1), rescale=0.7))[0]
    assert torch.equal(silent, theirs.forward(cond, uncond).pred)
    theirs.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(800))
    ours = guided_by(Branches(cond, uncond), Guidance(weight, zero=CFGZero(0)))[0]
    assert torch.equal(ours, theirs.forward(cond, uncond).pred)


@FEW
@given(SEEDS)
def test_the_optimal_scale_leaves_a_difference_at_right_angles(seed):
    cond, uncond = drawn(seed)
    scaled = optimized_scale(cond, uncond)
    left = ((cond - scaled) * uncond).flatten(1).sum(1)
    assert close(left, torch.zeros(2), atol=1e-3)
    assert close(optimized_scale(cond, 3 * uncond), scaled, atol=1e-4)
    assert torch.equal(optimized_scale(cond, torch.zeros(SHAPE)), torch.zeros(SHAPE))


def test_zero_init_stands_still_where_its_docstring_says():
    """Exact steps from one level to the next, with a prediction of zero."""
    [sample] = drawn(1, 1)
    zero = zero_init(sample)
    flow = space("flow", sample, 0.1, 0.9)
    assert torch.equal(sample + (0.8 - 0.9) * zero, sample)  # Euler along the velocity
    assert close(0.2 * flow.into(zero, "x0") + 0.8 * flow.into(zero, "x0"), sample)  # noise = x0 where v is zero
    alpha, sigma, later, less = 0.068, math.sqrt(1 - 0.068**2), 0.1, math.sqrt(1 - 0.1**2)
    v = space("v_prediction", sample, alpha, sigma)
    assert close(later * v.into(zero, "x0") + less * sigma * sample, sample, atol=1e-2)
    epsilon = space("epsilon", sample, alpha, sigma)
    assert close(later * epsilon.into(zero, "x0") / later, sample / alpha)  # DDIM: x / α keeps its value


# --- perturbed branches


@FEW
@given(SEEDS, WEIGHTS, st.floats(0, 10))
def test_pag_is_bit_equal_to_diffusers_pipelines(seed, weight, scale):
    cond, uncond, spoilt = drawn(seed, 3)
    mixin = PAGMixin()
    mixin._pag_scale, mixin._pag_adaptive_scale = scale, 0.0
    both = mixin._apply_perturbed_attention_guidance(torch.cat([uncond, cond, spoilt]), True, weight, 500)
    alone = mixin._apply_perturbed_attention_guidance(torch.cat([cond, spoilt]), False, weight, 500)
    how = Guidance(weight, perturb=(PAG(scale),))
    assert torch.equal(guided_by(Branches(cond, uncond, (spoilt,)), how)[0], both)
    assert torch.equal(guided_by(Branches(cond, None, (spoilt,)), how)[0], alone)


@FEW
@given(SEEDS, st.floats(1.5, 10), st.floats(0.1, 10))
def test_pag_with_rescale_is_bit_equal_to_diffusers_guider(seed, weight, scale):
    cond, uncond, spoilt = drawn(seed, 3)
    theirs = PerturbedAttentionGuidance(weight, scale, 0.0, 1.0, perturbed_guidance_layers=[0], guidance_rescale=0.5)
    expected = theirs.forward(cond, uncond, spoilt).pred
    how = Guidance(weight, perturb=(PAG(scale),), rescale=0.5)
    ours = guided_by(Branches(cond, uncond, (spoilt,)), how)[0]
    assert close(ours, expected)  # they add the two differences in another order


@FEW
@given(SEEDS, st.lists(st.floats(-5, 5), max_size=3))
def test_perturbed_branches_add_up_and_none_counts_at_scale_zero(seed, scales):
    cond, uncond, *spoilt = drawn(seed, 2 + len(scales))
    guided = cfg(cond, uncond, 5.0)
    expected = guided + sum(scale * (cond - one) for scale, one in zip(scales, spoilt, strict=True))
    assert close(perturb(guided, cond, spoilt, scales), expected, atol=1e-4)
    assert torch.equal(perturb(guided, cond, spoilt, [0.0] * len(scales)), guided)


def test_a_branch_without_a_scale_is_an_error():
    cond, uncond, spoilt = drawn(1, 3)
    with pytest.raises(ValueError, match="shorter"):
        guided_by(Branches(cond, uncond, (spoilt,)), Guidance(5.0))


# --- all of it


@pytest.mark.parametrize("dtype", HALVES)
def test_all_of_it_together_keeps_type_and_stays_finite(dtype):
    cond, uncond, *spoilt = drawn(4, 4, dtype)
    mask = torch.linspace(0, 1, 48).view(1, 1, 6, 8)
    apg_too = APG(0.0, -0.5, 15.0)
    how = Guidance(7.0, rescale=0.7, rescale_in="v", apg=apg_too, zero=CFGZero(), perturb=(PAG(3.0), SEG(1.0)))
    here = space("v_prediction", drawn(9, 1, dtype)[0])
    state = GuidanceState()
    for _ in range(3):
        prediction, state = guide(Branches(cond, uncond, tuple(spoilt)), how, mask, here, state)
        assert prediction.dtype == dtype
        assert prediction.isfinite().all()
