"""The command line: opens the studio in the browser, or makes a picture and writes it as a PNG with its recipe.

    python -m ctrl studio
    python -m ctrl "a figure waving in a red shirt, on grass, at sunset" --pose waving --seed 7 -o out.png

An error is one sentence on stderr, and nothing is written: exit code 2 for a wrong argument, 1 for a failed run, 130
for an interrupted one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ctrl.options import DTYPES, as_options, load_arguments, lora_of, naming, parser, recipe_of
from ctrl.studio import studio

if TYPE_CHECKING:
    from ctrl.model import Model
    from ctrl.sampling import Shot

WRONG = (ValueError, TypeError, OSError)  # errors of arguments
FAILED = (RuntimeError, ArithmeticError, MemoryError, ImportError)  # errors of a run


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    # Threads that wait by spinning take the processor from those that work: on a busy two-core machine a
    # picture took 27 s with torch's default, 0.3 s with this. Only a program may set it, before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if given[:1] == ["studio"]:
            return studio(given[1:], say)
        options = parser().parse_args(given)
        return _show(options.show) if options.show is not None else _make(options)
    except KeyboardInterrupt:
        say("ctrl: interrupted")
        return 130
    except WRONG as error:
        say(f"ctrl: {_sentence(error)}")
        return 2
    except FAILED as error:
        say(f"ctrl: {_sentence(error)}")
        return 1


def say(text: str) -> None:
    """Write to stderr. A closed stderr or a full disk must not stop the run."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  # until the process ends


@contextmanager
def _noted() -> Iterator[None]:
    """Print warnings as notes, without the line of code they come from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        say(f"note: {warning.message}")


def _show(path: str) -> int:
    from ctrl.recipe import Recipe

    with _noted(), naming("--show"):
        recipe = Recipe.load(path)
    try:
        sys.stdout.write(f"{recipe}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # until the process ends
    return 0


def _make(options: argparse.Namespace) -> int:
    with _noted():
        recipe = recipe_of(options)
    output = _output(options.output, overwrite=options.overwrite)
    from ctrl.sampling import sample

    model = _load(options)
    began = time.perf_counter()
    shot = sample(model, recipe)
    took = time.perf_counter() - began
    if options.output is None and not options.overwrite:
        output = _unused(output)  # another run may have taken the name meanwhile
    path, kept = _save(shot, output)
    for note in shot.notes:
        say(f"note: {as_options(note)}")
    steps = f"{recipe.steps} step{'' if recipe.steps == 1 else 's'}"
    say(f"seed {recipe.seed}, {steps} in {took:.1f} s: {path}")
    return 0 if kept else 1


def _load(options: argparse.Namespace) -> Model:
    from ctrl.model import load

    arguments = load_arguments(options)
    files = {lora.name: file for lora, file in map(lora_of, options.lora) if file is not None}
    if files:
        arguments["lora"] = files
    if options.dtype != "auto":
        import torch

        arguments["dtype"] = getattr(torch, DTYPES.get(options.dtype, options.dtype))
    return load(options.model, tell=say, **arguments)


def _output(text: str | None, *, overwrite: bool) -> Path:
    """The path of the picture. It is checked before the run, so that a long run is not lost."""
    path = Path("out.png" if text is None else text).expanduser()
    if path.suffix.lower() != ".png":
        raise ValueError(f"--output must end in .png, since the recipe travels in a PNG; got {text!r}.")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--output: there is no folder {str(path.parent)!r}; make it first.")
    if path.exists() and not overwrite:
        if text is not None:
            raise ValueError(f"--output: {text!r} exists already; give another name, or --overwrite.")
        path = _unused(path)
    if path.is_dir():
        raise ValueError(f"--output: {text!r} is a folder; give the name of a PNG in it.")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise ValueError(f"--output: nothing can be written to {str(path)!r}: {error.strerror or error}.") from error
    return path


def _unused(path: Path) -> Path:
    """The path, or the first of out-2.png, out-3.png, … that is free."""
    others = (path.with_name(f"out-{number}.png") for number in range(2, 10**6))
    return path if not path.exists() else next(other for other in others if not other.exists())


def _save(shot: Shot, output: Path) -> tuple[Path, bool]:
    """Write the picture to `output`, or else to the folder for temporary files; and whether it is in `output`."""
    try:
        shot.save(output)
    except OSError as error:
        with tempfile.NamedTemporaryFile(prefix="ctrl-", suffix=".png", delete=False) as file:
            spare = Path(file.name)
        shot.save(spare)
        say(f"ctrl: {str(output)!r} could not be written ({error.strerror or error}); the picture is in {spare}")
        return spare, False
    return output, True


def _sentence(error: BaseException) -> str:
    text = as_options(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in text:
        return f"there is not enough memory: {text}; try a smaller --width and --height, or --dtype float16."
    return text


if __name__ == "__main__":
    sys.exit(main())
