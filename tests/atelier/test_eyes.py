"""The eyes: what they read has its shapes and sides, their lessons stay true, and they learn."""

import numpy as np
import pytest
import torch

from ctrl.atelier import eyes as sight
from ctrl.atelier import render
from ctrl.atelier.bench import look
from ctrl.atelier.eyes import DENSE, GRID, Eyes, locate
from ctrl.atelier.reading import NOTHING, OPTIONS, facts_of
from ctrl.atelier.scene import sample
from ctrl.atelier.solids import PARTS
from ctrl.train import eyes as stage
from ctrl.train.loop import Budget
from ctrl.train.options import Options
from ctrl.train.pool import Pool, open_pool

COUNT = 8


@pytest.fixture(scope="module")
def pool():
    """The first eight pictures of a training pool, in memory."""
    view = look([sample(i) for i in range(COUNT)], 128)
    return Pool(
        picture=view.picture.mul(255).round().byte().numpy(),
        near=render.disparity(view.depth).mul(255).round().byte().numpy(),
        part=view.part.numpy(),
        keypoints=view.keypoints.numpy(),
        visible=view.visible.numpy(),
        done=np.ones(1, bool),
    )


@pytest.fixture
def lesson(pool):
    return stage.lesson(pool, range(COUNT))


@pytest.mark.parametrize("size", [64, 128, 200])
def test_a_reading_has_its_shapes(size):
    torch.manual_seed(0)
    seen = Eyes().eval().read(torch.rand(3, 3, size, size))
    assert seen.keypoints.shape == (3, 18, 2)
    assert seen.visible.shape == (3, 18)
    assert seen.near.shape == (3, DENSE, DENSE)
    assert seen.part.shape == (3, len(PARTS), DENSE, DENSE)
    assert torch.allclose(seen.part.sum(1), torch.ones(3, DENSE, DENSE), atol=1e-4)
    assert [value.shape[1] for value in seen.facts.values()] == [len(options) for options in OPTIONS.values()]
    for words in seen.words():
        assert (words.left_color is None) == (words.left_kind == NOTHING)
        assert words.pose in OPTIONS.pose


def test_a_reading_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    eyes, pictures = Eyes().eval(), torch.rand(3, 3, 128, 128)
    together, alone = eyes.read(pictures), eyes.read(pictures[1:2])
    assert torch.allclose(together.keypoints[1], alone.keypoints[0], atol=1e-4)
    assert torch.allclose(together.near[1], alone.near[0], atol=1e-4)


def test_a_bump_is_found_where_it_was_put():
    points = torch.rand(4, 18, 2, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    found = locate(stage.bumps(points).log())
    assert (found - points).abs().max() < 0.25 / GRID
    pulled = stage.bumps(points).log()
    pulled[..., 0, 0] = pulled.flatten(2).amax(-1) - 0.5  # a second peak far away
    assert (locate(pulled) - points).abs().max() < 0.25 / GRID


def test_labels_are_only_of_what_can_be_seen():
    scenes = [sample(i) for i in range(40)]
    labels = stage.labels(scenes)
    for row, scene in enumerate(scenes):
        assert (labels.shirt[row] == stage.UNSEEN) == (not scene.shows_color)
        assert (labels.time[row] == stage.UNSEEN) == (not scene.shows_time)
        assert OPTIONS.pose[labels.pose[row]] == scene.pose
        assert OPTIONS.left_kind[labels.left_kind[row]] == facts_of(scene).left_kind
        if labels.left_kind[row] == OPTIONS.left_kind.index(NOTHING):
            assert labels.left_color[row] == stage.UNSEEN


def test_a_mirror_swaps_left_and_right(lesson):
    everyone, nobody = torch.ones(COUNT, dtype=torch.bool), torch.zeros(COUNT, dtype=torch.bool)
    same, turned = stage.mirrored(lesson, nobody), stage.mirrored(lesson, everyone)
    assert torch.equal(same.picture, lesson.picture)
    assert torch.equal(turned.facts.left_kind, lesson.facts.right_kind)
    assert torch.equal(turned.facts.right_color, lesson.facts.left_color)
    assert torch.equal(turned.facts.shirt, lesson.facts.shirt)
    right_wrist, left_wrist = 4, 7
    assert torch.allclose(turned.keypoints[:, right_wrist, 0], 1 - lesson.keypoints[:, left_wrist, 0])
    left, right = PARTS.index("left prop"), PARTS.index("right prop")
    assert torch.equal((turned.part == left).flip(-1), lesson.part == right)
    back = stage.mirrored(turned, everyone)
    assert torch.allclose(back.keypoints, lesson.keypoints, atol=1e-6)
    assert torch.equal(back.part, lesson.part)


def test_a_shift_moves_everything_together(lesson):
    by = torch.tensor([[4, -6]] * COUNT)
    moved = stage.shifted(lesson, by)
    assert torch.equal(moved.picture[..., :-6, 4:], lesson.picture[..., 6:, :-4])
    assert torch.equal(moved.part[..., :-3, 2:], lesson.part[..., 3:, :-2])
    assert torch.allclose(moved.keypoints, lesson.keypoints + torch.tensor([4.0, -6.0]) / 128)
    assert not (moved.visible & ~lesson.visible).any()


def test_roughened_pictures_stay_pictures_and_are_drawn_by_seed(lesson):
    once, again = (stage.roughened(lesson.picture, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(once, again)
    assert 0 <= once.min() <= once.max() <= 1
    assert 0.001 < (once - lesson.picture).abs().mean() < 0.1


def test_the_loss_does_not_ask_what_cannot_be_seen(lesson):
    torch.manual_seed(0)
    raw = Eyes().eval()(lesson.picture)
    unseen = (lesson.facts.shirt == stage.UNSEEN).nonzero().flatten()
    assert len(unseen)
    before = stage.loss(raw, lesson)
    raw.facts.shirt.data[unseen] += torch.arange(7.0) * 10
    assert torch.equal(before, stage.loss(raw, lesson))


@pytest.mark.slow
def test_they_learn(pool):
    torch.manual_seed(0)
    lesson = stage.lesson(pool, range(4))
    eyes = Eyes().train()
    optimizer = torch.optim.AdamW(eyes.parameters(), lr=2e-3)
    losses = []
    for _ in range(20):
        value = stage.loss(eyes(lesson.picture), lesson)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_the_stage_trains_and_saves(tmp_path, pool):
    filled = open_pool(tmp_path / "pool128", 64, 128)
    for name in ("picture", "near", "part", "keypoints", "visible"):
        getattr(filled, name)[:] = np.concatenate([getattr(pool, name)] * (64 // COUNT))
    filled.done[:] = True
    stage.main(Options(runs=tmp_path, size=128, count=64, batch=4, budget=Budget(steps=2)))
    saved = sight.load(tmp_path / "weights" / "eyes")
    assert not any(parameter.requires_grad for parameter in saved.parameters())
    seen = saved.read(torch.rand(1, 3, 128, 128))
    assert torch.isfinite(seen.near).all()


def test_foreign_eyes_are_refused(tmp_path):
    sight.save(Eyes(), tmp_path)
    (tmp_path / "config.json").write_text('{"widths": [1, 2, 3, 4]}')
    with pytest.raises(ValueError, match="channels"):
        sight.load(tmp_path)


@pytest.mark.slow
def test_the_eyes_in_the_package_see():
    exam = stage.Exam.of(24)
    seen = sight.load().read(exam.view.picture)
    truth = [facts_of(scene) for scene in exam.scenes]
    pairs = [
        (word, told)
        for facts, words in zip(truth, seen.words(), strict=True)
        for word, told in zip(facts.values(), words.values(), strict=True)
        if word is not None
    ]
    assert np.mean([word == told for word, told in pairs]) > 0.93
    near = (seen.keypoints - exam.view.keypoints).norm(dim=-1)[exam.view.visible] < 0.05
    assert near.float().mean() > 0.93
