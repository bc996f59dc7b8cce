"""In a Jupyter kernel: the bar, what values show, and how mistakes and interrupts read."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import ctrl
from ctrl.sampling import Shot

CELLS = [
    "import ctrl\nmodel = ctrl.load({folder!r}, device='cpu')\nrecipe = ctrl.Recipe('a <b>', steps=3, seed=7)",
    "shot = ctrl.sample(model, recipe)\nshot",
    "shots = ctrl.sample_many(model, [recipe, recipe.replace(seed=8)])",
    "quiet = ctrl.sample(model, recipe, progress=False)",
    "next(iter(ctrl.steps(model, recipe)))",
    "x = 1\nctrl.sample(model, recipe.replace(width=66, height=66))",
    "y = 2\nctrl.Recipe('a', cfg_scale=7)",
    """
from diffusers import UNet2DConditionModel
forward = UNet2DConditionModel.forward
def interrupted(*arguments, **options):
    raise KeyboardInterrupt
UNet2DConditionModel.forward = interrupted
""",
    "ctrl.sample(model, recipe)",
    "UNet2DConditionModel.forward = forward",
    "print(ctrl.sample(model, recipe, progress=False) == shot)",
]


@pytest.fixture(scope="module")
def cells(folder, tmp_path_factory):
    """The outputs of each cell."""
    import nbclient  # here: what it imports takes seconds, and only the whole suite needs it
    import nbformat

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(code.replace("{folder!r}", repr(str(folder)))) for code in CELLS]
    where = str(tmp_path_factory.mktemp("notebook"))
    nbclient.NotebookClient(
        notebook, timeout=300, allow_errors=True, store_widget_state=False, resources={"metadata": {"path": where}}
    ).execute()
    return [cell.outputs for cell in notebook.cells]


def data(outputs):
    return [output["data"] for output in outputs if "data" in output]


def error(outputs):
    (found,) = [output for output in outputs if output["output_type"] == "error"]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(found["traceback"]))


@pytest.mark.slow
def test_a_picture_has_a_bar_and_many_pictures_have_one(cells):
    for at, total in ((1, "0/3"), (2, "0/3")):
        (bar,) = [one for one in data(cells[at]) if "application/vnd.jupyter.widget-view+json" in one]
        assert total in bar["text/plain"]  # as it was when it appeared
    assert cells[3] == []


@pytest.mark.slow
def test_a_shot_and_a_step_show_themselves(cells):
    (shown,) = [one for one in data(cells[1]) if "image/png" in one]
    assert '<th style="text-align:left">seed</th>' in shown["text/html"] and "a &lt;b&gt;" in shown["text/html"]
    (step,) = data(cells[4])
    assert "image/png" in step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "line"), [(5, "ctrl.sample(model, recipe.replace("), (6, "ctrl.Recipe('a', cfg_scale=7)")]
)
def test_a_mistake_ends_in_the_cell_s_own_line(cells, at, line):
    read = error(cells[at])
    assert f"----> 2 {line}" in read
    assert not re.search(r"ctrl/\w+/\w+\.py|caller\.py|<string>", read)
    assert "During handling" not in read and "hidden" not in read


@pytest.mark.slow
def test_an_interrupt_is_short_and_the_next_run_is_the_same(cells):
    read = error(cells[8])
    assert "----> 1 ctrl.sample(model, recipe)" in read and len(read.splitlines()) < 10
    assert cells[10][0]["text"] == "True\n"


def test_a_shot_shows_seed_time_notes_and_a_small_recipe_beside_the_picture(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    shot = Shot(image, ctrl.Recipe("a <b>", seed=41, steps=9), ("it was <cut>", "another"), seconds=1.25)
    html = shot._repr_html_()
    page = ElementTree.fromstring(html)
    rows = {(row.findtext("th"), row.findtext("td")) for row in page.iter("tr")}
    assert {("seed", "41"), ("steps", "9, dpm++ 2m"), ("size", "96×64"), ("time", "1.2 s")} <= rows
    assert {("note", "it was <cut>"), ("note", "another")} <= rows
    assert page.find(".//details/summary").text == "recipe"
    assert "time" not in Shot(image, shot.recipe)._repr_html_()


def test_a_shot_with_large_pictures_in_its_recipe_stays_small(tmp_path):
    large = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)
    shot = Shot(Image.new("RGB", (64, 64)), ctrl.Recipe("a", image=large, styles=[ctrl.Style(large)]))
    assert len(shot._repr_html_()) < 50_000 and len(shot._repr_png_()) < 10_000
