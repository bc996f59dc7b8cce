"""Regions by bias: the published formula on explicit scores, and what it leaves as it was."""

import numpy as np
import pytest
import torch
from hypothesis import given
from variety import EVERYTHING, LEFT, PLAIN, SOFT, few, recipes, run

import ctrl
from ctrl.attention import BiasedRegion, BiasedWords, Hooks, sites, tap

ROWS, TOKENS, WIDTH = 2, 24, 32
draw = torch.Generator().manual_seed(3)
SAMPLE = torch.randn(ROWS, 8, 16, 8, generator=draw)
PROMPT = torch.randn(ROWS, TOKENS, WIDTH, generator=draw)
BALL = ctrl.Region("ball", LEFT, by="bias")
ON = PLAIN.replace(regions=[BALL])


def published(scores, mask, tokens, strength):
    """The paper's modulation of scores, token by token and place by place."""
    biased = scores.clone()
    area = mask.mean()
    top, bottom = scores.max(-1).values, scores.min(-1).values
    for token in tokens:
        inside = strength * (1 - area) * (top - scores[..., token])
        outside = strength * (1 - area) * (scores[..., token] - bottom)
        biased[..., token] += torch.where(mask > 0.5, inside, -outside)
    return biased


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_the_output_is_the_published_one_by_explicit_scores(model, strength):
    mask = torch.zeros(ROWS, 1, 16, 8)
    mask[..., :4] = 1
    tokens = torch.zeros(ROWS, TOKENS)
    tokens[1, [3, 4]] = 1
    seen = {}

    def observe(call, terms):
        return lambda out: seen.__setitem__(call.site, (call, out))

    biased = BiasedWords([BiasedRegion(tokens, mask, strength)])
    with torch.no_grad(), tap(sites(model.unet), Hooks([biased], [observe])):
        model.unet(SAMPLE, torch.tensor(500), PROMPT, return_dict=False)
    for call, out in seen.values():
        scores = call.q.double() @ call.k.double().mT / call.q.shape[-1] ** 0.5
        small = torch.nn.functional.interpolate(mask, size=(call.height, call.width), mode="area")[1, 0].flatten()
        scores[1] = published(scores[1], small.double(), (3, 4), strength)
        expected = scores.softmax(-1) @ call.v.double()
        assert (out.double() - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_its_words_attend_more_inside_and_less_outside(model):
    watch = ctrl.Watch(smallest=1, self_attention=False)
    plain, biased = (ctrl.sample(model, one, watch=watch).attention["ball"].heat for one in (PLAIN, ON))
    left = np.zeros(plain.shape, bool)
    left[:, : plain.shape[1] // 2] = True
    assert biased[left].mean() > plain[left].mean() and biased[~left].mean() < plain[~left].mean()


@given(recipes())
@few(4)
def test_off_is_bit_equal_to_absent(model, recipe):
    for off in (ctrl.Region("ball", LEFT, 0.0, by="bias"), ctrl.Region("ball", LEFT, on=False, by="bias")):
        other = recipe.replace(regions=[*recipe.regions, off])
        assert other == recipe and other.hash == recipe.hash
        assert torch.equal(run(model, other), run(model, recipe))


def test_it_composes_with_everything_and_leaves_the_model_as_it_was(model):
    before = run(model, PLAIN)
    with_all = EVERYTHING.replace(regions=[*EVERYTHING.regions, BALL, ctrl.Region("(red:1.3)", SOFT, 0.5, by="bias")])
    shot = ctrl.sample(model, with_all, watch=ctrl.Watch(smallest=1, influence=True))
    assert shot.attention.receipt.ok and shot.attention.influence.ok
    assert shot.image != ctrl.sample(model, EVERYTHING).image
    assert torch.equal(run(model, PLAIN), before)


def test_it_is_part_of_json_code_and_difference(model):
    assert ctrl.Recipe.from_json(ON.to_json()) == ON
    names = {"ctrl": ctrl}
    exec(ON.code(), names)
    assert names["recipe"] == ON != PLAIN.replace(regions=[ctrl.Region("ball", LEFT)])
    assert [change.step for change in PLAIN.diff(ON, model)] == [0]


def test_many_recipes_at_once_find_the_words_of_each(model):
    many = [ON, PLAIN.replace(prompt="a ball that is blue", regions=[ctrl.Region("ball", SOFT, by="bias")])]
    for recipe, shot in zip(many, ctrl.sample_many(model, many), strict=True):
        alone = np.asarray(ctrl.sample(model, recipe).image).astype(int)
        assert np.abs(np.asarray(shot.image).astype(int) - alone).max() <= 1


def test_words_that_the_prompt_does_not_have_are_refused(model):
    with pytest.raises(ValueError, match="region: 'hat' is not in 'a red ball'; its words are a, red, ball"):
        ctrl.sample(model, PLAIN.replace(regions=[ctrl.Region("hat", LEFT, by="bias")]))
    with pytest.raises(ValueError, match="by 'mask' is unknown"):
        ctrl.Region("ball", LEFT, by="mask")
    with pytest.raises(ValueError, match="word or phrase"):
        ctrl.Region(" ", LEFT, by="bias")
