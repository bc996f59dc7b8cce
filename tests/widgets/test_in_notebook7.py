"""Studio in a real Notebook 7, whose shortcuts take arrow keys and letters from panels that do not say they are theirs.

CTRL_NOTEBOOK names the folder with Notebook 7, made by `pip install --no-deps --target FOLDER notebook`.
"""

import os

import pytest
from lab import TOKEN, running, write
from pages import browsing
from stage import SHOTS

pytestmark = pytest.mark.slow

FOLDER = os.environ.get("CTRL_NOTEBOOK")
CELL = """
import ctrl
from widgets import Studio
studio = Studio(ctrl.load(), ctrl.Recipe("a figure waving", controls=[ctrl.Pose("waving")], steps=2, seed=7))
studio
"""


@pytest.mark.skipif(not FOLDER, reason="CTRL_NOTEBOOK names no folder with Notebook 7")
def test_arrow_keys_move_sliders_and_joints_and_letters_leave_the_cells_alone(chromium, tmp_path):
    with running(tmp_path, ("notebook",), [FOLDER]) as address, browsing(chromium, 1400, 1300) as page:
        write(tmp_path, [CELL, "1 + 1"])
        page.goto(f"{address}/notebooks/leaves.ipynb?token={TOKEN}")
        cells = page.locator(".jp-Cell")
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=90_000, state="attached")
        for _ in range(20):  # a key that comes while the kernel is connected is lost
            cells.first.locator(".cm-content").click()
            page.keyboard.press("Control+Enter")
            page.wait_for_timeout(3000)
            if cells.first.locator(".jp-InputPrompt").inner_text() != "[ ]:":
                break
        page.wait_for_function(
            "() => document.querySelector('.st-now')?.textContent.startsWith('at rest')", timeout=240_000, polling=200
        )
        slider, joint = (
            page.get_by_label("guidance", exact=True),
            page.locator(".ctrl-pose .joint[data-joint='4']"),
        )
        before = float(slider.input_value()), joint.get_attribute("transform")
        slider.press("ArrowRight")
        joint.press("ArrowLeft")
        page.wait_for_timeout(300)
        assert float(slider.input_value()) > before[0] and joint.get_attribute("transform") != before[1]
        for place in (slider, joint, page.get_by_role("tab", name="Words")):
            place.focus()
            page.keyboard.type("xabddmy00", delay=30)
        page.wait_for_timeout(300)
        assert cells.count() == 2
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/notebook7.png")
