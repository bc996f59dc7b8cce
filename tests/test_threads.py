"""The end of a program that left something running: its threads end first, and its exit status is its own."""

import subprocess
import sys
import threading

import pytest

from ctrl import threads

MODEL = """
import ctrl, torch
from threading import Event
from ctrl import threads
torch.set_num_threads(1)
model, recipe = ctrl.load(), ctrl.Recipe("a figure waving, 3d render", steps=50)
begun = Event()
"""
LEFT = {  # each is seen to run, or to rest, when the program ends
    "a live session that runs": """
live = ctrl.Live(model, recipe, lambda frame: begun.set())
assert begun.wait(60) and live.state.phase == "running" """,
    "a live session that rests": """
live = ctrl.Live(model, recipe.replace(steps=1))
assert live.wait(60).exact""",
    "a session in a callback that never returns": """
threads.PATIENCE = 0.5
live = ctrl.Live(model, recipe.replace(steps=1), lambda frame: (begun.set(), Event().wait()))
assert begun.wait(60)""",
    "a Studio that reads the attention of its picture": """
from widgets import Studio
watched = ctrl.steps
ctrl.steps = lambda *given, **more: (begun.set(), watched(*given, **more))[1]
studio = Studio(model, recipe.replace(steps=10))
assert studio.live.wait(60).exact
studio.tab = "words"
assert begun.wait(60)""",
    "a grid of a Studio": """
from widgets.grids import Grid
failed = []
grid = Grid(model, lambda done, of: begun.set(), print, failed.append)
grid.begin(recipe, [("seed", "0-19")])
assert begun.wait(60) and not failed""",
}


@pytest.mark.slow
@pytest.mark.parametrize("left", LEFT)
def test_a_program_ends_whatever_it_left_running(left):
    done = subprocess.run([sys.executable, "-c", MODEL + LEFT[left]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]


def test_a_stop_keeps_nobody_alive():
    class Owner:
        def stop(self):
            raise AssertionError

    owner, go = Owner(), threading.Event()
    thread = threads.start(go.wait, name="waits", stop=owner.stop)
    assert thread.daemon and thread.name == "waits" and thread in threads._stops
    kept = threads._stops[thread]
    del owner
    assert kept() is None
    go.set()
    thread.join()
