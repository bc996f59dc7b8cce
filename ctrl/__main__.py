"""The command line: makes a picture from a prompt and controls, and writes it as a PNG with its recipe.

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
from typing import TYPE_CHECKING, Any

from ctrl.options import DTYPES, by_kind, lora_of, parser, recipe_of

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
    options = parser().parse_args(arguments)
    try:
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


def say(text: str, end: str = "\n") -> None:
    """Write to stderr. A closed stderr or a full disk must not stop the run."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
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

    with _noted():
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
    shot = sample(model, recipe, on_step=lambda step: _bar(step.index + 1, step.count))
    took = time.perf_counter() - began
    path = _save(shot, output)
    for note in shot.notes:
        say(f"note: {note}")
    say(f"seed {recipe.seed}, {recipe.steps} steps in {took:.1f} s: {path}")
    return 0 if path == output else 1


def _load(options: argparse.Namespace) -> Model:
    from ctrl.model import load

    arguments: dict[str, Any] = {name: getattr(options, name) for name in ("tokenizer", "vae", "ip_adapter")}
    files = [lora_of(text) for text in options.lora]
    arguments["controlnets"] = dict(by_kind("--controlnet", options.controlnet)) or None
    arguments["lora"] = {lora.name: file for lora, file in files if file is not None} or None
    if options.dtype != "auto":
        import torch

        arguments["dtype"] = getattr(torch, DTYPES.get(options.dtype, options.dtype))
    return load(
        options.model,
        device=options.device,
        local_files_only=options.local_files_only,
        tell=say,
        **{name: value for name, value in arguments.items() if value is not None},
    )


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
        path = next(p for n in range(2, 10**6) if not (p := path.with_name(f"out-{n}.png")).exists())
    if path.is_dir():
        raise ValueError(f"--output: {text!r} is a folder; give the name of a PNG in it.")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise ValueError(f"--output: nothing can be written to {str(path)!r}: {error.strerror or error}.") from error
    return path


def _save(shot: Shot, output: Path) -> Path:
    """Write the picture to `output`, or else to the folder for temporary files; returns its path."""
    try:
        shot.save(output)
    except OSError as error:
        with tempfile.NamedTemporaryFile(prefix="ctrl-", suffix=".png", delete=False) as file:
            spare = Path(file.name)
        shot.save(spare)
        say(f"ctrl: {str(output)!r} could not be written ({error.strerror or error}); the picture is in {spare}")
        return spare
    return output


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in text:
        return f"there is not enough memory: {text}; try a smaller --width and --height, or --dtype float16."
    return text


def _bar(done: int, count: int) -> None:
    """Draw the progress bar: redrawn on a terminal, one line in a log."""
    if sys.stderr.isatty() or done == count:
        full = 32 * done // count
        start = "\r" if sys.stderr.isatty() else ""
        say(f"{start}[{'#' * full}{'.' * (32 - full)}] {done}/{count}", end="\n" if done == count else "")


if __name__ == "__main__":
    sys.exit(main())
