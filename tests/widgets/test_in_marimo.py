"""The leaves once in a real marimo: seen, and a drag reaches the cells that read the value."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from lab import ROOT, end
from pages import browsing, drag
from stage import SHOTS

pytestmark = pytest.mark.slow

NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    import marimo as mo
    import ctrl
    from PIL import Image
    from widgets import CurvePad, FrameView, Gallery, PosePad
    picture = Image.linear_gradient("L")
    gallery = Gallery()
    _ = gallery.add(picture, ctrl.Recipe("a field")), gallery.add(picture, ctrl.Recipe("a moon"))
    return CurvePad, FrameView, PosePad, ctrl, gallery, mo, picture

@app.cell
def _(CurvePad, FrameView, PosePad, ctrl, gallery, mo, picture):
    pad = mo.ui.anywidget(PosePad(ctrl.Skeleton.named("waving")))
    others = FrameView(picture, caption="still"), CurvePad(ctrl.ramp(9.0, 3.0), limit=100), gallery
    mo.vstack([pad, *map(mo.ui.anywidget, others)])
    return (pad,)

@app.cell
def _(mo, pad):
    pad.value
    mo.md(f"wrist {pad.widget.skeleton.points[7][0]:.2f}")
    return
"""


@pytest.fixture
def address(tmp_path):
    with serving(tmp_path, NOTEBOOK) as at:
        yield at


@contextmanager
def serving(tmp_path, notebook):
    """The address of a marimo that runs a notebook."""
    (tmp_path / "leaves.py").write_text(notebook)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", "leaves.py", "--headless", "--no-token", f"--port={port}"]
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "MARIMO_SKIP_UPDATE_CHECK": "1"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host=127.0.0.1"], cwd=tmp_path, env=env, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(240):
                assert process.poll() is None, (tmp_path / "log").read_text()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                        break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.25)
            yield f"http://127.0.0.1:{port}"
        finally:
            end(process)


def test_every_leaf_is_seen_and_a_dragged_wrist_is_read_by_a_cell(chromium, address):
    with browsing(chromium, 1100, 1000) as page:
        page.goto(address)
        for name in ("pose", "frame", "curve", "gallery"):
            page.locator(f".ctrl-{name}").wait_for(timeout=60_000)
        page.get_by_text("wrist 0.60").wait_for(timeout=20_000)
        page.locator(".ctrl-frame img").first.wait_for()
        drag(page, page.locator(".ctrl-pose .joint[data-joint='7']"), 50, -40, steps=4)
        page.get_by_text("wrist 0.60").wait_for(state="detached", timeout=20_000)
        assert page.locator(".ctrl-gallery .item").count() == 2
        assert page.locator(".ctrl-frame .caption").inner_text() == "still"
        assert page.errors == []
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/marimo.png")
