"""Studio once in a real marimo: the shell and its leaves, a knob that is followed, and a cell that runs again."""

import pytest
from pages import browsing
from stage import SHOTS
from test_in_marimo import serving

pytestmark = pytest.mark.slow

NOTEBOOK = """
import marimo
app = marimo.App(width="full")

@app.cell
def _():
    import marimo as mo
    import threading
    import ctrl
    from widgets import Studio
    model = ctrl.load()
    again = mo.ui.button(label="make it again", value=0, on_click=lambda value: value + 1)
    again
    return Studio, again, ctrl, mo, model, threading

@app.cell
def _(Studio, again, ctrl, mo, model, threading):
    again.value
    recipe = ctrl.Recipe("a figure waving", controls=[ctrl.Pose("waving")], seed=7).fast()
    studio = mo.ui.anywidget(Studio(model, recipe))
    live = [thread.name for thread in threading.enumerate()].count("ctrl.Live")
    mo.vstack([studio, mo.md(f"{live} live")])
    return (studio,)
"""


@pytest.fixture
def page(tmp_path, chromium):
    with serving(tmp_path, NOTEBOOK) as address, browsing(chromium, 1300, 1100) as one:
        one.goto(address)
        yield one


def exact(page):
    page.wait_for_function(
        """() => {
          const hosts = (root) => [...root.querySelectorAll("*")].flatMap(({ shadowRoot: one }) => (one ? [one] : []));
          const inside = (root, name) =>
            root.querySelector(name) ?? hosts(root).map((one) => inside(one, name)).find(Boolean);
          return inside(document, ".st-now")?.textContent.startsWith("at rest")
            && inside(document, ".ctrl-frame .quality")?.textContent === "exact";
        }""",
        timeout=200_000,
    )


def test_it_is_seen_it_follows_and_a_cell_that_runs_again_closes_the_panel_before(page):
    page.locator(".ctrl-studio").wait_for(timeout=200_000)
    exact(page)
    assert page.locator(".ctrl-pose .joint").count() == 18
    source = page.locator(".st-picture img").first.get_attribute("src")
    page.get_by_label("Seed", exact=True).fill("11")
    page.get_by_label("Seed", exact=True).press("Enter")
    page.wait_for_timeout(1000)
    exact(page)
    assert page.locator(".st-picture img").first.get_attribute("src") != source
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/studio-marimo.png")
    page.get_by_role("button", name="make it again").click()
    page.wait_for_timeout(3000)
    exact(page)
    page.get_by_text("1 live").wait_for(timeout=60_000)
    assert page.locator(".ctrl-studio").count() == 1
    assert page.errors == []
