"""The leaves once in a real JupyterLab: seen, dragged, alive beside a busy cell, and back after a reload."""

import pytest
from conftest import SHOTS
from lab import Notebook, running

pytestmark = pytest.mark.slow

SHOW = """
import threading, time
from PIL import Image
import ctrl
from widgets import CurvePad, FrameView, Gallery, PosePad
view, pad = FrameView(), PosePad(ctrl.Skeleton.named("waving"))
curve, gallery = CurvePad(ctrl.ramp(9.0, 3.0), limit=100, label="guidance"), Gallery()
def field(i, size=256):
    return Image.linear_gradient("L").resize((size, size)).rotate(i, fillcolor=i % 256)
for i in range(3):
    gallery.add(field(40 * i), ctrl.Recipe(f"field {i}", seed=i))
"""
STREAM = """
def stream():
    for i in range(400):
        view.show(field(i), draft=True, caption=f"frame {i}")
        time.sleep(0.01)
    view.show(field(7), caption="at rest")
threading.Thread(target=stream, daemon=True).start()
end = time.monotonic() + 6
while time.monotonic() < end:
    pass
print("busy cell over")
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    home = tmp_path_factory.mktemp("lab")
    with running(home) as address:
        yield address, home


@pytest.fixture(scope="module")
def book(chromium, lab):
    """A notebook in which each leaf is shown."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    cells = [
        SHOW,
        "view",
        "pad",
        "curve",
        "gallery",
        STREAM,
        "print(repr(pad.skeleton.points[7].tolist()))",
        "print(curve.points)",
    ]
    one = Notebook(page, *lab, cells)
    for i in range(5):
        one.run(i)
    yield one
    context.close()


def picture(book, name):
    if SHOTS:
        book.page.screenshot(path=f"{SHOTS}/lab-{name}.png")


def test_every_leaf_is_seen(book):
    for name in ("frame", "pose", "curve", "gallery"):
        leaf = book.page.locator(f".ctrl-{name}")
        leaf.scroll_into_view_if_needed()
        assert leaf.is_visible()
        picture(book, name)
    assert book.page.locator(".ctrl-gallery .item").count() == 3
    assert book.page.errors == []


def test_a_wrist_dragged_in_the_page_is_dragged_in_the_kernel(book):
    joint = book.page.locator(".ctrl-pose .joint[data-joint='7']")
    joint.scroll_into_view_if_needed()
    box = joint.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    book.page.mouse.move(x, y)
    book.page.mouse.down()
    book.page.mouse.move(x + 40, y - 60, steps=5)
    book.page.mouse.up()
    book.page.wait_for_timeout(500)
    before, after = (0.603, 0.537), eval(book.run(6))
    assert after[0] > before[0] + 0.03 and after[1] < before[1] - 0.05


@pytest.mark.parametrize(
    "place", [".ctrl-pose .joint[data-joint='7']", ".ctrl-curve .point >> nth=0", ".ctrl-gallery .item >> nth=0"]
)
def test_keys_typed_in_a_leaf_leave_the_notebook_alone(book, place):
    count = book.cells
    book.page.locator(place).focus()
    book.page.keyboard.type("xabddmy00", delay=20)
    book.page.keyboard.press("ArrowDown")
    book.page.wait_for_timeout(300)
    assert book.cells == count


def test_frames_flow_and_a_drag_arrives_while_a_cell_is_busy(book):
    book.page.evaluate(
        """() => {
          window.seen = new Set();
          const node = document.querySelector('.ctrl-frame .caption');
          const watched = { childList: true, characterData: true, subtree: true };
          new MutationObserver(() => seen.add(node.textContent)).observe(node, watched);
        }"""
    )
    book.start(5)
    book.page.wait_for_timeout(4000)
    moving = book.page.evaluate("seen.size")
    assert "busy cell over" not in book.page.locator(".jp-OutputArea-output").all_inner_texts()
    book.page.wait_for_function(
        "document.querySelector('.ctrl-frame .caption').textContent === 'at rest'", timeout=20_000
    )
    assert moving >= 15, f"{moving} frames seen in 4 s beside a busy cell"
    assert book.page.locator(".ctrl-frame .quality").inner_text() == "exact"


def test_a_reload_brings_everything_back(book):
    book.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    book.page.wait_for_timeout(500)
    book.page.reload()
    book.ready()
    book.page.wait_for_function(
        "document.querySelector('.ctrl-frame .caption')?.textContent === 'at rest'", timeout=30_000
    )
    book.page.wait_for_function("document.querySelectorAll('.ctrl-gallery .item').length === 3", timeout=30_000)
    picture(book, "reloaded")
    assert book.page.locator(".ctrl-frame .stage img").first.evaluate("(image) => image.naturalWidth") == 256
