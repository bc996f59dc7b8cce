"""Who decided a place: the shares are those of the network's own output, and sum to 1."""

import numpy as np
import pytest
import torch

import ctrl
from ctrl.maps.influence import MODEL, REST
from ctrl.memory import Memory
from ctrl.sampling.loop import _drain
from ctrl.sampling.run import Run

rng = np.random.default_rng(0)
MAP, INK, OTHER = (rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(3))
LEFT = np.zeros((64, 64), np.uint8)
LEFT[:, :32] = 255
WATCH = ctrl.Watch(influence=True, history=True)
RECIPE = ctrl.Recipe("a red ball", steps=3, seed=7, negative="dark")
FULL = RECIPE.replace(
    prompt="a (red:1.4) ball",
    controls=[ctrl.Depth(MAP, 0.7), ctrl.Pose(ctrl.Skeleton.named("waving"), ctrl.hold(0.5, until=0.5))],
    styles=[ctrl.Style([INK, OTHER], 0.6, mask=LEFT)],
    regions=[ctrl.Region("a dog", 255 - LEFT)],
    loras=[ctrl.Lora("lcm", 0.5)],
)


@pytest.fixture(scope="module")
def shot(model):
    return ctrl.sample(model, FULL, watch=WATCH)


def test_splitting_changes_no_bit(model, shot):
    assert np.array_equal(np.asarray(shot.image), np.asarray(ctrl.sample(model, FULL).image))


def test_shares_of_all_parties_sum_to_one_everywhere(shot):
    split = shot.attention.influence
    assert split.ok and split.error < 1e-5
    assert set(split.parties) == {"words", REST, "style 0", "region 0", f"region 0: {REST}", MODEL}
    assert np.allclose(sum(split.parties.values()), 1, atol=1e-5)
    words = sum(split[word.text].heat for word in shot.attention.words())
    assert np.allclose(words, split.parties["words"], atol=1e-6)


def test_a_style_acts_within_its_mask_and_a_region_within_its_own(shot):
    parties = shot.attention.influence.parties
    assert abs(parties["style 0"][:, 11:]).max() < 0.05 * abs(parties["style 0"][:, :6]).max()
    assert abs(parties["region 0"][:, :6]).max() == 0 < abs(parties["region 0"][:, 9:]).max()


def test_the_split_is_of_what_the_block_really_adds(model):
    """By hand: words' part of one site's features after it, from hooks on diffusers' own modules."""
    run = Run.of(
        model, [RECIPE.replace(steps=1)], Memory(), watch=ctrl.Watch(influence=True, layers="mid_block", smallest=1)
    )
    block = model.unet.mid_block.attentions[0].transformer_blocks[0]
    heard = {}
    handles = [
        block.norm2.register_forward_pre_hook(lambda m, a: heard.update(stream=a[0])),
        block.norm3.register_forward_pre_hook(lambda m, a: heard.update(after=a[0])),
        block.attn2.register_forward_hook(lambda m, a, out: heard.update(out=out)),
    ]
    try:
        shot = _drain(run, model)[0]
    finally:
        for handle in handles:
            handle.remove()
    stream, after, out = (heard[name][1].double() for name in ("stream", "after", "out"))  # the row of cond
    bias = block.attn2.to_out[0].bias.double()
    share = ((out - bias) * after).sum(-1) / (after**2).sum(-1)  # of the text as a whole
    split = shot.attention.influence
    means = {key.source: mean for key, (mean, _) in split.means.items()}
    got = means["prompt"].sum(0) + means[f"prompt: {REST}"][0]
    assert np.allclose(got.ravel(), share.numpy(), atol=1e-5)
    model_share = ((stream + bias) * after).sum(-1) / (after**2).sum(-1)
    assert np.allclose(means[MODEL][0].ravel(), model_share.numpy(), atol=1e-5)


def test_a_word_that_weighs_nothing_decides_nothing(model):
    split = ctrl.sample(model, RECIPE.replace(prompt="a (red:0) ball"), watch=WATCH).attention.influence
    assert abs(split["red"].heat).max() == 0 < abs(split["ball"].heat).max()


def test_controls_are_shares_of_the_skips(model, shot):
    controls = shot.attention.influence.controls
    assert set(controls) == {"depth 0", "pose 1"} or set(controls) == {"pose 0", "depth 1"}
    stronger = ctrl.sample(model, FULL.replace(controls=[ctrl.Depth(MAP, 1.4)]), watch=WATCH)
    one = ctrl.sample(model, FULL.replace(controls=[ctrl.Depth(MAP, 0.7)]), watch=WATCH)
    strong, weak = (each.attention.influence.controls["depth 0"].mean() for each in (stronger, one))
    assert strong > weak > 0
    assert ctrl.sample(model, RECIPE, watch=WATCH).attention.influence.controls == {}


def test_each_step_has_its_shares(shot):
    steps = shot.attention.influence.by_step()
    assert sorted(steps) == [0, 1, 2]
    assert all(sum(parties.values()) == pytest.approx(1, abs=1e-4) for parties in steps.values())


def test_who_decided_a_place_has_a_map_of_every_step(shot):
    split = shot.attention.influence
    whole, word = split.party(MODEL), split["red"]
    assert np.array_equal(whole.heat, split.parties[MODEL]) and sorted(whole.steps) == [0, 1, 2]
    each = [sum(split.party(name).steps[step] for name in split.parties) for step in whole.steps]
    assert np.allclose(each, 1, atol=1e-4)
    assert np.allclose(np.mean(list(word.steps.values()), axis=0), word.heat, atol=1e-6)
    pose, depth = sorted(split.controls, reverse=True)
    assert sorted(split.party(depth).steps) == [0, 1, 2] and sorted(split.party(pose).steps) == [0]
    assert whole.code() == "shot.attention.influence.party('the model itself')" and whole.strip().width > 64
    with pytest.raises(KeyError, match=r"name must be one of words, .*got 'cat'"):
        split.party("cat")


def test_a_place_is_asked_who_decided_it(shot):
    split = shot.attention.influence
    ranked = dict(split.at((10, 10)))
    assert sum(ranked.values()) == pytest.approx(1, abs=1e-4)
    assert next(iter(ranked)) == max(ranked, key=ranked.get)
    assert split.decided("red", "ball").width == 64
    every = split.decided(*split.parties)
    assert every.height == 64 + 18 * len(split.parties)
    with pytest.raises(KeyError, match=r"'style 7' is not in .* The parties are words, .*style 0"):
        split.decided("style 7")
    assert split["red"].code() == "shot.attention.influence.map('red')"


def test_a_word_that_was_not_watched_has_no_influence_that_is_made_up(model):
    split = ctrl.sample(model, RECIPE, watch=ctrl.Watch(words=["red"], influence=True)).attention.influence
    with pytest.raises(KeyError, match="'ball' was not watched"):
        _ = split["ball"]
    ranked = dict(split.at((10, 10)))
    assert set(ranked) == {"red", REST, MODEL} and sum(ranked.values()) == pytest.approx(1, abs=1e-4)
    assert split.decided().width == 64


def test_a_split_that_fails_its_check_is_not_shown(shot):
    from dataclasses import replace

    broken = replace(shot.attention.influence, error=0.1)
    for show in (
        lambda: broken.parties, lambda: broken["red"], broken.by_step, broken.decided, lambda: broken.at((1, 1))
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match="fails its check"):
            show()
    with pytest.raises(ValueError, match="influence=True"):
        _ = replace(shot.attention, split=None).influence


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_split_too(folder, dtype):
    model = ctrl.load(folder, device="cpu", dtype=dtype)
    assert ctrl.sample(model, RECIPE, watch=WATCH).attention.influence.ok
