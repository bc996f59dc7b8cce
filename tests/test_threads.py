"""The end of a program that left something running: its threads end first, and its exit status is its own."""

import subprocess
import sys
import threading

import pytest

from ctrl import threads

MODEL = """
import time, ctrl, torch
from ctrl import threads
torch.set_num_threads(1)
model, recipe = ctrl.load(), ctrl.Recipe("a figure waving, 3d render", steps=50)
"""
LEFT = {
    "a live session that runs": "live = ctrl.Live(model, recipe)\ntime.sleep(0.2)",
    "a live session that rests": "live = ctrl.Live(model, recipe.replace(steps=1))\nlive.wait(60)",
    "a session in a callback that never returns": """
threads.PATIENCE = 0.5
reached = __import__("threading").Event()
live = ctrl.Live(model, recipe.replace(steps=1), lambda frame: (reached.set(), __import__("threading").Event().wait()))
reached.wait(60)""",
    "a Studio that reads the attention of its picture": """
from widgets import Studio
studio = Studio(model, recipe.replace(steps=2))
studio.live.wait(60)
time.sleep(0.4)""",
    "a grid of a Studio": """
from widgets.grids import Grid
begun = __import__("threading").Event()
grid = Grid(model, lambda done, of: begun.set(), print, print)
grid.begin(recipe.replace(steps=4), {"seed": range(20)})
begun.wait(60)
time.sleep(0.1)""",
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
