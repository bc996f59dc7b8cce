"""The arguments of the command line, and the recipe that they describe."""

from __future__ import annotations

import argparse
import difflib
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ctrl import __version__
from ctrl.recipe import SAMPLERS, SPACINGS, Control, Depth, Edges, Lora, Pose, Recipe, Style
from ctrl.skeleton import POSES

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
KINDS = (Pose, Depth, Edges)  # controls that have an option of the same name
STEERING = {  # each may be given several times, and has a --weight-…
    "pose": f"a name ({', '.join(POSES)}), OpenPose JSON, or a picture of a skeleton",
    "depth": "a depth map, white near",
    "edges": "outlines, white on black",
    "control": "a map of another kind, such as scribble=a.png",
    "style": "a picture whose style to follow",
}
PLAIN = (
    "prompt", "negative", "guidance", "steps", "sampler", "spacing", "image", "strength", "mask", "width", "height",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Reports errors in one sentence, without the usage, and suggests the option meant by a typo."""

    def error(self, message: str) -> NoReturn:
        """Write the sentence and exit with code 2."""
        message = re.sub(r"^argument (?:\S+/)?(--[\w-]+)(?:/\S+)?: ", r"\1: ", message)
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings if len(option) > 2]
            near = difflib.get_close_matches(unknown[1], options, 1)
            message += f"; did you mean {near[0]}?" if near else "; --help lists all options."
        elif message.startswith("unrecognized arguments"):
            message += "; put a prompt of several words in quotes."
        self.exit(2, f"ctrl: {message}\n")


def parser() -> Parser:
    """The parser of the command line."""
    new = Parser(
        prog="ctrl",
        description="Make a picture under control.",
        epilog="--pose, --depth, --edges, --control, --style and --lora may be given several times.",
        allow_abbrev=False,
    )
    new.add_argument("prompt", nargs="?", help="what the picture shows; (word:1.2) weights a word")
    new.add_argument("--negative", help="what it should not show")
    for name, text in STEERING.items():
        metavar = "KIND=FILE" if name == "control" else "FILE"
        new.add_argument(f"--{name}", action="append", metavar=metavar, default=[], help=text)
    for name in STEERING:
        new.add_argument(
            f"--weight-{name}", action="append", type=float, metavar="W", default=[],
            help=f"how strongly --{name} acts, 1; one for all, or one for each",
        )  # fmt: skip
    _add_run(new)
    _add_model(new)
    new.add_argument("-o", "--output", help="the PNG to write; the first free of out.png, out-2.png, … if not given")
    new.add_argument("--overwrite", action="store_true", help="let --output replace a file")
    new.add_argument("--show", metavar="FILE", help="print the recipe in a PNG or JSON, and make no picture")
    new.add_argument("--version", action="version", version=f"ctrl {__version__}")
    return new


def _add_run(new: Parser) -> None:
    new.add_argument("--guidance", type=float, help="how strongly the prompt acts, 6; 1 is off")
    new.add_argument("--steps", type=int, help="denoising steps, 20")
    new.add_argument("--sampler", help=f"one of {', '.join(SAMPLERS)}; dpm++ 2m")
    new.add_argument("--spacing", help=f"its timesteps: {', '.join(SPACINGS)}")
    new.add_argument("--image", help="a picture to start from")
    new.add_argument("--strength", type=float, help="how much of --image is changed, 0 to 1, 0.8")
    new.add_argument("--mask", help="where --image may change, white")
    new.add_argument(
        "--lora", action="append", metavar="NAME[=W]", default=[],
        help="a LoRA of the model or a .safetensors file, and its weight, 1",
    )  # fmt: skip
    new.add_argument("--seed", type=int, help="a whole number; drawn and printed when not given")
    new.add_argument("--width", type=int, help="pixels; the model's own when not given")
    new.add_argument("--height", type=int, help="pixels; the model's own when not given")
    new.add_argument("--fast", action="store_true", help="four steps by the LCM-LoRA")
    new.add_argument("--recipe", help="a PNG or JSON whose recipe to begin with; the other arguments change it")


def _add_model(new: Parser) -> None:
    new.add_argument(
        "--model",
        help="a folder in diffusers' layout, a .safetensors file or a hub id; the atelier model when not given",
    )
    new.add_argument("--tokenizer", help="for a single file: a folder with CLIP's vocab.json and merges.txt")
    new.add_argument("--vae", help="another VAE: a folder, a .safetensors file or a hub id")
    new.add_argument(
        "--controlnet", action="append", metavar="KIND=PATH", default=[],
        help="a ControlNet for --control KIND=FILE: a folder, a .safetensors file or a hub id",
    )  # fmt: skip
    new.add_argument("--ip-adapter", metavar="FILE", help="the IP-Adapter for --style, a .safetensors file")
    new.add_argument("--local-files-only", action="store_true", help="fetch nothing from the hub")
    new.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    dtypes = ("auto", *DTYPES.values(), *DTYPES)
    new.add_argument("--dtype", default="auto", choices=dtypes, metavar="DTYPE", help=", ".join(dtypes))


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the arguments describe; a ValueError or TypeError says what is wrong with them."""
    if arguments.prompt is None and arguments.recipe is None:
        raise ValueError("a prompt is needed, or --recipe with a picture that carries one.")
    recipe = Recipe(arguments.prompt) if arguments.recipe is None else Recipe.load(arguments.recipe)
    loras = [lora for lora, _ in map(lora_of, arguments.lora)]
    seed = arguments.seed
    if seed is None and arguments.recipe is None:
        seed = secrets.randbelow(2**31)
    changes: dict[str, Any] = {name: getattr(arguments, name) for name in PLAIN} | {"seed": seed}
    changes |= {"controls": _controls(arguments) or None, "styles": _styles(arguments) or None, "loras": loras or None}
    changes = {name: value for name, value in changes.items() if value is not None}
    with _naming():
        recipe = recipe.replace(**changes)
        if not arguments.fast:
            return recipe
        explicit = {name: changes[name] for name in ("guidance", "steps", "sampler", "spacing") if name in changes}
        return recipe.fast().replace(**explicit)


def by_kind(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """The (kind, path) pairs of KIND=PATH arguments; a ValueError for any other text."""
    pairs = [text.partition("=") for text in texts]
    for text, (kind, _, path) in zip(texts, pairs, strict=True):
        if not kind or not path:
            raise ValueError(f"{option} must be KIND=FILE, such as scribble=a.png; got {text!r}.")
    return [(kind, path) for kind, _, path in pairs]


def lora_of(text: str) -> tuple[Lora, str | None]:
    """A LoRA named in the model, or after its file without .safetensors; and the file, or None."""
    name, equals, weight = text.rpartition("=") if "=" in text else (text, "", "")
    file = name if name.endswith(".safetensors") else None
    try:
        name = Path(name).stem if file else name
        return (Lora(name, float(weight)) if equals else Lora(name)), file
    except (ValueError, TypeError):
        wanted = "NAME, FILE.safetensors or either with =WEIGHT, from -10 to 10"
        raise ValueError(f"--lora must be {wanted}; got {text!r}.") from None


@contextmanager
def _naming(option: str | None = None) -> Iterator[None]:
    """Let error messages of a recipe's values name the option they came from."""
    try:
        yield
    except (ValueError, TypeError) as error:
        text = str(error)
        if option is None:
            named = re.match("|".join((*PLAIN[1:], "seed")), text)
            raise ValueError(f"--{text}" if named else text) from error
        raise ValueError(f"{option} {text}" if text.startswith("must ") else f"{option}: {text}") from error


def _weighed(arguments: argparse.Namespace, name: str) -> list[tuple[str, float]]:
    """The values of an option, each with its weight; a single weight is for all of them."""
    values, weights = getattr(arguments, name), getattr(arguments, f"weight_{name}") or [1.0]
    if getattr(arguments, f"weight_{name}") and not values:
        raise ValueError(f"--weight-{name} needs --{name}.")
    if len(weights) == 1:
        weights = weights * len(values)
    if len(weights) != len(values):
        counts = f"{len(weights)} times for {len(values)} --{name}"
        raise ValueError(f"--weight-{name} is given {counts}; give it once, or once for each.")
    return list(zip(values, weights, strict=True))


def _controls(arguments: argparse.Namespace) -> list[Control]:
    controls: list[Control] = []
    for cls in KINDS:
        name = cls.__name__.lower()
        for value, weight in _weighed(arguments, name):
            with _naming(f"--{name}"):
                controls.append(cls(_pose(value) if cls is Pose else value, weight))
    named = by_kind("--control", arguments.control)
    for (kind, path), (_, weight) in zip(named, _weighed(arguments, "control"), strict=True):
        with _naming(f"--control {kind}"):
            controls.append(Control(kind, path, weight))
    return controls


def _styles(arguments: argparse.Namespace) -> list[Style]:
    styles = []
    for picture, weight in _weighed(arguments, "style"):
        with _naming("--style"):
            styles.append(Style(picture, weight))
    return styles


def _pose(text: str) -> str:
    if text in POSES:
        return text
    if not Path(text).expanduser().is_file():
        near = difflib.get_close_matches(text, POSES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"must be a file or one of {', '.join(POSES)}; got {text!r}{hint}")
    return text
