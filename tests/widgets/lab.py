"""A real JupyterLab on 127.0.0.1, with a home of its own, and a page of it to drive."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import widgets

ROOT = Path(widgets.__file__).parent.parent  # where the package under test is, for the processes that need it
TOKEN = "test"


LAB = ("jupyterlab", "--LabApp.expose_app_in_browser=True")


@contextmanager
def running(home, app=LAB, paths=(), **settings):
    """The server's address; it is stopped at the end. `settings` are Lab's, by "plugin/file".

    `app` is the module to run with its options, found in `paths` too: folders of `pip install --target`.
    """
    settings["@jupyterlab/apputils-extension/notification"] = {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    }
    for name, values in settings.items():
        path = home / f"config/lab/user-settings/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "books").mkdir()
    command = [sys.executable, "-m", *app, "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    command += [f"--ServerApp.root_dir={home / 'books'}"]
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "ipython",
    }
    env = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths))),
        **{key: str(home / name) for key, name in places.items()},
    }
    for name, place in (("JUPYTER_PATH", "share"), ("JUPYTER_CONFIG_PATH", "etc")) if paths else ():
        env[name] = os.pathsep.join(f"{one}/{place}/jupyter" for one in paths)
    with (home / "lab.log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=home)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, home / "lab.log")
            yield address
        finally:
            end(process)


def end(process, seconds=20):
    """Ask a process to end, and end it where it does not."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(seconds)


def _wait(address, process, log):
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.25)
    raise AssertionError(f"JupyterLab did not answer in a minute: {log.read_text()}")


def write(home, cells):
    """A notebook of these cells, leaves.ipynb, where the server finds it."""
    code = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": c, "outputs": [], "execution_count": None}
        for i, c in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = {"cells": code, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (home / "books/leaves.ipynb").write_text(json.dumps(book))


class Notebook:
    """One notebook, open in a page."""

    def __init__(self, page, address, home, cells):
        self.page = page
        write(home, cells)
        page.goto(f"{address}/lab/workspaces/leaves/tree/leaves.ipynb?token={TOKEN}&reset")
        self.ready()

    def ready(self):
        """Wait until the kernel answers."""
        self.page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context", timeout=90_000)
        self.fulfilled(
            """async () => {
              await jupyterapp.restored;
              const book = jupyterapp.shell.currentWidget;
              await book.context.ready; await book.sessionContext.ready; await book.sessionContext.session.kernel.info;
            }"""
        )

    def fulfilled(self, promise, seconds=120):
        """Wait for the promise that a JavaScript function returns; Playwright itself would wait for ever."""
        late = f"new Promise((_, fail) => setTimeout(() => fail(new Error('too late')), {seconds * 1000}))"
        self.page.evaluate(f"() => Promise.race([({promise})(), {late}]).then(() => {{}})")

    def start(self, index):
        """Begin to run a cell."""
        self.page.evaluate(
            """(i) => {
              jupyterapp.shell.currentWidget.content.activeCellIndex = i;
              window.done = jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )

    def run(self, index):
        """Run a cell and wait for its end; what it printed."""
        self.start(index)
        self.page.wait_for_function(
            "(i) => jupyterapp.shell.currentWidget.content.model.cells.get(i).executionCount",
            arg=index,
            timeout=300_000,
        )
        self.fulfilled("() => window.done")
        outputs = self.page.evaluate(
            "(i) => jupyterapp.shell.currentWidget.content.model.cells.get(i).toJSON().outputs", index
        )
        assert not [output for output in outputs if output["output_type"] == "error"], outputs
        return "".join("".join(output.get("text", "")) for output in outputs)

    @property
    def cells(self):
        """How many cells there are."""
        return self.page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.length")
