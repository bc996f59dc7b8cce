"""The arguments of the command line, and the recipe that they describe."""

from __future__ import annotations

import argparse
import difflib
import re
import secrets
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ctrl import __version__
from ctrl.atelier import vocabulary
from ctrl.recipe import SAMPLERS, SPACINGS, Control, Lora, Recipe, Style
from ctrl.recipe.foreign import argument_hint
from ctrl.skeleton import POSES

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
KINDS: dict[str, Callable[..., Control]] = {  # each has an option of this name
    vars(cls)["kind"].replace(" ", "-"): cls for cls in Control.__subclasses__()
}
STEERING = {  # each may be given several times, and has a --weight-…
    **{name: (cls.__doc__ or "").partition(".\n")[0].rpartition(": ")[2] for name, cls in KINDS.items()},
    "pose": f"a name ({', '.join(POSES)}), OpenPose JSON, or a picture of a skeleton",
    "control": "a map of another kind, such as scribble=a.png",
    "style": "a picture whose style to follow",
}
OF_MODEL = ("tokenizer", "vae", "ip_adapter", "controlnets", "lora", "device", "dtype", "local_files_only")
ELSEWHERE = {  # what other names of options are here
    "--prompt": "the first argument, in quotes",
    "--lora-weight": "--lora NAME=W",
    "--lora-scale": "--lora NAME=W",
    "--n": "one run for each picture",
    "--batch": "one run for each picture",
    "--size": "--width and --height",
    "--out": "--output",
    "--ckpt": "--model",
}
PLAIN = (
    "prompt", "negative", "guidance", "steps", "sampler", "spacing", "image", "strength", "mask", "width", "height",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Reports errors in one sentence, without the usage, and suggests the option meant by a typo."""

    def error(self, message: str) -> NoReturn:
        """Write the sentence and exit with code 2."""
        message = re.sub(r"^argument (?:\S+/)?(--[\w-]+)(?:/\S+)?: ", r"\1: ", message)
        message = re.sub(r"(invalid int value: .*)", r"\1; it must be a whole number.", message)
        message = re.sub(r"(invalid float value: .*)", r"\1; it must be a number.", message)
        message = re.sub(r"(invalid choice: '([^']*)') \(choose from (.*)\)", self._choices, message)
        unknown = re.match(r"unrecognized arguments: (--?[A-Za-z][\w-]*)", message)
        if unknown:
            message += self._meant(unknown[1])
        elif message.startswith("unrecognized arguments"):
            message += "; put a prompt of several words in quotes."
        self.exit(2, f"ctrl: {message}\n")

    def _choices(self, match: re.Match[str]) -> str:
        choices = match[3].replace("'", "").split(", ")
        near = difflib.get_close_matches(match[2], choices, 1)
        return f"{match[1]}; {f'did you mean {near[0]}? There' if near else 'there'} is {', '.join(choices)}."

    def _meant(self, unknown: str) -> str:
        """The option that an unknown one stands for: another program's name, or a typo."""
        options = [option for action in self._actions for option in action.option_strings]
        if unknown.lower() in options:
            return f"; did you mean {unknown.lower()}?"
        further = [option for option in options if option.startswith(f"{unknown}-")]
        if further or unknown in ELSEWHERE:
            return f"; here that is {ELSEWHERE.get(unknown) or ' or '.join(further)}."
        hint = argument_hint("Recipe", unknown.lstrip("-"))
        if hint is not None:
            named = re.fullmatch(r"here that is (\w+)(?:,.*)?", hint)
            here = f"--{named[1]}" if named else ""
            return f"; here that is {here}." if here in options else "; --help lists all options."
        near = difflib.get_close_matches(unknown, [option for option in options if len(option) > 2], 1, 0.7)
        return f"; did you mean {near[0]}?" if near else "; --help lists all options."


def parser() -> Parser:
    """The parser of the command line."""
    new = Parser(
        prog="ctrl",
        description="Make a picture under control.",
        epilog=f"{', '.join(f'--{name}' for name in STEERING)} and --lora may be given several times. "
        f"`ctrl studio` opens the panels in the browser; see `ctrl studio --help`.\n\n{_words()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    add_model_options(new)
    new.add_argument("-o", "--output", help="the PNG to write; the first free of out.png, out-2.png, … if not given")
    new.add_argument("--overwrite", action="store_true", help="let --output replace a file")
    new.add_argument("--show", metavar="FILE", help="print the recipe in a PNG or JSON, and make no picture")
    new.add_argument("--version", action="version", version=f"ctrl {__version__}")
    return new


def _words() -> str:
    """The atelier's vocabulary, wrapped for a terminal."""
    lines = str(vocabulary()).splitlines()
    wrapped = [textwrap.fill(line, 78, initial_indent="  ", subsequent_indent=" " * 11) for line in lines]
    return "\n".join(["words that the atelier model knows:", *wrapped])


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


def add_model_options(new: Parser) -> None:
    """The options that say which model, and where it runs."""
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


def load_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `ctrl.load` that the options give, without `source` and `dtype`."""
    arguments: dict[str, Any] = {name: getattr(options, name) for name in ("tokenizer", "vae", "ip_adapter")}
    arguments["controlnets"] = dict(by_kind("--controlnet", options.controlnet)) or None
    arguments["device"] = None if options.device == "auto" else options.device
    arguments["local_files_only"] = options.local_files_only or None
    return {name: value for name, value in arguments.items() if value is not None}


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the arguments describe; a ValueError or TypeError says what is wrong with them."""
    if arguments.prompt is None and arguments.recipe is None:
        raise ValueError("a prompt is needed, or --recipe with a picture that carries one.")
    with naming("--recipe"):
        recipe = Recipe(arguments.prompt) if arguments.recipe is None else Recipe.load(arguments.recipe)
    loras = [lora for lora, _ in map(lora_of, arguments.lora)]
    seed = arguments.seed
    if seed is None and arguments.recipe is None:
        seed = secrets.randbelow(2**31)
    changes: dict[str, Any] = {name: getattr(arguments, name) for name in PLAIN} | {"seed": seed}
    changes |= {"controls": _controls(arguments) or None, "styles": _styles(arguments) or None, "loras": loras or None}
    changes = {name: value for name, value in changes.items() if value is not None}
    with naming():
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
def naming(option: str | None = None) -> Iterator[None]:
    """Let error messages about a file or a recipe's values name the option they came from."""
    try:
        yield
    except (ValueError, TypeError) as error:
        text = str(error)
        if option in ("--recipe", "--show"):
            raise ValueError(re.sub("^path must ", f"{option} must ", text)) from error
        if option is None:
            named = re.match("|".join((*PLAIN[1:], "seed")), text)
            raise ValueError(f"--{text}" if named else text) from error
        if text.startswith("weight must "):
            raise ValueError(f"--weight-{option.split()[0].removeprefix('--')}: {text}") from error
        raise ValueError(f"{option} {text}" if text.startswith("must ") else f"{option}: {text}") from error


def as_options(text: str) -> str:
    """A sentence of the library with the command line's options in place of arguments such as `vae=...`."""
    text = re.sub(r"loras=\[ctrl\.Lora\('([^']*)', ([\d.]+)\)\]", r"--lora \1=\2", text)
    text = re.sub(r"(?:ctrl\.)?load\(\.\.\., (\w+=\.\.\.)\)", r"\1", text)
    text = re.sub(r"^controlnets\['([^']*)'\]", r"--controlnet \1", text)
    text = re.sub(r"^lora\['[^']*'\]", "--lora", text)
    text = re.sub(r"^source (?=must |'atelier')", "--model ", text)
    text = re.sub(r"(?<=here that is )sampler=('[^']*'), spacing='(\w+)'", r"--sampler \1 --spacing \2", text)
    text = re.sub(r"(?<= is )(sampler|spacing)=(?=')", r"--\1 ", text)
    text = text.replace("ctrl.load() without one", "what is taken without --model")
    text = text.replace("for any, draw one: random.randrange(2**32)", "for any, leave it out")
    names = "|".join((*PLAIN[1:], "seed", *OF_MODEL))
    text = re.sub(rf"(?<![\w-])({names})=\.\.\.", _option, text)
    return re.sub(rf"^({names})(?= must | is not available)", _option, text)


def _option(match: re.Match[str]) -> str:
    return {"controlnets": "--controlnet"}.get(match[1], f"--{match[1].replace('_', '-')}")


def _weighed(arguments: argparse.Namespace, name: str) -> list[tuple[str, float]]:
    """The values of an option, each with its weight; a single weight is for all of them."""
    values, weights = (getattr(arguments, key.replace("-", "_")) or [] for key in (name, f"weight-{name}"))
    if weights and not values:
        raise ValueError(f"--weight-{name} needs --{name}.")
    if len(weights) < 2:
        weights = (weights or [1.0]) * len(values)
    if len(weights) != len(values):
        counts = f"{len(weights)} times for {len(values)} --{name}"
        raise ValueError(f"--weight-{name} is given {counts}; give it once, or once for each.")
    return list(zip(values, weights, strict=True))


def _controls(arguments: argparse.Namespace) -> list[Control]:
    controls: list[Control] = []
    for name, cls in KINDS.items():
        for value, weight in _weighed(arguments, name):
            with naming(f"--{name}"):
                controls.append(cls(_pose(value) if name == "pose" else value, weight))
    named = by_kind("--control", arguments.control)
    for (kind, path), (_, weight) in zip(named, _weighed(arguments, "control"), strict=True):
        with naming(f"--control {kind}"):
            controls.append(Control(kind, path, weight))
    return controls


def _styles(arguments: argparse.Namespace) -> list[Style]:
    styles = []
    for picture, weight in _weighed(arguments, "style"):
        with naming("--style"):
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
