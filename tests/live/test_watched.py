"""A watched live session: the frame at rest has the maps of its whole run, whatever of it was made before."""

import dataclasses

import numpy as np
import pytest
from handrun import RECIPE, STEPS, Bench, at_rest
from variety import LEFT, MAP, OTHER, REFERENCE

import ctrl

N, HALF = STEPS, STEPS // 2
WATCH = ctrl.Watch(history=True, influence=True)
BASE = RECIPE.replace(regions=[ctrl.Region("a box", LEFT, 0.5)])
LATE = ctrl.hold(0.5, start=0.5)
MOVES = {  # what moves, and what it costs
    "guidance": ({"guidance": 7.0}, N - 1),
    "guidance from the middle": ({"guidance": ctrl.curve((0, 5), (0.5, 5), (1, 9))}, N - HALF - 1),
    "a control's weight": ({"controls": [ctrl.Pose(MAP, 0.5), RECIPE.controls[1]]}, N),
    "a control's weight from the middle": (
        {"controls": [ctrl.Pose(MAP, ctrl.curve((0, 0.8), (0.5, 0.8), (1, 0.1))), RECIPE.controls[1]]}, N - HALF
    ),
    "a style before the first, from the middle": (  # the style that was there has another number
        {"styles": [ctrl.Style(OTHER, LATE), *BASE.styles]}, N
    ),
    "a prompt that comes in the middle": ({"prompt": ctrl.Blend({BASE.prompt: 1, "a blue box": LATE})}, N),
    "the seed": ({"seed": 8}, N),
    "nothing": ({}, 0),
}  # fmt: skip


def values(part, depth=0):
    """Everything a recorded attention holds, as what `==` compares."""
    if isinstance(part, np.ndarray):
        return (part.shape, part.tobytes())
    if dataclasses.is_dataclass(part):
        part = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    if isinstance(part, dict):
        return {key: values(one) for key, one in part.items()}
    if isinstance(part, list | tuple):
        return [values(one) for one in part]
    return np.asarray(part).tobytes() if hasattr(part, "getpixel") else part


def whole(bench, recipe):
    """Whether the last frame has the picture and the maps of a fresh run, to the bit."""
    fresh = ctrl.sample(bench.model, recipe, watch=bench.follower.watch)
    return at_rest(bench, recipe) and values(bench.frames[-1].attention) == values(fresh.attention)


@pytest.mark.quick(move=["guidance from the middle"])
@pytest.mark.parametrize("move", MOVES)
def test_the_maps_are_of_the_whole_run_and_cost_no_step_that_is_shared(model, move):
    change, evaluations = MOVES[move]
    bench, moved = Bench(model, watch=WATCH), BASE.replace(**change)
    bench.ask(BASE)
    assert whole(bench, BASE)
    assert bench.ask(moved)[0] == evaluations
    assert whole(bench, moved)
    assert bench.ask(BASE)[0] == 0 and whole(bench, BASE), "seen before, with its maps"


@pytest.mark.slow
def test_another_spelling_has_its_own_numbers(model):
    styles = [ctrl.Style(REFERENCE, 0.6), ctrl.Style(OTHER, 0.3)]
    bench = Bench(model, watch=ctrl.Watch())
    for order in (styles, styles[::-1]):
        bench.ask(BASE.replace(styles=order))
        assert whole(bench, BASE.replace(styles=order))


def test_a_step_that_was_broken_off_counts_in_no_map(model):
    bench = Bench(model, watch=WATCH)
    bench.on_evaluation = lambda number: bench.mailbox.stop() if number == 3 else None
    assert bench.ask(BASE)[0] == 3 and bench.states[-1].phase == "cancelled"
    assert bench.ask(BASE)[0] == N - 2
    assert whole(bench, BASE)


def test_watching_begins_with_a_whole_run_and_ends_without_one(model):
    bench = Bench(model)
    bench.ask(BASE)
    assert bench.frames[-1].attention is None
    bench.follower.watch = ctrl.Watch()
    assert bench.ask(BASE)[0] == N and whole(bench, BASE)
    bench.follower.watch = None
    moved = BASE.replace(guidance=7.0)
    assert bench.ask(moved)[0] == N - 1 and at_rest(bench, moved) and bench.frames[-1].attention is None


@pytest.mark.slow
def test_steps_that_the_memory_dropped_are_made_again(model):
    bench = Bench(model, watch=WATCH, memory=0)
    for recipe in (BASE, BASE.replace(guidance=7.0)):
        bench.ask(recipe)
        assert whole(bench, recipe)
    bench = Bench(model)
    bench.ask(BASE)
    bench.follower.memory.clear()
    assert bench.ask(BASE.replace(guidance=7.0))[0] == N


def test_a_recipe_that_cannot_be_watched_is_made_and_its_notes_say_why(model):
    with ctrl.Live(model, BASE, watch=ctrl.Watch(words=("ball",))) as live:
        assert "ball" in live.wait(60).attention
        live.update(BASE.replace(prompt="a box"))
        frame = live.wait(60)
        assert frame.attention is None and "attention was not recorded: words: 'ball' is in none" in frame.notes[-1]
        live.watch = None
        live.update(BASE.replace(prompt="a box"))
        assert live.wait(60).notes == frame.notes[:-1]
        with pytest.raises(TypeError, match="watch must be"):
            live.watch = "ball"
