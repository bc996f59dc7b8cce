"""Factors in a ControlNet's weights: bit-equal to the same factors of a control, and nothing else changes."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import ctrl
from ctrl.model.loading.files import read_tensors
from ctrl.train.amplify import amplify, main

PART = "controlnet_depth"
MAP = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def tensors(folder):
    (file,) = (folder / PART).glob("*.safetensors")
    return read_tensors(file)[0]


def drawn(folder, **settings):
    model = ctrl.load(folder, device="cpu")
    recipe = ctrl.Recipe("a red box", steps=2, seed=5, controls=[ctrl.Depth(MAP, **settings)])
    return ctrl.sample(model, recipe).image


@pytest.fixture
def twice(folder, tmp_path):
    """A copy of the tiny model, its shallow residuals doubled."""
    into = shutil.copytree(folder, tmp_path / "twice")
    count = sum(name.startswith("controlnet_down_blocks.") and name.endswith("weight") for name in tensors(folder))
    factors = [2.0] * (count // 2) + [1.0] * (count + 1 - count // 2)
    main(["--part", PART, "--factors", *map(str, factors), "--into", str(into)])
    return into, factors


def test_it_draws_what_a_control_of_those_blocks_drew(folder, twice):
    into, factors = twice
    assert np.array_equal(drawn(into), drawn(folder, blocks=factors))
    assert not np.array_equal(drawn(into), drawn(folder))


def test_only_the_last_convolutions_change_and_types_stay(folder, twice):
    before, after = tensors(folder), tensors(twice[0])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("controlnet_down_blocks.") for name in changed)
    assert before.keys() == after.keys() and all(before[name].dtype == after[name].dtype for name in before)


def test_half_precision_stays_exact():
    weights = {"controlnet_mid_block.bias": torch.tensor([0.1], dtype=torch.float16)}
    found = amplify(weights, [2])["controlnet_mid_block.bias"]
    assert found.dtype == torch.float16
    assert torch.equal(found.float(), 2 * weights["controlnet_mid_block.bias"].float())


def test_what_cannot_be_amplified_is_refused(folder, tmp_path, capsys):
    into = shutil.copytree(folder, tmp_path / "into")
    files = [*into.rglob("*.safetensors")]
    before = [file.read_bytes() for file in files]
    for part, factors, message in [
        (PART, ["2"], "factors must be"),
        ("unet", ["2"], "must be a ControlNet's"),
        ("nothing", ["2"], "must hold one safetensors file there, it has 0"),
    ]:
        with pytest.raises(SystemExit):
            main(["--part", part, "--factors", *factors, "--into", str(into)])
        assert message in capsys.readouterr().err
    assert [file.read_bytes() for file in files] == before
