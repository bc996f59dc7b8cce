"""Watching a run: the maps are true, the picture is the same to the bit, and what is held does not grow."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import ctrl
from ctrl.attention import Hooks, Source, Term, tap
from ctrl.images import png_text
from ctrl.maps.check import Check
from ctrl.maps.collect import Collector
from ctrl.maps.shares import shares
from ctrl.memory import Memory
from ctrl.rows import Rows
from ctrl.sampling.loop import _drain
from ctrl.sampling.run import Run

rng = np.random.default_rng(0)
MAP, INK, OTHER = (rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(3))
LEFT = np.zeros((64, 64), np.uint8)
LEFT[:, :32] = 255
RECIPE = ctrl.Recipe("a red ball", steps=4, seed=7)
POSE = ctrl.Pose(ctrl.Skeleton.named("waving"), 0.8)
WATCH = ctrl.Watch()

CASES = {
    "plain": RECIPE,
    "guidance off": RECIPE.replace(guidance=1.0),
    "negative": RECIPE.replace(negative="dark"),
    "not square": RECIPE.replace(width=96, height=64),
    "several chunks": RECIPE.replace(prompt="a red ball on green grass at sunset, and a dog"),
    "weights": RECIPE.replace(prompt="a (red:1.4) ball"),
    "controls": RECIPE.replace(controls=[POSE, ctrl.Depth(MAP, ctrl.hold(0.5, until=0.5))]),
    "control first": RECIPE.replace(controls=[replace(POSE, mode="control first")]),
    "two style pictures": RECIPE.replace(styles=[ctrl.Style([INK, OTHER], 0.6, mask=LEFT)]),
    "two styles": RECIPE.replace(styles=[ctrl.Style(INK, 0.6), ctrl.Style(OTHER, 0.4)]),
    "regions": RECIPE.replace(regions=[ctrl.Region("a dog", LEFT)]),
    "perturbed": RECIPE.replace(guidance=ctrl.Guidance(5.0, perturb=[ctrl.PAG(3.0)])),
    "image to image": RECIPE.replace(image=MAP, strength=0.6),
    "inpainting": RECIPE.replace(image=MAP, mask=LEFT),
    "lora": RECIPE.replace(loras=[ctrl.Lora("lcm", 0.5)]),
} | {sampler: RECIPE.replace(sampler=sampler) for sampler in ("euler a", "heun", "dpm++ sde", "pndm", "lcm")}


@pytest.fixture(scope="module")
def seen(model):
    """The shots of all cases, watched."""
    return {name: ctrl.sample(model, recipe, watch=ctrl.Watch(history=True)) for name, recipe in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_watching_is_bit_equal_to_not_watching(model, seen, case):
    assert np.array_equal(np.asarray(ctrl.sample(model, CASES[case]).image), np.asarray(seen[case].image))


@pytest.mark.parametrize("case", CASES)
def test_shares_times_values_rebuild_the_network_s_output(seen, case):
    receipt = seen[case].attention.receipt
    assert receipt.ok and receipt.error < 1e-5
    assert receipt.checked
    assert {site.split(".")[0] for site in receipt.checked} == {site.split(".")[0] for site in receipt.seen}


@pytest.mark.parametrize("case", CASES)
def test_every_word_has_a_map_on_the_latent_grid_in_shares(seen, case):
    attention = seen[case].attention
    width, height = seen[case].image.size
    assert attention.cells == (height // 4, width // 4)
    total = 0
    for word in attention.words():
        heat = attention[word.text, word.occurrence].heat
        assert heat.shape == attention.cells and heat.dtype == np.float32
        assert heat.min() >= 0 and heat.max() > 0
        total = total + heat
    assert total.max() <= 1 + 1e-5


def brute(model, recipe, step_of=lambda step: True):
    """Every cond row's shares (sites, steps) as numpy, by an observer of its own."""
    found = []

    def observe(call, terms):
        [term] = [term for term in terms if term.source == Source("prompt")]
        if call.site.startswith("unet.up_blocks") and min(call.height, call.width) >= 8 and step_of(call.step):
            q, k = (tensor[list(call.rows.cond)].double() for tensor in (term.q, term.k))
            share = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1).mean(1)
            found.append(share.transpose(1, 2).unflatten(-1, (call.height, call.width)))

    run = Run.of(model, [recipe], Memory(), [observe])
    _drain(run, model)
    grids = [torch.nn.functional.interpolate(one, size=found[-1].shape[-2:], mode="bilinear") for one in found]
    return torch.stack(grids).mean(0)[0].numpy()


@pytest.mark.parametrize("case", ["plain", "guidance off", "not square", "several chunks", "negative"])
def test_a_map_is_the_mean_of_softmax_over_heads_sites_and_steps(model, seen, case):
    recipe, attention = CASES[case], seen[case].attention
    whole = brute(model, recipe)
    for word in attention.words():
        positions = attention.text().between(word.start, word.end)
        assert np.allclose(attention[word.text, word.occurrence].heat, whole[list(positions)].sum(0), atol=1e-6)


def test_a_part_of_the_run_is_watched_alone(model):
    recipe = RECIPE.replace(steps=6)
    attention = ctrl.sample(model, recipe, watch=ctrl.Watch(steps=(0.5, 1))).attention
    late = brute(model, recipe, lambda step: step >= 3)[[2, 3, 4]].sum(0)
    assert attention.receipt.steps == (3, 4, 5)
    assert np.allclose(attention["red"].heat, late, atol=1e-6)
    assert not np.allclose(ctrl.sample(model, recipe, watch=WATCH).attention["red"].heat, late, atol=1e-6)


def test_the_negative_prompt_and_regions_have_maps_of_their_own(seen):
    negative = seen["negative"].attention
    assert negative.map("dark", source="negative").heat.max() > 0
    regions = seen["regions"].attention
    dog, ball = regions.map("dog", source="region 0").heat, regions["ball"].heat
    assert dog[:, :8].min() > 0 and dog[:, 9:].max() == 0  # outside its mask a region acts on nothing
    assert ball[:, :7].max() == 0 and ball[:, 8:].min() > 0  # and inside it the prompt acts on nothing


def test_changing_the_negative_prompt_changes_no_row_of_the_prompt_s_first_step(model):
    maps = [
        ctrl.sample(model, RECIPE.replace(negative=negative, steps=1), watch=WATCH).attention["red"].heat
        for negative in ("dark", "bright")
    ]
    assert np.array_equal(*maps)


def test_pictures_of_a_style_are_told_apart(seen):
    two = seen["two style pictures"].attention
    both = two.style(0, 0).heat + two.style(0, 1).heat
    assert np.allclose(both[:, :4], 1, atol=1e-5)  # of all the style's tokens, where its mask lets it act
    assert not np.allclose(two.style(0, 0).heat, two.style(0, 1).heat, atol=1e-4)
    each = sum(two.style(0, 1, token=token).heat for token in range(4))
    assert np.allclose(each, two.style(0, 1).heat, atol=1e-6)
    assert {"style 0", "style 1"} <= set(seen["two styles"].attention.sources)


def test_styles_and_regions_keep_the_numbers_of_their_recipe(model):
    """A step has them sorted by content and without those that are off."""
    styles = [ctrl.Style(INK, ctrl.hold(0.6, until=0.5)), ctrl.Style(OTHER, ctrl.hold(0.4, start=0.5)), ctrl.Style(MAP)]
    regions = [ctrl.Region("a dog", LEFT), ctrl.Region("a cat", 255 - LEFT)]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        recipe = RECIPE.replace(styles=[styles[at] for at in order], regions=regions)
        attention = ctrl.sample(model, recipe, watch=ctrl.Watch(history=True)).attention
        steps = [sorted(attention.style(number, token=1).steps) for number in range(3)]
        assert [steps[order.index(at)] for at in range(3)] == [[0, 1], [2, 3], [0, 1, 2, 3]]
    for order in (regions, regions[::-1]):
        attention = ctrl.sample(model, RECIPE.replace(regions=order, steps=1), watch=WATCH).attention
        dog, cat = (order.index(region) for region in regions)
        assert attention.map("dog", source=f"region {dog}").heat[:, 9:].max() == 0
        assert attention.map("cat", source=f"region {cat}").heat[:, 9:].min() > 0


def test_a_controlnet_s_own_attention_is_a_component(seen):
    attention = seen["controls"].attention
    assert set(attention.components) == {"unet", "pose", "depth"}
    assert attention.map("red", component="pose").heat.max() > 0
    assert attention.receipt.seen["depth.down_blocks.0.attentions.0.transformer_blocks.0.attn2"] == 2  # of 4 steps


def test_rows_are_labelled(seen):
    assert seen["plain"].attention.receipt.rows == ("uncond", "cond")
    assert seen["guidance off"].attention.receipt.rows == ("cond",)
    assert seen["perturbed"].attention.receipt.rows == ("uncond", "cond", "perturbed")


def test_perturbed_rows_are_not_watched(model, seen):
    plain = CASES["perturbed"].replace(guidance=5.0, steps=1)
    one, other = (
        ctrl.sample(model, recipe.replace(steps=1), watch=WATCH).attention["red"].heat
        for recipe in (CASES["perturbed"], plain)
    )
    assert np.allclose(one, other, atol=1e-6)


def test_the_receipt_says_what_was_missed_and_why(seen):
    receipt = seen["controls"].attention.receipt
    assert len(receipt.seen) + len(receipt.missed) == 10 + 4 + 4
    assert receipt.missed["unet.mid_block.attentions.0.transformer_blocks.0.attn2"] == "not in up_blocks"
    assert receipt.missed["unet.up_blocks.0.attentions.0.transformer_blocks.0.attn2"] == "4×4 cells"
    assert receipt.steps == (0, 1, 2, 3) and "4 of 4 steps" in str(receipt)


def test_each_picture_of_a_batch_has_its_own(model):
    recipes = [RECIPE, RECIPE.replace(prompt="a blue dog", seed=8)]
    run = Run.of(model, recipes, Memory(), watch=WATCH)
    shots = _drain(run, model)
    for shot, recipe in zip(shots, recipes, strict=True):
        alone = ctrl.sample(model, recipe, watch=WATCH)
        for word in shot.attention.words():
            assert np.allclose(shot.attention[word.text].heat, alone.attention[word.text].heat, atol=1e-4)
    with pytest.raises(KeyError, match="'red' is not in 'a blue dog'"):
        shots[1].attention["red"]


@pytest.mark.slow
def test_parts_of_a_batch_keep_the_numbers_of_their_own_recipe(model):
    """Sorted by content, the second recipe's parts come in another order than the first's."""
    right = 255 - LEFT
    recipes = [
        RECIPE.replace(
            styles=[ctrl.Style(one, 0.6, mask=LEFT), ctrl.Style([other, MAP], 0.6, mask=LEFT)],
            regions=[ctrl.Region("a dog", LEFT), ctrl.Region("a cat", right, 0.5)][:: 1 if one is INK else -1],
        )
        for one, other in ((INK, OTHER), (OTHER, INK))
    ]
    for shot, recipe in zip(ctrl.sample_many(model, recipes, watch=ctrl.Watch(influence=True)), recipes, strict=True):
        alone = ctrl.sample(model, recipe, watch=ctrl.Watch(influence=True))
        together = shot.attention
        assert set(together.sources) == set(alone.attention.sources)
        for number in range(2):
            assert together.text(f"region {number}").text == recipe.regions[number].prompt
            word = recipe.regions[number].prompt.split()[1]
            pair = [one.map(word, source=f"region {number}").heat for one in (together, alone.attention)]
            assert np.allclose(*pair, atol=1e-4)
            assert np.allclose(together.style(number).heat, alone.attention.style(number).heat, atol=1e-4)
        parties = together.influence.parties
        for name, share in alone.attention.influence.parties.items():
            assert np.allclose(parties[name], share, atol=1e-3), name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_watched_in_float32(folder, dtype):
    model = ctrl.load(folder, device="cpu", dtype=dtype)
    shot = ctrl.sample(model, RECIPE, watch=WATCH)
    assert shot.attention["red"].heat.dtype == np.float32
    assert shot.attention.receipt.ok
    assert np.array_equal(np.asarray(shot.image), np.asarray(ctrl.sample(model, RECIPE).image))


@pytest.mark.slow
def test_what_is_held_does_not_grow_with_the_steps(model):
    held = [ctrl.sample(model, RECIPE.replace(steps=steps), watch=WATCH).attention.receipt.bytes for steps in (8, 24)]
    assert held[0] == held[1]
    letters = len("aredball")
    cells = letters * (16 * 16 + 8 * 8)
    assert held[0] == 4 * (cells + 256 * 256)  # words, and self-attention


SD_15 = [("unet.up_blocks.1", 16), ("unet.up_blocks.2", 32), ("unet.up_blocks.3", 64)]
CONTROLNET = [*((f"pose.down_blocks.{at}", 64 >> at) for at in range(3)), ("pose.mid_block", 8)]


def test_a_full_prompt_of_sd_1_5_at_512_pixels_holds_at_most_10_mb():
    """The collector itself, fed calls of the sizes of SD 1.5 and a ControlNet: 75 words, uncond and cond."""
    text = ctrl.maps.Text.of("w " * 75, [(1 + at, 2 * at, 2 * at + 1) for at in range(75)])
    site = ctrl.attention.Site("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2", "cross", None, None)
    collector = Collector(WATCH, [site], [{"prompt": text, "negative": text}], 5)
    draw = torch.Generator().manual_seed(0)
    rows = Rows(pictures=1, guided=True)
    for step in range(5):
        for block, side in (*SD_15, *CONTROLNET):
            q, k = torch.randn(2, 2, side**2, 4, generator=draw), torch.randn(2, 2, 77, 4, generator=draw)
            name = f"{block}.attentions.0.transformer_blocks.0.attn2"
            call = ctrl.attention.Call(name, q, k, k, side, side, rows=rows, step=step)
            collector.cross(call, [Term(q, k, k)])
            if block == "unet.up_blocks.1":
                own = replace(call, k=q, v=q, kind="self")
                collector.self_attention(own, [Term(q, q, q, source=Source("self"))])
    places = sum(side**2 for _, side in (*SD_15, *CONTROLNET))
    assert collector.bytes == 4 * (2 * 75 * places + 256**2)
    assert collector.bytes <= 10e6


@pytest.mark.slow
def test_watching_sd_1_5_at_512_pixels_adds_at_most_one_percent_of_its_arithmetic():
    """Multiplications of a U-Net of SD 1.5's shape on the meta device, guidance on, over 20 steps."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        inputs = torch.zeros(2, 4, 64, 64), torch.zeros(()), torch.zeros(2, 77, 768)
    places = ctrl.attention.sites(unet, kind="all")
    text = ctrl.maps.Text.of("w " * 75, [(1 + at, 2 * at, 2 * at + 1) for at in range(75)])

    def flops(watch, step):
        collector = Collector(watch, places, [{"prompt": text, "negative": text}], 20)
        hooks = Hooks(observers=collector.observers, rows=Rows(pictures=1, guided=True), step=step)
        with torch.no_grad(), FlopCounterMode(display=False) as counter, tap(places, hooks):
            unet(*inputs)
        return counter.get_total_flops()

    plain = flops(ctrl.Watch(steps=(0.9, 1.0)), 0)
    assert plain == pytest.approx(2 * 803.3e9, rel=0.01)
    often = [flops(ctrl.Watch(every=1), step) for step in range(1, 5)]
    assert often[3] > often[2] == often[0] > plain  # self-attention is read in every fourth step
    assert np.mean(often) / plain - 1 < 0.01, (often, plain)
    assert [flops(WATCH, step) for step in (0, 2, 3, 7)] == [often[3], plain, often[2], often[3]]


def test_a_history_is_bytes_within_half_a_byte_of_the_shares(model):
    shot = ctrl.sample(model, RECIPE, watch=ctrl.Watch(history=True))
    steps = shot.attention["red"].steps
    assert sorted(steps) == [0, 1, 2, 3]
    mean = np.mean([steps[step] for step in steps], axis=0)
    assert np.abs(mean - shot.attention["red"].heat).max() < 0.5 / 255 * 3 + 0.02
    assert ctrl.sample(model, RECIPE, watch=WATCH).attention["red"].steps == {}


@pytest.mark.slow
def test_self_attention_is_on_at_most_512_places_and_its_rows_sum_to_one(model, seen):
    between = seen["plain"].attention.ground.between
    assert between.shape == (256, 256) and np.allclose(between.sum(1), 1, atol=1e-5)
    wide = seen["not square"].attention.ground
    assert wide.grid == (16, 24) and wide.between.shape == (384, 384)
    large = ctrl.sample(model, RECIPE.replace(width=256, height=256, steps=1), watch=WATCH).attention.ground
    assert large.grid == (16, 16) and np.allclose(large.between.sum(1), 1, atol=1e-4)


def test_pooled_self_attention_is_what_the_large_matrix_gives():
    from ctrl.maps.between import _pooled

    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, 30 * 26, 4, generator=draw) for _ in "qk")
    got = _pooled(Term(q, k, k), [0], (30, 26), 4)
    large = shares(Term(q, k, k), [0]).mean(1)[0].reshape(30, 26, 30, 26)
    edges = [slice(at, at + 4) for at in range(0, 32, 4)]
    across = edges[:7]
    want = [[large[y, x][..., j, i].sum((2, 3)).mean() for j in edges for i in across] for y in edges for x in across]
    assert torch.allclose(got[0], torch.tensor(want), atol=1e-6)


def test_planted_weights_give_the_planted_mask(folder):
    """Queries and keys set so that one token looks at one part of the picture: IoU 1."""
    model = ctrl.load(folder, device="cpu")
    place = 2  # the first letter of "red"

    def queries(module, args, out):
        side = round(out.shape[1] ** 0.5)
        planted = torch.zeros_like(out).unflatten(1, (side, side))
        planted[:, side // 4 : side // 2, side // 2 :] = 3.0
        return planted.flatten(1, 2)

    def keys(module, args, out):
        planted = torch.zeros_like(out)
        planted[:, place : place + 3] = 3.0
        return planted

    for site in model.denoiser.sites:
        if site.kind == "cross":
            site.module.to_q.register_forward_hook(queries)
            site.module.to_k.register_forward_hook(keys)
    watch = ctrl.Watch(smallest=16, self_attention=False)
    attention = ctrl.sample(model, RECIPE, watch=watch).attention
    true = np.zeros((16, 16), bool)
    true[4:8, 8:] = True
    heat = attention["red"].heat
    assert np.array_equal(heat > heat.max() / 2, true)
    mask = np.asarray(attention["red"].mask(0.5, refine=False).resize((16, 16), Image.Resampling.BOX)) >= 128
    assert np.array_equal(mask, true)


def test_maps_that_fail_their_check_are_not_shown(model, monkeypatch):
    true = Check.of
    monkeypatch.setattr(Check, "of", lambda self, call, terms: true(self, call, [replace(t, k=2 * t.k) for t in terms]))
    attention = ctrl.sample(model, RECIPE, watch=WATCH).attention
    assert not attention.receipt.ok and "failed" in str(attention)
    for show in (lambda: attention["red"], lambda: attention.grid(), lambda: attention.at((3, 3))):
        with pytest.raises(RuntimeError, match="fail their check"):
            show()


READ = (0, 3, 7, 11, 15, 19)  # of 20 steps


def test_every_fourth_step_is_read_and_of_short_runs_five_at_least(model):
    shot = ctrl.sample(model, RECIPE.replace(steps=20), watch=WATCH)
    assert shot.attention.receipt.steps == READ and "6 of 20 steps" in str(shot.attention.receipt)
    assert WATCH.weights(20) == {0: 2, 3: 3.5, 7: 4, 11: 4, 15: 4, 19: 2.5}
    assert [*WATCH.weights(4)] == [0, 1, 2, 3] and [*WATCH.weights(8)] == [0, 1, 3, 5, 7]
    for all_steps in (ctrl.Watch(every=1), ctrl.Watch(history=True), ctrl.Watch(influence=True)):
        assert ctrl.sample(model, RECIPE.replace(steps=20), watch=all_steps).attention.receipt.steps == tuple(range(20))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 9), st.integers(1, 60))
def test_the_steps_that_are_read_stand_for_all_of_the_part(one, other, every, count):
    assume(one != other)
    watch = ctrl.Watch(steps=(min(one, other), max(one, other)), every=every)
    part = [step for step in range(count) if watch.steps[0] * count <= step < watch.steps[1] * count]
    part = part or ([count - 1] if watch.steps[1] == 1 else [])  # the end of a run has its last step
    weights = watch.weights(count)
    read = list(weights)
    assert sum(weights.values()) == len(part) and set(part[-1:] + part[:1]) <= set(read) <= set(part)
    assert len(read) >= min(5, len(part))
    assert all(after - before <= every for before, after in itertools.pairwise(read))
    line = {step: 2.0 * step - 7 for step in part}  # what lies on a line has the mean of all
    assert sum(weights[step] * line[step] for step in read) == pytest.approx(sum(line.values()), abs=1e-6)
    assert [step for step in range(-1, count + 2) if watch.acts(step, count)] == read
    within = [step for step in range(-1, count + 2) if watch.reads_self_attention(step, count)]
    assert set(within) <= set(read) and within[:1] + within[-1:] == part[:1] + part[-1:]
    assert all(after - before < 4 + every for before, after in itertools.pairwise(within))
    assert all(after - before >= 4 for before, after in itertools.pairwise(within[:-1]))


def test_means_over_steps_weigh_a_step_by_what_it_stands_for(model):
    recipe = RECIPE.replace(steps=8)
    third, each = (ctrl.sample(model, recipe, watch=ctrl.Watch(every=every)).attention for every in (3, 1))
    alone = [
        ctrl.sample(model, recipe, watch=ctrl.Watch(steps=(step / 8, (step + 1) / 8))).attention["red"].heat
        for step in range(8)
    ]
    weights = {0: 1, 1: 1.5, 3: 2, 5: 2, 7: 1.5}
    expected = sum(alone[step] * weight for step, weight in weights.items()) / 8
    assert np.allclose(third["red"].heat, expected, atol=1e-7)
    assert not np.array_equal(third["red"].heat, each["red"].heat)


def test_what_acts_between_the_steps_that_are_read_is_said_to_need_all(model):
    recipe = RECIPE.replace(steps=20, styles=[ctrl.Style(INK, ctrl.hold(0.5, start=0.2, until=0.3))])
    with pytest.raises(KeyError, match=r"in the 6 of 20 steps that were read; Watch\(every=1\) reads all; got 0"):
        ctrl.sample(model, recipe, watch=WATCH).attention.style(0)
    assert ctrl.sample(model, recipe, watch=ctrl.Watch(every=1)).attention.style(0).heat.max() > 0


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2", None])
def test_every_is_a_whole_number_of_steps(every):
    with pytest.raises(ValueError, match="every must be a whole number of steps, 1 or more, got"):
        ctrl.Watch(every=every)


def test_watch_chooses_words_layers_heads_and_steps(model):
    attention = ctrl.sample(
        model,
        RECIPE.replace(controls=[POSE]),
        watch=ctrl.Watch(words="red", layers="mid_block", smallest=1, heads=[1], steps=(0.5, 1), components="unet"),
    ).attention
    assert [word.text for word in attention.words()] == ["red"]
    assert attention.layers() == ("mid 4×4",)
    assert attention.components == ("unet",)
    assert attention.receipt.steps == (2, 3)
    with pytest.raises(KeyError, match=r"'ball' was not watched: .* names red"):
        attention["ball"]


NOT_WATCHES = [
    (lambda: ctrl.Watch(smallest=0), ValueError, "smallest must be a whole number of cells"),
    (lambda: ctrl.Watch(smallest=32, largest=8), ValueError, "smallest must not exceed largest"),
    (lambda: ctrl.Watch(heads=[-1]), TypeError, "heads must be a list of numbers"),
    (lambda: ctrl.Watch(words=[3]), TypeError, "words must be a list of names"),
    (lambda: ctrl.Watch(steps=(0.5, 0.5)), ValueError, "steps must be a pair"),
    (lambda: ctrl.Watch(steps=3), TypeError, "steps must be a pair"),
    (lambda: ctrl.Watch(history="yes"), TypeError, "history must be True or False"),
]


@pytest.mark.parametrize(("make", "error", "says"), NOT_WATCHES)
def test_a_watch_that_cannot_be_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_a_watch_that_would_see_nothing_is_refused_before_the_first_step(model):
    with pytest.raises(TypeError, match=r"watch must be a ctrl.Watch"):
        ctrl.sample(model, RECIPE, watch=3)
    with pytest.raises(ValueError, match="words: 'dog' is in none of the texts that are read: 'a red ball'"):
        ctrl.steps(model, RECIPE, watch=ctrl.Watch(words=["red", "dog"]))
    for layers in ("up_blocks.9", ["up_blocks.1", "up_blocks.9"]):
        with pytest.raises(
            ValueError, match=r"layers: no cross-attention is in 'up_blocks.9'; there is some in down_bl"
        ):
            ctrl.steps(model, RECIPE, watch=ctrl.Watch(layers=layers))
    with pytest.raises(ValueError, match=r"components: no network that runs here is named pose; there is unet\."):
        ctrl.steps(model, RECIPE, watch=ctrl.Watch(components="pose"))


@pytest.mark.parametrize(
    "watch", [ctrl.Watch(smallest=32), ctrl.Watch(heads=(99,)), ctrl.Watch(smallest=32, influence=True)]
)
def test_a_run_of_which_nothing_was_read_says_why(model, watch):
    attention = ctrl.sample(model, RECIPE, watch=watch).attention
    for draw in (lambda: attention["red"], attention.grid, lambda: attention.at((3, 3))):
        with pytest.raises(
            RuntimeError,
            match=r"no cross-attention was read.*layers left out: not in up_blocks, 4×4 cells, (8|it has 4)",
        ):
            draw()
    if watch.influence:
        with pytest.raises(RuntimeError, match="no cross-attention of the U-Net was split; give"):
            attention.influence.at((3, 3))


def test_where_only_a_controlnet_was_watched_its_maps_are_given(model):
    recipe = RECIPE.replace(controls=[POSE])
    both, pose = (ctrl.sample(model, recipe, watch=ctrl.Watch(components=one)).attention for one in (None, ["pose"]))
    heat = pose["red"]
    assert np.array_equal(heat.heat, both.map("red", component="pose").heat) and pose.component == "pose"
    assert heat.code() == "shot.attention.map('red')" and pose.layers() == both.layers("pose")
    assert pose.grid().width > 64 and pose.at((3, 3)).words and pose.stack().layers == pose.layers()


def test_steps_show_what_was_seen_so_far(model):
    seen = [step.attention.receipt.steps for step in ctrl.steps(model, RECIPE, watch=WATCH)]
    assert seen == [(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]
    assert next(ctrl.steps(model, RECIPE)).attention is None
    assert ctrl.sample(model, RECIPE).attention is None


def test_a_place_is_asked_for_its_words_and_where_it_attends(seen):
    attention = seen["plain"].attention
    place = attention.at((20, 30))
    share = dict((word.text, share) for word, share in place.words)
    assert share == pytest.approx({word: float(attention[word].heat[7, 5]) for word in share}, rel=1e-4)
    assert [share for _, share in place.words] == sorted(share.values(), reverse=True)
    assert np.allclose(place.attends.heat.ravel(), attention.ground.between[7 * 16 + 5], atol=1e-6)
    box, mask = attention.at((0, 0, 32, 64)), attention.at(LEFT)
    assert box.words == mask.words
    for point in (np.array([20, 30]), [np.int64(20), np.float32(30)]):  # as argmax and mice give them
        assert attention.at(point).words == place.words
    with pytest.raises(TypeError, match="got the map of 'red'; give its mask"):
        attention.at(attention["red"])
    for wrong in ((64, 0), (0, 0, 0, 5), np.zeros((64, 64), np.uint8)):
        with pytest.raises(ValueError, match="place"):
            attention.at(wrong)


def test_what_is_drawn_is_pil_at_the_picture_s_size(seen):
    shot = seen["not square"]
    heat = shot.attention["red"]
    for image in (heat.overlay(), heat.image(), heat.contour(), heat.mask(0.4), heat.mask(0.4, refine=False)):
        assert image.size == shot.image.size
    assert heat.mask().mode == "L" and set(np.unique(heat.mask())) <= {0, 255}
    assert heat.where.shape == (64, 96)
    assert shot.attention.grid("red", "ball", columns=2).width > shot.attention.grid("red", "ball", columns=1).width
    assert heat.strip().mode == "RGB"
    with pytest.raises(ValueError, match="colours must be one of"):
        heat.overlay(colours="jet")
    with pytest.raises(ValueError, match="history=True"):
        replace(heat, steps={}).strip()


WRONG = [
    (
        lambda heat: heat.mask("half"),
        TypeError,
        "threshold must be a number from 0 to 1, which is the map's highest value, got 'half'",
    ),
    (lambda heat: heat.mask(1.5), ValueError, "threshold must be a number from 0 to 1"),
    (lambda heat: heat.overlay(most=-1), ValueError, "most must be a number above 0, the value drawn at the end"),
    (lambda heat: heat.image(most="all"), TypeError, "most must be a number above 0"),
    (
        lambda heat: heat.overlay(strength=7),
        ValueError,
        "which is full colour, got 7",
    ),
    (lambda heat: heat.strip(count=0), ValueError, "count must be a whole number of steps, 1 or more, got 0"),
    (lambda heat: heat.gif("red.gif", milliseconds=0), ValueError, "milliseconds must be a whole number"),
    (lambda heat: heat.save("red.jpg"), ValueError, "path must end in .png"),
]


@pytest.mark.parametrize(("draw", "error", "says"), WRONG)
def test_what_cannot_be_drawn_is_said_in_a_sentence(seen, draw, error, says):
    with pytest.raises(error, match=says):
        draw(seen["plain"].attention["red"])
    with pytest.raises(ValueError, match="columns must be a whole number of pictures side by side"):
        seen["plain"].attention.grid("red", columns=0)


def test_a_map_that_is_the_same_everywhere_makes_no_mask_of_its_rounding(model, seen):
    """A style's only picture has all of the style's attention."""
    style = ctrl.sample(model, RECIPE.replace(styles=[ctrl.Style(INK)]), watch=WATCH).attention.style()
    for draw in (style.mask, style.contour, lambda: style.mask(refine=False)):
        with pytest.raises(
            ValueError, match=r"'style 0, picture 0' is 1 everywhere.*ask one token, style\(0, token=0\)"
        ):
            draw()
    red = seen["plain"].attention["red"]
    with pytest.raises(ValueError, match=r"the map of 'red' is 0 everywhere, so there is no place to mask\.$"):
        replace(red, heat=0 * red.heat).mask()


def test_a_mask_of_a_map_is_a_mask_of_a_recipe(model, seen):
    mask = seen["plain"].attention["red"].mask(0.4)
    assert ctrl.sample(model, RECIPE.replace(styles=[ctrl.Style(INK, 0.5, mask=mask)])).image.size == (64, 64)


def test_code_makes_the_map_again(seen):
    for case, make in {
        "plain": lambda a: a["red"],
        "negative": lambda a: a.map("dark", source="negative", layers=("up 16×16",)),
        "two style pictures": lambda a: a.style(0, 1, token=2),
        "weights": lambda a: a.at((20, np.int64(30))).attends,
        "not square": lambda a: a.at((0, 0, 9, 9.5)).attends,
        "lora": lambda a: a.at(LEFT).attends,
    }.items():
        shot = seen[case]
        heat = make(shot.attention)
        again = eval(heat.code(), {"shot": shot, "place": LEFT})
        assert np.array_equal(again.heat, heat.heat) and again.code() == heat.code()


def test_maps_of_one_seed_are_compared_and_of_two_refused(model, seen, tmp_path):
    plain, lora = (seen[case].attention["red"] for case in ("plain", "lora"))
    difference = lora - plain
    assert np.array_equal(difference.heat, lora.heat - plain.heat)
    assert np.array_equal((plain - plain).heat, np.zeros((16, 16)))
    assert difference.overlay().size == (64, 64) and (plain - plain).overlay().size == (64, 64)
    assert repr(difference) == "Difference('red − red', unit='share of attention')"
    assert difference.figure().axes[0].get_title() == "red − red"
    difference.save(tmp_path / "lora.png")
    settings = json.loads(png_text((tmp_path / "lora.png").read_bytes(), "ctrl-attention"))
    assert settings["of"]["code"] == settings["minus"]["code"] == "shot.attention.map('red')"
    assert settings["most"] == pytest.approx(np.abs(difference.heat).max())
    with pytest.raises(ValueError, match="maps must have one unit, got 'share of what' and 'share of attention'"):
        _ = plain - replace(plain, unit="share of what")
    other = ctrl.sample(model, RECIPE.replace(seed=8), watch=WATCH).attention["red"]
    with pytest.raises(ValueError, match="compared on one seed"):
        _ = other - plain


def test_files_carry_their_settings(seen, tmp_path):
    attention = seen["plain"].attention
    files = attention.save(tmp_path / "maps", "red", ("ball", 0))
    assert [file.name for file in files] == ["00 red.png", "01 ball.png"]
    settings = json.loads(png_text(files[0].read_bytes(), "ctrl-attention"))
    assert settings["code"] == "shot.attention.map('red')" and settings["unit"] == "share of attention"
    assert settings["receipt"] == str(attention.receipt) and attention["red"].receipt is attention.receipt
    attention["red"].gif(tmp_path / "red.gif")
    with Image.open(tmp_path / "red.gif") as gif:
        assert json.loads(gif.info["comment"])["map"] == "red"
        assert gif.n_frames == 4


def test_a_figure_leaves_pyplot_alone(seen):
    import sys

    figure = seen["plain"].attention["red"].figure()
    assert figure.axes[0].get_title() == "red"
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in sys.modules


def test_a_prompt_without_words_has_nothing_to_draw(model, tmp_path):
    attention = ctrl.sample(model, RECIPE.replace(prompt=""), watch=WATCH).attention
    assert attention.receipt.ok and attention.words() == ()
    for draw in (attention.grid, lambda: attention.save(tmp_path)):
        with pytest.raises(ValueError, match="the prompt '' has no word with a map: there is nothing to draw"):
            draw()
    with pytest.raises(ValueError, match="the prompt '' has no word with a map: there is nothing to show"):
        attention.stack()


def test_the_mean_of_all_steps_is_that_of_a_history(model):
    for steps in (3, 4, 7):
        shot = ctrl.sample(model, RECIPE.replace(steps=steps), watch=ctrl.Watch(history=True))
        heat = shot.attention["red"]
        each = [heat.steps[step] for step in range(steps)]
        assert np.allclose(heat.heat, np.mean(each, axis=0), atol=2e-3)
