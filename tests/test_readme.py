"""The README does what it says: every block runs as it stands, and what it installs exists."""

import re
import shlex
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny_formats
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from PIL import Image

import ctrl
from ctrl.__main__ import main
from ctrl.atelier.bench import look, pixels
from ctrl.atelier.language import STYLE
from ctrl.atelier.scene import sample

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the blocks name: local stand-ins for the models of the hub."""
    where = tmp_path_factory.mktemp("readme")
    written = tiny_formats.sd1()
    written.unet.register_to_config(sample_size=16)  # a picture of 512 px takes minutes
    for name in ("folder", SD):
        tiny_formats.save_folder(written, where / name)
    tiny_formats.save_single(written, where / "model.safetensors")
    tiny_formats.tokenizer(where / "clip")
    tiny_formats.controlnet(written.unet, hints=(8, 16)).save_pretrained(where / "nets" / "scribble")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(where / "fox.png")
    Image.fromarray(pixels(look([sample(3)], 256).picture)[0]).save(where / "photo.png")
    (where / "ctrl" / "atelier").mkdir(parents=True)
    (where / "ctrl" / "atelier" / "weights").symlink_to(ROOT / "ctrl" / "atelier" / "weights")
    return where


@pytest.fixture
def given(place, folder, model, monkeypatch):
    """The variables that the blocks use and do not define."""
    monkeypatch.chdir(place)
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    half = np.zeros((64, 64), np.uint8)
    half[:, :32] = 255
    pictures = dict.fromkeys(("depth", "edges", "ink", "wash", "sketch"), noise)
    masks = dict.fromkeys(("left_half", "mask", "where"), half)
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float32)
    recipe = ctrl.Recipe("a red ball", steps=4)
    return {"ctrl": ctrl, "model": model, "recipe": recipe, "pipe": pipe, "photo": "photo.png", **pictures, **masks}


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=[block.strip().splitlines()[-1][:40] for block in PYTHON])
def test_a_block_of_python_runs_as_it_stands(given, block, capsys):
    if SD in block:  # a pipeline of the user's own that has the ControlNet which the block's last line uses
        net = ControlNetModel.from_pretrained("nets/scribble")
        given["pipe"] = StableDiffusionControlNetPipeline.from_pretrained("folder", controlnet=net, safety_checker=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise is no depth map, and a render no photograph
        exec(compile(block, "README.md", "exec"), given)
    written = {path.name for path in Path.cwd().iterdir()}
    assert {"waving.png", "step-00.png", "step-09.png"} <= written or "waving.png" not in block


@pytest.mark.slow
def test_the_first_command_names_a_style_and_makes_its_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (made,) = [block for block in SHELL if "-o out.png" in block]
    install, _, command = made.partition(" && ")
    words = shlex.split(command)
    assert install == "pip install ." and words[:3] == ["python", "-m", "ctrl"]
    assert main(words[3:]) == 0
    recipe = ctrl.Recipe.load("out.png")
    assert any(name in recipe.prompt for names in STYLE.values() for name in names)
    shot = ctrl.Shot(Image.open("out.png"), recipe)
    assert [one.value for one in shot.obeys()] >= [0.9]


def test_install_lines_name_extras_that_exist_and_work_in_a_checkout_too():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    files = [*(ROOT / "ctrl").rglob("*.py"), *(ROOT / "widgets").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in [*files, ROOT / "README.md"]}
    found = 0
    for name, text in texts.items():
        for line in text.splitlines():
            if "pip install" not in line:
                continue
            for package, extras in re.findall(r"(ctrl-diffusion|\.)\[([\w,]+)\]", line):
                found += 1
                assert {*extras.split(",")} <= known.keys(), (name, line)
                if package == "ctrl-diffusion":
                    assert f".[{extras}]" in line, (name, line)
    assert found >= 9


def test_what_the_readme_names_is_there():
    rooms = re.findall(r"^  ([\w/]+(?:\.py|/)) ", README, re.MULTILINE)
    assert len(rooms) > 15 and all((ROOT / "ctrl" / room).exists() for room in rooms), rooms
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"(?<![\w.])ctrl\.([A-Za-z]\w*)", README):
        assert name in (*ctrl.__all__, "train") or (ROOT / "ctrl" / name).exists(), name
