"""What a live session recomputes, shows and stops, on a clock that ticks once an evaluation of the model."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from variety import MAP, OTHER, PLAIN, REFERENCE, few, recipes

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

    def __init__(self, model, **settings):
        self.model, self.clock, self.events = model, Clock(), []
        self.evaluations = self.controlnets = self.decodings = 0
        self.mailbox = Mailbox(self.clock)
        self.follower = Follower(model, self.mailbox, Settings(**settings), self.clock, Grey())
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


@pytest.fixture
def bench(model):
    return Bench(model)


def fresh(model, recipe):
    return np.asarray(ctrl.sample(model, recipe).image)


def at_rest(bench, recipe):
    frame = bench.frames[-1]
    return (
        frame.exact and frame.recipe == recipe and np.array_equal(np.asarray(frame.image), fresh(bench.model, recipe))
    )


STYLED = RECIPE.replace(styles=[ctrl.Style(REFERENCE, 0.3)])
HALF = STEPS // 2
MOVES = {  # what changes, and how many evaluations of the U-Net and of the ControlNet it takes
    "guidance": (RECIPE.replace(guidance=7.0), STEPS - 1, STEPS - 1),
    "guidance with APG": (RECIPE.replace(guidance=ctrl.Guidance(5.0, apg=ctrl.APG())), STEPS - 1, STEPS - 1),
    "guidance from the middle": (
        RECIPE.replace(guidance=ctrl.curve((0, 5), (0.5, 5), (1, 9))),
        STEPS - HALF - 1,
        STEPS - HALF - 1,
    ),
    "a window that ends earlier": (
        RECIPE.replace(controls=[RECIPE.controls[0], ctrl.Depth(OTHER, ctrl.hold(0.5, until=0.34))]),
        STEPS - 2,
        STEPS - 2,
    ),
    "a control's weight": (RECIPE.replace(controls=[ctrl.Pose(MAP, 0.5), RECIPE.controls[1]]), STEPS, STEPS),
    "a style's weight": (STYLED, STEPS, STEPS),
    "the prompt": (RECIPE.replace(prompt="a box"), STEPS, STEPS),
    "the seed": (RECIPE.replace(seed=8), STEPS, STEPS),
    "nothing": (RECIPE.replace(), 0, 0),
    "another spelling of the same": (RECIPE.replace(guidance=ctrl.Guidance(5.0), controls=RECIPE.controls[::-1]), 0, 0),
    "a control that is switched off": (RECIPE.replace(controls=[*RECIPE.controls, ctrl.Edges(MAP, on=False)]), 0, 0),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_change_takes_the_evaluations_it_reaches_and_no_more(bench, move):
    recipe, unet, net = MOVES[move]
    assert bench.ask(RECIPE) == (STEPS, STEPS, 1)
    evaluations, controlnets, decodings = bench.ask(recipe)
    assert (evaluations, controlnets, decodings) == (unet, net, int(unet > 0))
    assert at_rest(bench, recipe)


def test_a_value_seen_before_takes_nothing(bench):
    others = [RECIPE.replace(guidance=float(weight)) for weight in (5, 7, 9)]
    for recipe in others:
        bench.ask(recipe)
    for recipe in (*others, *others[::-1]):
        assert bench.ask(recipe) == (0, 0, 0)
        assert at_rest(bench, recipe)


def test_the_first_preview_of_a_guidance_move_takes_no_evaluation(bench):
    bench.ask(RECIPE)
    bench.events.clear()
    asked, before = bench.clock.now, bench.evaluations
    bench.mailbox.put(RECIPE.replace(guidance=8.0))
    with bench.counted():
        first = next(event for event in bench.follower.follow(bench.mailbox.take()) if isinstance(event, Frame))
    assert (first.kind, first.step, first.age) == ("preview", 1, 0.0)
    assert (bench.clock.now, bench.evaluations) == (asked, before)


def test_a_second_frame_encodes_nothing(bench, model):
    bench.ask(RECIPE)
    seen = []
    encoders = [
        model.parts.text_encoders[0].encoder,
        model.ip_adapter().encoder,
        model.controlnet("pose").module.controlnet_cond_embedding.conv_in,
    ]
    hooks = [encoder.register_forward_pre_hook(lambda *_: seen.append(1)) for encoder in encoders]
    try:
        bench.ask(STYLED.replace(seed=3, guidance=4.0))
    finally:
        for hook in hooks:
            hook.remove()
    assert not seen


def test_the_latest_wins_and_at_most_one_waits(bench):
    moves = [RECIPE.replace(guidance=5 + number / 10) for number in range(1, 40)]

    def drag(number):
        if number > STEPS and moves:  # two changes in every evaluation
            for _ in range(2):
                if moves:
                    bench.mailbox.put(moves.pop(0))

    bench.ask(RECIPE)
    bench.on_evaluation = drag
    last = moves[-1]
    bench.mailbox.put(moves.pop(0))
    evaluations, _, decodings = bench.work()
    assert not moves and at_rest(bench, last)
    assert decodings == 1, "no picture is decoded for a value that was passed by"
    assert evaluations <= 20 + STEPS - 1
    weights = [frame.recipe.guidance for frame in bench.frames]
    assert weights == sorted(weights), "no frame out of order"


def test_an_evaluation_that_nobody_wants_ends_between_two_layers(bench):
    bench.ask(RECIPE)
    reached = []
    last = [module for module in bench.model.unet.modules() if type(module).__name__ == "Attention"][-1]
    hook = last.register_forward_pre_hook(lambda *_: reached.append(1))
    try:
        bench.on_evaluation = lambda number: bench.mailbox.put(RECIPE.replace(seed=9)) if number == STEPS + 2 else None
        bench.ask(RECIPE.replace(prompt="a box"))
    finally:
        hook.remove()
    assert len(reached) == 1 + STEPS, "the second evaluation of the box did not reach the last layer"
    assert at_rest(bench, RECIPE.replace(seed=9))


def test_an_evaluation_that_the_newer_recipe_needs_too_goes_on(bench):
    bench.ask(RECIPE)
    later = RECIPE.replace(prompt="a box", guidance=ctrl.curve((0, 5), (0.5, 5), (1, 9)))
    bench.on_evaluation = lambda number: bench.mailbox.put(later) if number == STEPS + 2 else None
    evaluations, _, _ = bench.ask(RECIPE.replace(prompt="a box"))
    assert evaluations == STEPS, "the two that were made served both"
    assert at_rest(bench, later)


def test_stopping_keeps_the_last_frame_and_decodes_nothing(bench):
    bench.ask(RECIPE)
    before = bench.frames[-1]
    bench.on_evaluation = lambda number: bench.mailbox.stop() if number == STEPS + 3 else None
    evaluations, _, decodings = bench.ask(RECIPE.replace(prompt="a box"))
    assert (evaluations, decodings) == (3, 0)
    assert bench.states[-1].phase == "cancelled"
    assert [frame.kind for frame in bench.frames if frame is not before][-1] == "preview"
    evaluations, _, _ = bench.ask(RECIPE.replace(prompt="a box"))
    assert evaluations == STEPS - 2, "what was made before the stop still serves"


@pytest.mark.parametrize(("rhythm", "expected"), [(None, 0), (0.0, STEPS - 1), (2.0, 3), (100.0, 1)])
def test_previews_come_at_their_rhythm_or_not_at_all(model, rhythm, expected):
    bench = Bench(model, previews=rhythm)
    bench.ask(RECIPE)
    assert [frame.kind for frame in bench.frames] == ["preview"] * expected + ["exact"]


def test_frames_and_states_tell_where_they_are(bench):
    bench.ask(RECIPE)
    assert [frame.step for frame in bench.frames] == [*range(1, STEPS), STEPS]
    assert [frame.age for frame in bench.frames] == [*range(1, STEPS), STEPS]
    assert {frame.count for frame in bench.frames} == {STEPS}
    assert [state.phase for state in bench.states] == ["running"] * STEPS + ["idle"]
    running = bench.states[-2]
    assert (running.step, running.evaluations, running.seconds_left) == (STEPS - 1, 1.0, 1.0)
    assert running.recipe == RECIPE.hash


def test_a_move_that_changes_nothing_says_so(bench):
    bench.ask(RECIPE)
    bench.ask(RECIPE.replace(controls=[*RECIPE.controls, ctrl.Edges(MAP, 0.0)]))
    assert bench.states[-1].message == "the change has no effect on the picture"


def test_a_draft_comes_first_where_the_exact_picture_takes_long(model):
    bench = Bench(model, draft_after=4.0, previews=None)
    bench.ask(RECIPE)
    assert [frame.kind for frame in bench.frames] == ["exact"], "nothing is known of the time yet"
    bench.ask(RECIPE.replace(seed=1))
    assert [frame.kind for frame in bench.frames] == ["exact", "draft", "exact"]
    assert bench.frames[1].recipe == RECIPE.replace(seed=1).fast()
    assert at_rest(bench, RECIPE.replace(seed=1))


def test_while_idle_the_neighbours_of_the_value_last_moved_are_made(model):
    bench = Bench(model, fill=3)
    bench.ask(RECIPE)
    bench.ask(RECIPE.replace(guidance=6.0))
    with bench.counted():
        states = list(bench.follower.fill())
    assert {state.phase for state in states} == {"filling", "idle"}
    for weight in (7.0, 8.0, 4.0):
        assert bench.ask(RECIPE.replace(guidance=weight)) == (0, 0, 0)
        assert at_rest(bench, RECIPE.replace(guidance=weight))


def test_filling_gives_way_at_once(model):
    bench = Bench(model, fill=3)
    bench.ask(RECIPE)
    bench.ask(RECIPE.replace(guidance=6.0))
    before = bench.evaluations
    bench.on_evaluation = lambda number: bench.mailbox.put(RECIPE.replace(prompt="a box"))
    with bench.counted():
        list(bench.follower.fill())
    assert bench.evaluations == before + 1
    bench.on_evaluation = lambda number: None
    bench.work()
    assert at_rest(bench, RECIPE.replace(prompt="a box"))


def change_weights(model, amount):
    """Write to a weight in place, as somebody who trains does."""
    with torch.no_grad():
        for module in (model.unet.conv_out, model.parts.text_encoders[0].encoder.get_input_embeddings()):
            module.weight.mul_(amount)


def test_weights_that_changed_under_it_are_noticed(folder):
    model = ctrl.load(folder, device="cpu")
    bench = Bench(model)
    bench.ask(RECIPE)
    change_weights(model, 1.5)
    assert bench.ask(RECIPE)[0] == STEPS
    assert at_rest(bench, RECIPE)


@pytest.mark.slow
@few(40)
@given(data=st.data())
def test_the_frame_at_rest_is_a_fresh_run_whatever_came_before(model, data):
    bench = Bench(model, fill=data.draw(st.integers(0, 1), "fill"))
    last = data.draw(recipes(), "first")
    for _ in range(data.draw(st.integers(1, 4), "moves")):
        changes = st.fixed_dictionaries(
            {},
            optional={
                "guidance": st.sampled_from([1.0, 3.0, 5.0, ctrl.ramp(6, 0)]),
                "seed": st.integers(0, 1),
                "prompt": st.sampled_from(["a red ball", "a box"]),
                "controls": st.sampled_from([[], [ctrl.Pose(MAP, 0.5)], [ctrl.Pose(MAP, ctrl.hold(0.5, until=0.5))]]),
            },
        )
        moves = data.draw(st.lists(changes, min_size=1, max_size=3), "while it runs")
        pending = [last := last.replace(**change) for change in moves]

        def interrupt(_, pending=pending):
            if pending:
                bench.mailbox.put(pending.pop(0))

        bench.on_evaluation = interrupt
        bench.mailbox.put(pending.pop(0))
        bench.work()
        bench.on_evaluation = lambda number: None
        while pending:
            bench.ask(pending.pop(0))
        assert at_rest(bench, last)
