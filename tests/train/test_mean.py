"""The mean of weights: exact, of one network only, and a folder that diffusers still loads."""

import shutil

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from ctrl.train.mean import main, mean

ONE = {"a": torch.tensor([1.0, 3.0]), "n": torch.tensor(7)}
OTHER = {"a": torch.tensor([5.0, 5.0]), "n": torch.tensor(9)}


def test_it_is_the_sum_of_shares_and_whole_numbers_stay():
    found = mean([ONE, OTHER], [0.75, 0.25])
    assert torch.equal(found["a"], torch.tensor([2.0, 3.5])) and found["n"] == 7


def test_half_precision_is_summed_in_float32():
    tiny = {"a": torch.tensor([1e-7], dtype=torch.float16)}
    assert torch.equal(mean([tiny] * 4, [0.25] * 4)["a"], tiny["a"].float())


@pytest.mark.parametrize(
    ("others", "shares", "message"),
    [
        ([OTHER], [0.5, 0.6], "shares must be 2 numbers that sum to 1"),
        ([OTHER], [1.0], "shares must be 2 numbers"),
        ([{"a": torch.ones(3), "n": torch.tensor(7)}], [0.5, 0.5], r"got a of shapes \(2,\) and \(3,\)"),
        ([{"n": torch.tensor(7)}], [0.5, 0.5], r"got a of shapes \(2,\) and None"),
        ([{**OTHER, "b": torch.ones(1)}], [0.5, 0.5], r"got b of shapes None and \(1,\)"),
    ],
    ids=["shares", "too few shares", "shape", "missing", "more"],
)
def test_what_has_no_mean_is_refused(others, shares, message):
    with pytest.raises(ValueError, match=message):
        mean([ONE, *others], shares)


def test_a_folder_gets_the_mean_and_is_loaded_again(folder, tmp_path):
    one, other, into = (shutil.copytree(folder, tmp_path / name) for name in ("one", "other", "into"))
    unet = UNet2DConditionModel.from_pretrained(other / "unet")
    with torch.no_grad():
        unet.conv_in.bias.add_(4)
    unet.save_pretrained(other / "unet")
    main(["--part", "unet", "--of", str(one), str(other), "--shares", "0.75", "0.25", "--into", str(into)])
    before, found = (UNet2DConditionModel.from_pretrained(where / "unet") for where in (one, into))
    assert torch.allclose(found.conv_in.bias, before.conv_in.bias + 1)
    assert torch.equal(found.conv_out.weight, before.conv_out.weight)


def test_a_part_that_is_not_there_is_refused(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--part", "nothing", "--of", str(folder), "--shares", "1", "--into", str(tmp_path)])
    assert "must hold one safetensors file there, it has 0" in capsys.readouterr().err
