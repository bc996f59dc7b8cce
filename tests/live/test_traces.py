"""Traces of a hand at the panel, on a virtual clock: nothing lost, nothing out of order, nothing stale."""

import os
import random
from dataclasses import replace

import numpy as np
import pytest
from fake import LAYERS, TICK, Clock, FakeModel
from handrun import Grey
from variety import LEFT, MAP, OTHER, PLAIN, REFERENCE, share

import ctrl
from ctrl.live.follower import Follower
from ctrl.live.frame import Frame
from ctrl.live.mailbox import Mailbox
from ctrl.live.settings import Settings

N = 20
RECIPE = PLAIN.replace(
    steps=N, guidance=5.0, controls=[ctrl.Pose(MAP, 0.8), ctrl.Depth(OTHER, 0.5)], styles=[ctrl.Style(REFERENCE, 0.6)]
)
TRACES = int(os.environ.get("CTRL_TRACES", "300"))  # of the random ones; 10000 to be sure


class Desk:
    """A follower, a fake model, and a hand whose moves come at their times."""

    def __init__(self, model, **settings):
        self.clock = Clock()
        self.model, self.mailbox = FakeModel(model, self.clock), Mailbox(self.clock)
        self.follower = Follower(self.model, self.mailbox, Settings(**settings), self.clock, Grey())
        self.model.denoiser.on_layer = self._deliver
        self.moves, self.frames = [], []

    def _deliver(self):
        while self.moves and self.moves[0][0] <= self.clock.now:
            self.mailbox.put(self.moves.pop(0)[1])

    def play(self, moves):
        """Follow recipes that come at (seconds, recipe) until all is quiet; the evaluations completed for it."""
        begun, before = self.clock.now, self.model.denoiser.completed
        self.moves = [(begun + seconds, recipe) for seconds, recipe in moves]
        while self.moves or self.mailbox.peek():
            if self.mailbox.peek() is None:
                self.clock.now = max(self.clock.now, self.moves[0][0])
                self._deliver()
            for event in self.follower.follow(self.mailbox.take()):
                if isinstance(event, Frame):
                    self.frames.append(event)
                self._deliver()
            for _ in () if self.mailbox.interrupts else self.follower.fill():
                self._deliver()
        return self.model.denoiser.completed - before

    def at_rest(self, recipe):
        """Whether the last frame is the exact one of a recipe, bit-equal to a fresh run."""
        moves, self.moves = self.moves, []
        wanted = np.asarray(ctrl.sample(self.model, recipe).image)
        self.moves = moves
        last = self.frames[-1]
        return last.exact and last.recipe == recipe and np.array_equal(np.asarray(last.image), wanted)


@pytest.fixture
def desk(model):
    desk = Desk(model, previews=0.0)
    desk.play([(0, RECIPE)])
    desk.frames.clear()
    return desk


def guided(weight):
    return RECIPE.replace(guidance=round(weight, 3))


def posed(weight):
    return RECIPE.replace(controls=[ctrl.Pose(MAP, round(weight, 3)), RECIPE.controls[1]])


def every(seconds, recipes):
    return [(seconds * number, recipe) for number, recipe in enumerate(recipes)]


SCRUB = [*range(10), *range(8, -1, -1)]
HANDS = {  # moves, and the most evaluations that may be completed for them
    "step": (every(1, [guided(7)]), N - 1),
    "drag": (every(1 / 60, [guided(5 + number / 60) for number in range(1, 61)]), 1.3 * (N - 1)),
    "drag of a control": (every(1 / 60, [posed(0.8 - number / 100) for number in range(1, 61)]), 1.3 * N),
    "slow scrub": (every(2, [guided(5.5 + number / 2) for number in SCRUB]), 10 * (N - 1)),
    "fast scrub": (every(1 / 30, [guided(5.5 + number / 2) for number in SCRUB]), 1.3 * (N - 1)),
    "type": (every(0.2, [RECIPE.replace(prompt="a blue box"[:end]) for end in range(3, 11)]), 7 * 4 + N),
    "two sliders": (
        every(
            1 / 30,
            [
                (guided(5 + number / 10) if number % 2 else posed(0.8 - number / 100)).replace(seed=number // 8)
                for number in range(40)
            ],
        ),
        1.3 * N + 5,
    ),
    "live values": (
        every(
            0.1,
            [
                RECIPE.replace(
                    prompt=ctrl.Blend({"a red ball": 1 - number / 10, "a box": number / 10}),
                    seed=ctrl.SeedBlend(7, 8, number / 10),
                    directions=[ctrl.Direction("by day", "at night", number / 10)],
                )
                for number in range(11)
            ],
        ),
        10 * 2 + N,
    ),
}


@pytest.mark.parametrize("hand", HANDS)
def test_no_update_is_lost_and_no_frame_comes_out_of_order(desk, hand):
    moves, most = HANDS[hand]
    before = len(desk.model.drawn)
    completed = desk.play(moves)
    assert desk.at_rest(moves[-1][1])
    assert completed <= most
    order = [recipe for _, recipe in moves]
    shown = [order.index(frame.recipe) if hand.endswith("scrub") else _place(order, frame) for frame in desk.frames]
    if not hand.endswith("scrub"):
        assert shown == sorted(shown)
    for frame in desk.frames:
        assert frame.age <= (N + 1) * TICK
    exact = [frame for frame in desk.frames if frame.exact]
    assert len(desk.model.drawn) - before - 1 <= len(exact), "no picture is decoded for nobody"  # one for `at_rest`


def _place(order, frame):
    return max(number for number, recipe in enumerate(order) if recipe == frame.recipe)


def test_the_last_move_of_a_drag_waits_for_a_layer_at_most(desk):
    moves = every(1 / 60, [guided(5 + number / 60) for number in range(1, 61)])
    begun = desk.clock.now
    desk.play(moves)
    last = [frame for frame in desk.frames if frame.recipe == moves[-1][1]]
    assert (last[0].kind, last[0].step) == ("preview", 1)
    assert last[0].age <= 2 * TICK / LAYERS + 1e-9, "shown after the layer that was running, from what is known"
    assert desk.clock.now - begun <= 59 / 60 + (N - 1) * TICK + 2 * TICK / LAYERS


def test_every_move_of_a_guidance_drag_is_seen_at_once(desk):
    moves = every(1 / 60, [guided(5 + number / 60) for number in range(1, 61)])
    desk.play(moves)
    seen = {frame.recipe for frame in desk.frames}
    assert {recipe for _, recipe in moves} <= seen
    first = {}
    for frame in desk.frames:
        first.setdefault(frame.recipe, frame.age)
    assert max(first.values()) <= 2 * TICK / LAYERS + 1e-9


@pytest.mark.parametrize("k", [0, 1, 5, 10, 18])
def test_guidance_from_a_step_on_costs_the_steps_after_it_and_a_value_seen_before_nothing(desk, k):
    moved = RECIPE.replace(guidance=ctrl.curve(*((i / (N - 1), 5.0 if i < k else 9.0) for i in range(N))))
    assert desk.play([(0, moved)]) == N - k - 1
    assert desk.at_rest(moved)
    for recipe in (RECIPE, moved, RECIPE):
        assert desk.play([(0, recipe)]) == 0
        assert desk.at_rest(recipe)


def test_a_slider_that_was_filled_answers_with_no_evaluation(model):
    desk = Desk(model, fill=4)
    desk.play([(0, guided(5.0)), (5, guided(6.0))])
    for weight in (7.0, 8.0, 4.0):
        desk.play([(0, guided(weight))])
        assert desk.frames[-1].age == 0, "no layer passed before it"
        assert desk.at_rest(guided(weight))


def change(draw, recipe):
    """A random change of a recipe."""
    weight = draw.choice([0.0, 0.3, 0.8, ctrl.hold(0.5, until=0.5), ctrl.ramp(1, 0.2), ctrl.hold(0.7, start=0.5)])
    some = draw.choice([{"a red ball": 0.6, "a box": 0.4}, {"a red ball": 1, "a box": ctrl.ramp(0, 1)}])
    control = draw.choice([ctrl.Pose, ctrl.Depth])(
        draw.choice([MAP, OTHER]), weight, mode=draw.choice(["balanced", "control first"])
    )
    return recipe.replace(
        **draw.choice(
            [
                {"guidance": draw.choice([1.0, 3.0, 5.0, ctrl.ramp(6, 0), ctrl.Guidance(5.0, apg=ctrl.APG())])},
                {"prompt": draw.choice(["a red ball", "a (red:1.4) ball", "a box", ctrl.Blend(some)])},
                {"negative": draw.choice(["", "blue", ctrl.Blend(some)])},
                {"directions": draw.choice([[], [ctrl.Direction("by day", "at night", weight)]])},
                {"seed": draw.choice([7, 8, ctrl.SeedBlend(7, 8, 0.3)])},
                {"controls": draw.choice([[], [control], [*recipe.controls[:1], control], recipe.controls[::-1]])},
                {"controls": [replace(part, weight=weight) for part in recipe.controls]},
                {"controls": [replace(part, on=not part.on) for part in recipe.controls]},
                {"styles": draw.choice([[], [ctrl.Style(REFERENCE, weight)], [ctrl.Style(MAP, 0.5, mask=LEFT)]])},
                {"regions": draw.choice([[], [ctrl.Region("a hat", LEFT, 0.5)]])},
                {"loras": draw.choice([[], [ctrl.Lora("lcm", 0.5)], [ctrl.Lora("lcm", 1.0)]])},
                {"steps": draw.choice([3, 4])},
                {"sampler": draw.choice(["ddim", "dpm++ 2m", "euler a", "heun", "dpm++ 2m sde"])},
                {"image": draw.choice([None, OTHER]), "strength": draw.choice([0.5, 1.0])},
            ]
        )
    )  # fmt: skip


def bump(draw, model):
    """Other weights of some network, from now on."""
    draw.choice(
        [
            lambda: setattr(model.denoiser, "version", model.denoiser.version + 1),
            lambda: setattr(model.nets["pose"], "version", model.nets["pose"].version + 1),
            lambda: setattr(model.nets["depth"], "version", model.nets["depth"].version + 1),
            lambda: setattr(model, "vae_version", model.vae_version + 1),
        ]
    )()


@pytest.mark.parametrize("block", range(10))
def test_the_frame_at_rest_is_a_fresh_run_after_any_trace(model, block):
    for number in range(share(TRACES // 10)):
        draw = random.Random(1000 * block + number)
        desk = Desk(model, fill=draw.choice([0, 0, 2]), memory=draw.choice([1 << 14, 1 << 20, 64 << 20]))
        recipe = RECIPE.replace(steps=3)
        for _ in range(draw.randint(1, 4)):
            moves = []
            for _ in range(draw.randint(1, 6)):
                recipe = change(draw, recipe)
                moves.append((draw.uniform(0, 0.3), recipe))
            times = sorted(seconds for seconds, _ in moves)
            desk.play([(seconds, recipe) for seconds, (_, recipe) in zip(times, moves, strict=True)])
            assert desk.at_rest(recipe), (block, number)
            if draw.random() < 0.3:
                bump(draw, desk.model)
                desk.play([(0, recipe)])
                assert desk.at_rest(recipe), (block, number)
