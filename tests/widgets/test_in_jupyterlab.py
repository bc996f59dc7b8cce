"""The leaves once in a real JupyterLab: seen, dragged, alive beside a busy cell, and back after a reload."""

import pytest
from lab import Notebook, running
from pages import browsing, drag
from stage import SHOTS

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
    cells = [
        SHOW,
        "view",
        "pad",
        "curve",
        "gallery",
        STREAM,
        "print(repr(pad.skeleton.points[7].tolist()))",
        "print(curve.points)",
        "# a long cell\n" * 200,
    ]
    with browsing(chromium, 1280, 1000) as page:
        one = Notebook(page, *lab, cells)
        for i in range(5):
            one.run(i)
        yield one


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
    drag(book.page, book.page.locator(".ctrl-pose .joint[data-joint='7']"), 40, -60, steps=5)
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
    book.fulfilled("() => jupyterapp.commands.execute('docmanager:save')")
    book.page.wait_for_timeout(500)
    book.page.reload()
    book.ready()
    book.page.wait_for_function(
        "document.querySelector('.ctrl-frame .caption')?.textContent === 'at rest'", timeout=30_000
    )
    book.page.wait_for_function("document.querySelectorAll('.ctrl-gallery .item').length === 3", timeout=30_000)
    picture(book, "reloaded")
    assert book.page.locator(".ctrl-frame .stage img").first.evaluate("(image) => image.naturalWidth") == 256


def test_scrolled_out_of_view_and_back_it_is_the_same(book):
    scroll = "(at) => jupyterapp.shell.currentWidget.content.scrollToItem(at)"
    shown = """() => {
      const box = document.querySelector('.ctrl-frame .stage img')?.getBoundingClientRect();
      return Boolean(box && box.width && box.bottom > 0 && box.top < innerHeight);
    }"""
    for _ in range(2):
        book.page.evaluate(scroll, 8)
        book.page.wait_for_function(f"!({shown})()", timeout=20_000)
        book.page.wait_for_timeout(500)
        book.page.evaluate(scroll, 1)
        book.page.wait_for_function(shown, timeout=20_000)
    assert book.page.locator(".ctrl-frame .caption").inner_text() == "at rest"
    assert book.page.locator(".ctrl-frame .stage img").first.evaluate("(image) => image.naturalWidth") == 256
    assert book.page.errors == []


def test_after_a_restart_of_the_kernel_whoever_touches_it_is_told(book):
    book.fulfilled("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    book.ready()
    book.page.locator(".ctrl-frame .stage").click()
    book.page.get_by_text("run this cell again").first.wait_for(timeout=20_000)
    picture(book, "restarted")
