"""In the foreground of a cell: frames and states are shown where a picture is asked for, until it is there."""

from concurrent.futures import Future
from types import SimpleNamespace

import ctrl
from ctrl.live import State
from widgets import foreground
from widgets.foreground import Foreground


def test_it_waits_for_the_picture_that_is_wanted_not_for_one_that_was_made_ahead():
    front, seen = Foreground(), []
    show = front.relay(seen.append)
    before, wanted = ctrl.Recipe("a ball", seed=1), ctrl.Recipe("a ball", seed=2)
    told = [("filling", before), ("idle", before), ("running", wanted), ("idle", wanted)]
    states = [State(phase, recipe.hash) for phase, recipe in told]
    for state in states:
        show(state)
    front.follow(SimpleNamespace(recipe=wanted))
    assert seen == states


def test_an_interrupt_while_the_last_state_is_shown_leaves_nobody_waiting(monkeypatch):
    monkeypatch.setattr(foreground, "PATIENCE", 0.01)
    front, done, recipe = Foreground(), Future(), ctrl.Recipe("a ball")

    def interrupted(_state):
        raise KeyboardInterrupt

    front.relay(interrupted)(State("idle", recipe.hash))
    front.follow(SimpleNamespace(recipe=recipe, cancel=done.cancel, wait=done.result))
    assert done.cancelled()
