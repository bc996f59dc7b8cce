"""TokenHeat, MapPad and StyleShelf once in a real marimo: seen, and a stroke reaches the cells that read it."""

import pytest
import test_in_marimo
from pages import browsing
from stage import SHOTS
from test_in_marimo import address  # noqa: F401

pytestmark = pytest.mark.slow

NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    import marimo as mo
    import numpy as np
    from PIL import Image
    from widgets import MapPad, StyleShelf, TokenHeat
    from widgets.heat import Heat
    ground = Image.linear_gradient("L").convert("RGB")
    heat = TokenHeat(Heat.of(ground, ["hills"], np.full((1, 16, 16), 0.25)))
    return MapPad, StyleShelf, ground, heat, mo, np

@app.cell
def _(MapPad, StyleShelf, ground, heat, mo):
    pad = mo.ui.anywidget(MapPad(size=(256, 256), soft=0, radius=20))
    mo.vstack([pad, mo.ui.anywidget(heat), mo.ui.anywidget(StyleShelf([ground]))])
    return (pad,)

@app.cell
def _(mo, np, pad):
    pad.value
    mo.md(f"middle {np.asarray(pad.widget.picture)[128, 128]}")
    return
"""


@pytest.fixture(autouse=True)
def notebook(monkeypatch):
    monkeypatch.setattr(test_in_marimo, "NOTEBOOK", NOTEBOOK)


@pytest.fixture
def page(notebook, chromium, address):  # noqa: F811
    with browsing(chromium, 1100, 1400) as one:
        one.goto(address)
        yield one


def test_a_stroke_is_read_by_a_cell_and_the_maps_are_painted(page):
    page.get_by_text("middle 0").wait_for(timeout=60_000)
    page.locator(".ctrl-shelf .crop img[src^=blob]").wait_for(timeout=30_000)
    page.locator(".ctrl-heat canvas[data-painted]").wait_for(timeout=30_000)
    canvas = page.locator(".ctrl-map .stage canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 40, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 40, middle, steps=6)
    page.mouse.up()
    page.get_by_text("middle 255").wait_for(timeout=20_000)
    page.get_by_role("button", name="hills").first.hover()
    page.get_by_text("Up to 25 % of attention").wait_for(timeout=10_000)
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/marimo-painted.png", full_page=True)
    assert page.errors == []
