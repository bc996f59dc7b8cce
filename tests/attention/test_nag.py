"""NAG: the published formula, on explicit probabilities, and what it leaves as it was."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from variety import EVERYTHING, PLAIN, few, recipes, run, with_guidance

import ctrl
from ctrl.attention import Hooks, NormalizedNegative, Regions, RegionTerm, Source, WordWeights, sites, tap

ROWS, TOKENS, WIDTH, STYLE = 3, 24, 32, Source("style")
draw = torch.Generator().manual_seed(1)
SAMPLE = torch.randn(ROWS, 8, 16, 8, generator=draw)
PROMPT, NEGATIVE, OTHER = (torch.randn(ROWS, TOKENS, WIDTH, generator=draw) for _ in range(3))
FEW = PLAIN.replace(guidance=1.0, negative="blue")
ON = with_guidance(FEW, nag=ctrl.NAG(4.0))


def published(plus, minus, *, nag_scale, tau, alpha):
    """The authors' processor on (R, p, heads · d), in their own order of operations."""
    guidance = plus * nag_scale - minus * (nag_scale - 1)
    ratio = guidance.norm(p=1, dim=-1, keepdim=True) / plus.norm(p=1, dim=-1, keepdim=True)
    guidance = guidance * torch.minimum(ratio, torch.full_like(ratio, tau)) / ratio
    return guidance * alpha + plus * (1 - alpha)


def probabilities(q, k):
    return torch.softmax(q.double() @ k.double().mT / q.shape[-1] ** 0.5, -1)


def merged(heads):
    """(R, p, heads · d) of (R, heads, p, d)."""
    return heads.transpose(1, 2).flatten(2)


def outputs(unet, *edits, combine=None):
    """By site the call, its terms and its output."""
    seen = {}

    def observe(call, terms):
        return lambda out: seen.__setitem__(call.site, (call, terms, out))

    with torch.no_grad(), tap(sites(unet), Hooks(edits, [observe], combine=combine)):
        unet(SAMPLE, torch.tensor(500), PROMPT, return_dict=False)
    return seen


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("scale", "tau", "alpha"), [(4.0, 2.5, 0.25), (10.0, 1.0, 1.0), (0.5, 100.0, 0.5)])
def test_the_output_is_the_published_one_by_explicit_probabilities(model, scale, tau, alpha, weighted):
    weights = 1 + torch.rand(ROWS, TOKENS, generator=draw) if weighted else None
    negative = NormalizedNegative((1, 2), NEGATIVE, scale, tau, alpha, weights)
    own = [WordWeights(weights)] if weighted else []
    for call, _, out in outputs(model.unet, *own, negative, combine=negative.combine).values():
        k, v = call.project(NEGATIVE)
        scale_v = 1.0 if weights is None else weights[:, None, :, None].double()
        plus = merged(probabilities(call.q, call.k) @ (call.v.double() * scale_v))
        minus = merged(probabilities(call.q, k) @ (v.double() * scale_v))
        expected = published(plus, minus, nag_scale=scale + 1, tau=tau, alpha=alpha)
        expected[0] = plus[0]  # not among the rows
        assert (merged(out).double() - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_regions_are_led_away_too_and_styles_are_added_as_they_are(model):
    mask = torch.zeros(ROWS, 1, 16, 8)
    mask[..., :4] = 1
    regions = Regions((0, 1, 2), (RegionTerm(OTHER, mask),), base=0.25)

    def style(call, terms):
        return [*terms, replace(terms[0], v=call.v.flip(2), mask=None, gate=0.5, source=STYLE)]

    negative = NormalizedNegative((0, 1, 2), NEGATIVE, 3.0, 2.0, 0.5)
    for call, terms, out in outputs(model.unet, regions, style, negative, combine=negative.combine).values():
        text, *_ = terms
        left = terms[1].mask.double()
        k, v = call.project(OTHER)
        plus = probabilities(call.q, call.k) @ call.v.double() * text.mask.double()
        plus = plus + probabilities(call.q, k) @ v.double() * left
        k, v = call.project(NEGATIVE)
        minus = probabilities(call.q, k) @ v.double()
        added = 0.5 * probabilities(call.q, call.k) @ call.v.double().flip(2)
        expected = published(merged(plus), merged(minus), nag_scale=4.0, tau=2.0, alpha=0.5) + merged(added)
        assert (merged(out).double() - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_rows_that_are_not_named_are_bit_equal(model):
    negative = NormalizedNegative((2,), NEGATIVE, 4.0, 2.5, 0.25)
    plain, led = outputs(model.unet), outputs(model.unet, negative, combine=negative.combine)
    first = next(iter(plain))
    assert torch.equal(plain[first][2][:2], led[first][2][:2])
    assert not torch.allclose(plain[first][2][2], led[first][2][2], atol=1e-4)


@given(recipes(), st.sampled_from([ctrl.NAG(0.0), ctrl.NAG(4.0, alpha=0.0), ctrl.NAG(ctrl.hold(0.0, until=0.5))]))
@few(6)
def test_off_is_bit_equal_to_absent(model, recipe, off):
    other = with_guidance(recipe, nag=off)
    assert other == recipe and other.hash == recipe.hash
    assert torch.equal(run(model, other), run(model, recipe))


@given(recipes())
@few(6)
def test_on_composes_with_everything_and_leaves_the_model_as_it_was(model, recipe):
    before = run(model, FEW)
    led = with_guidance(recipe, nag=ctrl.NAG(ctrl.hold(4.0, until=0.6)))
    shot = ctrl.sample(model, led, watch=ctrl.Watch(smallest=1, influence=True))
    assert shot.image == ctrl.sample(model, led).image
    zero = ctrl.Guidance.of(recipe.guidance).zero  # zero-init asks the model nothing
    assert zero is not None or (shot.attention.receipt.ok and shot.attention.influence.ok)
    assert torch.equal(run(model, FEW), before)


def test_it_costs_no_evaluation_and_no_row(model):
    calls = []
    handle = model.unet.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    try:
        ctrl.sample(model, FEW)
        plain = calls.copy()
        calls.clear()
        ctrl.sample(model, ON)
    finally:
        handle.remove()
    assert calls == plain == [1] * FEW.steps


def test_the_negative_prompt_acts_where_nag_does_and_its_words_have_maps(model):
    assert (run(model, ON) - run(model, FEW)).abs().max() > 1e-3
    assert ON.replace(negative="green") != ON and FEW.replace(negative="green") == FEW
    window = with_guidance(FEW, nag=ctrl.NAG(ctrl.hold(4.0, start=0.5)))
    assert torch.equal(run(model, window)[:2], run(model, FEW)[:2])
    times = model.times(window.sampler, window.spacing, window.steps)
    assert [window.at(index, times).negative for index in range(2)] == ["", "blue"]
    shot = ctrl.sample(model, ON, watch=ctrl.Watch(smallest=1))
    assert shot.attention.map("blue", source="negative").heat.max() <= 1


def test_many_recipes_at_once_agree_with_single_runs(model):
    many = [ON, ON.replace(negative="a green hat", seed=5)]
    together = ctrl.sample_many(model, many)
    for recipe, shot in zip(many, together, strict=True):
        alone = torch.frombuffer(bytearray(ctrl.sample(model, recipe).image.tobytes()), dtype=torch.uint8).int()
        assert (torch.frombuffer(bytearray(shot.image.tobytes()), dtype=torch.uint8).int() - alone).abs().max() <= 1


def test_it_is_part_of_json_code_difference_and_notes(model):
    assert ctrl.Recipe.from_json(ON.to_json()) == ON
    names = {"ctrl": ctrl}
    exec(ON.code(), names)
    assert names["recipe"] == ON
    assert [change.step for change in FEW.diff(ON, model)] == [0]
    late = with_guidance(FEW, nag=ctrl.NAG(ctrl.hold(4.0, start=0.5)))
    assert [change.step for change in FEW.diff(late)] == [1]
    assert any("negative prompt has no effect" in note for note in ctrl.sample(model, FEW).notes)
    assert not any("negative" in note for note in ctrl.sample(model, ON).notes)
    assert "NAG has no effect at alpha 0" in ctrl.sample(model, with_guidance(FEW, nag=ctrl.NAG(alpha=0))).notes


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: ctrl.Guidance(1, nag=4.0), r"nag must be NAG\(...\) or None"),
        (lambda: ctrl.NAG(scale=4.0), "here that is weight"),
        (lambda: ctrl.NAG(nag_scale=5.0), "nag_scale - 1"),
        (lambda: ctrl.NAG(-1.0), "weight must be a number from 0"),
        (lambda: ctrl.NAG(tau=0.0), "tau must be a number from 1"),
        (lambda: ctrl.NAG(alpha=2.0), "alpha must be a number from 0 to 1"),
        (lambda: ctrl.Recipe("a", nag_scale=5.0), "nag=NAG"),
    ],
)
def test_what_is_wrong_is_said(wrong, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        wrong()


def test_everything_with_nag_differs_from_everything(model):
    led = with_guidance(EVERYTHING, nag=ctrl.NAG())
    assert not torch.equal(run(model, led), run(model, EVERYTHING))
