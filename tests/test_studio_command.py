"""`python -m ctrl studio`: a JupyterLab of its own, with the panel already there, that Ctrl-C ends."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import ctrl
import ctrl.studio
from ctrl.__main__ import main

ROOT = Path(ctrl.__file__).parent.parent
CHROMIUM = Path("/usr/bin/chromium")
START = 600  # seconds for all of it: torch and diffusers are imported on the way, on a machine that may be busy


def cell(*arguments):
    return ctrl.studio._cell(ctrl.studio._parser().parse_args(list(arguments)))


def test_a_missing_extra_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(ctrl.studio, "find_spec", lambda name: None if name == "jupyterlab" else object())
    assert main(["studio"]) == 1
    assert capsys.readouterr().err == (
        'ctrl: the studio needs jupyterlab: run `pip install "ctrl-diffusion[studio]"`, '
        'in a checkout `pip install ".[studio]"`.\n'
    )


def test_a_wrong_option_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as left:
        main(["studio", "--prot", "9"])
    assert left.value.code == 2 and "did you mean --port?" in capsys.readouterr().err
    assert main(["studio", "--controlnet", "scribble"]) == 2
    assert capsys.readouterr().err == "ctrl: --controlnet must be KIND=FILE, such as scribble=a.png; got 'scribble'.\n"


def test_the_cell_loads_what_the_options_say():
    plain = cell()
    compile(plain, "cell", "exec")
    assert "model = ctrl.load()\n" in plain and "studio = Studio(model, recipe)\nstudio" in plain
    assert f"os.chdir({str(Path.cwd())!r})" in plain
    quoted = 'it\'s "here"\\n.safetensors'
    full = cell(
        "--model", quoted, "--dtype", "fp16", "--device", "cuda", "--controlnet", "scribble=nets/s", "waving.png"
    )
    compile(full, "cell", "exec")
    assert f"ctrl.load({quoted!r}, controlnets={{'scribble': 'nets/s'}}, device='cuda', dtype=torch.float16)\n" in full
    assert "recipe = ctrl.Recipe.load('waving.png')\n" in full and "import torch\n" in full


class Kernel:
    """A kernel that says it is in these states, and never answers."""

    def __init__(self, *states):
        self.said = [
            {"msg_type": "status", "content": {"execution_state": state}, "parent_header": {"msg_id": "1"}}
            for state in states
        ]

    def execute(self, code, allow_stdin):
        return "1"

    def get_iopub_msg(self, timeout):
        if not self.said:
            raise queue.Empty
        return self.said.pop()


def test_a_kernel_that_ends_is_one_sentence():
    states = iter(["busy", "busy", "starting"])
    with pytest.raises(RuntimeError, match="the kernel ended, perhaps because memory ran out"):
        list(ctrl.studio._messages(Kernel("busy"), "1", lambda: {"execution_state": next(states)}))
    assert list(states) == []


def test_a_kernel_that_does_not_begin_is_one_sentence(monkeypatch):
    monkeypatch.setattr(ctrl.studio, "PATIENCE", 0.01)
    with pytest.raises(RuntimeError, match=r"the kernel did not begin in .* start the studio again"):
        list(ctrl.studio._messages(Kernel(), "1", dict))


@contextmanager
def started(folder, *arguments):
    """A studio's process. It is ended after START seconds, so that who reads what it says does not wait for ever."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        env.pop(name, None)
    command = [sys.executable, "-m", "ctrl", "studio", "--no-browser", *arguments]
    process = subprocess.Popen(
        command, env=env, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    late = threading.Timer(START, process.terminate)  # killed, it would leave its JupyterLab behind
    late.start()
    try:
        yield process
    finally:
        late.cancel()
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.stderr.close()


def address(process):
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"http\S+", line):
            return found[0]
    raise AssertionError("".join(lines))


def children(pid):
    """The processes that a process has started, and theirs."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, parent = int(status.parent.name), int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if parent == pid:
            found += [name, *children(name)]
    return found


def seen_twice(page):
    """The picture is drawn in a browser, and again after a reload."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        tab.set_default_timeout(120_000)  # Lab itself takes most of it where the machine is busy
        tab.goto(page, wait_until="commit")
        picture = tab.locator(".ctrl-frame .stage img[src^=blob]").first
        picture.wait_for()
        if shots := os.environ.get("CTRL_SCREENSHOTS"):
            tab.wait_for_timeout(3000)
            tab.screenshot(path=f"{shots}/studio-command.png")
        assert tab.get_by_text("Would you like to get notified").count() == 0
        tab.reload(wait_until="commit")
        picture.wait_for()
        assert picture.evaluate("(image) => image.naturalWidth") == 256
        browser.close()


@pytest.mark.slow
def test_the_studio_opens_with_its_panel_survives_a_reload_and_ends_without_a_trace(tmp_path):
    if not CHROMIUM.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{CHROMIUM} is not installed")
    with started(tmp_path) as process:
        page = address(process)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/doc/tree/studio\.ipynb\?token=[\w-]{32}", page)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(page.partition("/doc")[0] + "/api/sessions", timeout=60)
        below = children(process.pid)
        token = page.rpartition("=")[2]
        assert len(below) >= 2 and not any(
            token in Path(f"/proc/{one}/cmdline").read_text() for one in [process.pid, *below]
        )
        with ThreadPoolExecutor(1) as aside:  # a thread that may have its own Playwright beside another test's
            aside.submit(seen_twice, page).result()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0 and "the studio has ended" in process.stderr.read()
        until = time.monotonic() + 30
        while time.monotonic() < until and any(Path(f"/proc/{one}").exists() for one in below):
            time.sleep(0.2)
        assert not [one for one in below if Path(f"/proc/{one}").exists()]
        assert list(tmp_path.glob("ctrl-studio-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize(("option", "sentence"), [("--model", "nowhere.safetensors"), ("--vae", "--vae must be")])
def test_a_file_that_is_not_there_ends_in_one_sentence(tmp_path, option, sentence):
    with started(tmp_path, option, "nowhere.safetensors") as process:
        _, said = process.communicate(timeout=START)
        last = said.strip().splitlines()[-1]
        assert process.returncode == 1 and last.startswith("ctrl: ")
        assert sentence in last and "nowhere.safetensors" in last
        assert list(tmp_path.glob("ctrl-studio-*")) == []
