"""What a live session recomputes, shows and stops, on a clock that ticks once an evaluation of the model."""

import numpy as np
import pytest
import torch
from handrun import RECIPE, STEPS, Bench, at_rest, fresh
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from variety import MAP, OTHER, REFERENCE, few, recipes

import ctrl
from ctrl.live.frame import Frame
from ctrl.live.neighbours import neighbours

LATE = ctrl.hold(0.7, start=0.5)
STYLED = RECIPE.replace(styles=[ctrl.Style(REFERENCE, 0.3)])


@pytest.fixture
def bench(model):
    return Bench(model)


@pytest.mark.slow
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


@pytest.mark.slow
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


SAME = "the change has no effect on the picture"


def test_a_window_that_moves_within_a_step_changes_nothing_and_that_is_told(bench):
    windows = [ctrl.hold(0.5, until=until) for until in (0.5, 0.52, 0.7)]
    moves = [RECIPE.replace(controls=[RECIPE.controls[0], ctrl.Depth(OTHER, window)]) for window in windows]
    assert len({move.hash for move in moves}) == 3
    for move in moves:
        bench.ask(move)
        assert at_rest(bench, move)
    assert [state.message for state in bench.states if state.phase == "idle"] == ["", SAME, ""]


def test_a_picture_that_was_stopped_is_a_change_when_it_is_made_at_last(bench):
    bench.ask(RECIPE)
    bench.on_evaluation = lambda number: bench.mailbox.stop() if number == STEPS + 2 else None
    box = RECIPE.replace(prompt="a box")
    for _ in range(3):
        bench.ask(box)
        bench.on_evaluation = lambda _: None
    assert [state.phase for state in bench.states if state.phase != "running"] == ["idle", "cancelled", "idle", "idle"]
    assert [state.message for state in bench.states if state.phase == "idle"] == ["", "", SAME]


def test_back_from_a_picture_that_was_stopped_is_a_change_of_what_is_seen(bench):
    bench.ask(RECIPE)
    bench.on_evaluation = lambda number: bench.mailbox.stop() if number == STEPS + 2 else None
    bench.ask(RECIPE.replace(prompt="a box"))
    bench.on_evaluation = lambda _: None
    bench.ask(RECIPE)
    assert [state.message for state in bench.states if state.phase == "idle"] == ["", ""]


def test_of_equal_recipes_each_has_the_notes_of_its_own_spelling(bench):
    plain = RECIPE.replace(guidance=1.0)
    for recipe in (plain, plain.replace(negative="blue"), plain, plain.replace(negative="blue")):
        bench.ask(recipe)
        assert bench.frames[-1].notes == ctrl.sample(bench.model, recipe, progress=False).notes
    assert len({frame.notes for frame in bench.frames if frame.exact}) == 2
    assert len(bench.frames) == STEPS + 3, "one run"


def test_frames_a_second_leave_pauses_out(bench):
    bench.ask(RECIPE)
    bench.follower.frames.tick()
    before = bench.follower.frames.seconds
    bench.clock.now += 1000.0
    bench.ask(RECIPE)
    bench.follower.frames.tick()
    assert bench.follower.frames.seconds <= before


def test_a_draft_comes_first_where_the_exact_picture_takes_long(model):
    bench = Bench(model, draft_after=4.0, previews=None)
    bench.ask(RECIPE)
    assert [frame.kind for frame in bench.frames] == ["exact"], "nothing is known of the time yet"
    bench.ask(RECIPE.replace(seed=1))
    assert [frame.kind for frame in bench.frames] == ["exact", "draft", "exact"]
    assert bench.frames[1].recipe == RECIPE.replace(seed=1).fast()
    assert at_rest(bench, RECIPE.replace(seed=1))


def test_a_draft_is_made_for_what_is_left_to_do_not_for_what_is_known(model):
    bench = Bench(model, draft_after=3.0, previews=None)
    bench.ask(RECIPE)
    bench.ask(RECIPE)
    bench.ask(RECIPE.replace(guidance=ctrl.curve((0, 5), (0.5, 5), (1, 9))))
    assert [frame.kind for frame in bench.frames] == ["exact"] * 3, "none or three evaluations are left"
    bench.ask(RECIPE.replace(prompt="a box"))
    assert [frame.kind for frame in bench.frames[3:]] == ["draft", "exact"]


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (6.0, 6.05, [6.1, 6.15, 5.95, 6.2]),
        (6.1, 6.2, [6.3, 6.4, 6.0, 6.5]),
        (8, 6, [4, 2, 10, 0]),
        (1.0, 1.5, [2.0, 2.5, 3.0, 3.5]),
    ],
)
def test_neighbours_are_the_values_that_a_slider_has(old, new, expected):
    given = (RECIPE.replace(guidance=float(weight)) for weight in (old, new))
    assert [one.guidance for one in neighbours(*given, 4)] == expected
    seeds = (RECIPE.replace(seed=seed) for seed in (7, 8))
    assert [one.seed for one in neighbours(*seeds, 3)] == [9, 10, 6]


@pytest.mark.parametrize("way", ["filling", "coming back"])
def test_the_steps_of_the_picture_at_rest_are_kept_whatever_was_made_since(model, way):
    weights = [0.8, 0.7] if way == "filling" else [*(0.2 + number / 20 for number in range(8)), 0.8, 0.7]
    bench = Bench(model, fill=8 * (way == "filling"), previews=None)
    moves = [RECIPE.replace(steps=3, controls=[ctrl.Pose(MAP, weight)]) for weight in weights]
    for move in moves:
        bench.ask(move)
    with bench.counted():
        list(bench.follower.fill())
    if way == "coming back":
        bench.ask(moves[2])
        for move in moves[:1] + moves[3:]:
            bench.ask(move)
            bench.ask(moves[2])
    at = moves[1] if way == "filling" else moves[2]
    moved = at.replace(guidance=8.0)
    assert bench.ask(moved)[0] == 3 - 1
    assert at_rest(bench, moved)


def test_a_neighbour_that_cannot_be_made_is_passed_over(model):
    bench = Bench(model, fill=2)
    bench.ask(RECIPE)
    bench.ask(RECIPE.replace(guidance=6.0))

    def fail(number):
        raise FloatingPointError("the latents stopped being finite")

    bench.on_evaluation = fail
    with bench.counted():
        states = list(bench.follower.fill())
    assert {state.recipe for state in states[:-1]} == {RECIPE.replace(guidance=weight).hash for weight in (7.0, 8.0)}
    assert states[-1].phase == "idle"


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


WEIGHTS = {
    "unet": lambda model: model.unet.conv_in.weight,
    "controlnet": lambda model: model.controlnet("pose").module.controlnet_mid_block.weight,
    "control embedding": lambda model: model.controlnet("depth").module.controlnet_cond_embedding.conv_out.weight,
    "text encoder": lambda model: model.parts.text_encoders[0].encoder.get_input_embeddings().weight,
    "image encoder": lambda model: model.ip_adapter().encoder.visual_projection.weight,
    "style's keys": lambda model: next(iter(model.ip_adapter().adapter.projections.values())).to_k,
    "vae": lambda model: model.vae.decoder.conv_out.weight,
}


@pytest.mark.slow
@pytest.mark.parametrize("network", WEIGHTS)
def test_weights_that_changed_under_it_are_noticed(folder, network):
    model = ctrl.load(folder, device="cpu")
    bench = Bench(model)
    bench.ask(RECIPE)
    before = fresh(model, RECIPE)
    with torch.no_grad():
        WEIGHTS[network](model).mul_(1.5)  # in place, as somebody who trains does
    assert not np.array_equal(fresh(model, RECIPE), before)
    bench.ask(RECIPE)
    assert at_rest(bench, RECIPE)
    for recipe in (RECIPE.replace(controls=[ctrl.Pose(MAP, 0.3), RECIPE.controls[1]]), RECIPE.replace(guidance=7.0)):
        bench.ask(recipe)
        assert at_rest(bench, recipe)


def test_a_network_that_is_loaded_for_a_later_recipe_makes_no_earlier_step_stale(folder):
    model = ctrl.load(folder, device="cpu")
    bench, plain = Bench(model), RECIPE.replace(controls=[RECIPE.controls[0]], styles=[])
    bench.ask(plain)
    late = plain.replace(styles=[ctrl.Style(REFERENCE, LATE)], controls=[*plain.controls, ctrl.Depth(OTHER, LATE)])
    assert bench.ask(late)[0] == STEPS // 2
    assert at_rest(bench, late)
    assert bench.ask(plain) == (0, 0, 0) and at_rest(bench, plain)


@pytest.mark.slow
def test_a_lora_that_comes_and_goes_is_noticed_and_its_pictures_are_found_again(bench):
    half, whole = (RECIPE.replace(loras=[ctrl.Lora("lcm", weight)]) for weight in (0.5, 0.9))
    for recipe in (RECIPE, half, RECIPE, whole, half):
        bench.ask(recipe)
        assert at_rest(bench, recipe)
    assert [frame.reused for frame in bench.frames if frame.exact] == [0, 0, STEPS, 0, STEPS]


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


ALONG = {  # runs beside that do nothing in the first half, and go along from the first step on
    "a style from the middle": {"aligned": ctrl.StyleAligned(ctrl.Recipe("a box", seed=3), LATE)},
    "an edit from the middle": {"edit": ctrl.Edit("a blue ball", cross=LATE, self_attention=LATE)},
}


@pytest.mark.parametrize("change", ALONG)
def test_a_run_alone_shares_no_step_with_one_that_another_goes_along_with(bench, change):
    recipe = RECIPE.replace(steps=4)
    moved = recipe.replace(**ALONG[change])
    for one in (recipe, moved, recipe):
        bench.ask(one)
        assert at_rest(bench, one)
    bench.follower.memory.clear()
    bench.on_evaluation = lambda _: bench.mailbox.put(moved) if bench.mailbox.count < 5 else None
    bench.ask(recipe)
    assert at_rest(bench, moved)


class Operations(TorchDispatchMode):
    """How many operations of torch ran, each of which may make a tensor."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_moves_that_repeat_make_no_tensor(bench):
    moves = [
        RECIPE,
        RECIPE.replace(guidance=7.0),
        RECIPE.replace(seed=2),
        RECIPE.replace(loras=[ctrl.Lora("lcm", 0.5)]),
    ]
    for recipe in moves:
        bench.ask(recipe)
    entries = len(bench.follower.memory), bench.follower.memory.bytes
    for recipe in (*moves, *moves[::-1]):
        with Operations() as operations:
            assert bench.ask(recipe) == (0, 0, 0)
        assert not operations.names
        assert at_rest(bench, recipe)
    assert (len(bench.follower.memory), bench.follower.memory.bytes) == entries
