"""`python -m ctrl studio`: the panels in the browser, from a bare terminal.

A JupyterLab of its own runs on 127.0.0.1 behind a token, with one notebook in a temporary folder. The notebook's cell
runs here, before the browser opens, and its kernel goes on: a page that is reloaded shows the same studio.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ctrl.options import DTYPES, Parser, add_model_options, as_options, load_arguments

NEEDED = ("jupyterlab", "ipykernel", "ipywidgets", "anywidget")
BOOK = "studio.ipynb"
NEWS = "@jupyterlab/apputils-extension:announcements"  # asks whether it may fetch Jupyter's news
PATIENCE = 60.0  # seconds for JupyterLab to start; it takes two
FIGURE = "a figure waving in a red shirt and blue trousers, a yellow ball on the left, on grass, at sunset"
ATELIER = f'Recipe("{FIGURE}", controls=[ctrl.Pose("waving")], seed=7)'
ANOTHER = 'Recipe("a red fox in the snow, watercolor", seed=7)'  # for any other model
KEEP = (
    "This notebook is in a temporary folder. *File → Download* keeps it; pictures are saved where you started `ctrl`."
)


def studio(arguments: list[str], say: Callable[[str], None]) -> int:
    """Open the studio and wait until Ctrl-C ends it; returns the exit code."""
    options = _parser().parse_args(arguments)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        install = '`pip install "ctrl-diffusion[studio]"`, in a checkout `pip install ".[studio]"`'
        say(f"ctrl: the studio needs {', '.join(missing)}: run {install}.")
        return 1
    code = _cell(options)
    with _ended(), _folder() as folder, _server(folder, options.port) as server:
        say("starting: the model is loaded once, a few seconds for the atelier")
        error = _run(server, code, say)
        if error is not None:
            say(f"ctrl: {as_options(error)}")
            return 1
        say(f"the studio is at {server.page}\nCtrl-C ends it.")
        if not options.no_browser:
            webbrowser.open(server.page)
        try:
            server.process.wait()
        except KeyboardInterrupt:
            say("the studio has ended")
            return 0
    say("ctrl: JupyterLab ended by itself; start the studio again.")
    return 1


@contextmanager
def _folder() -> Iterator[Path]:
    # JupyterLab may write to it until its process has ended.
    with tempfile.TemporaryDirectory(prefix="ctrl-studio-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _parser() -> Parser:
    new = Parser(prog="ctrl studio", description="Open the panels in the browser.", allow_abbrev=False)
    new.add_argument("recipe", nargs="?", help="a PNG or JSON file with the first recipe")
    add_model_options(new)
    new.add_argument("--port", type=int, help="by default the first free port from 8888 on")
    new.add_argument("--no-browser", action="store_true", help="only print the address")
    return new


def _cell(options: Any) -> str:
    """The code of the notebook's cell."""
    arguments = [repr(options.model)] if options.model is not None else []
    arguments += [f"{name}={value!r}" for name, value in load_arguments(options).items()]
    if options.dtype != "auto":
        arguments.append(f"dtype=torch.{DTYPES.get(options.dtype, options.dtype)}")
    begin = ATELIER if options.model is None else ANOTHER
    begin = begin if options.recipe is None else f"Recipe.load({options.recipe!r})"
    return "\n".join(
        [
            "import os",
            *(["import torch"] if options.dtype != "auto" else []),
            "import ctrl",
            "from widgets import Studio",
            "",
            f"os.chdir({str(Path.cwd())!r})  # pictures are saved here",
            f"model = ctrl.load({', '.join(arguments)})",
            f"recipe = ctrl.{begin}",
            "studio = Studio(model, recipe)",
            "studio",
        ]
    )


@dataclass(frozen=True)
class _Server:
    """A running JupyterLab; `address` ends in a slash."""

    process: subprocess.Popen[bytes]
    address: str
    token: str = field(repr=False)
    runtime: Path

    @property
    def page(self) -> str:
        """The notebook's address, for a browser."""
        return f"{self.address}doc/tree/{BOOK}?token={self.token}"

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Send JSON to the server's API and return its answer."""
        data = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}api/{path}", data, headers, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy: the server is on this machine
        with direct.open(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"null")


@contextmanager
def _server(folder: Path, port: int | None) -> Iterator[_Server]:
    """Start JupyterLab in a folder; it ends with the block, and so do its kernels."""
    books, runtime, token = folder / "books", folder / "runtime", secrets.token_urlsafe(24)
    books.mkdir()
    runtime.mkdir(mode=0o700)
    settings = folder / "settings" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"disabledExtensions": {NEWS: True}}), encoding="utf-8")
    (books / BOOK).write_text(json.dumps(_book("", [])), encoding="utf-8")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={books}", "--ServerApp.allow_root=True"]
    command += [] if port is None else [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    # The token is in the environment, not in the command line, which every user of the machine can read. A session of
    # its own keeps Ctrl-C from it: JupyterLab would ask whether to stop.
    paths = os.pathsep.join(filter(None, [str(folder / "settings"), os.environ.get("JUPYTER_CONFIG_PATH")]))
    env = {**os.environ, "JUPYTER_TOKEN": token, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_CONFIG_PATH": paths}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield _Server(process, _address(process, runtime, folder / "log"), token, runtime)
        finally:
            process.terminate()  # it ends its kernels first
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    """Wait until the server has written its address to a file, and return it."""
    file, until = runtime / f"jpserver-{process.pid}.json", time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))["url"])
        except (OSError, ValueError):  # not there, or not written to its end
            time.sleep(0.1)
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["its log is empty"])[-1]
    raise RuntimeError(f"JupyterLab did not start: {last}")


def _run(server: _Server, code: str, say: Callable[[str], None]) -> str | None:
    """Run the notebook's cell in its kernel and store its outputs; returns the message of an error, else None."""
    from jupyter_client.blocking.client import BlockingKernelClient

    wanted = {"path": BOOK, "name": BOOK, "type": "notebook", "kernel": {"name": "python3"}}
    kernel = server.ask("POST", "sessions", wanted)["kernel"]["id"]
    client = BlockingKernelClient(connection_file=str(server.runtime / f"kernel-{kernel}.json"))
    client.load_connection_file()
    client.start_channels(hb=False)  # a kernel that is still starting has no heartbeat yet
    outputs: list[dict[str, Any]] = []
    try:
        client.wait_for_ready(timeout=PATIENCE)
        for kind, content in _messages(client, code, lambda: server.ask("GET", f"kernels/{kernel}")):
            if kind == "error":
                return " ".join((content["evalue"] or content["ename"]).split())
            if kind == "stream":
                say(content["text"].rstrip())  # what is downloaded, and how far
            elif kind in ("execute_result", "display_data"):
                counted = {"execution_count": 1} if kind == "execute_result" else {}
                shown = {"data": content["data"], "metadata": content["metadata"]}
                outputs.append({"output_type": kind, **shown, **counted})
    finally:
        client.stop_channels()
    book = {"type": "notebook", "format": "json", "content": _book(code, outputs)}
    server.ask("PUT", f"contents/{quote(BOOK)}", book)
    return None


def _messages(client: Any, code: str, about: Callable[[], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kind and content of each message about the code, until it has run; `about` asks for the kernel's state."""
    number, busy, patience = client.execute(code, allow_stdin=False), False, time.monotonic() + PATIENCE
    while True:
        try:
            message = client.get_iopub_msg(timeout=2)
        except queue.Empty:
            if busy and about()["execution_state"] != "busy":  # the kernel was restarted
                raise RuntimeError("the kernel ended, perhaps because memory ran out; try --dtype float16.") from None
            if not busy and time.monotonic() > patience:
                raise RuntimeError(f"the kernel did not begin in {PATIENCE:.0f} s; start the studio again.") from None
            continue
        kind, content = message["msg_type"], message["content"]
        if message["parent_header"].get("msg_id") != number:
            continue
        if kind == "status":
            busy = content["execution_state"] == "busy"
            if not busy:
                return
        yield kind, content


def _book(code: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The notebook with its code collapsed. It is marked as trusted; otherwise JupyterLab would not show the panel."""
    folded = {"trusted": True, "jupyter": {"source_hidden": True}}
    cell = {"cell_type": "code", "id": "studio", "metadata": folded, "source": code, "outputs": outputs}
    note = {"cell_type": "markdown", "id": "note", "metadata": {}, "source": KEEP}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [{**cell, "execution_count": 1 if outputs else None}, note]
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


@contextmanager
def _ended() -> Iterator[None]:
    """Let a closed terminal or `kill` end the studio as Ctrl-C does; a background job of a shell ignores Ctrl-C."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
