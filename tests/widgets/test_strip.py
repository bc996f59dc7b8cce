"""The pictures of the Studio in README.md: made here, of a panel that was used by hand. CTRL_STRIP says where to."""

import io
import os
import time
from pathlib import Path

import pytest
from pages import drag
from PIL import Image
from stage import Stage

import ctrl

pytestmark = pytest.mark.slow

WORDS = "a figure in a red shirt, a yellow ball on the left, on grass, at sunset, comic book"
WIDTH, GAP, EDGE, MOST = 1280, 16, 8, 250_000
SIDE = (WIDTH - GAP) // 2


def shot(stage, place, width, tall):
    """What is seen of a part of the panel, with an edge round it, where the window is so wide."""
    page = stage.page
    page.set_viewport_size({"width": width, "height": 1500})
    stage.settle(600)
    page.mouse.move(1, 1)
    stage.settle(200)
    box = page.locator(place).bounding_box()
    clip = {"x": box["x"] - EDGE, "y": box["y"] - EDGE, "width": box["width"] + 2 * EDGE}
    clip["height"] = min(box["height"] + 2 * EDGE, tall)
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def fitted(image, width):
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def until(stage, condition):
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "never true"
        stage.settle(100)


def strip(top, left, right):
    """One picture over two."""
    top, *low = fitted(top, WIDTH), fitted(left, SIDE), fitted(right, SIDE)
    height = min(one.height for one in low)
    sheet = Image.new("RGB", (WIDTH, top.height + GAP + height), "white")
    sheet.paste(top, (0, 0))
    for at, one in enumerate(low):
        sheet.paste(one.crop((0, 0, SIDE, height)), (at * (SIDE + GAP), top.height + GAP))
    return sheet


@pytest.fixture
def stage(chromium):
    """A window without touch, in which buttons are as large as on a desk."""
    context = chromium.new_context(viewport={"width": 1312, "height": 1500}, color_scheme="light")
    one = Stage(context.new_page())
    yield one
    assert one.errors == []
    context.close()


def test_the_strip_of_the_readme_is_made_of_a_panel_that_was_used(stage):
    from widgets import Studio

    model = ctrl.load()
    studio = Studio(model, ctrl.Recipe(WORDS, controls=[ctrl.Pose("standing")], seed=4))
    try:
        stage.show(*studio._pads.all, seen=False)
        stage.show(studio)
        page = stage.page
        first = studio.live.wait(300)
        canvas, joint = page.locator(".ctrl-pose .canvas-box svg").first, page.locator(".ctrl-pose .joint")
        for name, x, y in (("3", 0.34, 0.22), ("4", 0.29, 0.08)):  # elbow and wrist, raised
            box, one = canvas.bounding_box(), joint.and_(page.locator(f"[data-joint='{name}']"))
            at = one.bounding_box()
            across = box["x"] + x * box["width"] - at["x"] - at["width"] / 2
            drag(page, one, across, box["y"] + y * box["height"] - at["y"] - at["height"] / 2, steps=6)
            stage.settle(300)
        raised = studio.live.wait(300)
        until(stage, lambda: any(one["value"] is not None for one in studio.obedience))
        assert ctrl.detect.pose(raised.image).points[4][1] < ctrl.detect.pose(first.image).points[4][1] - 0.2
        top = shot(stage, ".ctrl-studio", 1312, 1100)
        studio.tab = "words"
        until(stage, lambda: studio.heat.heat is not None)
        studio.heat.pinned = [next(at for at, one in enumerate(studio.heat.heat.words) if one.text == "ball")]
        words = shot(stage, ".st-right", 1061, 898)
        for seed in (1, 2):
            studio.update(studio.recipe.replace(seed=seed))
            studio.live.wait(300)
        studio.tab = "history"
        until(stage, lambda: page.locator(".ctrl-gallery .item").count() > 2)
        for at in (0, 2):
            page.locator(".ctrl-gallery .item").nth(at).click()
            page.get_by_role("button", name="Compare").click()
            stage.settle(300)
        stage.dark()
        sheet = strip(top, words, shot(stage, ".st-right", 1061, 898))
    finally:
        studio.close()
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=82, method=6)
    assert len(buffer.getvalue()) < MOST
    if path := os.environ.get("CTRL_STRIP"):
        Path(path).write_bytes(buffer.getvalue())
