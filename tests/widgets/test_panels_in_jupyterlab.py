"""PosePanel, DepthPanel and StylePanel in a real JupyterLab, on the atelier: a dragged wrist moves the drawn arm."""

import json

import pytest
from lab import Notebook, running
from pages import browsing, drag
from stage import SHOTS

pytestmark = pytest.mark.slow

SHOW = """
import json
import threading
import ipywidgets
import torch
import ctrl
from widgets import DepthPanel, PosePanel, StylePanel
torch.set_num_threads(1)
model = ctrl.load()
recipe = ctrl.Recipe("a figure in a red shirt and blue trousers, on grass, 3d render", steps=12, seed=5)
"""
POSE = """
panel = PosePanel(model, recipe.replace(controls=[ctrl.Pose("arms outstretched")]))
ipywidgets.VBox([ipywidgets.Label("a box of mine"), panel])
"""
WRIST = """
shot, wanted = panel.shot, panel.recipe.controls[0].picture.points
drawn = ctrl.detect.pose(shot.image)
print(json.dumps([wanted[7].tolist(), drawn.points[7].tolist(), bool(drawn.shown[7])]))
"""
OTHERS = """
depth = DepthPanel(model, recipe.replace(controls=[ctrl.Depth(ctrl.detect.depth(panel.shot.image))]))
style = StylePanel(model, recipe.replace(styles=[ctrl.Style(panel.shot.image)]))
ipywidgets.VBox([depth, style])
"""
CELLS = [
    SHOW,
    POSE,
    WRIST,
    "panel.snapshot(interactive=True)",
    "panel.snapshot()",
    OTHERS,
    "print(json.dumps([panel.comm is None, [one.name for one in threading.enumerate()].count('ctrl.Live')]))",
    "for one in (panel, depth, style): one.close()",
    "__import__('time').sleep(25)\nprint('busy cell over')",
]


@pytest.fixture(scope="module")
def book(tmp_path_factory, chromium):
    home = tmp_path_factory.mktemp("lab")
    with running(home) as address, browsing(chromium, 1280, 1100) as page:
        one = Notebook(page, address, home, CELLS)
        one.run(0)
        one.run(1)
        yield one


def look(book, name, place):
    book.page.locator(place).first.scroll_into_view_if_needed()
    book.page.wait_for_timeout(500)
    if SHOTS:
        book.page.screenshot(path=f"{SHOTS}/lab-{name}.png")


def exact(book, at=0):
    quality = book.page.locator(".ctrl-frame .quality").nth(at)
    quality.get_by_text("exact").wait_for(timeout=90_000)


def drag_wrist(book, across, down):
    """Drag the left wrist by fractions of the canvas."""
    joint = book.page.locator(".ctrl-pose .joint[data-joint='7']")
    pad = book.page.locator(".ctrl-pose svg").last.bounding_box()
    drag(book.page, joint, across * pad["width"], down * pad["height"], steps=8)


def test_a_dragged_wrist_moves_the_drawn_arm(book):
    exact(book)
    look(book, "pose-panel", ".ctrl-pose")
    before = json.loads(book.run(2))
    drag_wrist(book, -0.1, -0.22)
    book.page.wait_for_timeout(1000)
    exact(book)
    after = json.loads(book.run(2))
    look(book, "pose-panel-dragged", ".ctrl-pose")
    assert after[0][1] < before[0][1] - 0.1, "the recipe has the drag"
    assert before[2] and after[2]
    assert after[1][1] < before[1][1] - 0.08, f"the eyes see the wrist at {after[1]}, before at {before[1]}"
    assert book.page.errors == []


def test_a_drag_is_followed_while_a_cell_is_busy(book):
    caption = book.page.locator(".ctrl-frame .caption").first
    before = caption.inner_text()
    book.start(8)
    book.page.wait_for_timeout(500)
    drag_wrist(book, 0.05, 0.1)
    book.page.wait_for_function(
        "(before) => document.querySelector('.ctrl-frame .caption').textContent !== before", arg=before, timeout=25_000
    )
    assert "busy cell over" not in book.page.locator(".jp-OutputArea-output").all_inner_texts()
    book.fulfilled("() => window.done")


def test_a_weight_is_a_curve_at_a_press_and_a_slider_again(book):
    curve = book.page.locator(".ctrl-curve")
    assert curve.count() == 0
    book.page.get_by_title("pose as a curve over the steps").click()
    curve.wait_for(timeout=20_000)
    exact(book)
    look(book, "weight-as-a-curve", ".ctrl-curve")
    book.page.get_by_title("pose as a curve over the steps").click()
    curve.wait_for(state="detached", timeout=20_000)
    assert book.page.errors == []


def test_a_snapshot_stays_in_the_notebook(book):
    exact(book)
    caption = book.page.locator(".ctrl-frame .caption").first
    before = caption.inner_text()
    drag_wrist(book, 0.05, 0.1)  # a second picture for the history, if this test is the first of its process
    book.page.wait_for_function(
        "(before) => document.querySelector('.ctrl-frame .caption').textContent !== before", arg=before, timeout=25_000
    )
    exact(book)
    book.run(3)
    book.run(4)
    frame = book.page.frame_locator(".jp-OutputArea-output iframe")
    frame.locator(".ctrl-frame .stage img").first.wait_for(timeout=20_000)
    assert frame.locator(".ctrl-gallery .item").count() >= 2
    look(book, "snapshot", ".jp-OutputArea-output iframe")
    still = book.page.locator(".jp-RenderedImage img").first
    assert still.evaluate("(image) => image.naturalWidth") == 256


def test_depth_and_style_panels_draw_beside_it(book):
    book.run(5)
    exact(book, 1)
    exact(book, 2)
    look(book, "depth-panel", ".ctrl-map")
    look(book, "style-panel", ".ctrl-shelf")
    assert (
        book.page.locator(".ctrl-shelf").is_visible() and book.page.locator("[role=alert] .ctrl-problem").count() == 0
    )


def test_a_cell_run_again_retires_its_panel(book):
    assert json.loads(book.run(6)) == [False, 3]
    book.page.evaluate("window.old = document.querySelectorAll('.ctrl-pose').length")
    book.start(1)
    book.page.wait_for_timeout(3000)
    assert json.loads(book.run(6)) == [False, 3]
    book.run(7)
    assert json.loads(book.run(6)) == [True, 0]
