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


@contextmanager
def running(home):
    """The server's address; it is stopped at the end."""
    quiet = home / "config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "books").mkdir()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += [
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.expose_app_in_browser=True",
    ]
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
        "PYTHONPATH": str(ROOT),
        **{key: str(home / name) for key, name in places.items()},
    }
    with (home / "lab.log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=home)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, home / "lab.log")
            yield address
        finally:
            process.terminate()
            process.wait(20)


def _wait(address, process, log):
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.25)
    raise AssertionError(f"JupyterLab did not answer in a minute: {log.read_text()}")


class Notebook:
    """One notebook, open in a page."""

    def __init__(self, page, address, home, cells):
        self.page = page
        code = [
            {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": c, "outputs": [], "execution_count": None}
            for i, c in enumerate(cells)
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        book = {"cells": code, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (home / "books/leaves.ipynb").write_text(json.dumps(book))
        page.goto(f"{address}/lab/workspaces/leaves/tree/leaves.ipynb?token={TOKEN}&reset")
        self.ready()

    def ready(self):
        """Wait until the kernel answers."""
        self.page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context", timeout=90_000)
        self.page.evaluate(
            """async () => {
              await jupyterapp.restored;
              const book = jupyterapp.shell.currentWidget;
              await book.context.ready; await book.sessionContext.ready; await book.sessionContext.session.kernel.info;
            }"""
        )

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
            "(i) => jupyterapp.shell.currentWidget.content.model.cells.get(i).executionCount", arg=index, timeout=90_000
        )
        self.page.evaluate("window.done")
        outputs = self.page.evaluate(
            "(i) => jupyterapp.shell.currentWidget.content.model.cells.get(i).toJSON().outputs", index
        )
        assert not [output for output in outputs if output["output_type"] == "error"], outputs
        return "".join("".join(output.get("text", "")) for output in outputs)

    @property
    def cells(self):
        """How many cells there are."""
        return self.page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.length")
