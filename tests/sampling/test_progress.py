"""One bar a call on a terminal, one line in a log, nothing where it is not wanted."""

import io
from contextlib import redirect_stderr

import pytest

import ctrl

RECIPE = ctrl.Recipe("a", steps=3, seed=1)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_one_line(model):
    with redirect_stderr(io.StringIO()) as log:
        ctrl.sample(model, RECIPE)
    assert log.getvalue().startswith("3/3 steps in ") and log.getvalue().count("\n") == 1


def test_a_terminal_gets_a_bar_that_ends_full(model):
    with redirect_stderr(Terminal()) as terminal:
        ctrl.sample(model, RECIPE)
    assert "0/3" in terminal.getvalue() and "3/3" in terminal.getvalue().splitlines()[-1]
    assert terminal.getvalue().count("\n") == 1


def test_a_run_that_goes_on_begins_its_bar_where_it_goes_on(model):
    with redirect_stderr(Terminal()) as terminal:
        step = next(iter(ctrl.steps(model, RECIPE)))
        assert terminal.getvalue() == ""  # steps are the caller's own loop
        ctrl.sample(model, RECIPE, after=step)
    assert "1/3" in terminal.getvalue() and "0/3" not in terminal.getvalue() and "3/3" in terminal.getvalue()


def test_many_pictures_have_one_bar(model):
    recipes = [RECIPE.replace(seed=seed) for seed in range(3)] + [RECIPE.replace(sampler="heun"), RECIPE.fast()]
    recipes[-1] = recipes[-1].replace(loras=[])
    with redirect_stderr(Terminal()) as terminal:
        ctrl.sample_many(model, recipes, batch=2)
    (last,) = [line.rpartition("\r")[2] for line in terminal.getvalue().strip().split("\n")]
    assert last.startswith("5 pictures: 100%") and "15/15" in last  # 3 + 3 + 5 + 4


def test_a_sweep_has_one_bar_and_counts_what_its_folder_knows(model, tmp_path):
    with redirect_stderr(io.StringIO()) as log:
        ctrl.sweep(model, RECIPE, {"seed": [1, 2]}, folder=tmp_path / "kept")
        ctrl.sweep(model, RECIPE, {"seed": [1, 2, 3]}, folder=tmp_path / "kept")
    first, second = log.getvalue().splitlines()
    assert first.startswith("sweep: 2/2 pictures in ") and second.startswith("sweep: 3/3 pictures in ")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_without_progress_nothing_is_written(model, stream):
    with redirect_stderr(stream()) as heard:
        ctrl.sample(model, RECIPE, progress=False)
        ctrl.sample_many(model, [RECIPE, RECIPE], progress=False)
        ctrl.sweep(model, RECIPE, {"seed": [1, 2]}, progress=False)
        with ctrl.Live(model, RECIPE) as live:
            live.wait()
            list(live.record().shots(model))
    assert heard.getvalue() == ""


def test_progress_is_a_switch(model):
    for run in (
        lambda **how: ctrl.sample(model, RECIPE, **how),
        lambda **how: ctrl.sample_many(model, [RECIPE], **how),
    ):
        with pytest.raises(TypeError, match="progress must be True or False, got 'yes'"):
            run(progress="yes")


def test_a_mistake_shows_no_bar(model):
    with redirect_stderr(Terminal()) as terminal, pytest.raises(ValueError, match="multiple of"):
        ctrl.sample(model, RECIPE.replace(width=66, height=66))
    assert terminal.getvalue() == ""


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("kind", [None, "closed", "full"])
def test_a_stderr_that_is_gone_does_not_cost_the_picture(model, kind):
    stream = None if kind is None else Full()
    if kind == "closed":
        stream.close()
    with redirect_stderr(stream):
        assert ctrl.sample(model, RECIPE).seconds > 0


def test_a_bar_changes_no_bit(model):
    with redirect_stderr(Terminal()):
        shown = ctrl.sample(model, RECIPE)
    assert shown == ctrl.sample(model, RECIPE, progress=False)
