"""Undo and redo of recipes: one step back for a drag, one for each thing else."""

import ctrl
from widgets.past import LENGTH, Past

FIRST = ctrl.Recipe("a ball")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def seeds(past, *seeds, by="seed"):
    for seed in seeds:
        past.push(FIRST.replace(seed=seed), by)


def test_a_drag_is_one_step_and_other_hands_and_pauses_begin_another():
    clock = Clock()
    past = Past(FIRST, clock)
    seeds(past, 1, 2, 3)
    past.push(FIRST.replace(seed=3, steps=5), "steps")
    clock.now = 2.0
    past.push(FIRST.replace(seed=3, steps=6), "steps")
    assert past.undo().steps == 5
    assert past.undo() == FIRST.replace(seed=3)
    assert past.undo() == FIRST and not past.can_undo
    assert past.undo() == FIRST
    assert past.redo().seed == 3 and past.redo().steps == 5 and past.redo().steps == 6 and not past.can_redo


def test_a_change_after_an_undo_forgets_what_was_undone():
    past = Past(FIRST, Clock())
    seeds(past, 1, by="")
    past.undo()
    seeds(past, 2, by="")
    assert not past.can_redo and past.undo() == FIRST


def test_changes_without_a_hand_are_steps_each_and_the_oldest_are_forgotten():
    past = Past(FIRST, Clock())
    seeds(past, *range(1, LENGTH + 50), by="")
    count = 0
    while past.can_undo:
        past.undo()
        count += 1
    assert count == LENGTH and past.now.seed == 49
