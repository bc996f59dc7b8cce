"""Reads the corpus in a process of its own, under an audit hook, with little memory: python reading.py CORPUS GOOD.

CORPUS is the folder with `list.json`, pairs of road and path; GOOD the good model's. Line by line it prints a JSON
object for each: what came of it, and what forbidden events the interpreter was asked for on the way. Then it offends
itself, once in every way the hook must see.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import NoReturn

import numpy as np
from corpus import MARK, PLANTED
from tensor_files import Evil

import ctrl

ROOM = 1 << 30  # bytes that reading may take beyond what the libraries have taken
PATIENCE = 60  # seconds for one file
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = (
    "socket.", "subprocess.", "urllib.", "http.", "pty.", "shutil.", "tempfile.", "pickle.", "os.system", "os.exec",
    "os.fork", "os.posix_spawn", "os.spawn", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown",
    "os.link", "os.symlink", "os.truncate", "os.putenv", "os.kill", "ctypes.dlopen",
)  # fmt: skip
PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
RECIPE = ctrl.Recipe("a", steps=1)
EXTRAS = {"controlnet": "controlnets", "adapter": "ip_adapter", "lora": "lora"}


class Offence(BaseException):
    """Something forbidden was asked for; it is not done."""


class Guard:
    """The audit hook: while `on`, what is forbidden is noted and refused."""

    def __init__(self, corpus: Path) -> None:
        self.corpus, self.on, self.seen = str(corpus), False, []
        self.read = (self.corpus, *sys.path[1:], sys.prefix, sys.base_prefix, "/proc/", "/sys/")  # where files lie

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self.on and self.forbids(event, args):
            self.on = False  # noting it must not be noted
            self.seen.append(f"{event} {args!r:.200}")
            self.on = True
            raise Offence(event)

    def forbids(self, event: str, args: tuple[object, ...]) -> bool:
        if event == "open":
            path, _, flags = args
            away = isinstance(path, str) and not path.startswith(self.read)
            return away or (isinstance(flags, int) and bool(flags & WRITES))
        if event == "import":
            return str(args[0]).split(".")[0] == PLANTED or self.corpus in str(args[1])
        if event == "exec":
            return isinstance(args[0], CodeType) and self.foreign(args[0])
        if event == "compile":
            return MARK in _text(args[0]) or self.corpus in _text(args[1])
        return event.startswith(FORBIDDEN)

    def foreign(self, code: CodeType) -> bool:
        return self.corpus in code.co_filename or MARK in repr((code.co_consts, code.co_names))


def _text(given: object) -> str:
    return given.decode("latin-1") if isinstance(given, bytes) else given if isinstance(given, str) else ""


class Reader:
    """Every public way in, by the name of its road."""

    def __init__(self, good: Path, listed: list[tuple[str, Path]]) -> None:
        self.good = good
        plain = [(road, path) for road, path in listed if road in EXTRAS and path.is_file()]
        self.names = {path: f"x{at}" for at, (_, path) in enumerate(plain)}
        given = {
            argument: {self.names[path]: path for own, path in plain if own == road}
            for road, argument in EXTRAS.items()
        }
        self.model = self.load(good, **given)  # opens none of them

    def load(self, place: Path, **given: object) -> ctrl.Model:
        return ctrl.load(place, device="cpu", local_files_only=True, **given)

    def read(self, road: str, path: Path) -> object:
        if road == "model":
            return ctrl.sample(self.load(path), RECIPE)
        if road == "processor":
            return ctrl.sample(self.load(path), RECIPE.replace(styles=[ctrl.Style(PICTURE)]))
        if road == "single":
            return self.load(path, tokenizer=self.good / "tokenizer")
        if road == "picture":
            return ctrl.Picture.of(path)
        if road == "recipe":
            recipe = ctrl.Recipe.load(path)
            return recipe.hash, recipe.code(), ctrl.Recipe.from_json(recipe.to_json()) == recipe
        model, name = self.model, self.names.get(path)
        if name is None:
            model, name = self.load(self.good, **{EXTRAS[road]: {"x": path}}), "x"
        if road == "controlnet":
            return model.controlnet(name)
        if road == "lora":
            return model.with_loras([(name, 1.0)])
        return ctrl.sample(model, RECIPE.replace(styles=[ctrl.Style(PICTURE, adapter=name)]))


def offences(corpus: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """What the hook must see, each under the event it is seen by."""
    yield "pickle.find_class", lambda: pickle.loads(pickle.dumps(Evil()))
    yield "os.system", lambda: os.system(f"echo {MARK}")
    yield "subprocess.Popen", lambda: subprocess.run(["true"], check=False)
    yield "os.fork", os.fork
    yield "os.exec", lambda: os.execv("/bin/true", ["true"])
    yield "os.posix_spawn", lambda: os.posix_spawn("/bin/true", ["true"], {})
    yield "socket.__new__", socket.socket
    yield "socket.getaddrinfo", lambda: socket.create_connection(("127.0.0.1", 9), timeout=1)
    yield "socket.getaddrinfo", lambda: socket.getaddrinfo("huggingface.co", 443)
    yield "open", lambda: Path("/etc/hostname").read_text()
    yield "open", lambda: (corpus / "written").write_text("x")
    yield "open", lambda: os.open(corpus / "written", os.O_CREAT)
    yield "os.remove", lambda: (corpus / "list.json").unlink()
    yield "import", lambda: __import__(PLANTED)
    yield "compile", lambda: eval(f"'{MARK}'")
    yield "exec", lambda: exec(CODE)


CODE = compile(f"'{MARK}'.upper()", "<a recipe>", "exec")


def told(guard: Guard, ask: Callable[[], object]) -> dict[str, object]:
    """What comes of asking."""
    guard.seen, began, before = [], time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(PATIENCE)
    guard.on = True
    try:
        ask()
        found: dict[str, object] = {"error": None, "message": ""}
    except BaseException as error:  # an Offence too, or what a library made of it
        found = {"error": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}
    finally:
        guard.on = False
        signal.alarm(0)
    grew = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    return found | {"events": guard.seen, "seconds": round(time.process_time() - began, 3), "grew": grew}


def say(found: dict[str, object]) -> None:
    """A line, at once: if the next file ends the process, this tells which it was."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _too_slow(number: int, frame: FrameType | None) -> NoReturn:
    raise TimeoutError(f"was not read in {PATIENCE} s")


def main(corpus: Path, good: Path) -> None:
    """Read everything."""
    warnings.simplefilter("ignore")
    guard = Guard(corpus)
    listed = [(road, Path(path)) for road, path in json.loads((corpus / "list.json").read_text())]
    reader = Reader(good, listed)
    for road in ("model", "processor", "controlnet"):  # what libraries import when first used
        reader.read(road, good / "controlnet_pose" if road == "controlnet" else good)
    signal.signal(signal.SIGALRM, _too_slow)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM,) * 2)
    sys.addaudithook(guard)
    for road, path in listed:
        say({"road": road, "path": str(path)})
        say(told(guard, lambda road=road, path=path: reader.read(road, path)))
    for event, offend in offences(corpus):
        say({"road": "offence", "path": event})
        say(told(guard, offend))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
