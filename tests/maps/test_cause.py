"""Cause and probes: what is left out changes x0 where it acted, a probe that reads changes no bit, errors undo all."""

import numpy as np
import pytest
import torch

import ctrl
from ctrl.attention import Call, Term
from ctrl.maps import WithoutTokens
from ctrl.maps.shares import shares
from ctrl.memory import Memory
from ctrl.sampling.begin import begin
from ctrl.sampling.causes import Experiment, Variant, without_word
from ctrl.sampling.run import Run

rng = np.random.default_rng(0)
MAP, INK = (rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(2))
LEFT = np.zeros((64, 64), np.uint8)
LEFT[:, :32] = 255
RECIPE = ctrl.Recipe(
    "a red ball",
    controls=[ctrl.Depth(MAP, 0.7, mask=LEFT)],
    styles=[ctrl.Style(INK, 0.6)],
    regions=[ctrl.Region("a dog", 255 - LEFT, 0.5)],
    steps=4,
    seed=7,
)
SITE = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"


@pytest.fixture(scope="module")
def shot(model):
    return ctrl.sample(model, RECIPE, watch=ctrl.Watch())


THINGS = {
    "word": "red",
    "second word of its kind": ("ball", 0),
    "control": RECIPE.controls[0],
    "style": RECIPE.styles[0],
    "region": RECIPE.regions[0],
    "site": ctrl.Layer(SITE),
    "head": ctrl.Layer(SITE, head=1),
    "self-attention": ctrl.Layer(SITE.replace("attn2", "attn1")),
    "block": ctrl.Layer("mid_block"),
}


@pytest.fixture(scope="module")
def causes(model, shot):
    return dict(zip(THINGS, ctrl.cause(model, shot, [*THINGS.values()], steps=2), strict=True))


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_left_out_changes_x0_and_the_map_is_its_mean_over_the_steps(shot, causes, thing):
    heat = causes[thing]
    assert heat.heat.shape == shot.attention.cells and heat.heat.dtype == np.float32
    assert heat.heat.min() >= 0 and heat.heat.max() > 1e-4
    assert sorted(heat.steps) == [1, 3]
    assert np.allclose(heat.heat, np.mean([*heat.steps.values()], axis=0), atol=1e-7)
    assert heat.overlay().size == heat.mask().size == shot.image.size


def test_the_change_is_that_of_the_recipe_without_the_part(model, shot, causes):
    """By hand: two runs of one step from the same latents, with the style and without."""
    before = next(ctrl.steps(model, RECIPE))
    own = next(ctrl.steps(model, RECIPE, after=before)).denoised
    without = next(ctrl.steps(model, RECIPE.replace(styles=[]), after=before)).denoised
    by_hand = (own - without).pow(2).mean(1).sqrt()[0].numpy()
    assert np.allclose(causes["style"].steps[1], by_hand, atol=1e-5)


@pytest.mark.slow
def test_code_makes_the_map_again(model, shot, causes):
    for thing in ("word", "style", "head"):
        again = eval(causes[thing].code(), {"ctrl": ctrl, "model": model, "shot": shot})
        assert np.array_equal(again.heat, causes[thing].heat)


def test_the_model_is_the_same_afterwards(model, shot):
    ctrl.cause(model, shot, [ctrl.Layer("mid_block"), "ball"], steps=1)
    assert np.array_equal(ctrl.sample(model, RECIPE).image, shot.image)


def test_a_word_without_any_place_has_no_effect_and_with_all_the_whole(model, shot):
    experiment = Experiment.of(model, shot, 1)
    run = experiment.run
    (at,) = experiment
    full = at.x0()
    none, every = (torch.full((16, 16), value) for value in (0.0, 1.0))
    whole = at.x0(Variant(at.run, (without_word(run, "red", None),)))
    assert torch.allclose(at.x0(Variant(at.run, (without_word(run, "red", none),))), full, atol=1e-5)
    assert torch.equal(at.x0(Variant(at.run, (without_word(run, "red", every),))), whole)
    assert not torch.allclose(whole, full, atol=1e-4)


def test_tokens_that_are_left_out_get_no_attention_in_their_rows_only(model):
    seen = []
    run = Run.of(model, [ctrl.Recipe("a red ball", steps=1)], Memory(), [lambda call, terms: seen.append(terms[0])])
    moment = run.moments[0]
    latents = torch.randn(2, *begin(run).latents.shape[1:])
    moment.predict(latents, edits=[ctrl.attention.At(WithoutTokens((2, 3), (1,)))])
    for term in seen:
        scores = term.q @ term.k.transpose(-1, -2) * term.q.shape[-1] ** -0.5 + term.bias
        share = scores.softmax(-1)
        assert float(share[1, ..., 2:4].max()) == 0 and float(share[0, ..., 2:4].min()) > 0


def test_tokens_with_the_attention_of_another_prompts_are_left_out_by_their_counterparts():
    q, k, v = (torch.randn(2, 3, count, 5) for count in (4, 6, 5))
    spread = torch.zeros(2, 6, 5)
    spread[:, [0, 5, 4, 2], [0, 1, 2, 4]] = 1  # the last key stands for token 1, and none for token 3
    term = Term(q, k, v, spread=spread)
    (left,) = WithoutTokens((1, 2, 3), (1,))(Call("unet.attn2", q, k, v, 2, 2), [term])
    before, after = shares(term, [0, 1]), shares(left, [0, 1])
    assert torch.allclose(after[0], before[0])
    assert float(after[1, ..., 1:4].max()) == 0 and (after[1][..., [0, 4]] > before[1][..., [0, 4]]).all()


NOT_CAUSES = [
    (lambda m, s: ctrl.cause(m, s, "hat"), ValueError, r"^what: 'hat' is not in 'a red ball'"),
    (lambda m, s: ctrl.cause(m, s, ctrl.Style(MAP)), ValueError, r"one of the shot's styles"),
    (lambda m, s: ctrl.cause(m, s, 3), TypeError, "what must be a word of the prompt"),
    (lambda m, s: ctrl.cause(m, RECIPE, "red"), TypeError, "shot must be a Shot"),
    (lambda m, s: ctrl.cause(m, s, "red", steps=0), ValueError, "steps must be a whole number"),
    (lambda m, s: ctrl.cause(m, s, ctrl.Layer("up_blocks.9")), ValueError, "no transformer block is in 'up_blocks.9'"),
    (lambda m, s: ctrl.cause(m, s, ctrl.Layer("mid_block.attn2")), ValueError, "has no cross-attention"),
    (lambda m, s: ctrl.cause(m, s, ctrl.Layer(SITE, head=99)), ValueError, "head must be from 0 to"),
    (lambda m, s: ctrl.Layer("mid_block", head=1), ValueError, "head needs the name of a site"),
    (lambda m, s: ctrl.faithfulness(m, s, "red", np.zeros(4)), ValueError, "heat must be a map of finite numbers"),
    (lambda m, s: ctrl.faithfulness(m, s, "red", "ball"), TypeError, "heat must be a map or an array .*got 'ball'"),
]


@pytest.mark.parametrize(("make", "error", "says"), NOT_CAUSES)
def test_what_is_not_there_cannot_be_left_out(model, shot, make, error, says):
    with pytest.raises(error, match=says):
        make(model, shot)
    assert np.array_equal(ctrl.sample(model, RECIPE).image, shot.image)


@pytest.mark.slow
def test_the_order_of_the_true_effect_is_more_faithful_than_its_opposite(model, shot):
    heat = ctrl.cause(model, shot, "red", steps=2)
    own = ctrl.faithfulness(model, shot, "red", heat, points=4)
    opposite = ctrl.faithfulness(model, shot, "red", -heat.heat, points=4)
    difference = heat - ctrl.cause(model, shot, "ball", steps=2)
    of_map, of_array = (
        ctrl.faithfulness(model, shot, "red", one, points=2, steps=1) for one in (difference, difference.heat)
    )
    assert of_map.curve == of_array.curve
    assert own.score > 0.5 > opposite.score and "chance 0.50" in str(own)
    assert own.curve[0] == (0.0, 0.0, 0.0) and own.curve[-1] == (1.0, 1.0, 1.0)
    plain = ctrl.faithfulness(model, shot, "red", points=2, steps=1)
    assert 0 <= plain.deletion <= 1.5
    with pytest.raises(ValueError, match="the shot has no attention"):
        ctrl.faithfulness(model, ctrl.sample(model, RECIPE), "red")


# Probes


def latents(steps):
    return [step.latents for step in steps]


def test_a_probe_that_reads_sees_every_block_and_changes_no_bit(model):
    seen = []
    probes = [ctrl.Probe(lambda call: seen.append(call), at=at, steps=(0.5, 1.0)) for at in ("input", "output")]
    probed = latents(ctrl.steps(model, RECIPE, probes=probes, watch=ctrl.Watch()))
    assert all(map(torch.equal, probed, latents(ctrl.steps(model, RECIPE))))
    names = {call.block for call in seen}
    assert SITE.removesuffix(".attn2") in names and any(name.startswith("mid_block") for name in names)
    assert {call.step for call in seen} == {2, 3} and {call.count for call in seen} == {4}
    assert all(call.states.shape[:2] == (len(call.rows), call.height * call.width) for call in seen)
    assert any(not torch.equal(call.states, call.entered) for call in seen)


def test_a_probe_changes_what_it_answers_in_the_blocks_and_steps_it_names(model):
    plain = latents(ctrl.steps(model, RECIPE))
    for at in ("input", "output"):
        same = ctrl.Probe(lambda call: call.states, at=at)
        assert all(map(torch.equal, latents(ctrl.steps(model, RECIPE, probes=[same])), plain))
        doubled = ctrl.Probe(lambda call: 2 * call.states, "up_blocks.1", at, steps=(0.5, 1.0))
        changed = latents(ctrl.steps(model, RECIPE, probes=[doubled]))
        assert [torch.equal(one, other) for one, other in zip(changed, plain, strict=True)] == [
            True,
            True,
            False,
            False,
        ]


def test_probes_act_in_their_order_and_see_what_the_one_before_left(model):
    seen = {}
    first = ctrl.Probe(lambda call: call.states + 1, "mid_block")
    second = ctrl.Probe(lambda call: seen.setdefault("second", call.states) * 0, "mid_block")
    third = ctrl.Probe(lambda call: seen.update(third=call.states), "mid_block")
    next(ctrl.steps(model, RECIPE, probes=[first, second, third]))
    assert float(seen["third"].abs().max()) == 0 < float(seen["second"].abs().max())


def test_a_failing_probe_leaves_the_model_as_it_was(model):
    def fail(call):
        raise OSError("the disk is full")

    for hook, error in ((fail, OSError), (lambda call: call.states[:1], TypeError), (lambda call: 3, TypeError)):
        with pytest.raises(error):
            ctrl.sample(model, RECIPE, probes=[ctrl.Probe(hook, "mid_block")])
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.unet.modules())


NOT_PROBES = [
    (lambda m: ctrl.Probe(3), TypeError, "hook must be a function"),
    (lambda m: ctrl.Probe(print, at="middle"), ValueError, "at must be 'input' or 'output'"),
    (lambda m: ctrl.Probe(print, 3), TypeError, "where must be a list of names"),
    (lambda m: ctrl.Probe(print, steps=(1, 0)), ValueError, "steps must be a pair"),
    (lambda m: ctrl.steps(m, RECIPE, probes=[ctrl.Probe(print, "up_blocks.9")]), ValueError, "no transformer block"),
    (lambda m: ctrl.steps(m, RECIPE, probes=[print]), TypeError, "probes must be a list of ctrl.Probe"),
]


@pytest.mark.parametrize(("make", "error", "says"), NOT_PROBES)
def test_a_probe_that_cannot_be_is_refused_before_the_first_step(model, make, error, says):
    with pytest.raises(error, match=says):
        make(model)
