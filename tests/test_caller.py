"""Errors about arguments, and interrupts, end in the line that called; all others keep their frames."""

import subprocess
import sys
import traceback

import pytest
from diffusers import UNet2DConditionModel

import ctrl
from ctrl.caller import ends_at_caller

RECIPE = ctrl.Recipe("a", steps=2)


def frames(error):
    """The files of a traceback's frames, and its text as Python prints it."""
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__)], "".join(
        traceback.format_exception(error)
    )


MISTAKES = {
    "a field out of range": lambda model: ctrl.Recipe("a", steps=0),
    "a name of another program": lambda model: ctrl.Recipe("a", cfg_scale=7),
    "a prompt's weight": lambda model: RECIPE.replace(prompt="(a:9)"),
    "a sampler": lambda model: RECIPE.replace(sampler="euler_ancestral"),
    "a pose": lambda model: ctrl.Pose("wavin"),
    "a skeleton's shape": lambda model: ctrl.Skeleton([1, 2]),
    "a picture that is none": lambda model: ctrl.Picture.of("none.png"),
    "a schedule": lambda model: ctrl.hold(1, start=0.5, until=0.2),
    "guidance": lambda model: ctrl.Guidance(6, zero=3),
    "a model that is none": lambda model: ctrl.sample("model", RECIPE),
    "a size": lambda model: ctrl.sample(model, RECIPE.replace(width=66, height=66), progress=False),
    "a LoRA that the model has not": lambda model: ctrl.sample(model, RECIPE.replace(loras=[ctrl.Lora("none")])),
    "recipes that are no list": lambda model: ctrl.sample_many(model, RECIPE),
    "an axis": lambda model: ctrl.sweep(model, RECIPE, {"guidence": [1]}),
    "a file that is none": lambda model: ctrl.load("./none"),
    "JSON": lambda model: ctrl.Recipe.from_json("{"),
    "a detector": lambda model: ctrl.detect.depth(ctrl.Skeleton.named("waving").draw(64, 64), detector="none"),
    "an ending": lambda model: RECIPE.code("recipe.txt"),
    "no prompt": lambda model: ctrl.Recipe(),
    "no picture": lambda model: ctrl.Depth(),
    "too many arguments": lambda model: ctrl.hold(1, 2),
    "an argument that a function has not": lambda model: ctrl.sample(model, RECIPE, steps=3),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_s_traceback_ends_in_the_line_that_made_it(model, mistake):
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        mistake(model)
    files, text = frames(caught.value)
    assert set(files) == {__file__}
    assert "During handling" not in text and "direct cause" not in text


def test_an_interrupt_is_short_and_the_next_run_is_as_good(model, monkeypatch):
    wanted = ctrl.sample(model, RECIPE, progress=False).image.tobytes()
    forward = UNet2DConditionModel.forward

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(UNet2DConditionModel, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        ctrl.sample(model, RECIPE, progress=False)
    assert set(frames(caught.value)[0]) == {__file__}
    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    assert ctrl.sample(model, RECIPE, progress=False).image.tobytes() == wanted


def test_a_step_that_fails_ends_in_the_loop_that_asked_for_it(model, monkeypatch):
    forward = UNet2DConditionModel.forward

    def not_a_number(*arguments, **options):
        return (forward(*arguments, **options)[0] * float("nan"),)

    monkeypatch.setattr(UNet2DConditionModel, "forward", not_a_number)
    with pytest.raises(FloatingPointError, match="stopped being finite at step 1 of 2") as caught:
        for _ in ctrl.steps(model, RECIPE):
            pass
    assert set(frames(caught.value)[0]) == {__file__}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: ctrl.sample(None, RECIPE, cfg=3),
            "sample has no argument 'cfg'; it takes model, recipe, on_step",
        ),
        (
            lambda: ctrl.hold(1, untill=0.5),
            "hold has no argument 'untill'; did you mean 'until'? It takes value",
        ),
        (lambda: ctrl.sample("a red ball"), "sample needs recipe; it takes model, recipe, on_step"),
        (lambda: ctrl.sample("a red ball"), "for example ctrl.sample(ctrl.load(), ctrl.Recipe('a figure waving'))."),
        (lambda: ctrl.sample(), "sample needs model and recipe; it takes model"),
        (lambda: ctrl.sweep(None, RECIPE, seed=[1, 2]), "for example ctrl.sweep(model, recipe, {'seed': range(4)})."),
        (lambda: ctrl.Recipe(), "Recipe needs prompt; it takes prompt, negative"),
        (lambda: ctrl.Pose(weight=1.0), "Pose needs picture; it takes picture, weight"),
        (lambda: ctrl.Control("scribble.png"), "Control needs picture; it takes kind, picture"),
        (lambda: RECIPE.replace("a cat"), "replace takes 0 arguments without a name, got 1; give the others by"),
        (lambda: ctrl.Lora("a", 1, True, 1, 1), "Lora takes 4 arguments without a name, got 5."),
    ],
)
def test_a_call_that_does_not_fit_says_what_the_function_takes(call, sentence):
    with pytest.raises(TypeError) as caught:
        call()
    assert sentence in str(caught.value)


def test_a_field_that_is_set_says_how_to_make_another_value():
    for value, sentence in (
        (RECIPE, "a Recipe is a value and cannot be changed; recipe.replace(steps=...) makes another."),
        (ctrl.Pose("waving"), "a Pose is a value and cannot be changed; dataclasses.replace(value, steps=...)"),
    ):
        with pytest.raises(AttributeError) as caught:
            value.steps = 5
        assert str(caught.value).startswith(sentence)
        assert set(frames(caught.value)[0]) == {__file__}


def test_what_a_caller_s_own_function_raises_keeps_its_frames(model):
    def on_step(step):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        ctrl.sample(model, RECIPE, on_step, progress=False)
    files, _ = frames(caught.value)
    assert files[0] == files[-1] == __file__ and any("loop.py" in file for file in files)


def test_an_error_that_no_raise_of_ours_made_keeps_its_frames(model, monkeypatch):
    monkeypatch.setattr("ctrl.sampling.loop.prepare", lambda *arguments, **options: None)
    with pytest.raises(AttributeError) as caught:
        ctrl.sample(model, RECIPE, progress=False)
    assert "loop.py" in frames(caught.value)[0][-1]


@pytest.mark.slow
def test_a_function_keeps_its_signature_and_what_it_returns():
    @ends_at_caller
    def double(number: int, *, by: int = 2) -> int:
        """Twice."""
        return number * by

    assert double(4) == 8 and double.__doc__ == "Twice."
    code = "import inspect, ctrl; print(inspect.signature(ctrl.hold), *list(inspect.signature(ctrl.sample).parameters))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "start: 'float' = 0.0" in done.stdout and "model recipe on_step progress after" in done.stdout


@pytest.mark.slow
def test_in_python_s_development_mode_every_frame_stays():
    code = "import ctrl; ctrl.Recipe('a', steps=0)"
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, check=False)
    assert "checks.py" in done.stderr
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "checks.py" not in done.stderr and done.stderr.count("File") == 1
