"""TokenHeat, MapPad and StyleShelf once in a real JupyterLab: seen, used, quiet with keys, and back after a reload."""

import pytest
from lab import Notebook, running
from pages import browsing
from stage import SHOTS

pytestmark = pytest.mark.slow

SHOW = """
import numpy as np
from PIL import Image
import ctrl
from widgets import MapPad, StyleShelf, TokenHeat
from widgets.heat import Heat
down, across = np.mgrid[:16, :16] / 15
ground = Image.linear_gradient("L").resize((256, 256)).convert("RGB")
shares = np.stack([(down > 0.6) * 0.3, (down < 0.4) * 0.2, across * 0.1])
heat = TokenHeat(Heat.of(ground, ["hills", "sky", "right"], shares, attends=np.eye(256) * 0.5 + 0.5 / 256))
pad = MapPad(size=(256, 256), regions=["sky"], soft=0, radius=20)
shelf = StyleShelf([ground, ctrl.Style(ground.rotate(90), weight=0.4)])
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory, chromium):
    home = tmp_path_factory.mktemp("lab")
    with running(home) as address, browsing(chromium, 1280, 1000) as page:
        asked = [
            "print(heat.pinned, heat.place)",
            "print(np.asarray(pad.picture)[128, 64:192].min(), pad.revision)",
            "print([style.weight for style in shelf.styles])",
        ]
        one = Notebook(page, address, home, [SHOW, "heat", "pad", "shelf", *asked])
        for i in range(4):
            one.run(i)
        yield one


def place(book, selector, x, y):
    node = book.page.locator(selector).first
    node.scroll_into_view_if_needed()
    box = node.bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def picture(book, name):
    if SHOTS:
        book.page.screenshot(path=f"{SHOTS}/lab-{name}.png")


def test_a_word_is_hovered_and_a_place_kept(book):
    book.page.wait_for_function("document.querySelector('.ctrl-heat canvas')?.dataset.painted > 0", timeout=30_000)
    book.page.get_by_role("button", name="sky").first.hover()
    book.page.get_by_text("Up to 20 % of attention").wait_for()
    picture(book, "heat")
    book.page.mouse.click(*place(book, ".ctrl-heat canvas", 0.5, 0.9))
    book.page.get_by_text("Where this place attends").wait_for()
    assert book.run(4).startswith("[] [[0.5")


def test_a_stroke_in_the_page_is_a_map_in_the_kernel(book):
    canvas = ".ctrl-map .stage canvas"
    place(book, canvas, 0.5, 0.5)
    book.page.wait_for_timeout(300)
    book.page.mouse.move(*place(book, canvas, 0.2, 0.5))
    book.page.mouse.down()
    book.page.mouse.move(*place(book, canvas, 0.8, 0.5), steps=8)
    book.page.mouse.up()
    book.page.wait_for_timeout(700)
    picture(book, "map")
    assert book.run(5).split() == ["255", "1"]


def test_a_weight_typed_in_the_page_is_a_style_in_the_kernel(book):
    field = book.page.locator(".ctrl-shelf").get_by_role("spinbutton", name="Weight", exact=True).first
    field.scroll_into_view_if_needed()
    field.fill("1.25")
    field.press("Enter")
    book.page.wait_for_timeout(500)
    picture(book, "shelf")
    assert book.run(6).strip() == "[1.25, 0.4]"


@pytest.mark.parametrize("focus", [".ctrl-heat canvas", ".ctrl-map .stage canvas", ".ctrl-shelf .grip"])
def test_keys_typed_in_a_leaf_leave_the_notebook_alone(book, focus):
    count = book.cells
    book.page.locator(focus).first.focus()
    book.page.keyboard.type("xabddmy00", delay=20)
    book.page.keyboard.press("ArrowDown")
    book.page.wait_for_timeout(300)
    assert book.cells == count


def test_a_reload_brings_everything_back(book):
    book.fulfilled("() => jupyterapp.commands.execute('docmanager:save')")
    book.page.wait_for_timeout(500)
    book.page.reload()
    book.ready()
    book.page.wait_for_function("document.querySelector('.ctrl-heat canvas')?.dataset.painted > 0", timeout=30_000)
    book.page.wait_for_function("document.querySelector('.ctrl-map canvas')?.dataset.painted > 0", timeout=30_000)
    book.page.wait_for_timeout(500)
    middle = """() => {
      const canvas = document.querySelector('.ctrl-map .stage canvas');
      return [...canvas.getContext('2d').getImageData(128, 128, 1, 1).data.slice(0, 3)];
    }"""
    assert book.page.evaluate(middle) == [255, 255, 255]
    weights = book.page.locator(".ctrl-shelf").get_by_role("spinbutton", name="Weight", exact=True)
    assert {field.input_value() for field in weights.all()} == {"1.25", "0.4"}
    assert book.page.errors == []
