"""StyleAligned: the published formula on explicit probabilities, and what it leaves as it was."""

from base64 import b64decode

import numpy as np
import pytest
import torch
from hypothesis import given
from variety import BLACK, EVERYTHING, OTHER, PLAIN, few, recipes, run, with_guidance

import ctrl
from ctrl.attention import At, Hooks, IdentityAttention, Record, SharedAttention, counterparts, sites, tap
from ctrl.live.active import activity
from ctrl.rows import Rows

PAIR, ALONE = Rows(pictures=1, guided=True), Rows(pictures=1, guided=False)
TOKENS, WIDTH = 24, 32
draw = torch.Generator().manual_seed(5)
SAMPLE, REFERENCE = (torch.randn(2, 8, *size, generator=draw) for size in ((16, 8), (8, 8)))
PROMPT = torch.randn(2, TOKENS, WIDTH, generator=draw)
FOX = ctrl.Recipe("a fox", steps=9, seed=3, guidance=3.0)
RECIPE = PLAIN.replace(steps=3)
ON = RECIPE.replace(aligned=ctrl.StyleAligned(FOX))


def asked(unet, sample, *edits, rows=PAIR, observers=()):
    """By site the call and the output of one evaluation."""
    seen = {}

    def observe(call, terms):
        return lambda out: seen.__setitem__(call.site, (call, out))

    every = [*observers, At(observe, kind="self")]
    with torch.no_grad(), tap(sites(unet, kind="all"), Hooks(edits, every, rows=rows)):
        unet(sample, torch.tensor(500), PROMPT[: len(sample)], return_dict=False)
    return seen


def published(call, theirs, row, other, shift):
    """The authors' handler: AdaIN of queries and keys, and the reference's keys and values after the picture's own."""

    def adain(own, reference):
        def moments(x):
            return x.mean(-2, keepdim=True), (x.var(-2, keepdim=True) + 1e-5).sqrt()

        (mean, deviation), (wanted, spread) = moments(own), moments(reference)
        return (own - mean) / deviation * spread + wanted

    q, k, v = (part[row].double() for part in (call.q, call.k, call.v))
    q_r, k_r, v_r = (part[other].double() for part in (theirs.q, theirs.k, theirs.v))
    scores = adain(q, q_r) @ torch.cat([adain(k, k_r), k_r], -2).mT / q.shape[-1] ** 0.5
    scores[..., k.shape[-2] :] += shift
    return scores.softmax(-1) @ torch.cat([v, v_r], -2)


@pytest.mark.parametrize("weight", [1.0, 2.5])
@pytest.mark.parametrize(("rows", "order"), [(PAIR, (0, 1)), (ALONE, (0, 0))])
def test_the_output_is_the_published_one_by_explicit_probabilities(model, weight, rows, order):
    record = Record()
    theirs = asked(model.unet, REFERENCE[: len(rows)], rows=rows, observers=record.observers("self"))
    seen = asked(model.unet, SAMPLE, At(SharedAttention(record, PAIR, weight), kind="self"))
    for site in sites(model.unet, kind="self"):
        call, out = seen[site.name]
        for row, other in enumerate(order):
            expected = published(call, theirs[site.name][0], row, other, float(np.log(weight)))
            assert (out[row].double() - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_a_small_weight_is_near_to_absent(model):
    plain = run(model, RECIPE)
    far, near = (run(model, RECIPE.replace(aligned=ctrl.StyleAligned(FOX, weight))) for weight in (1.0, 1e-5))
    assert (near - plain).abs().max() < 1e-3 < (far - plain).abs().max()


def test_rows_find_their_branch_in_the_other_run():
    whole = Rows(pictures=2, guided=True, perturbed=2)
    assert counterparts(whole, whole) == list(range(8))
    assert counterparts(whole, Rows(pictures=2, guided=False)) == [0, 1] * 4
    assert counterparts(whole, Rows(pictures=2, guided=True, perturbed=1)) == [0, 1, 2, 3, 4, 5, 2, 3]
    assert counterparts(Rows(pictures=2, guided=False), whole) == [2, 3]


def test_perturbed_rows_attend_to_themselves_alone_all_the_same(model):
    record = Record()
    asked(model.unet, REFERENCE, observers=record.observers("self"))
    shared, alone = At(SharedAttention(record, PAIR), kind="self"), At(IdentityAttention((1,)), kind="self")
    for call, out in asked(model.unet, SAMPLE, shared, alone).values():
        assert torch.equal(out[1], call.v[1])


@given(recipes())
@few(4)
def test_off_is_bit_equal_to_absent(model, recipe):
    for off in (ctrl.StyleAligned(FOX, 0.0), ctrl.StyleAligned(FOX, on=False), ctrl.StyleAligned(FOX, ctrl.hold(0.0))):
        other = recipe.replace(aligned=off)
        assert other == recipe and other.hash == recipe.hash
    assert torch.equal(run(model, other), run(model, recipe))


@given(recipes())
@few(4)
def test_on_composes_with_everything_and_leaves_the_model_as_it_was(model, recipe):
    before = run(model, PLAIN)
    styled = FOX.replace(styles=[ctrl.Style(OTHER)])
    recipe = with_guidance(recipe, zero=None).replace(aligned=ctrl.StyleAligned(styled, 0.7))
    shot = ctrl.sample(model, recipe, watch=ctrl.Watch(smallest=1, influence=True))
    assert shot.image == ctrl.sample(model, recipe).image
    assert shot.attention.receipt.ok and shot.attention.influence.ok
    assert torch.equal(run(model, PLAIN), before)


@pytest.mark.slow
def test_the_reference_is_a_recipe_a_shot_or_everything_with_an_edit(model):
    shot = ctrl.sample(model, EVERYTHING)
    assert ctrl.StyleAligned(shot) == ctrl.StyleAligned(EVERYTHING)
    edited = EVERYTHING.replace(edit=ctrl.Edit("a (red:1.3) hat"), aligned=ctrl.StyleAligned(shot))
    assert torch.equal(run(model, edited), run(model, edited))
    assert not torch.equal(run(model, edited), run(model, EVERYTHING))


def test_it_takes_the_recipes_sampler_steps_and_size_and_says_so(model):
    assert RECIPE.replace(aligned=ctrl.StyleAligned(FOX.replace(steps=5, sampler="ddim"))) == ON
    assert any("steps, 3, and not with its own, 9" in note for note in ctrl.sample(model, ON).notes)
    assert ON.fast().aligned.reference == FOX.fast()


def test_a_run_goes_on_from_any_step_to_the_same_bits(model):
    steps = list(ctrl.steps(model, ON))
    for step in steps[:-1]:
        assert torch.equal(list(ctrl.steps(model, ON, after=step))[-1].latents, steps[-1].latents)
    with pytest.raises(ValueError, match="has no aligned picture"):
        list(ctrl.steps(model, RECIPE, after=steps[0]))


def test_a_reference_from_noise_comes_to_where_image_to_image_begins(model):
    started = RECIPE.replace(steps=4, image=BLACK, strength=0.5, aligned=ctrl.StyleAligned(FOX))
    steps = list(ctrl.steps(model, started))
    assert len(steps) == 2
    assert torch.equal(list(ctrl.steps(model, started, after=steps[0]))[-1].latents, steps[-1].latents)
    late = RECIPE.replace(steps=4, aligned=ctrl.StyleAligned(FOX.replace(image=BLACK, strength=0.5)))
    with pytest.raises(ValueError, match="aligned: the reference takes 2 of the run's 4 steps"):
        ctrl.sample(model, late)


def test_many_recipes_at_once_agree_with_single_runs(model):
    many = [ON, ON.replace(prompt="a hat", seed=8, aligned=ctrl.StyleAligned(FOX.replace(prompt="a cat", seed=4)))]
    for recipe, shot in zip(many, ctrl.sample_many(model, many), strict=True):
        alone = np.asarray(ctrl.sample(model, recipe).image).astype(int)
        assert np.abs(np.asarray(shot.image).astype(int) - alone).max() <= 1


def test_it_is_part_of_json_code_difference_and_activity(model, tmp_path):
    recipe = RECIPE.replace(aligned=ctrl.StyleAligned(FOX.replace(styles=[ctrl.Style(OTHER)]), ctrl.hold(1, until=0.7)))
    assert ctrl.Recipe.from_json(recipe.to_json()) == recipe
    text, pictures = recipe.to_parts()
    assert ctrl.Recipe.from_json(text, {one.sha256: b64decode(one.to_base64()) for one in pictures}) == recipe
    names = {"ctrl": ctrl}
    exec(recipe.code(tmp_path / "recipe.py"), names)
    assert names["recipe"] == recipe
    assert [change.step for change in RECIPE.diff(recipe, model)] == [0]
    longer = recipe.replace(aligned=ctrl.StyleAligned(recipe.aligned.reference, 1.0))
    assert [(change.words[:17], change.step) for change in recipe.diff(longer, model)] == [("aligned's weight ", 2)]
    assert {one.name: one.steps for one in activity(model, recipe)}["aligned"] == (0, 1)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: ctrl.Recipe("a", aligned=FOX), r"aligned must be StyleAligned\(...\) or None, got Recipe"),
        (lambda: ctrl.StyleAligned("a fox"), "reference must be a Recipe or a Shot, got str"),
        (lambda: ctrl.StyleAligned(ON), "reference must not be aligned itself"),
        (lambda: ctrl.StyleAligned(FOX, scale=1.0), "here that is weight"),
        (lambda: ctrl.Recipe("a", style_aligned=FOX), "here that is aligned"),
    ],
)
def test_what_is_wrong_is_said(wrong, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        wrong()
