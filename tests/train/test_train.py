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
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from beside import Operations
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from peft import LoraConfig
from torch import nn

from ctrl.atelier import eyes as sight
from ctrl.atelier.scene import COLORS, EVALUATION_SEEDS, PLAIN, sample
from ctrl.train import (
    base,
    codec,
    controls,
    decoder,
    denoiser,
    encoder,
    enlarge,
    eyes,
    hints,
    lcm,
    muon,
    redraw,
    texture,
)
from ctrl.train.__main__ import STAGES
from ctrl.train.feed import Batch, Steps, feed
from ctrl.train.halves import Encoding
from ctrl.train.loop import Average, Budget, train
from ctrl.train.options import Options
from ctrl.train.pool import Pool, fill, open_pool
from ctrl.train.rows import Rows, choose, choose_near, mirror
from ctrl.train.team import Team
from ctrl.train.turns import Turn, turn

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return fill(tmp_path_factory.mktemp("pool"), 64, 128)


@pytest.fixture(scope="module")
def large(pool: Pool) -> Pool:
    """The same at 256 px, each pixel four times."""
    grown = {name: getattr(pool, name).repeat(2, -1).repeat(2, -2) for name in ("picture", "near", "part")}
    return replace(pool, **grown)


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
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, workers, killed_after=7)
    assert set(multiprocessing.active_children()) <= before
    assert same(whole, learn(tmp_path, workers))
    assert set(multiprocessing.active_children()) <= before


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
    before = set(multiprocessing.active_children())
    with pytest.raises(OSError, match="the pool is gone"):
        optimizer = torch.optim.SGD(module.parameters())
        train(tmp_path, module, optimizer, fails, lambda batch: batch.picture.sum(), Budget(steps=2), workers=workers)
    assert set(multiprocessing.active_children()) <= before


def test_the_u_net_sees_one_scene_of_four_from_elsewhere(pool: Pool) -> None:
    rows = choose_near(pool, 4000, torch.Generator().manual_seed(0)).index
    far = sum(row % 2 for row in rows) / len(rows)
    assert 0.22 < far < 0.28 and set(rows) == set(range(pool.ready))


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
    model = codec.build()

    def loss(g: torch.Generator) -> torch.Tensor:
        lesson = codec.Lesson(codec.crops(pool, 4, 32, g, 64), torch.randn(4, 8, 4, 4, generator=g))
        return codec.loss(model, lesson.picture, lesson.noise)

    assert fall(loss, model, 4e-3) < 0.95


def test_normalised_latents_have_mean_0_and_variance_1_and_decode_the_same(pool: Pool) -> None:
    torch.manual_seed(0)
    model = codec.build().eval()
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


def test_a_caption_that_names_no_style_is_of_a_clean_render() -> None:
    for seed in range(200):
        scene = sample(seed)
        said = denoiser.caption_of(scene, seed)
        assert "style" in said.says or scene.style == PLAIN
        assert said.text[slice(*(said.mentions[0].start, said.mentions[0].end))] == said.mentions[0].word
    plain = [denoiser.caption_of(scene, scene.seed) for scene in map(sample, range(800)) if scene.style == PLAIN]
    silent = [said for said in plain if "style" not in said.says]
    assert len(plain) / 3 < len(silent) < len(plain) * 2 / 3
    assert any(not any(color in said.text for color in COLORS) for said in silent)
    assert any({"shirt", "trousers", "time"} <= said.says for said in silent)


def test_half_the_captions_name_colours_and_the_time_in_every_style() -> None:
    scene = replace(sample(3), style="blueprint")
    even, odd = (denoiser.caption_of(scene, seed).says for seed in (40, 41))
    assert "shirt" not in odd and "time" not in odd
    said = frozenset().union(*(denoiser.caption_of(scene, seed).says for seed in range(0, 20, 2)))
    assert {"shirt", "trousers", "time"} <= said and even


@pytest.mark.parametrize("kind", controls.KINDS)
def test_a_control_begins_as_nothing_and_then_is_something(large: Pool, kind: controls.Kind) -> None:
    torch.manual_seed(0)
    unet = denoiser.build(8, 32).requires_grad_(False)
    with torch.no_grad():
        unet.conv_out.weight.normal_(0, 0.1)
    net, latents = controls.build(unet), _latents()
    rows = Rows([0, 1], [False, True])
    maps = controls.shown(controls.hints(large, kind, rows))
    controls.speak_up(net, maps)
    x, t, text = torch.randn(2, 8, 16, 16), torch.tensor([10, 900]), torch.zeros(2, 5, 32)
    predict = controls.controlled(unet, net, maps)
    with torch.no_grad():
        assert torch.equal(predict(x, t, text), unet(x, t, text).sample)

    def loss(g: torch.Generator) -> torch.Tensor:
        clean = base.Source(large, latents, None).clean(rows)
        return denoiser.loss(predict, denoiser.noised(clean, g), text)

    assert fall(loss, net, 1e-3) < 1.0
    with torch.no_grad():
        assert not torch.equal(predict(x, t, text), unet(x, t, text).sample)


def test_a_hint_is_loud_enough_to_be_heard(large: Pool) -> None:
    net = controls.build(denoiser.build(8, 32))
    pictures = controls.shown(controls.hints(large, "pose", Rows([0, 1], [False, False])))
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


def test_an_enlarged_hint_encoder_says_of_a_map_what_the_old_one_said_of_it_reduced() -> None:
    torch.manual_seed(0)
    unet = denoiser.build(8, 32)
    small = controls.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 64, 96))
    maps = torch.rand(2, 3, 256, 256)
    controls.speak_up(small, enlarge.reduced(maps))
    for p in small.controlnet_down_blocks.parameters():
        nn.init.normal_(p, 0, 0.1)
    grown = hints.enlarged(small)
    assert tuple(grown.config.conditioning_embedding_out_channels) == controls.WIDTHS
    x, t, text = torch.randn(2, 8, 16, 16), torch.tensor([10, 900]), torch.zeros(2, 5, 32)
    with torch.no_grad():
        before, after = (
            net(x, t, text, controlnet_cond=seen, return_dict=False)[0]
            for net, seen in ((small, enlarge.reduced(maps)), (grown, maps))
        )
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))
    assert any(b.abs().max() > 0.1 for b in before)


@pytest.mark.parametrize("kind", hints.DRAWN)
def test_a_hint_encoder_learns_what_thinner_lines_mean(large: Pool, kind: controls.Kind) -> None:
    torch.manual_seed(0)
    net = controls.ControlNetModel.from_unet(
        denoiser.build(8, 32), conditioning_embedding_out_channels=(16, 32, 64, 96)
    )
    lessons = hints.Lessons(large, kind, 2)
    lesson = lessons(torch.Generator().manual_seed(0))
    assert lesson.small.shape[-1] == 128 and lesson.large.shape[-1] == 256
    controls.speak_up(net, controls.shown(lesson.small))
    old, new = net.controlnet_cond_embedding, hints.enlarged(net).controlnet_cond_embedding
    assert fall(lambda g: hints.loss(new, old, lessons(g)), new, 2e-3, steps=16) < 0.9


@pytest.fixture(scope="module")
def small(pool: Pool) -> AutoencoderKL:
    """A small codec that has learnt a little, so that its latents say something."""
    torch.manual_seed(0)
    model = codec.build()
    optimizer = muon.optimizer(model, 4e-3)
    for step in range(12):
        crop = codec.crops(pool, 4, 64, torch.Generator().manual_seed(step), 64)
        value = codec.loss(model, crop.float() / 127.5 - 1, torch.randn(4, 8, 8, 8))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return model.eval()


def test_the_enlarged_codec_begins_as_the_small_one(large: Pool, small: AutoencoderKL) -> None:
    torch.manual_seed(0)
    picture = torch.from_numpy(large.picture[:6]).float() / 127.5 - 1
    grown = enlarge.enlarged(small, picture[:2]).eval()
    assert (grown.config.sample_size, grown.config.latent_channels, grown.config.scaling_factor) == (256, 8, 1.0)
    with torch.no_grad():
        latents = small.encode(enlarge.reduced(picture[2:])).latent_dist.mode()
        again = grown.encode(picture[2:]).latent_dist.mode()
        before, after = small.decode(latents).sample, grown.decode(latents).sample
    assert (again - latents).square().mean() < 0.15 * latents.var()
    assert (enlarge.reduced(after) - before).square().mean() < 0.15 * before.var()


@pytest.fixture
def runs(tmp_path: Path, large: Pool, small: AutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the codec's stage is done; a few pictures are held out."""
    for stage in (decoder, encoder):
        monkeypatch.setattr(stage, "HELD", 4)
    mine = open_pool(tmp_path / "pool256", 64, 256)
    for name in ("picture", "near", "part", "keypoints", "visible", "done"):
        getattr(mine, name)[:] = getattr(large, name)
    small.save_pretrained(tmp_path / codec.SMALL)
    sight.save(sight.load(), tmp_path / "weights" / "eyes")
    return tmp_path


def test_the_large_codec_learns_to_decode_to_draw_and_to_encode_and_the_latents_stay(runs: Path) -> None:
    def now() -> AutoencoderKL:
        return AutoencoderKL.from_pretrained(runs / "weights" / "vae").eval()

    options = Options(runs=runs, count=64, batch=2, rate=8.0, budget=Budget(steps=8))
    decoder.main(replace(options, budget=Budget(steps=0)))
    first = now()
    decoder.main(options)
    decoded = now()
    (runs / "weights" / "unet").mkdir()  # what it draws is kept, and here it is already
    np.save(runs / "latents256-redrawn.npy", np.load(runs / "latents256.npy")[:32])
    texture.main(replace(options, batch=3, budget=Budget(steps=3)))
    drawn = now()
    encoder.main(replace(options, rate=2.0))
    last = now()
    assert same(first.encoder, drawn.encoder) and not same(first.decoder, decoded.decoder)
    assert not same(decoded.decoder, drawn.decoder) and same(drawn.decoder, last.decoder)
    pool, latents = open_pool(runs / "pool256", 64, 256), np.load(runs / "latents256.npy")
    lesson = decoder.Lessons(pool, latents, 4)(torch.Generator().manual_seed(0))
    picture, small = lesson.picture, AutoencoderKL.from_pretrained(runs / codec.SMALL).eval()
    whole = torch.from_numpy(pool.picture[:4]).float() / 127.5 - 1
    with torch.no_grad():
        before, after = (codec.difference(one.decode(lesson.latents).sample, picture) for one in (first, decoded))
        far, near = (encoder.loss(Encoding(one), Encoding(small), whole) for one in (drawn, last))
    assert after < before and near < far


def test_a_piece_of_latents_is_of_its_piece_of_the_picture(large: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "HELD", 4)
    rows = torch.arange(256.0).view(1, 1, 256, 1).expand(64, 3, 256, 256)
    cells = torch.arange(16.0).view(1, 1, 1, 16, 1).expand(64, 2, 8, 16, 16)
    marked = replace(large, picture=rows.byte().numpy())
    lesson = decoder.Lessons(marked, cells.numpy(), 8)(torch.Generator().manual_seed(1))
    assert lesson.latents.shape == (8, 8, 12, 12) and lesson.crop.shape == (8, 3, 192, 192)
    assert torch.allclose(lesson.crop[:, 0, ::16, 0].float() / 16, lesson.latents[:, :, :, 0].mean(1), atol=0.2)
    assert lesson.crop[:, 0, 0, 0].unique().numel() > 1  # pieces from several places


def test_a_picture_that_is_trusted_less_counts_less() -> None:
    made, true = torch.zeros(2, 3, 8, 8), torch.stack([torch.ones(3, 8, 8), torch.zeros(3, 8, 8)])
    half, mostly = (float(texture.trusted(made, true, torch.tensor(trust))) for trust in ([1.0, 1.0], [0.2, 0.8]))
    assert half == pytest.approx(codec.difference(made, true)) and mostly == pytest.approx(0.4 * half)


def test_latents_drawn_again_by_a_perfect_net_are_the_same() -> None:
    clean, alphas = torch.randn(2, 8, 16, 16), denoiser.noise_schedule().alphas_cumprod

    class Perfect:
        def __call__(self, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> object:
            a, s = alphas[timestep].sqrt(), (1 - alphas[timestep]).sqrt()
            noise = (latents - a * clean.repeat(2, 1, 1, 1)) / s
            return SimpleNamespace(sample=a * noise - s * clean.repeat(2, 1, 1, 1))

    text = torch.zeros(2, 5, 32)
    made = redraw.again(Perfect(), clean, text, text[:1], 400, torch.Generator().manual_seed(0))
    assert torch.allclose(made, clean, atol=1e-3)


def test_the_critic_learns_to_tell_and_does_not_move_with_the_decoder() -> None:
    torch.manual_seed(0)
    critic, latents = texture.Critic(8, width=8), torch.randn(2, 8, 2, 2)
    made, true = torch.zeros(2, 3, 32, 32), torch.rand(2, 3, 32, 32).round() * 2 - 1
    optimizer = torch.optim.AdamW(critic.parameters(), 5e-3)
    for _ in range(40):
        value = texture.criticism(critic, made, true, latents, torch.randn(2, 3, 32, 32))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert (critic(true, latents) - critic(made, latents)).mean() > 0.5


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
    done = subprocess.run([*torchrun, str(script), str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["2 5.0 [0.5, 0.5, 0.5]"] * 2
    assert Team.join() == Team() and Team().agree(3.0) == 3.0
