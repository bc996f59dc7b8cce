"""What an editor and a type checker see of the package."""

import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import ctrl
from ctrl.recipe import Changes, Recipe

ROOT = Path(__file__).parents[2]
README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)

GIVEN = """
from pathlib import Path
from typing import Any
import numpy as np
import torch
from PIL import Image
import ctrl

array: np.ndarray[Any, Any] = np.zeros((8, 8, 3), np.uint8)
left_half = mask = where = array[..., 0]
depth, edges, ink, wash, photo = array, torch.zeros(3, 8, 8), Image.new("RGB", (8, 8)), Path("wash.png"), "photo.png"
sketch = photo
model = ctrl.load()
recipe = ctrl.Recipe("a fox")
pipe: Any = None
"""

GOOD = """
def shown(picture: ctrl.PictureLike) -> ctrl.Recipe:
    return ctrl.Recipe("a fox", controls=[ctrl.Depth(picture)], styles=[ctrl.Style([picture, b"png"], mask=picture)])

ctrl.Pose("waving"); ctrl.Pose(ctrl.Skeleton.named("waving"), on=False)
ctrl.Control("scribble", ctrl.Picture.of(photo))
ctrl.Depth(depth, blocks=[1.0] * 13, mode="prompt first"); ctrl.Style(ink, blocks={"up_blocks.1": 0.5})
ctrl.Region("a box", mask=left_half, weight=0.5); ctrl.PAG(blocks=["mid_block"]); ctrl.SEG(blocks="mid_block")
ctrl.Schedule([(0, 1), (1, 0)]); ctrl.curve((0, 1), (1, 0.5), by="noise")
other = recipe.replace(steps=8, sampler="euler a", guidance=ctrl.hold(6), controls=[ctrl.Depth(depth)])
seed: int | ctrl.SeedBlend = other.seed
for change in recipe.diff(other, model):
    words: str = change.words
with open("a.png", "rb") as file:
    ctrl.Depth(file)
ctrl.Depth(ctrl.sample(model, recipe))
ctrl.Blend([("a", 1), ("b", ctrl.ramp(0, 1))]); ctrl.Region(ctrl.Blend({"a": 1, "b": 2}), left_half)
"""

BAD = """
recipe.replace(stepz=8)  # call-arg
recipe.replace(steps="8")  # arg-type
ctrl.Recipe("a", guidence=3)  # call-arg
ctrl.Recipe("a", sampler="eular")  # arg-type
ctrl.Recipe("a", spacing="karas")  # arg-type
ctrl.Recipe("a", controls=[3])  # list-item
ctrl.Recipe("a", controls=ctrl.Pose("waving"))  # arg-type
ctrl.Depth(3)  # arg-type
ctrl.Depth(depth, mode="guess")  # arg-type
ctrl.Depth(depth, resize="fill")  # arg-type
ctrl.Depth(depth, wieght=1)  # call-arg
ctrl.Depth()  # call-arg
ctrl.Style(depth, blocks="stile")  # arg-type
ctrl.Style(depth, combine="sum")  # arg-type
ctrl.hold(1, by="sigma")  # arg-type
ctrl.Guidance(rescale_in="eps")  # arg-type
ctrl.Lora(3)  # arg-type
ctrl.Blend({"a": "b"})  # dict-item
ctrl.Direction("by day")  # call-arg
recipe.replace(seed="3")  # arg-type
"""


def mypy(folder, **files):
    """The complaints of `mypy --strict` about user files, as the lines they are in and their kinds.

    The settings are the project's own, and so is the cache: what torch says of itself is read once.
    """
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source)
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--no-error-summary",
            *(str(folder / f"{name}.py") for name in files),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return re.findall(r"(\w+)\.py:(\d+): error: (.*) +\[([\w-]+)\]$", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_a_user_s_script_is_checked_good_lines_and_bad(tmp_path):
    blocks = {f"readme_{number}": GIVEN + block for number, block in enumerate(README)}
    complaints = mypy(tmp_path, **blocks, good=GIVEN + GOOD, bad=GIVEN + BAD)
    assert [one for one in complaints if one[0] != "bad"] == []
    start = GIVEN.count("\n") + 1
    wanted = [(start + at, line.split("# ")[1]) for at, line in enumerate(BAD.splitlines()) if line]
    found = {(int(line), kind) for _, line, _, kind in complaints}
    assert sorted(found) == wanted


def test_replace_takes_and_offers_the_fields_of_a_recipe():
    fields = inspect.signature(Recipe.__init__).parameters
    assert typing.get_type_hints(Changes) == {
        name: typing.get_type_hints(Recipe)[name] for name in fields if name != "self"
    }
    assert list(inspect.signature(Recipe.replace).parameters) == list(fields)
    offered = inspect.signature(Recipe("a").replace).parameters.values()
    assert {one.kind for one in offered} == {inspect.Parameter.KEYWORD_ONLY}


VALUES = [
    "Pose", "Depth", "Edges", "Control", "Style", "Region", "Lora", "Recipe", "Guidance", "Blend", "SeedBlend",
    "Direction", "Edit", "Inpaint", "LocalBlend", "NAG", "StyleAligned", "Words",
]  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_help_tells_every_argument(name):
    cls = getattr(ctrl, name)
    arguments = [one for one in inspect.signature(cls).parameters]
    assert not {"args", "kwargs"} & {*arguments}
    untold = [one for one in arguments if f"`{one}" not in cls.__doc__]
    assert untold == []


def test_every_field_that_takes_pictures_is_marked_so_for_json():
    for cls in (
        ctrl.Control, ctrl.Pose, ctrl.Inpaint, ctrl.Style, ctrl.Region, ctrl.Guidance, ctrl.Edit, ctrl.Recipe
    ):  # fmt: skip
        for field in cls.__dataclass_fields__.values():
            takes = any(kind in str(field.type) for kind in ("PictureLike", "MaskLike"))
            assert takes == ("picture" in field.metadata), (cls, field.name)
