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
from PIL.PngImagePlugin import PngInfo

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
    (["a", "--guidence", "3"], "unrecognized arguments: --guidence 3; did you mean --guidance?"),
    (["a", "--stile=x.png"], "did you mean --style?"),
    (["a", "--zzz"], "--help lists"),
    (["a", "--sampler", "euler_ancestral"], "--sampler 'euler_ancestral' is unknown; here that is --sampler 'euler a'"),
    (["a", "--sampler", "DPM++ 2M Karras"], "here that is --sampler 'dpm++ 2m' --spacing karras; there is"),
    (["a", "--spacing", "Karras"], "here that is --spacing 'karras'"),
    (["a", "--weight", "1"], "here that is --weight-pose or --weight-depth"),
    (["--prompt", "a"], "here that is the first argument, in quotes."),
    (["a", "--lora-weight", "1"], "here that is --lora NAME=W."),
    (["a", "--seed", "-1"], "got -1; for any, leave it out."),
    (["a", "--model", "atelier"], "the atelier model is what is taken without --model."),
    (["a", "--model", "bad.json"], "--model must be a .safetensors file, and 'bad.json' is none."),
    (["a", "--recipe", "none.png"], "--recipe must be a PNG or JSON file"),
    (["--show", "none.png"], "--show must be a PNG or JSON file"),
    (["a", "--strength", "2"], "--strength must be a number from 0 to 1"),
    (["a", "--image", "none.png"], "--image must be a picture file"),
    (["a", "--control", "scribble"], "--control must be KIND=FILE"),
    (["a", "--controlnet", "=x"], "--controlnet must be KIND=FILE"),
    (["a", "--control", "scribble=none.png"], "--control scribble: "),
    (["a", "--dtype", "int8"], "--dtype: invalid choice"),
    (["a", "--lora", "x=strong"], "--lora must be NAME, FILE.safetensors"),
    (["a", "--lora", "none.safetensors"], "--lora must be a folder or a hub id"),
    (
        [
            "a",
            "--pose",
            "waving",
            "--pose",
            "running",
            "--weight-pose",
            "1",
            "--weight-pose",
            "2",
            "--weight-pose",
            "3",
        ],
        "--weight-pose is given 3 times for 2 --pose",
    ),
    (["--show", "bad.json"], "not a recipe"),
    (["a", "-o", "bad.json/out.png"], "there is no folder"),
    (["a", "--guid", "3"], "unrecognized arguments"),
    (["a", "--guidance", "nan"], "--guidance must be a number from 0 to 100, got nan"),
    (["a", "--guidance", "x"], "--guidance: invalid float value"),
    (["a", "--steps", "0"], "--steps must be"),
    (["a", "--steps", "2.5"], "invalid int value"),
    (["a", "--seed", "-1"], "--seed must be"),
    (["a", "--sampler", "dpm"], "--sampler 'dpm' is unknown"),
    (["a", "--pose", "wavin"], "--pose must be a file or one of standing, waving"),
    (["a", "--pose", "bad.json"], "not OpenPose JSON"),
    (["a", "--depth", "none.png"], "--depth: Depth's picture must be a picture file"),
    (["a", "--style", "bad.json"], "none of PNG"),
    (["a", "--weight-depth", "1"], "--weight-depth needs --depth"),
    (["a", "--pose", "waving", "--weight-pose", "inf"], "weight must be"),
    (["a", "--width", "64"], "--width and height go together"),
    (["a", "--width", "66", "--height", "66"], "multiple of 4"),
    (["a", "--model", "./none"], "must be a folder or a hub id"),
    (["a", "--device", "gpu7"], "device must be"),
    (["a", "-o", "out.jpg"], "must end in .png"),
    (["a", "-o", "none/out.png"], "there is no folder"),
    (["a\ud800"], "not valid Unicode"),
    (["a", "-O", "x.png"], "unrecognized arguments: -O x.png; did you mean -o?"),
    (["a", "--cfg-scale", "7"], "--cfg-scale 7; here that is --guidance."),
    (["a", "--num-inference-steps", "7"], "here that is --steps."),
    (["a", "--negative_prompt", "b"], "here that is --negative."),
    (["a", "--denoise", "0.5"], "here that is --strength."),
    (["a", "--w", "512"], "--w 512; here that is --width."),
    (["a", "--start-at-step", "3"], "--start-at-step 3; here that is --strength."),
    (["a", "--batch-size", "4"], "--batch-size 4; --help lists all options."),
    (["a", "--dtype", "flaot16"], "--dtype: invalid choice: 'flaot16'; did you mean float16? There is auto, float32"),
    (["a", "--seed", "1e3"], "--seed: invalid int value: '1e3'; it must be a whole number."),
    (["a", "--pose", "waving", "--weight-pose", "99"], "--weight-pose: weight must be a number from 0 to 10, got 99"),
    (["a", "--mask", "bad.png"], "--mask must be"),
    (["a", "--lora", "none"], "no LoRA 'none'; it has lcm: --lora."),
    (["a", "--vae", "none"], "--vae must be a folder"),
    (["a", "--ip-adapter", "none.safetensors"], "--ip-adapter must be a folder"),
    (["a", "--controlnet", "x=none"], "--controlnet x must be a folder"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD)
def test_bad_arguments_are_one_sentence_and_nothing_is_written(folder, tmp_path, monkeypatch, arguments, sentence):
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


def test_several_of_a_kind_add_up_and_their_weights_go_with_them(folder, files):
    code, _ = run(
        "a", "--pose", "waving", "--pose", files / "pose.json", "--depth", files / "depth.png",
        "--style", files / "ink.png", "--style", files / "edges.png",
        "--weight-pose", 0.5, "--weight-pose", 0.7, "--weight-style", 0.3,
        "--steps", 1, "--seed", 1, "--model", folder, "-o", files / "o.png",
    )  # fmt: skip
    recipe = ctrl.Recipe.load(files / "o.png")
    assert code == 0
    assert [(type(one).__name__, one.weight) for one in recipe.controls] == [("Pose", 0.5), ("Pose", 0.7), ("Depth", 1)]
    assert [one.weight for one in recipe.styles] == [0.3, 0.3]


def test_a_file_that_is_there_is_not_overwritten_in_silence(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ("a", "--steps", 1, "--seed", 1, "--model", folder)
    assert run(*quick)[0] == 0
    code, heard = run(*quick)
    assert code == 0 and "out-2.png" in heard
    (tmp_path / "mine.png").write_bytes(b"mine")
    code, heard = run(*quick, "-o", "mine.png")
    assert code == 2 and "'mine.png' exists already" in heard
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
    assert run(*quick, "-o", "mine.png", "--overwrite")[0] == 0
    assert ctrl.Recipe.load("mine.png").seed == 1


def test_the_output_is_tried_before_the_run(folder, tmp_path, monkeypatch):
    def no_run(*arguments, **options):
        raise AssertionError("the run has begun")

    monkeypatch.setattr("ctrl.sampling.sample", no_run)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", raise_it(OSError(30, "Read-only file system")))
    code, heard = run("a", "--model", folder, "-o", tmp_path / "out.png")
    assert code == 2 and "nothing can be written" in heard and "Read-only file system" in heard
    (tmp_path / "a.png").mkdir()
    code, heard = run("a", "--model", folder, "--overwrite", "-o", tmp_path / "a.png")
    assert code == 2 and "is a folder" in heard


def raise_it(error):
    def raising(*arguments, **options):
        raise error

    return raising


def test_a_picture_that_cannot_be_saved_where_it_should_is_kept_elsewhere(folder, tmp_path, monkeypatch):
    save, full = ctrl.Shot.save, tmp_path / "full" / "out.png"
    full.parent.mkdir()

    def saved(shot, path):
        if Path(path) == full:
            raise OSError(28, "No space left on device")
        save(shot, path)

    monkeypatch.setattr(ctrl.Shot, "save", saved)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, heard = run("a", "--steps", 1, "--seed", 3, "--model", folder, "-o", full)
    (kept,) = tmp_path.glob("ctrl-*.png")
    assert code == 1 and "No space left on device" in heard and str(kept) in heard
    assert ctrl.Recipe.load(kept).seed == 3


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def test_a_reader_that_is_gone_does_not_cost_the_picture(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    arguments = ["a", "--steps", "2", "--seed", "1", "--model", str(folder), "-o", str(tmp_path / "a.png")]
    assert main(arguments) == 0
    assert ctrl.Recipe.load(tmp_path / "a.png").seed == 1


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "ctrl: interrupted\n"),
        (FloatingPointError("the latents stopped being finite at step 1 of 2."), 1, "ctrl: the latents stopped"),
        (RuntimeError("CUDA out of memory. Tried\nto allocate"), 1, "not enough memory: CUDA out of memory. Tried to"),
        (MemoryError(), 1, "there is not enough memory"),
    ],
)  # fmt: skip
def test_a_run_that_ends_early_ends_in_a_sentence_and_writes_nothing(
    folder, tmp_path, monkeypatch, error, code, sentence
):
    monkeypatch.setattr("ctrl.sampling.sample", raise_it(error))
    got, heard = run("a", "--model", folder, "-o", tmp_path / "out.png")
    assert got == code
    assert sentence in heard and heard.startswith("ctrl: ") and heard.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_two_runs_at_once_do_not_take_each_other_s_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = ctrl.sample

    def slow(*arguments, **options):
        (tmp_path / "out.png").write_bytes(b"the other run's")
        return sample(*arguments, **options)

    monkeypatch.setattr("ctrl.sampling.sample", slow)
    code, heard = run("a", "--steps", 1, "--seed", 1, "--model", folder)
    assert code == 0 and "out-2.png" in heard
    assert (tmp_path / "out.png").read_bytes() == b"the other run's"


def test_a_note_names_options_not_arguments(folder, tmp_path):
    code, heard = run("a <lora:ink:0.5>", "--steps", 1, "--seed", 1, "--model", folder, "-o", tmp_path / "a.png")
    assert code == 0 and "give it as --lora ink=0.5\n" in heard and "1 step in" in heard


def test_a_lora_and_a_controlnet_from_files(folder, files):
    out, (lora, *_) = files / "o.png", Path(folder, "lora").glob("*.safetensors")
    code, heard = run(
        "a", "--lora", f"{lora}=0.5", "--controlnet", f"scribble={folder}/controlnet_pose",
        "--control", f"scribble={files / 'edges.png'}", "--weight-control", 0.4, "--dtype", "fp32",
        "--steps", 1, "--seed", 1, "--model", folder, "-o", out,
    )  # fmt: skip
    assert code == 0, heard
    recipe = ctrl.Recipe.load(out)
    assert recipe.loras == (ctrl.Lora(lora.stem, 0.5),)
    assert [(one.kind, one.weight) for one in recipe.controls] == [("scribble", 0.4)]


def test_show_prints_what_a_picture_says(folder, files):
    run("a fox", "--pose", "waving", "--steps", 1, "--seed", 7, "--model", folder, "-o", files / "o.png")
    code, heard = run("--show", files / "o.png")
    assert code == 0
    assert "prompt='a fox'" in heard and "seed=7" in heard and "Pose(Skeleton.named('waving'))" in heard


def test_what_another_program_s_picture_does_not_say_is_a_note(files):
    info = PngInfo()
    info.add_text("parameters", "a fox\nSteps: 9, Model: sd15")
    Image.new("RGB", (8, 8)).save(files / "theirs.png", pnginfo=info)
    code, heard = run("--show", files / "theirs.png")
    assert code == 0 and "steps=9" in heard
    assert "note: theirs.png: it was made with the model 'sd15'; load that one with ctrl.load\n" in heard


def test_the_version():
    assert run("--version") == (0, f"ctrl {ctrl.__version__}\n")
