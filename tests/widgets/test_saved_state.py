"""What a saved notebook keeps of a Studio: with its widgets' state, as nbclient stores it, and without."""

import json
import os

import pytest
from lab import ROOT

pytestmark = pytest.mark.slow

CELL = """
import ctrl
from widgets import Studio
recipe = ctrl.Recipe("a figure waving", controls=[ctrl.Pose("waving")], seed=7).fast()
studio = Studio(ctrl.load(), recipe)
studio.live.wait(200)
studio
"""


def saved(tmp_path, monkeypatch, **settings):
    """The notebook of one cell, run."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}, **settings).execute()
    return book


def test_a_notebook_keeps_less_than_fifty_kilobytes_of_a_studio(monkeypatch, tmp_path, record_property):
    book = saved(tmp_path, monkeypatch)
    state = book.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    size = len(json.dumps(state))
    record_property("bytes", size)
    assert len(state) >= 8 and size < 50_000, size


def test_without_the_state_it_keeps_less_than_five(monkeypatch, tmp_path, record_property):
    book = saved(tmp_path, monkeypatch, store_widget_state=False)
    size = len(json.dumps(book.cells[0].outputs))
    record_property("bytes", size)
    assert "application/vnd.jupyter.widget-view+json" in book.cells[0].outputs[-1].data
    assert "widgets" not in book.metadata and size < 5_000, size
