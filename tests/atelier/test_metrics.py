"""Every measure against a case worked out by hand, and every measure failing where it should."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ctrl.atelier import measure, quality, words
from ctrl.atelier.asked import named, placed
from ctrl.atelier.bench import Bench, Seen, alike, other, restyled, sighted
from ctrl.atelier.captions import describe
from ctrl.atelier.edges import edges_of
from ctrl.atelier.eyes import DENSE, Eyes
from ctrl.atelier.metrics import (
    Estimate,
    edge_f1,
    estimate,
    figure_height,
    iou,
    pck,
    points_at,
    psnr,
    ranks,
    ratio,
    sharpness,
    spearman,
    spread,
)
from ctrl.atelier.reading import NOTHING, Facts, compare, facts_of, parse
from ctrl.atelier.scene import EVALUATION_SEEDS, STYLES, sample
from ctrl.atelier.table import BEGIN, END, Row, Table, rewrite
from ctrl.atelier.verdict import judge
from ctrl.skeleton import Skeleton


def test_psnr():
    true = np.zeros((3, 4, 4))
    assert psnr(true + 0.1, true) == pytest.approx(20.0)  # -10 log10(0.01)
    assert psnr(true, true) == math.inf
    assert psnr(1 - true, true) == pytest.approx(0.0)


def test_sharpness_is_the_mean_step_between_neighbours():
    stripes = np.zeros((3, 4, 4))
    stripes[:, :, ::2] = 1.0
    assert sharpness(stripes) == pytest.approx(0.5)  # 1 across and 0 down
    assert sharpness(stripes * 0.6) == pytest.approx(0.3)
    assert sharpness(np.ones((3, 4, 4))) == 0.0


def test_an_interval_that_is_not_known_is_not_shown():
    assert str(Estimate(1.0, math.nan, math.nan, 3)) == "1.00"
    assert str(Estimate(1.0, 0.5, 1.5, 3)) == "1.00 [0.50, 1.50]"


def test_a_ratio_is_of_means_and_its_interval_holds_it():
    found, true = np.array([1.0, 3.0, 2.0]), np.array([2.0, 2.0, 4.0])
    value = ratio(found, true)
    assert value.mean == pytest.approx(0.75) and value.count == 3
    assert value.low < 0.75 < value.high
    assert ratio(true / 2, true).low == ratio(true / 2, true).high == pytest.approx(0.5)


def test_the_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(400, 3))
    scale = true.std(0) + 1e-6
    assert quality.frechet(true, true, scale) == pytest.approx(0.0, abs=1e-9)
    assert quality.frechet(true + scale * [2.0, 0, 0], true, scale) == pytest.approx(4.0, abs=1e-6)
    wider = (true - true.mean(0)) * 3 + true.mean(0)
    assert quality.frechet(wider, true, scale) == pytest.approx(3 * (3 - 1) ** 2, rel=1e-3)  # (3 - 1)^2 in each of 3


def test_a_classifier_takes_like_for_like_and_tells_unlike_apart():
    rng = np.random.default_rng(0)
    true, like = rng.normal(size=(64, 20)), rng.normal(size=(64, 20))
    assert 0.3 < quality.taken_as_true(like, true).mean() < 0.7
    assert quality.taken_as_true(like + 3, true).mean() < 0.05


def test_textures_tell_a_blurred_picture_from_a_sharp_one():
    torch.manual_seed(0)
    sharp = torch.rand(2, 3, 64, 64)
    soft = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2)
    a, b = quality.textures(Eyes().eval(), torch.cat([sharp, soft])).reshape(2, 2, -1)
    assert np.abs(a.mean(0) - b.mean(0)).max() > 10 * np.abs(a[0] - a[1]).mean()


def test_a_figure_is_placed_if_its_middle_and_its_height_are_near():
    asked = np.zeros((1, 18, 2))
    asked[0, :, 1] = np.linspace(0.2, 0.7, 18)
    seen = np.ones((1, 18), bool)
    assert placed(asked, asked, seen).tolist() == [1.0]
    assert placed(asked + np.array([0.049, 0.0]), asked, seen).tolist() == [1.0]
    assert placed(asked + np.array([0.051, 0.0]), asked, seen).tolist() == [0.0]
    assert placed((asked - 0.45) * 1.2 + 0.45, asked, seen).tolist() == [0.0]  # a tenth of the picture taller
    assert math.isnan(placed(asked, asked, ~seen)[0])


def test_a_prompt_that_names_everything_names_colours_whatever_the_style():
    scene = replace(sample(5), style="blueprint")
    text, plain = named(scene), describe(scene, seed=scene.seed).text
    asked = parse(text)
    assert asked.style is None and asked.shirt == scene.shirt and asked.time == scene.time
    assert scene.shirt not in plain and "render" not in text


def test_all_right_is_not_the_mean():
    facts = parse(ASKED)
    one, other = facts, replace(facts, ground="snow")
    seeing = Seen(torch.zeros(2, 3, 8, 8), np.zeros((2, 18, 2)), np.zeros((2, 64, 64)), (one, other))
    asked = [facts, facts]
    assert seeing.all_right(asked).tolist() == [1.0, 0.0]
    assert 0.5 < seeing.accuracy(asked)[1] < 1.0


def test_edges_are_judged_at_the_size_the_eyes_read():
    pictures = torch.rand(2, 3, 256, 256)
    assert torch.allclose(sighted(pictures), torch.nn.functional.avg_pool2d(pictures, 2), atol=1e-6)
    assert sighted(pictures[..., :64, :64]).shape == (2, 3, 64, 64)


def test_pck_counts_visible_joints_within_a_tenth_of_the_height():
    true = np.zeros((18, 2))
    true[:, 1] = np.linspace(0.2, 0.7, 18)  # half a picture tall, so 0.05 is the limit
    assert figure_height(true) == pytest.approx(0.5)
    found, visible = true.copy(), np.ones(18, bool)
    assert pck(found, true, visible) == 1.0
    found[:9, 0] += 0.049
    assert pck(found, true, visible) == 1.0
    found[:9, 0] += 0.002
    assert pck(found, true, visible) == 0.5
    visible[:9] = False
    assert pck(found, true, visible) == 1.0
    assert math.isnan(pck(found, true, np.zeros(18, bool)))
    assert pck(found + 1, true, visible) == 0.0


def test_spearman_by_hand():
    assert ranks(np.array([30.0, 10.0, 20.0, 20.0])).tolist() == [4.0, 1.0, 2.5, 2.5]
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert spearman(a**3, a) == pytest.approx(1.0)  # only the order counts
    assert spearman(-a, a) == pytest.approx(-1.0)
    assert spearman(np.array([2.0, 1.0, 4.0, 3.0, 5.0]), a) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert spearman(np.ones(5), a) == 0.0


def test_edge_f1_by_hand():
    true = np.zeros((20, 20), np.uint8)
    true[10] = 255
    near, far = np.roll(true, 2, 0), np.roll(true, 3, 0)
    assert edge_f1(true, true) == edge_f1(near, true) == 1.0
    assert edge_f1(far, true) == 0.0
    assert edge_f1(true | far, true) == pytest.approx(2 * 0.5 / 1.5)  # half the found edges are right, none missing
    assert edge_f1(np.zeros_like(true), true) == 0.0
    assert edge_f1(true * 0, true * 0) == 1.0
    assert edge_f1(np.full_like(true, 255), true) < 0.45  # painting everything does not pay


def test_iou_and_pointing_by_hand():
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    heat = np.zeros((8, 8))
    heat[2:4, 2:6] = [1.0, 0.9, 0.6, 0.4]  # the last column is under half
    assert iou(heat, mask) == pytest.approx(4 / 6)
    assert points_at(heat, mask)
    heat[0, 4] = 2.0
    assert not points_at(heat, mask)  # two rows above
    heat[1, 4] = 3.0
    assert points_at(heat, mask)  # touching
    assert iou(np.zeros((8, 8)), mask) == 0.0
    assert iou(np.ones((8, 8)), mask) == pytest.approx(4 / 64)


def test_spread():
    assert spread(np.array([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx(5.0)
    assert spread(np.zeros((3, 2))) == 0.0


def test_an_estimate_leaves_out_what_cannot_be_asked_and_knows_how_sure_it_is():
    values = np.array([0.0, 1.0, np.nan, 1.0, 0.0])
    found = estimate(values)
    assert (found.mean, found.count) == (0.5, 4)
    assert found.low < 0.5 < found.high
    assert found == estimate(values)
    tight = estimate(np.tile(values, 50))
    assert tight.high - tight.low < found.high - found.low
    assert estimate(np.array([np.nan])).count == 0


FIGURE = "a figure waving in a red shirt and blue trousers"
ASKED = f"{FIGURE}, a yellow ball on the left, on grass, at sunset, comic book"
SHOWN: Facts = Facts("waving", "red", "blue", "ball", "yellow", NOTHING, None, "grass", "sunset", "comic book")


def test_answers_are_strict():
    answers = {answer.what: answer for answer in compare(parse(ASKED), SHOWN)}
    assert {*answers} == {"pose", "shirt", "trousers", "left prop", "ground", "time", "style"}
    assert all(answer.right for answer in answers.values())

    def wrong(seen):
        return [answer.what for answer in compare(parse(ASKED), seen) if not answer.right]

    assert wrong(replace(SHOWN, pose="pointing")) == ["pose"]
    assert wrong(replace(SHOWN, left_color="red")) == ["left prop"]
    assert wrong(replace(SHOWN, left_kind="drum")) == ["left prop"]
    moved = replace(SHOWN, left_kind=NOTHING, left_color=None, right_kind="ball", right_color="yellow")
    assert wrong(moved) == ["left prop"]
    assert wrong(Facts(*facts_of(sample(1)).values()))


def test_a_prompt_is_read_whoever_wrote_it():
    facts = parse("Ink drawing: someone sitting down, an orange drum to the right, in the snow")
    assert (facts.pose, facts.right_kind, facts.right_color) == (
        "sitting",
        "drum",
        None,
    )  # ink shows no colour
    assert (facts.ground, facts.time, facts.style, facts.left_kind) == ("snow", None, "ink sketch", None)
    assert parse("a cat").values() == (None,) * 10
    assert parse("a wooden pillar").ground is None


def seen(facts, points=None):
    points = np.zeros((18, 2)) if points is None else points
    return Seen(torch.zeros(1, 3, 8, 8), points[None], np.zeros((1, DENSE, DENSE)), (facts,))


def test_a_picture_obeys_or_not():
    skeleton = Skeleton.named("waving")
    assert judge(seen(SHOWN), ASKED, []).obeys is True
    assert judge(seen(SHOWN, skeleton.points), ASKED, [skeleton]).obeys is True
    assert judge(seen(SHOWN, skeleton.points + 0.2), ASKED, [skeleton]).obeys is False
    assert judge(seen(replace(SHOWN, pose="running", shirt="blue")), ASKED, []).obeys is False  # 5 of 7
    assert judge(seen(replace(SHOWN, pose="running")), ASKED, []).obeys is True  # 6 of 7
    assert judge(seen(SHOWN), "a cat", []).obeys is None


def test_shuffled_is_always_another_scenes():
    for count in (2, 3, 16, 64):
        order = [other(i, count) for i in range(count)]
        assert sorted(order) == list(range(count))
        assert all(i != j for i, j in enumerate(order))


def test_the_bench_uses_no_seed_of_training():
    with pytest.raises(ValueError, match="trained on"):
        Bench(None, Eyes(), 4, first_seed=7)
    with pytest.raises(ValueError, match="at least 2"):
        Bench(None, Eyes(), 1)


def test_scenes_alike_share_every_caption():
    scene = sample(EVALUATION_SEEDS + 3)
    twin = alike(scene, EVALUATION_SEEDS + 99)
    assert facts_of(twin) == facts_of(scene)
    assert twin.angles != scene.angles
    assert [scene.style for scene in restyled([scene] * 8)] == [*STYLES]
    for seed in range(30):
        caption = describe(sample(seed), seed=seed)
        silent = parse(describe(sample(seed), seed=seed, styled=False).text)
        assert silent.style is None
        assert replace(parse(caption.text), style=None) == silent


def test_edges_grow_with_the_picture():
    small = np.zeros((128, 128, 3), np.uint8)
    small[40:90, 30:100] = (200, 40, 40)
    one, two = edges_of(small), edges_of(small.repeat(2, 0).repeat(2, 1))
    assert two.shape == (256, 256)
    assert edge_f1(two[::2, ::2] | two[1::2, 1::2], one, reach=1.5) > 0.95
    assert not edges_of(np.full_like(small, 90)).any()


def test_tokens_clauses_and_masks(model):
    text = "a red ball on the left, on sand"
    tokenizer = model.parts.text_encoders[0].tokenizer
    tokens = words.tokens_of(tokenizer, text, 6, 10)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
    assert "".join(pieces[at] for at in tokens).replace("</w>", "") == "ball"
    assert words.tokens_of(tokenizer, "x" * 99 + " ball", 100, 104) == []  # cut
    assert text[slice(*words.clause(text, 6))] == "a red ball on the left"
    part = torch.zeros(32, 32, dtype=torch.uint8)
    part[8:16, 8:16] = 9  # the left prop
    part[20:28, 8:12] = 4  # a shirt, a part of the figure
    assert words.mask_of(part, "left prop", 8).sum() == 4
    assert words.mask_of(part, "figure", 8).sum() == 2
    assert not words.mask_of(part, "right prop", 8).any()


def test_word_maps_can_fail():
    mask = np.zeros((16, 16), bool)
    mask[2:6, 2:6] = True
    away = np.zeros((16, 16))
    away[12:, 12:] = 1.0
    good = words.Found("left prop", mask.astype(float), mask)
    bad = words.Found("left prop", away, mask)
    assert words.scores([[good], [bad], []])[0].tolist()[:2] == [1.0, 0.0]
    assert words.scores([[good, bad]])[1].tolist() == [0.5]
    likely = torch.zeros(1, 11, 32, 32)
    likely[0, 9, 4:12, 4:12] = 0.9  # eyes that see the left prop where it is
    assert words.sighted([[bad]], likely)[0][0].iou == 1.0
    assert words.sighted([[bad]], likely.flip(-1))[0][0].iou == 0.0
    swapped = words.shuffled([[good], [bad]])
    assert (swapped[0][0].iou, swapped[1][0].iou) == (0.0, 1.0)
    assert words.blobs([[bad]])[0][0].points == 0.0


@pytest.mark.slow
def test_the_measure_runs_on_any_model(model):
    torch.manual_seed(0)
    work = measure.Work(Bench(model, Eyes().eval(), 2))
    rows = [measure.codec, measure.maps, measure.quality, measure.regions, measure.placement, measure.styles]
    found = measure.run(work, rows)
    assert found.rows[0].value.mean < 20  # a random codec is no codec, and the table says so
    assert found.rows[0].reached is False
    assert {row.name for row in found.rows if row.reached is False} >= {f"codec PSNR at {work.bench.size} px, dB"}
    names = {row.name for row in found.rows}
    assert {"region: its thing drawn inside", "prompt: share taken for true renders"} <= names
    assert {"pose moved and scaled: placed within 5 % of the picture", "style with colours named, by words"} <= names
    assert {"colours named and no style: drawn as a 3d render", "style with colours named, from a reference"} <= names
    assert not found.notes
    latents, t = measure.words.noised(model, torch.zeros(1, 8, 16, 16), 0.5, 0)
    assert 300 < float(t) < 700
    assert 0.3 < latents.std() < 1.1


def test_check_reads_the_recipe_in_the_picture(tmp_path: Path, monkeypatch, capsys):
    import ctrl

    recipe = ctrl.Recipe(ASKED, controls=[ctrl.Pose(Skeleton.named("waving"))])
    ctrl.Shot(Image.new("RGB", (64, 64)), recipe).save(tmp_path / "out.png")
    monkeypatch.setattr(measure.Seen, "of", lambda *_: seen(SHOWN, Skeleton.named("waving").points))
    assert measure.check(tmp_path / "out.png", Eyes()) == 0
    monkeypatch.setattr(measure.Seen, "of", lambda *_: seen(SHOWN, Skeleton.named("sitting").points))
    assert measure.check(tmp_path / "out.png", Eyes()) == 1
    assert "asked red, seen red" in capsys.readouterr().out


TABLE = Table(
    (
        Row.of("prompt", [Estimate(0.8, 0.7, 0.9, 8), Estimate(0.1, 0, 0.2, 8), None, Estimate(0.9, 0.8, 1, 8)],
               least=0.7, goal=0.95),
        Row("empty", estimate(np.array([])), least=0.5),
        Row.of("distance", [Estimate(3, 2, 4, 8), Estimate(9, 8, 10, 8), None, Estimate(2, 1, 3, 8)]),
    ),
    8, EVALUATION_SEEDS, 1.5, ("lcm is not measured",),
)  # fmt: skip


def test_the_table_in_all_its_forms(tmp_path: Path):
    assert "| prompt | 0.80 [0.70, 0.90] | 0.10 |  | 0.90 | 0.89 | 0.7 | 0.95 |" in TABLE.markdown()
    assert "| distance | 3.00 [2.00, 4.00] | 9.00 |  | 2.00 |  |  |  |" in TABLE.markdown()
    assert "not measured" in TABLE.text() and "| 0.5, missed |" in TABLE.markdown()
    assert Table.read(TABLE.json()).markdown() == TABLE.markdown()
    of_four = Row("half", Estimate(0.5, 0.4, 0.6, 4))
    assert "| half <sub>4</sub> | 0.50" in Table((of_four,), 8, EVALUATION_SEEDS, 1.5).markdown()
    whole = json.loads(TABLE.json())
    assert [row["reached"] for row in whole["rows"]] == [True, False, None]
    assert whole["rows"][1]["value"]["mean"] is None
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    rewrite(readme, TABLE)
    rewrite(readme, TABLE)
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| measure |")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="marks"):
        rewrite(readme, TABLE)
