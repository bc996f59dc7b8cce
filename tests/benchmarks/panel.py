"""How soon a slider is seen in the picture, in JupyterLab: Studio beside `ipywidgets.interact` on plain diffusers.

    python tests/benchmarks/panel.py [--moves 12] [--steps 20]

Both have atelier's weights, the same prompt and the same guidance slider. Printed are the times from a key on the
slider to the first changed pixels (p50 and p95), to the finished picture, pictures a second during five seconds of
dragging, bytes a frame, and how soon a Studio that is opened shows something. The moves of the two take turns, so that
other load on the machine meets both alike.
"""

import argparse
import json
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "widgets"), str(HERE.parent), str(HERE.parent.parent)]

STUDIO = """
import ctrl
from widgets import Studio
sizes = []
studio = Studio(ctrl.load(), ctrl.Recipe("a figure in a red shirt, on grass", steps={steps}, seed=7))
post = studio.picture.post
def counted(kind, content=None, buffers=()):
    buffers = list(buffers)
    sizes.extend(map(len, buffers if kind == "frame" else ()))
    post(kind, content, buffers)
studio.picture.post = counted
studio
"""
PLAIN = """
import torch, ipywidgets
from IPython.display import display
from diffusers import StableDiffusionPipeline
from importlib.resources import files
pipe = StableDiffusionPipeline.from_pretrained(str(files("ctrl.atelier") / "weights"), safety_checker=None)
pipe.set_progress_bar_config(disable=True)
def picture(guidance):
    generator = torch.Generator().manual_seed(7)
    size = dict(width=256, height=256)
    call = dict(num_inference_steps={steps}, guidance_scale=guidance, generator=generator, **size)
    display(pipe("a figure in a red shirt, on grass", **call).images[0])
ipywidgets.interact(picture, guidance=ipywidgets.FloatSlider(6.0, min=0, max=20, step=0.05))
"""
SIZES = "import json; print(json.dumps(sizes[-50:]))"
CHANGES = """(selector) => {
  const node = document.querySelector(selector);
  const at = () => node.querySelector("img")?.src;
  let last = at();
  window.seen = [];
  window.watching?.disconnect();
  window.watching = new MutationObserver(() => {
    if (at() && at() !== last) { last = at(); seen.push(performance.now()); }
  });
  watching.observe(node, { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] });
}"""
STUDIO_AT, PLAIN_AT = ".st-picture", ".widget-interact"
RESTS = "() => document.querySelector('.st-now')?.textContent.startsWith('at rest')"


class Side:
    """A slider, the place of its picture, and how to wait until that picture is the finished one."""

    def __init__(self, page, place, slider, finished):
        self.page, self.place, self.slider, self.finished = page, place, slider, finished

    def move(self):
        """Seconds from a key on the slider to the first changed picture and to the finished one."""
        self.page.evaluate(CHANGES, self.place)
        self.slider.focus()
        self.page.wait_for_timeout(500)
        begun = self.page.evaluate("() => { seen.length = 0; return performance.now(); }")
        self.page.keyboard.press("ArrowRight")
        wait(self.page, "() => seen.length > 0")
        self.finished()
        seen = self.page.evaluate("seen")
        return (seen[0] - begun) / 1000, (seen[-1] - begun) / 1000


def wait(page, condition):
    """Poll, and not at each frame: that would draw the page all the time."""
    page.wait_for_function(condition, timeout=300_000, polling=50)


def dragged(page, place, slider, seconds=5):
    """Pictures a second while the slider is dragged."""
    page.evaluate(CHANGES, place)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("seen.length = 0")
    for at in range(seconds * 20):
        page.mouse.move(x + (at % 40) * box["width"] / 100, y)
        page.wait_for_timeout(50)
    count = page.evaluate("seen.length")
    page.mouse.up()
    return count / seconds


def report(name, times, rate, more=""):
    first, last = np.array(times).T
    p50, p95 = np.percentile(first, [50, 95])
    print(f"{name}: first changed pixels p50 {p50:.2f} s, p95 {p95:.2f} s; finished p50 {np.median(last):.2f} s; "
          f"{rate:.1f} pictures/s while dragging{more}")  # fmt: skip


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--moves", type=int, default=12)
    asked.add_argument("--steps", type=int, default=20)
    given = asked.parse_args()
    assert find_spec("playwright"), "pip install '.[test]'"
    from lab import Notebook, running
    from playwright.sync_api import sync_playwright
    from stage import CHROMIUM, FLAGS

    home = Path(tempfile.mkdtemp())
    with sync_playwright() as playwright, running(home) as address:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_context(viewport={"width": 1400, "height": 1200}).new_page()
        page.set_default_timeout(120_000)
        cells = [text.replace("{steps}", str(given.steps)) for text in (STUDIO, SIZES, PLAIN)]
        book = Notebook(page, address, home, cells)
        begun = time.monotonic()
        book.start(0)
        page.locator(f"{STUDIO_AT} img[src]").first.wait_for(timeout=300_000)
        opened = time.monotonic() - begun
        wait(page, RESTS)
        book.run(2)
        page.locator(f"{PLAIN_AT} img").wait_for()
        page.wait_for_timeout(2000)
        studio = Side(page, STUDIO_AT, page.get_by_label("guidance", exact=True), lambda: wait(page, RESTS))
        plain = Side(page, PLAIN_AT, page.locator(f"{PLAIN_AT} .noUi-handle"), lambda: None)  # it shows no other
        sides = (studio, plain)
        times = [[side.move() for side in sides] for _ in range(given.moves + 1)][1:]  # the first one warms both up
        rate = dragged(page, STUDIO_AT, studio.slider)
        wait(page, RESTS)
        sizes = json.loads(book.run(1))
        report("Studio", [one for one, _ in times], rate, f"; {np.median(sizes) / 1024:.0f} KB a frame (median)")
        rate = dragged(page, PLAIN_AT, page.locator(f"{PLAIN_AT} .noUi-base"))
        report("interact on diffusers", [one for _, one in times], rate)
        print(
            f"Studio opens: {opened:.1f} s from the cell's start to a picture, imports and the model's loading included"
        )
        shares = [ours[1] / theirs[1] for ours, theirs in times]
        print(f"finished, Studio / interact, of moves one after the other: {np.median(shares):.2f}")
        browser.close()


if __name__ == "__main__":
    main()
