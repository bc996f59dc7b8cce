"""The recipe: twenty steps of each stage learn something, and a killed run ends where an unbroken one does."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from peft import LoraConfig
from torch import nn

from ctrl.atelier.scene import EVALUATION_SEEDS, sample
from ctrl.train import base, codec, controls, decoder, denoiser, lcm, muon
from ctrl.train.loop import Average, Budget, train
from ctrl.train.options import Options
from ctrl.train.pool import Pool, fill, open_pool
from ctrl.train.rows import Rows, choose, mirror
from ctrl.train.team import Team


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


def test_a_killed_run_ends_bit_equal_to_one_that_was_not(tmp_path: Path) -> None:
    def run(folder: Path, killed_at: int | None) -> nn.Module:
        torch.manual_seed(3)
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 2))
        average = Average(module)

        def loss(step: int, generator: torch.Generator) -> torch.Tensor:
            if step == killed_at:
                raise KeyboardInterrupt
            return module(torch.randn(4, 3, 8, 8, generator=generator)).square().mean()

        train(
            folder,
            module,
            muon.optimizer(module, 1e-2),
            loss,
            Budget(steps=12),
            average=average,
            save_seconds=0,
        )
        return average.module

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", 7)
    resumed = run(tmp_path / "broken", None)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_budget_is_steps_or_minutes() -> None:
    assert Budget(steps=10).progress(5, 1e9) == 0.5
    assert Budget(minutes=2).progress(0, 60) == 0.5
    with pytest.raises(ValueError, match="either steps or minutes"):
        Budget()


def test_muon_moves_by_an_orthogonal_matrix() -> None:
    near = muon.orthogonal(torch.randn(16, 64, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(near)
    assert values.min() > 0.5 and values.max() < 1.4


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
    assert fall(lambda g: codec.loss(model, codec.crops(pool, 4, 32, g, 64)), model, 4e-3) < 0.95


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
        rows = choose(pool, 4, g)
        return denoiser.loss_of(
            lambda x, t, c: unet(x, t, c).sample, base.fetch(latents, rows), torch.zeros(4, 5, 32), g
        )

    assert fall(loss, unet, 2e-3) < 0.95


@pytest.mark.parametrize("kind", controls.KINDS)
def test_a_control_begins_as_nothing_and_then_is_something(pool: Pool, kind: controls.Kind) -> None:
    torch.manual_seed(0)
    unet = denoiser.build(8, 32).requires_grad_(False)
    with torch.no_grad():
        unet.conv_out.weight.normal_(0, 0.1)
    net, latents = controls.build(unet, 128), _latents()
    rows = Rows([0, 1], [False, True])
    controls.speak_up(net, controls.hints(pool, kind, rows))
    x, t, text = torch.randn(2, 8, 16, 16), torch.tensor([10, 900]), torch.zeros(2, 5, 32)
    predict = controls.controlled(unet, net, controls.hints(pool, kind, rows))
    with torch.no_grad():
        assert torch.equal(predict(x, t, text), unet(x, t, text).sample)

    def loss(g: torch.Generator) -> torch.Tensor:
        return denoiser.loss_of(predict, base.fetch(latents, rows), text, g)

    assert fall(loss, net, 1e-3) < 1.0
    with torch.no_grad():
        assert not torch.equal(predict(x, t, text), unet(x, t, text).sample)


def test_a_hint_is_loud_enough_to_be_heard(pool: Pool) -> None:
    net = controls.build(denoiser.build(8, 32), 128)
    pictures = controls.hints(pool, "pose", Rows([0, 1], [False, False]))
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
    plain = controls.hints(pool, "pose", Rows([0], [False]))[0]
    swapped = controls.hints(pool, "pose", Rows([0], [True]))[0]
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

    def predict(unet: nn.Module) -> denoiser.Predict:
        return lambda x, t, c: unet(x, t, c).sample

    def loss(g: torch.Generator) -> torch.Tensor:
        clean = base.fetch(latents, choose(pool, 2, g))
        return lcm.loss(predict(student), predict(teacher), predict(teacher), clean, text, text[:1], g)

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
