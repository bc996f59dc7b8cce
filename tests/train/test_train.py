"""The recipe: twenty steps of each stage learn something, and a killed run ends where an unbroken one does."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from beside import Operations
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from peft import LoraConfig
from torch import nn

from ctrl.atelier.scene import EVALUATION_SEEDS, sample
from ctrl.train import base, codec, controls, decoder, denoiser, eyes, lcm, muon
from ctrl.train.__main__ import STAGES
from ctrl.train.feed import Batch, Steps, feed
from ctrl.train.loop import Average, Budget, train
from ctrl.train.options import Options
from ctrl.train.pool import Pool, fill, open_pool
from ctrl.train.rows import Rows, choose, mirror
from ctrl.train.team import Team
from ctrl.train.turns import Turn, turn


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return fill(tmp_path_factory.mktemp("pool"), 64, 128)


def fall(loss, module: nn.Module, lr: float, steps: int = 20) -> float:  # type: ignore[no-untyped-def]
    """The loss after some steps over the loss before, both on the same four draws."""

    @torch.no_grad()
    def held() -> float:
        return sum(float(loss(torch.Generator().manual_seed(1000 + i))) for i in range(4))

    optimizer, before = muon.optimizer(module, lr), held()
    for step in range(steps):
        value = loss(torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return held() / before


@dataclass(frozen=True)
class Seen(Batch):
    picture: torch.Tensor


def look(generator: torch.Generator) -> Seen:
    return Seen(torch.randn(4, 3, 8, 8, generator=generator))


def learn(folder: Path, workers: int = 0, killed_after: int = 99) -> nn.Module:
    """Twelve steps of a tiny net, if nothing kills them."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 2))
    average, optimizer, calls = Average(module), muon.optimizer(module, 1e-2), itertools.count()

    def loss(batch: Seen) -> torch.Tensor:
        if next(calls) == killed_after:
            raise KeyboardInterrupt
        return module(batch.picture).square().mean()

    budget = Budget(steps=12)
    train(folder, module, optimizer, look, loss, budget, workers=workers, average=average, save_seconds=0)
    return average.module


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return learn(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_ends_bit_equal_to_one_that_was_not(tmp_path: Path, whole: nn.Module, workers: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, workers, killed_after=7)
    assert not multiprocessing.active_children()
    assert same(whole, learn(tmp_path, workers))
    assert not multiprocessing.active_children()


def test_a_checkpoint_from_before_muon_went_by_groups_is_read(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    optimizer = muon.optimizer(module, 1e-2)
    names = [("momentum",), ("momentum",), ("step", "mean", "square"), ("step", "mean", "square")]
    sizes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    state = optimizer.state_dict()
    state["state"] = {
        i: {name: torch.full(() if name == "step" else sizes[i], 3.0) for name in names[i]} for i in range(4)
    }
    optimizer.load_state_dict(state)
    module(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert [float(optimizer.state[p]["step"]) for p in optimizer.param_groups[1]["params"]] == [4.0, 4.0]


def draws(workers: int, first: int, team: Team, seed: int = 1) -> list[torch.Tensor]:
    batches = feed(Steps(look, seed, team), first, torch.device("cpu"), workers)
    with closing(batches):
        return [next(batches).picture for _ in range(4)]


def test_what_a_step_draws_depends_on_its_number_alone() -> None:
    alone, global_state = draws(0, 0, Team()), torch.get_rng_state()
    ahead, later = draws(2, 0, Team()), draws(0, 2, Team())
    assert all(map(torch.equal, alone, ahead)) and all(map(torch.equal, alone[2:], later))
    assert torch.equal(global_state, torch.get_rng_state())
    both = [draw for pair in zip(draws(0, 0, Team(0, 2)), draws(0, 0, Team(1, 2)), strict=True) for draw in pair]
    assert all(map(torch.equal, alone, both))  # a team shares the draws out
    assert not any(map(torch.equal, alone, draws(0, 0, Team(), seed=2)))


def fails(_: torch.Generator) -> Seen:
    raise OSError("the pool is gone")


@pytest.mark.parametrize("workers", [0, 2])
def test_what_goes_wrong_in_a_worker_is_raised_and_the_others_end(tmp_path: Path, workers: int) -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(OSError, match="the pool is gone"):
        optimizer = torch.optim.SGD(module.parameters())
        train(tmp_path, module, optimizer, fails, lambda batch: batch.picture.sum(), Budget(steps=2), workers=workers)
    assert not multiprocessing.active_children()


def test_workers_read_the_pool(pool: Pool) -> None:
    steps = Steps(eyes.Lessons(pool, 4), 0, Team())
    with closing(feed(steps, 0, torch.device("cpu"), 1)) as batches:
        lesson = next(batches)
    assert torch.equal(lesson.picture, steps[0].picture) and torch.equal(lesson.facts.pose, steps[0].facts.pose)


def test_a_budget_is_steps_or_minutes() -> None:
    assert Budget(steps=10).progress(5, 1e9) == 0.5
    assert Budget(minutes=2).progress(0, 60) == 0.5
    with pytest.raises(ValueError, match="either steps or minutes"):
        Budget()


def test_turns_share_what_is_left_and_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "turns.csv"
    first = turn(path, "codec", 25.0, passed=5.0, share=0.25)
    assert first == Turn("codec", 25.0, 5.0, 5.0)
    assert turn(path, "codec", 25.0, passed=9.0, share=0.25) == first  # after a kill
    assert turn(path, "clip", 25.0, passed=11.0, share=0.5).minutes == 7.0
    assert turn(path, "codec", 50.0, passed=5.0, share=0.25).minutes == 11.25  # the same folder, to go on
    assert turn(path, "late", 25.0, passed=26.0, share=1.0).minutes == 0.0


def test_the_stages_share_the_whole() -> None:
    assert sum(stage.share for stage in STAGES) == pytest.approx(1.0)


def test_muon_moves_by_orthogonal_matrices_each_near_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(16, 64), (64, 16), (16, 16), (16, 64), (8, 64)]
    given = [torch.randn(shape, generator=generator) for shape in shapes]
    for near, matrix in zip(muon.orthogonal(given), given, strict=True):
        values = torch.linalg.svdvals(near)
        assert near.shape == matrix.shape and values.min() > 0.5 and values.max() < 1.4
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(near.flatten(), (u @ vh).flatten(), 0) > 0.95
    assert torch.equal(muon.orthogonal([torch.zeros(4, 8)])[0], torch.zeros(4, 8))


def test_a_step_of_muon_is_few_launches_however_many_matrices_there_are() -> None:
    unet = denoiser.build(8, 192)
    optimizer = muon.optimizer(unet, 1e-3)
    for p in unet.parameters():
        p.grad = torch.full_like(p, 1e-3)
    optimizer.step()  # the first one makes the state
    with Operations() as operations:
        optimizer.step()
    assert operations.launches < 210  # one matrix at a time they were 11,228


def test_a_pool_takes_up_where_it_was_left(pool: Pool, tmp_path: Path) -> None:
    assert pool.ready == 64
    again = open_pool(tmp_path / "new", 64, 128)
    assert again.ready == 0
    with pytest.raises(ValueError, match="evaluation seeds"):
        open_pool(tmp_path / "bad", 64, 128, first_seed=EVALUATION_SEEDS - 1)


def test_a_gpu_draws_several_pieces_at_once_and_the_same_pictures(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", 128, 32, "cpu")
    many = fill(tmp_path / "many", 128, 32, "cpu:0")  # any name but "cpu" draws as on a GPU
    assert one.done.all() and many.done.all()
    assert np.abs(one.picture.astype(int) - many.picture).max() <= 1
    assert (one.part == many.part).all() and (one.visible == many.visible).all()


def test_the_codec_learns(pool: Pool) -> None:
    torch.manual_seed(0)
    model = codec.build(128)

    def loss(g: torch.Generator) -> torch.Tensor:
        lesson = codec.Lesson(codec.crops(pool, 4, 32, g, 64), torch.randn(4, 8, 4, 4, generator=g))
        return codec.loss(model, lesson.picture, lesson.noise)

    assert fall(loss, model, 4e-3) < 0.95


def test_normalised_latents_have_mean_0_and_variance_1_and_decode_the_same(pool: Pool) -> None:
    torch.manual_seed(0)
    model = codec.build(128).eval()
    with torch.no_grad():
        picture = torch.from_numpy(pool.picture[:16]).float() / 127.5 - 1
        before = model.decode(model.encode(picture).latent_dist.mode()).sample
        codec.normalise(model, pool, 16)
        latents = model.encode(picture).latent_dist.mode()
        after = model.decode(latents).sample
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(8), atol=1e-3)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(8), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-3)


def _latents(channels: int = 8) -> np.ndarray:
    smooth = torch.randn(64, 2, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    return (
        nn.functional.interpolate(smooth.flatten(0, 1), size=16, mode="bilinear").view(64, 2, channels, 16, 16).numpy()
    )


def test_the_denoiser_learns(pool: Pool) -> None:
    torch.manual_seed(0)
    unet, latents = denoiser.build(8, 32), _latents()

    def loss(g: torch.Generator) -> torch.Tensor:
        clean = base.Source(pool, latents, None).clean(choose(pool, 4, g))
        return denoiser.loss(denoiser.called(unet), denoiser.noised(clean, g), torch.zeros(4, 5, 32))

    assert fall(loss, unet, 2e-3) < 0.95


@pytest.mark.parametrize("kind", controls.KINDS)
def test_a_control_begins_as_nothing_and_then_is_something(pool: Pool, kind: controls.Kind) -> None:
    torch.manual_seed(0)
    unet = denoiser.build(8, 32).requires_grad_(False)
    with torch.no_grad():
        unet.conv_out.weight.normal_(0, 0.1)
    net, latents = controls.build(unet, 128), _latents()
    rows = Rows([0, 1], [False, True])
    hints = controls.shown(controls.hints(pool, kind, rows))
    controls.speak_up(net, hints)
    x, t, text = torch.randn(2, 8, 16, 16), torch.tensor([10, 900]), torch.zeros(2, 5, 32)
    predict = controls.controlled(unet, net, hints)
    with torch.no_grad():
        assert torch.equal(predict(x, t, text), unet(x, t, text).sample)

    def loss(g: torch.Generator) -> torch.Tensor:
        clean = base.Source(pool, latents, None).clean(rows)
        return denoiser.loss(predict, denoiser.noised(clean, g), text)

    assert fall(loss, net, 1e-3) < 1.0
    with torch.no_grad():
        assert not torch.equal(predict(x, t, text), unet(x, t, text).sample)


def test_a_hint_is_loud_enough_to_be_heard(pool: Pool) -> None:
    net = controls.build(denoiser.build(8, 32), 128)
    pictures = controls.shown(controls.hints(pool, "pose", Rows([0, 1], [False, False])))
    controls.speak_up(net, pictures)
    with torch.no_grad():
        loud = float(net.controlnet_cond_embedding(pictures).std((0, 2, 3)).mean())
    assert loud == pytest.approx(controls.LOUDNESS, rel=1e-3)


def test_the_mirror_swaps_what_words_call_left_and_right() -> None:
    scene = next(s for s in map(sample, range(100)) if len(s.props) == 1)
    seen = mirror(scene)
    assert seen.props[0].side != scene.props[0].side and seen.props[0].x == -scene.props[0].x
    assert mirror(seen) == replace(scene, props=scene.props)


def test_a_mirrored_skeleton_is_drawn_with_its_left_as_its_right(pool: Pool) -> None:
    plain, swapped = (controls.shown(controls.hints(pool, "pose", Rows([0], [flip])))[0] for flip in (False, True))
    assert not torch.equal(plain.flip(-1), swapped)  # colours name the side
    assert ((plain.flip(-1).sum(0) > 0) ^ (swapped.sum(0) > 0)).float().mean() < 0.04


def test_the_lcm_boundary_is_the_identity_without_noise() -> None:
    skip, out = lcm.boundary(torch.tensor([0]))
    assert float(skip) == 1 and float(out) == 0


def test_the_lora_learns_and_its_base_stays(pool: Pool) -> None:
    torch.manual_seed(0)
    teacher = denoiser.build(8, 32).requires_grad_(False)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = copy.deepcopy(teacher)
    student.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=list(lcm.TARGETS)))
    latents, text = _latents(), torch.zeros(2, 5, 32)

    def loss(g: torch.Generator) -> torch.Tensor:
        clean = base.Source(pool, latents, None).clean(choose(pool, 2, g))
        lesson = lcm.leap(clean, torch.zeros(2, 5), g)
        nets = (denoiser.called(net) for net in (student, teacher, teacher))
        return lcm.loss(*nets, lesson, text, text[:1])

    assert fall(loss, student, 2e-3) < 1.0
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_the_decoder_learns_and_the_latents_stay(pool: Pool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = codec.build(128).eval()
    before.save_pretrained(tmp_path / "weights" / "vae")
    twice = open_pool(tmp_path / "pool128", 128, 128)  # the last 64 pictures are held out, so there must be more
    twice.picture[:], twice.done[:] = np.concatenate([pool.picture, pool.picture]), True
    decoder.main(Options(runs=tmp_path, count=128, batch=2, budget=Budget(steps=20)))
    after = AutoencoderKL.from_pretrained(tmp_path / "weights" / "vae").eval()
    picture = torch.from_numpy(pool.picture[:8]).float() / 127.5 - 1
    with torch.no_grad():
        assert torch.equal(before.encode(picture).latent_dist.mode(), after.encode(picture).latent_dist.mode())
    assert codec.psnr(after, pool.picture[:16]) > codec.psnr(before, pool.picture[:16])


_TEAM = """
import pathlib, sys, torch
from ctrl.train.rows import Rows, choose, mirror
from ctrl.train.team import Team
team = Team.join()
part = torch.full((3,), float(team.rank))
team.average([part])
said = f"{team.size} {team.agree(5.0 + team.rank)} {part.tolist()}"
(pathlib.Path(sys.argv[1]) / f"{team.rank}.txt").write_text(said)
"""


def test_a_team_agrees_with_its_first_and_averages_the_rest(tmp_path: Path) -> None:
    script = tmp_path / "member.py"
    script.write_text(_TEAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, str(script), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["2 5.0 [0.5, 0.5, 0.5]"] * 2
    assert Team.join() == Team() and Team().agree(3.0) == 3.0
