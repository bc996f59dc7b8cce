"""The weights the package carries: what the card says is there, and plain diffusers draws the same pictures."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import ctrl
from ctrl.atelier.scene import EVALUATION_SEEDS, sample
from ctrl.atelier.table import BEGIN, END, Table
from ctrl.atelier.world import look
from ctrl.train import release

WEIGHTS = Path(ctrl.__file__).parent / "atelier" / "weights"
PROMPT = "a figure waving in a red shirt and blue trousers, on grass, at sunset"


@pytest.fixture(scope="module")
def atelier():
    return ctrl.load(device="cpu")


@pytest.fixture(scope="module")
def pipe():
    pipe = StableDiffusionPipeline.from_pretrained(WEIGHTS, torch_dtype=torch.float32)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe, steps=4, guidance=6.0, **rest):
    generator = torch.Generator().manual_seed(7)
    made = pipe(PROMPT, guidance_scale=guidance, num_inference_steps=steps, generator=generator, **rest)
    return np.asarray(made.images[0])


def ours(model, steps=4, **changes):
    return np.asarray(ctrl.sample(model, ctrl.Recipe(PROMPT, seed=7, steps=steps, **changes)).image)


@pytest.fixture(scope="module")
def reference():
    picture = look([sample(EVALUATION_SEEDS + 5)], 256).picture[0]
    return ctrl.Picture.of((picture.permute(1, 2, 0) * 255).round().byte().numpy())


def test_the_readme_shows_what_the_card_has():
    table = Table.read(json.dumps(json.loads((WEIGHTS / "card.json").read_text())["measured"]))
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert len(shown) > 50
    assert set(shown) <= set(table.markdown().splitlines())


def test_the_card_knows_every_file_by_its_sha256():
    card = json.loads((WEIGHTS / "card.json").read_text())
    listed = {row["file"]: row for row in card["files"]}
    there = {p.relative_to(WEIGHTS).as_posix() for p in WEIGHTS.rglob("*") if p.is_file()} - {"card.json"}
    assert there == set(listed)
    for name, row in listed.items():
        assert hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest() == row["sha256"], name
    assert sum(row["bytes"] for row in card["files"]) <= 58_000_000


def test_plain_diffusers_draws_the_same_picture(atelier, pipe):
    assert (theirs(pipe) == ours(atelier)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pose", "depth", "edges"])
def test_so_it_does_under_each_control(atelier, pipe, kind):
    net = ControlNetModel.from_pretrained(WEIGHTS, subfolder=f"controlnet_{kind}", torch_dtype=torch.float32)
    both = StableDiffusionControlNetPipeline(**pipe.components, controlnet=net, requires_safety_checker=False)
    both.set_progress_bar_config(disable=True)
    picture = ctrl.Picture.of(ctrl.Skeleton.named("waving").draw(*atelier.size))
    control = {"pose": ctrl.Pose, "depth": ctrl.Depth, "edges": ctrl.Edges}[kind](picture)
    expected = theirs(both, image=picture.image, controlnet_conditioning_scale=1.0)
    assert (expected == ours(atelier, controls=[control])).all()
    assert (expected != ours(atelier)).any()


@pytest.mark.slow
def test_so_it_does_under_the_style_adapter(atelier, reference):
    pipe = StableDiffusionPipeline.from_pretrained(WEIGHTS, torch_dtype=torch.float32)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.feature_extractor = CLIPImageProcessorPil.from_pretrained(WEIGHTS / "feature_extractor")
    pipe.load_ip_adapter(str(WEIGHTS), subfolder="ip_adapter", weight_name="ip_adapter.safetensors")
    pipe.set_ip_adapter_scale(0.7)
    expected = theirs(pipe, ip_adapter_image=reference.image)
    assert (expected == ours(atelier, styles=[ctrl.Style(reference, 0.7)])).all()
    assert (expected != ours(atelier)).any()


@pytest.mark.slow
def test_the_lora_loads_in_plain_diffusers_and_draws_the_same_but_for_rounding(atelier):
    pipe = StableDiffusionPipeline.from_pretrained(WEIGHTS, torch_dtype=torch.float32)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(WEIGHTS), subfolder="lora", weight_name="pytorch_lora_weights.safetensors")
    expected = theirs(pipe, guidance=1.0).astype(int)
    fast = np.asarray(ctrl.sample(atelier, ctrl.Recipe(PROMPT, seed=7).fast()).image).astype(int)
    assert np.abs(expected - fast).mean() < 0.5
    assert np.abs(expected - ours(atelier, guidance=1.0)).mean() > 1


def test_a_card_is_written_outside_a_repository_too(tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.txt").write_text("abc")
    monkeypatch.setenv("PATH", "")
    release.card(tmp_path, tmp_path / "weights", 256, 64)
    card = json.loads((tmp_path / "weights" / "card.json").read_text())
    assert card["commit"] is None and card["total_bytes"] == 3
    assert card["files"][0]["sha256"] == hashlib.sha256(b"abc").hexdigest()
