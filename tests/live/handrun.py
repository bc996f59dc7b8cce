"""A live session run by hand: a clock that ticks once an evaluation, and counts of what was computed."""

from contextlib import contextmanager

import numpy as np
import torch
from variety import MAP, OTHER, PLAIN, REFERENCE

import ctrl
from ctrl.live.follower import Follower
from ctrl.live.frame import Frame, State
from ctrl.live.mailbox import Mailbox
from ctrl.live.preview import LatentRGB, Previewer
from ctrl.live.settings import Settings

STEPS = 6
RECIPE = PLAIN.replace(
    steps=STEPS,
    guidance=5.0,
    controls=[ctrl.Pose(MAP, 0.8), ctrl.Depth(OTHER, ctrl.hold(0.5, until=0.5))],
    styles=[ctrl.Style(REFERENCE, 0.6)],
)


class Grey(Previewer):
    """Previews that take no decoding."""

    def __init__(self):
        super().__init__(None)
        self._fitted = LatentRGB(torch.zeros(3, 8), torch.full((3,), 0.5))


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Bench:
    """A follower run by hand: evaluations of the U-Net are counted, and each takes a second."""

    def __init__(self, model, *, watch=None, **settings):
        self.model, self.clock, self.events = model, Clock(), []
        self.evaluations = self.controlnets = self.decodings = 0
        self.mailbox = Mailbox(self.clock)
        self.follower = Follower(model, self.mailbox, Settings(**settings), self.clock, Grey(), watch)
        self.on_evaluation = lambda number: None

    @contextmanager
    def counted(self):
        def evaluate(*_):
            self.evaluations += 1
            self.clock.now += 1
            self.on_evaluation(self.evaluations)

        def control(*_):
            self.controlnets += 1

        def decode(*_):
            self.decodings += 1

        hooks = [
            self.model.unet.register_forward_pre_hook(evaluate),
            self.model.controlnet("pose").module.register_forward_pre_hook(control),
            self.model.vae.decoder.register_forward_pre_hook(decode),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def ask(self, recipe):
        """Follow one wish to its end; what was evaluated for it."""
        self.mailbox.put(recipe)
        return self.work()

    def work(self):
        before = self.evaluations, self.controlnets, self.decodings
        with self.counted():
            while (wish := self.mailbox.take()) is not None:
                self.events += self.follower.follow(wish)
        return tuple(now - then for now, then in zip(self.counts, before, strict=True))

    @property
    def counts(self):
        return self.evaluations, self.controlnets, self.decodings

    @property
    def frames(self):
        return [event for event in self.events if isinstance(event, Frame)]

    @property
    def states(self):
        return [event for event in self.events if isinstance(event, State)]


def fresh(model, recipe):
    return np.asarray(ctrl.sample(model, recipe).image)


def at_rest(bench, recipe):
    frame = bench.frames[-1]
    return (
        frame.exact and frame.recipe == recipe and np.array_equal(np.asarray(frame.image), fresh(bench.model, recipe))
    )
