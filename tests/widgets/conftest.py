"""The browser, a page to show leaves on, and Google Colab as a stand-in."""

import os
import sys
import types

import pytest
from stage import CHROMIUM, FLAGS, Stage


def pytest_collection_modifyitems(items):
    """Who uses the browser says so: `-m "not browser"` leaves these tests out."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    """One browser for the session. Only CI must have it."""
    try:
        from playwright.sync_api import sync_playwright

        missing = None if CHROMIUM.exists() else f"{CHROMIUM} is not installed (Debian: apt-get install chromium)"
    except ImportError:
        missing = 'playwright is not installed (pip install ".[test]")'
    if missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def colab(monkeypatch):
    """As if this were Google Colab."""
    package, output = types.ModuleType("google.colab"), types.ModuleType("google.colab.output")
    output.enable_custom_widget_manager = lambda: None  # anywidget calls it there
    package.output = output
    for module in (package, output):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def stage(chromium):
    """A page to show leaves on. No test may leave an error in its console."""
    context = chromium.new_context(viewport={"width": 900, "height": 900}, color_scheme="light", has_touch=True)
    one = Stage(context.new_page())
    yield one
    errors = one.errors
    context.close()
    assert errors == []
