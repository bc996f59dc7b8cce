"""The command line: a prompt and what steers it in, a PNG with its recipe out.

    python -m ctrl "a figure waving in a red shirt, on grass, at sunset" --pose waving --seed 7 -o out.png

Bad arguments end it with one sentence on stderr, exit code 2, and nothing written.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from ctrl.recipe import SAMPLERS, SPACINGS, Control, Depth, Edges, Lora, Pose, Recipe, Style
from ctrl.skeleton import POSES, Skeleton

MAX_JSON = 2**20  # bytes of a skeleton's file
PARTS = ("pose", "depth", "edges", "style")
PLAIN = (
    "prompt", "negative", "guidance", "steps", "sampler", "spacing", "image", "strength", "mask", "width", "height",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Complains in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Write the sentence and leave with code 2."""
        self.exit(2, f"ctrl: {message}\n")


def parser() -> Parser:
    """What the command line takes."""
    new = Parser(prog="ctrl", description="Make a picture under control.", allow_abbrev=False)
    new.add_argument("prompt", nargs="?", help="what the picture shows; (word:1.2) weighs a word")
    new.add_argument("--negative", help="what it should not show")
    new.add_argument("--pose", help=f"a name ({', '.join(POSES)}), OpenPose JSON, or a picture of a skeleton")
    new.add_argument("--depth", help="a depth map, white near")
    new.add_argument("--edges", help="outlines, white on black")
    new.add_argument(
        "--control",
        action="append",
        metavar="KIND=FILE",
        default=[],
        help="a map of another kind, such as scribble=a.png",
    )
    new.add_argument("--style", help="a picture whose style to follow")
    for part in PARTS:
        new.add_argument(f"--weight-{part}", type=float, metavar="W", help=f"how strongly --{part} acts, 1")
    new.add_argument("--guidance", type=float, help="how strongly the prompt acts, 6; 1 is off")
    new.add_argument("--steps", type=int, help="denoising steps, 20")
    new.add_argument("--sampler", help=f"one of {', '.join(SAMPLERS)}; dpm++ 2m")
    new.add_argument("--spacing", help=f"where its steps lie: {', '.join(SPACINGS)}")
    new.add_argument("--image", help="a picture to start from")
    new.add_argument("--strength", type=float, help="how much of --image is made anew, 0 to 1, 0.8")
    new.add_argument("--mask", help="where --image may change, white")
    new.add_argument(
        "--lora", action="append", metavar="NAME[=W]", default=[], help="a LoRA of the model and its weight, 1"
    )
    new.add_argument("--seed", type=int, help="a whole number; drawn and printed when not given")
    new.add_argument("--width", type=int, help="pixels; the model's own when not given")
    new.add_argument("--height", type=int, help="pixels; the model's own when not given")
    new.add_argument("--fast", action="store_true", help="four steps by the LCM-LoRA")
    new.add_argument("--recipe", help="a PNG or JSON whose recipe to begin with; the other arguments change it")
    new.add_argument(
        "--model",
        help="a folder in diffusers' layout, a .safetensors file or a hub id; the atelier model when not given",
    )
    new.add_argument("--local-files-only", action="store_true", help="fetch nothing from the hub")
    new.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    new.add_argument("-o", "--output", default="out.png", help="the PNG to write, out.png")
    return new


def recipe_of(given: argparse.Namespace) -> Recipe:
    """The recipe the arguments ask for; a ValueError or TypeError says what is wrong with them."""
    begun = Recipe(given.prompt or "") if given.recipe is None else Recipe.load(given.recipe)
    if given.prompt is None and given.recipe is None:
        raise ValueError("a prompt is needed, or --recipe with a picture that carries one.")
    for part in PARTS:
        if getattr(given, part) is None and getattr(given, f"weight_{part}") is not None:
            raise ValueError(f"--weight-{part} needs --{part}.")
    controls, styles, loras = _controls(given), _styles(given), [_lora(one) for one in given.lora]
    seed = given.seed
    if seed is None and given.recipe is None:
        seed = secrets.randbelow(2**31)
    changes: dict[str, Any] = {name: getattr(given, name) for name in PLAIN} | {"seed": seed}
    changes |= {"controls": controls or None, "styles": styles or None, "loras": loras or None}
    begun = begun.replace(**{name: value for name, value in changes.items() if value is not None})
    if not given.fast:
        return begun
    own = ("guidance", "steps", "sampler", "spacing")
    return begun.fast().replace(**{name: changes[name] for name in own if changes[name] is not None})


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 when the picture was written, 2 when an argument was wrong."""
    # Threads that wait by spinning take the processor from those that work: on a busy two-core machine a
    # picture took 27 s with torch's default, 0.3 s with this. Only a program may decide it, and early.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    new = parser()
    given = new.parse_args(arguments)
    output = Path(given.output)
    try:
        recipe = recipe_of(given)
        if output.suffix.lower() != ".png":
            raise ValueError(f"--output must end in .png, since the recipe travels in a PNG; got {given.output!r}.")
        if not output.absolute().parent.is_dir():
            raise ValueError(f"--output: there is no folder {str(output.parent)!r}; make it first.")
        from ctrl.model import load
        from ctrl.sampling import sample

        model = load(given.model, device=given.device, local_files_only=given.local_files_only)
        began = time.perf_counter()
        shot = sample(model, recipe, on_step=lambda step: _bar(step.index + 1, step.count))
        shot.save(output)
    except (ValueError, TypeError, OSError) as error:
        new.error(" ".join(str(error).split()))
    for note in shot.notes:
        print(f"note: {note}", file=sys.stderr)
    print(
        f"seed {recipe.seed}, {recipe.steps} steps in {time.perf_counter() - began:.1f} s: {output}",
        file=sys.stderr,
    )
    return 0


def _controls(given: argparse.Namespace) -> list[Control]:
    found: list[Control] = []
    if given.pose is not None:
        found.append(Pose(_pose(given.pose), **_weight(given, "pose")))
    if given.depth is not None:
        found.append(Depth(given.depth, **_weight(given, "depth")))
    if given.edges is not None:
        found.append(Edges(given.edges, **_weight(given, "edges")))
    for text in given.control:
        kind, equals, path = text.partition("=")
        if not equals or not kind or not path:
            raise ValueError(f"--control must be KIND=FILE, such as scribble=a.png; got {text!r}.")
        found.append(Control(kind, path))
    return found


def _styles(given: argparse.Namespace) -> list[Style]:
    return [] if given.style is None else [Style(given.style, **_weight(given, "style"))]


def _lora(text: str) -> Lora:
    name, equals, weight = text.partition("=")
    try:
        return Lora(name, float(weight)) if equals else Lora(name)
    except ValueError:
        raise ValueError(f"--lora must be NAME or NAME=WEIGHT, the weight from -10 to 10; got {text!r}.") from None


def _pose(text: str) -> Skeleton | str:
    if text in POSES:
        return Skeleton.named(text)
    path = Path(text).expanduser()
    if path.suffix.lower() == ".json" and path.is_file():
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"--pose: {path.name!r} has {path.stat().st_size} bytes; at most {MAX_JSON} are read.")
        return Skeleton.from_json(path.read_text(encoding="utf-8"))
    if not path.is_file():
        raise ValueError(f"--pose must be a file or one of {', '.join(POSES)}; got {text!r}.")
    return text


def _weight(given: argparse.Namespace, part: str) -> dict[str, Any]:
    weight = getattr(given, f"weight_{part}")
    return {} if weight is None else {"weight": weight}


def _bar(done: int, count: int) -> None:
    width = 32
    full = width * done // count
    end = "\n" if done == count else ""
    print(f"\r[{'#' * full}{'.' * (width - full)}] {done}/{count}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
