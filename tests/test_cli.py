import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ctrl
from ctrl.__main__ import main


def run(*arguments):
    """Exit code and what was said."""
    heard = io.StringIO()
    with redirect_stderr(heard), redirect_stdout(heard):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as left:
            code = left.code
    return code, heard.getvalue()


@pytest.fixture
def files(tmp_path):
    for name in ("depth", "edges", "ink"):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "pose.json").write_text(ctrl.Skeleton.named("running").to_json())
    Image.fromarray(ctrl.Skeleton.named("running").draw(64, 64)).save(tmp_path / "pose.png")
    return tmp_path


def test_a_picture_under_every_control(folder, model, files):
    out = files / "out.png"
    code, heard = run(
        "a red ball", "--model", folder, "--device", "cpu", "--pose", "waving",
        "--depth", files / "depth.png", "--edges", files / "edges.png",
        "--style", files / "ink.png", "--weight-style", 0.5, "--guidance", 5,
        "--steps", 3, "--seed", 7, "--negative", "blue", "-o", out,
    )  # fmt: skip
    assert code == 0
    assert "3/3" in heard and "seed 7" in heard
    recipe = ctrl.Recipe(
        "a red ball",
        negative="blue",
        controls=[
            ctrl.Pose(ctrl.Skeleton.named("waving")),
            ctrl.Depth(files / "depth.png"),
            ctrl.Edges(files / "edges.png"),
        ],
        styles=[ctrl.Style(files / "ink.png", 0.5)],
        guidance=5,
        steps=3,
        seed=7,
    )
    assert ctrl.Recipe.load(out) == recipe
    assert np.array_equal(ctrl.sample(model, recipe).image, Image.open(out))


def test_fast_and_a_seed_that_is_drawn_and_told(folder, files):
    code, heard = run("a", "--fast", "--negative", "b", "--model", folder, "-o", files / "a.png")
    recipe = ctrl.Recipe.load(files / "a.png")
    assert code == 0
    assert recipe == ctrl.Recipe("a", negative="b", seed=recipe.seed).fast()
    assert f"seed {recipe.seed}" in heard
    assert "note: guidance 1 is off" in heard


@pytest.mark.parametrize("pose", ["pose.json", "pose.png"])
def test_a_pose_from_a_file(folder, files, pose):
    code, _ = run("a", "--pose", files / pose, "--steps", 1, "--model", folder, "-o", files / "o.png")
    assert code == 0
    (control,) = ctrl.Recipe.load(files / "o.png").controls
    assert isinstance(control.picture, ctrl.Skeleton) == pose.endswith("json")


BAD = [
    ([], "prompt"),
    (["a", "b"], "unrecognized arguments: b"),
    (["a", "--guidence", "3"], "unrecognized arguments"),
    (["a", "--guid", "3"], "unrecognized arguments"),
    (["a", "--guidance", "nan"], "guidance must be a number from 0 to 100, got nan"),
    (["a", "--guidance", "x"], "invalid float value"),
    (["a", "--steps", "0"], "steps must be"),
    (["a", "--steps", "2.5"], "invalid int value"),
    (["a", "--seed", "-1"], "seed must be"),
    (["a", "--sampler", "dpm"], "sampler 'dpm' is unknown"),
    (["a", "--pose", "wavin"], "--pose must be a file or one of standing, waving"),
    (["a", "--pose", "bad.json"], "not OpenPose JSON"),
    (["a", "--depth", "none.png"], "Depth's picture must be a picture file"),
    (["a", "--style", "bad.json"], "none of PNG"),
    (["a", "--weight-depth", "1"], "--weight-depth needs --depth"),
    (["a", "--pose", "waving", "--weight-pose", "inf"], "weight must be"),
    (["a", "--width", "64"], "width and height go together"),
    (["a", "--width", "66", "--height", "66"], "multiple of 4"),
    (["a", "--model", "./none"], "must be a folder or a hub id"),
    (["a", "--device", "gpu7"], "device must be"),
    (["a", "-o", "out.jpg"], "must end in .png"),
    (["a", "-o", "none/out.png"], "there is no folder"),
    (["a\ud800"], "not valid Unicode"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD)
def test_bad_arguments_are_one_sentence_and_nothing_is_written(
    folder, tmp_path, monkeypatch, arguments, sentence
):
    (tmp_path / "bad.json").write_text(json.dumps({"people": 3}))
    monkeypatch.chdir(tmp_path)
    given = arguments if "--model" in arguments or not arguments else [*arguments, "--model", folder]
    code, heard = run(*given)
    assert code == 2
    assert sentence in heard
    assert heard.startswith("ctrl: ") and heard.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


def test_python_dash_m_and_the_old_file_is_kept_on_failure(tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"mine")
    done = subprocess.run(
        [sys.executable, "-m", "ctrl", "a", "--pose", "nobody", "-o", out],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert out.read_bytes() == b"mine"
