"""A leaf in a real kernel, spoken to as a browser does while a cell is busy.

CTRL_KERNELS may name folders with other versions of ipykernel, made by `pip install --no-deps --target FOLDER`.
"""

import os
import queue
import re
import time
from pathlib import Path

import pytest
from lab import ROOT

pytestmark = pytest.mark.slow

OTHERS = [Path(one) for one in os.environ.get("CTRL_KERNELS", "").split(os.pathsep) if one]
PROBE = bytes([0, 127, 128, 255])
WAIT = 120  # seconds, for a kernel that starts on a busy machine
LEAF = """
import ipykernel, threading, time
from widgets.foreground import notice
from widgets.leaf import Leaf, module

class Echo(Leaf):
    _esm = module("frame.js")
    def receive(self, kind, content, buffers):
        self.post("heard", {"what": kind}, buffers)

leaf = Echo()
leaf.show_problem("It was set in a cell.")  # the last word to the browser came from the main thread
print(ipykernel.__version__, leaf.comm.comm_id, notice())
"""
BUSY = """
def tick():
    for _ in range(5):
        time.sleep(0.1)
        leaf.post("tick")
threading.Thread(target=tick).start()
print("busy", flush=True)
end = time.monotonic() + 4
while time.monotonic() < end:
    pass
print("over")
"""


class Kernel:
    """A kernel with the installed ipykernel, or with the one in a folder."""

    def __init__(self, folder, manager):
        self.manager = manager
        paths = [*([str(folder)] if folder else []), str(ROOT)]
        manager.start_kernel(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        self.client = manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=WAIT)
        words = self.run(LEAF)
        assert words, "the cell failed"
        self.version, self.comm, self.notice = re.fullmatch(r"(\S+) (\w+) ?(.*)\n", words).groups()

    @property
    def threads(self):
        """Whether messages can be handled beside a cell."""
        return int(self.version.partition(".")[0]) >= 7

    def subshell(self):
        """A thread for messages, as JupyterLab asks for one."""
        self.client.control_channel.send(self.client.session.msg("create_subshell_request"))
        return self.client.get_control_msg(timeout=WAIT)["content"]["subshell_id"]

    def say(self, kind, subshell=None):
        """A message of the leaf's browser side, with bytes."""
        content = {"comm_id": self.comm, "data": {"method": "custom", "content": {"kind": kind}}}
        message = self.client.session.msg("comm_msg", content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        message["buffers"] = [PROBE]
        self.client.shell_channel.send(message)

    def heard(self, until):
        """What the kernel says, one line each, until a line."""
        end, lines = time.monotonic() + WAIT, []
        while until not in lines:
            assert time.monotonic() < end, lines
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            content = message["content"]
            assert message["msg_type"] != "error", content
            if message["msg_type"] == "stream":
                lines += content["text"].splitlines()
            elif message["msg_type"] == "comm_msg" and content["data"]["method"] == "custom":
                said = content["data"]["content"]
                assert len(message["buffers"]) == said["count"]
                assert all(bytes(part) == PROBE for part in message["buffers"])
                lines.append(" ".join(filter(None, [said["kind"], said.get("what")])))
        return lines

    def run(self, code):
        """Run a cell; what it printed."""
        said = []
        hook = lambda message: said.append(message["content"].get("text", ""))  # noqa: E731
        reply = self.client.execute_interactive(code, timeout=WAIT, output_hook=hook)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(said)


@pytest.fixture(scope="module", params=[None, *OTHERS], ids=lambda folder: folder.name if folder else "installed")
def kernel(request):
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    try:
        one = Kernel(request.param, manager)
        yield one
        one.client.stop_channels()
    finally:
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)


def test_beside_a_busy_cell_messages_are_handled_where_the_kernel_can_and_a_thread_is_always_seen(kernel):
    subshell = kernel.subshell() if kernel.threads else None
    kernel.client.execute(BUSY)
    kernel.heard("busy")
    kernel.say("press", subshell)
    lines = kernel.heard("over")
    assert lines.count("tick") == 5
    assert ("heard press" in lines) == kernel.threads, f"ipykernel {kernel.version}: {lines}"
    if not kernel.threads:
        assert kernel.heard("heard press")[-1] == "heard press", "it is handled after the cell"
    assert ("ipykernel 7" in kernel.notice) != kernel.threads, "a panel says what cannot be"


def test_without_threads_for_messages_they_wait_for_the_end_of_the_cell_and_none_is_lost(kernel):
    kernel.client.execute(BUSY)
    kernel.heard("busy")
    for number in range(3):
        kernel.say(f"press {number}")
    assert "heard press 2" not in kernel.heard("over")
    kernel.heard("heard press 2")
