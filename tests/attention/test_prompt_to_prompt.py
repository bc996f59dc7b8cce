"""Prompt-to-Prompt: the published formulae on explicit probabilities, and what an edit leaves as it was."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from variety import BLACK, LEFT, PLAIN, few, recipes, run, with_guidance

import ctrl
from ctrl.attention import At, Hooks, Record, ReplacedSelf, ReplacedWords, WordWeights, sites, tap
from ctrl.live.active import activity
from ctrl.maps import Text
from ctrl.rows import Rows
from ctrl.sampling.alignment import Tokens, matrix, pairs, text_of
from ctrl.sampling.local_blend import Blending
from ctrl.sweeps.tree import Maker

PAIR = Rows(pictures=1, guided=True)
TOKENS, LONGER, WIDTH = 24, 48, 32
draw = torch.Generator().manual_seed(4)
SAMPLE, OTHER = (torch.randn(2, 8, 16, 8, generator=draw) for _ in range(2))
SOURCE = torch.randn(2, LONGER, WIDTH, generator=draw)  # of another number of tokens
EDITED = torch.randn(2, TOKENS, WIDTH, generator=draw)
MATRIX = torch.rand(1, LONGER, TOKENS, generator=draw).round()  # M
SHARE = torch.rand(1, TOKENS, generator=draw)  # α
BEFORE = PLAIN.replace(steps=3, negative="blue")
AFTER = BEFORE.replace(prompt="a blue ball")
NOTHING = {"cross": 0, "self_attention": 0}
EDIT = ctrl.Edit("a red ball", words={"blue": ctrl.hold(1.0, until=0.4)}, blend="ball")


def asked(unet, sample, prompt, *edits, observers=(), rows=PAIR):
    """By site the call and the output of one evaluation."""
    seen = {}

    def observe(call, terms):
        return lambda out: seen.__setitem__(call.site, (call, out))

    every = [*observers, At(observe, kind="cross"), At(observe, kind="self")]
    with torch.no_grad(), tap(sites(unet, kind="all"), Hooks(edits, every, rows=rows)):
        unet(sample, torch.tensor(500), prompt, return_dict=False)
    return seen


@pytest.fixture(scope="module")
def source(model):
    """One evaluation of the source: its record, and its calls by site."""
    record = Record()
    return record, asked(model.unet, OTHER, SOURCE, observers=record.observers("cross", "self"))


def probabilities(call, row=1):
    return torch.softmax(call.q[row].double() @ call.k[row].double().mT / call.q.shape[-1] ** 0.5, -1)


def agree(out, expected):
    assert (out.double() - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("share", [SHARE, SHARE.round(), torch.ones_like(SHARE)])
def test_words_attend_as_published_and_reweighting_too(model, source, share):
    record, theirs = source
    weights = 1 + torch.rand(2, TOKENS, generator=draw)
    edit = ReplacedWords(record, PAIR, MATRIX * share[:, None], 1 - share)
    seen = asked(model.unet, SAMPLE, EDITED, WordWeights(weights), edit)
    for site in sites(model.unet):
        call, out = seen[site.name]
        mapped = probabilities(theirs[site.name][0]) @ MATRIX[0].double()
        attention = mapped * share[0].double() + probabilities(call) * (1 - share[0].double())
        agree(out[1], (attention * weights[1].double()) @ call.v[1].double())
        agree(out[0], (probabilities(call, 0) * weights[0].double()) @ call.v[0].double())  # the negative prompt's


def test_one_term_is_enough_where_all_is_replaced_and_no_negative_prompt_is_read(model):
    alone, record = Rows(pictures=2, guided=False), Record()
    theirs = asked(model.unet, OTHER, SOURCE, observers=record.observers("cross"), rows=alone)
    counted = []
    edit = ReplacedWords(record, alone, MATRIX, torch.zeros(1, TOKENS), whole=True)
    count = [lambda _, terms: counted.append(len(terms))]
    seen = asked(model.unet, SAMPLE, EDITED, edit, observers=count, rows=alone)
    assert set(counted) == {1}
    site = sites(model.unet)[0].name
    for row in (0, 1):
        call, out = seen[site]
        agree(out[row], probabilities(theirs[site][0], row) @ MATRIX[0].double() @ call.v[row].double())


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_places_attend_as_in_the_source_in_layers_of_few_places(model, source, share):
    record, theirs = source
    seen = asked(model.unet, SAMPLE, EDITED, At(ReplacedSelf(record, PAIR, share, 32), kind="self"))
    sizes = set()
    for site in (site for site in sites(model.unet, kind="self")):
        call, out = seen[site.name]
        few_places = call.height * call.width <= 32
        sizes.add(few_places)
        attention = probabilities(call)
        if few_places:
            attention = share * probabilities(theirs[site.name][0]) + (1 - share) * attention
        agree(out[1], attention @ call.v[1].double())
        agree(out[0], probabilities(call, 0) @ call.v[0].double())
    assert sizes == {True, False}


def tokens(model, prompt):
    encoded = model.text.encode(prompt)
    return Tokens(text_of(model.text, prompt), encoded.states.shape[1], encoded.states.shape[1] // encoded.chunks)


def published_replacement(model, old, new):
    """The authors' mapper for prompts of equally many words, of which some are exchanged, as far as the words go."""
    mine, theirs = tokens(model, old), tokens(model, new)
    mapper = torch.zeros(mine.count, theirs.count)
    for left, right in zip(old.split(), new.split(), strict=True):
        before, after = mine.text.positions([left]), theirs.text.positions([right])
        if len(before) == len(after):
            mapper[before, after] = 1
        else:
            mapper[np.ix_(before, after)] = 1 / len(after)
    return mapper


@pytest.mark.parametrize(
    ("old", "new"), [("a red ball", "a blue ball"), ("the cat sat", "my cat ran"), ("one two", "three four")]
)
def test_exchanged_words_stand_for_those_before_as_published(model, old, new):
    found = torch.tensor(matrix(pairs(tokens(model, old), tokens(model, new), replace=True), 24, 24))
    words = [at for at in tokens(model, new).text.positions(None)]
    assert torch.equal(found[:, words], published_replacement(model, old, new)[:, words])
    assert found[0, 0] == found[23, 23] == 1 and found[:, 0].sum() == 1


def test_what_is_added_or_refined_attends_by_itself(model):
    old, new = tokens(model, "a ball, on sand"), tokens(model, "a big ball, on sand")
    for replace in (True, False):
        found = torch.tensor(matrix(pairs(old, new, replace=replace), 24, 24))
        assert found[:, new.text.positions(["big"])].sum() == 0
        for word in ("a", "ball", "on", "sand"):
            assert (found[:, new.text.positions([word])].sum(0) == 1).all()
            assert found[np.ix_(old.text.positions([word]), new.text.positions([word]))].sum() == len(word)
    swapped = tokens(model, "a ball, on snow")
    refined = torch.tensor(matrix(pairs(old, swapped, replace=False), 24, 24))
    assert refined[:, swapped.text.positions(["snow"])].sum() == 0


def test_an_end_stands_for_the_end_and_padding_for_the_same_padding(model):
    old, new = tokens(model, "red"), tokens(model, "red ball")
    found = torch.tensor(matrix(pairs(old, new, replace=True), 24, 24))
    assert found[4, 8] == 1  # EOS
    assert all(found[at, at] == 1 for at in range(9, 24))
    assert found[:, 4:8].sum() == 0


@given(recipes(), st.sampled_from([NOTHING, {"on": False}, NOTHING | {"cross": ctrl.hold(0, until=0.5)}]))
@few(4)
def test_off_is_bit_equal_to_absent(model, recipe, off):
    other = recipe.replace(edit=ctrl.Edit("a hat", **off))
    assert other == recipe and other.hash == recipe.hash
    assert torch.equal(run(model, other), run(model, recipe))


@given(recipes(), st.sampled_from(["replace", "refine"]), st.sampled_from([None, "ball"]))
@few(5)
def test_on_composes_with_everything_and_leaves_the_model_as_it_was(model, recipe, exchanged, blend):
    before = run(model, PLAIN)
    recipe = with_guidance(recipe, zero=None, nag=ctrl.NAG(ctrl.hold(4.0, until=0.5)))
    edited = recipe.replace(prompt="a (blue:1.2) ball", edit=ctrl.Edit("a red ball", exchanged=exchanged, blend=blend))
    shot = ctrl.sample(model, edited, watch=ctrl.Watch(smallest=1, influence=True))
    assert shot.image == ctrl.sample(model, edited).image
    assert shot.attention.receipt.ok and shot.attention.influence.ok
    assert torch.equal(run(model, PLAIN), before)


def test_the_prompt_itself_with_all_attention_replaced_is_the_source(model):
    same = BEFORE.replace(edit=ctrl.Edit(BEFORE.prompt, cross=1.0, self_attention=1.0))
    assert (run(model, same) - run(model, BEFORE)).abs().max() < 1e-5
    assert any("nothing to edit" in note for note in ctrl.sample(model, same).notes)


def test_a_source_s_notes_are_those_of_a_prompt(model):
    edit = ctrl.Edit(" ".join(["((ball))", *["a"] * 200]))
    found = [note for note in ctrl.sample(model, AFTER.replace(edit=edit)).notes if "the edit's source" in note]
    assert len(found) == 2 and "did not see: " in found[0] and "'((ball))' is read as (ball:1.21)" in found[1]
    off = BEFORE.replace(edit=ctrl.Edit("((ball))", on=False))
    assert not [note for note in ctrl.sample(model, off).notes if "the edit's source" in note]


def test_words_are_seen_where_they_attend_in_the_edit(model):
    watch = ctrl.Watch(smallest=1, self_attention=False)
    edit = ctrl.Edit(BEFORE.prompt, cross=1.0, self_attention=1.0)
    theirs = ctrl.sample(model, BEFORE, watch=watch).attention
    edited = ctrl.sample(model, BEFORE.replace(prompt="a fed ball", edit=edit), watch=watch).attention
    assert np.allclose(edited["fed"].heat, theirs["red"].heat, atol=5e-3)
    assert edited.receipt.ok


def test_outside_the_words_that_blend_the_latents_are_the_sources(model):
    plain = [step.latents for step in ctrl.steps(model, BEFORE)]
    edit = ctrl.Edit("a red ball", blend=ctrl.LocalBlend("ball", threshold=0.999))  # random weights attend evenly
    edited = [step.latents for step in ctrl.steps(model, AFTER.replace(edit=edit))]
    changed = [(mine != theirs).any(1).float().mean() for mine, theirs in zip(edited, plain, strict=True)]
    assert 0 < changed[-1] < 1
    late = ctrl.Edit("a red ball", blend=ctrl.LocalBlend("ball", start=0.7))
    early, *_ = ctrl.steps(model, AFTER.replace(edit=late))
    assert (early.latents != plain[0]).float().mean() > 0.9


def test_a_mask_says_where_the_picture_may_change(model):
    plain, black, left = run(model, BEFORE), ctrl.Edit("a red ball", mask=BLACK), ctrl.Edit("a red ball", mask=LEFT)
    assert torch.equal(run(model, AFTER.replace(edit=black))[::2], plain[::2])
    assert any("mask is black all over" in note for note in ctrl.sample(model, AFTER.replace(edit=black)).notes)
    edited = run(model, AFTER.replace(edit=left))[::2]
    assert torch.equal(edited[..., 4:], plain[::2, :, :, 4:]) and not torch.equal(edited[..., :4], plain[::2, :, :, :4])
    recipe = AFTER.replace(edit=left)
    assert ctrl.Recipe.from_json(recipe.to_json()) == recipe != AFTER.replace(edit=black)


def test_the_mask_is_the_published_one_over_both_maps():
    one, two = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    one[..., 0, 0], one[..., 3, 3], two[..., 0, 3] = 1.0, 0.2, 5.0
    texts = [Text.of("ball", [(1, 0, 4)])]
    blending = Blending(ctrl.LocalBlend("ball", threshold=0.3), (texts, texts), (4, 4), 10, [one, two])
    expected = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert torch.equal(blending.mask()[0, 0], expected)
    mine, theirs = torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    assert torch.equal(blending(mine, theirs, 1), mine)  # before its start
    assert torch.equal(blending(mine, theirs, 2)[0, 0], expected.float())


def test_a_run_goes_on_from_any_step_to_the_same_bits(model):
    edited = AFTER.replace(edit=EDIT)
    steps = list(ctrl.steps(model, edited))
    for step in steps[:-1]:
        again = list(ctrl.steps(model, edited, after=pickle.loads(pickle.dumps(step.checkpoint))))
        assert torch.equal(again[-1].latents, steps[-1].latents)
    with pytest.raises(ValueError, match="has no edit"):
        list(ctrl.steps(model, AFTER, after=steps[0]))
    with pytest.raises(ValueError, match="has an edit"):
        list(ctrl.steps(model, edited, after=next(ctrl.steps(model, AFTER))))


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_steps_of_zero_init_ask_neither_prompt_and_a_blend_waits_for_maps(model, start):
    edit = ctrl.Edit("a red ball", blend=ctrl.LocalBlend("ball", start=start))
    whole = AFTER.replace(edit=edit, aligned=ctrl.StyleAligned(ctrl.Recipe("a fox")))
    held = whole.replace(guidance=ctrl.Guidance(4.0, zero=ctrl.CFGZero(1)))
    steps = list(ctrl.steps(model, held))
    assert torch.equal(list(ctrl.steps(model, held, after=steps[0]))[-1].latents, steps[-1].latents)
    assert not torch.equal(run(model, held), run(model, AFTER.replace(guidance=held.guidance)))


@pytest.mark.slow
def test_runs_that_share_steps_or_predictions_are_bit_equal_to_fresh_ones(model):
    late = ctrl.Edit("a red ball", cross=ctrl.hold(1, until=0.4), words=EDIT.words, blend="ball")
    aligned = ctrl.StyleAligned(ctrl.Recipe("a fox"))
    whole = [AFTER.replace(edit=edit, guidance=weight) for edit in (EDIT, late) for weight in (4.0, 5.0)]
    whole += [AFTER.replace(aligned=aligned, guidance=weight) for weight in (4.0, 5.0)]
    make, spared = Maker(model), 0
    for recipe in whole:
        made = make(recipe)
        spared += made.alone - made.evaluations
        assert made.shot.image == ctrl.sample(model, recipe).image
    assert spared > 0


def test_a_step_costs_two_evaluations_and_each_sees_its_own_rows(model):
    calls = []
    handle = model.unet.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    try:
        ctrl.sample(model, AFTER.replace(edit=EDIT))
    finally:
        handle.remove()
    assert calls == [2] * 2 * AFTER.steps


def test_many_recipes_at_once_agree_with_single_runs(model):
    other = ctrl.Edit("my ball", words=EDIT.words, blend="ball")
    many = [AFTER.replace(edit=EDIT), AFTER.replace(prompt="my blue ball", seed=9, edit=other)]
    for recipe, shot in zip(many, ctrl.sample_many(model, many), strict=True):
        alone = np.asarray(ctrl.sample(model, recipe).image).astype(int)
        assert np.abs(np.asarray(shot.image).astype(int) - alone).max() <= 1


def test_it_is_part_of_json_code_difference_hash_and_activity(model):
    recipe = AFTER.replace(edit=EDIT)
    assert ctrl.Recipe.from_json(recipe.to_json()) == recipe and recipe.hash != AFTER.hash
    names = {"ctrl": ctrl}
    exec(recipe.code(), names)
    assert names["recipe"] == recipe
    times = model.times(recipe.sampler, recipe.spacing, recipe.steps)
    assert [recipe.at(index, times).edit.cross for index in range(3)] == [1.0, 1.0, 0.0]
    other = recipe.replace(edit=ctrl.Edit("a red ball", blend="ball"))
    assert [change.words[:12] for change in recipe.diff(other, model)] == ["edit's words"]
    late = recipe.replace(edit=ctrl.Edit("a red ball", cross=ctrl.hold(1, until=0.4), words=EDIT.words, blend="ball"))
    assert [change.step for change in recipe.diff(late, model)] == [1]
    active = {one.name: one.steps for one in activity(model, recipe)}
    assert active["edit.cross"] == (0, 1) and active["edit.self_attention"] == (0,)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda model: ctrl.Recipe("a", edit="b"), r"edit must be Edit\(...\) or None, got str"),
        (lambda model: ctrl.Edit("a", cross=2.0), "cross must be a number from 0 to 1"),
        (lambda model: ctrl.Edit("a", exchanged="swap"), "exchanged 'swap' is unknown"),
        (lambda model: ctrl.Edit("a", cross_replace_steps=0.8), "here that is cross=hold"),
        (lambda model: ctrl.Edit("a", words=["blue"]), "words must map words to weights"),
        (lambda model: ctrl.Edit("a", blend=[]), "blend must be 1 to"),
        (lambda model: ctrl.sample(model, AFTER.replace(edit=ctrl.Edit("a", words={"hat": 1.0}))), "'hat' is not in"),
        (lambda model: ctrl.sample(model, AFTER.replace(edit=ctrl.Edit("a", blend="hat"))), "'hat' is in neither"),
    ],
)
def test_what_is_wrong_is_said(model, wrong, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        wrong(model)
