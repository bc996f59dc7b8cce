"""The base of all leaves: the module's text, `problem`, and messages with bytes that work in every front end."""

from __future__ import annotations

import base64
import binascii
import hashlib
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import anywidget
    import traitlets as traitlets  # leaves import it from here, past this message
except ImportError as missing:
    raise ImportError(
        f"The notebook panels need {missing.name}, which is not installed: "
        'run `pip install "ctrl-diffusion[widgets]"`, in a checkout `pip install ".[widgets]"`, and restart the kernel.'
    ) from missing

PROBE = bytes([0, 127, 128, 255])  # sent once each way, to see whether this front end delivers bytes
MAX_UPLOAD = 64 * 2**20  # bytes
_HERE = Path(__file__).parent
_COMMON = ("common.js", "hands.js", "messages.js")


def module(*names: str) -> str:
    """The text of the common files and a leaf's own files, joined to one ES module.

    Text, because a `Path` in `_esm` keeps every widget alive after `close()` (anywidget#929).
    """
    return _read(*_COMMON, *names)


def styles(*names: str) -> str:
    """The text of `common.css` followed by a leaf's own; anywidget adds it to the page once a kind of leaf."""
    return _read("common.css", *names)


def _read(*names: str) -> str:
    """Files as one text, without indentation and comment lines, since it is sent and saved with every widget."""
    lines = (line.strip() for name in names for line in (_HERE / name).read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/*")))


LOADER = _read("loader.js")


@dataclass(frozen=True)
class Message:
    """A message from a leaf to the browser: a kind, JSON content, and bytes."""

    kind: str
    content: dict[str, Any] = field(default_factory=dict)
    buffers: tuple[bytes, ...] = ()


def free(widget: Any) -> None:
    """Leave the choice of thread for a widget's messages to the front end.

    ipykernel 7.4.0 handles them where the last message to the browser came from, which for a cell is the main
    thread: a button pressed while a cell runs would wait for its end. Other versions have no such method.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = _as_the_front_end_chose


def _as_the_front_end_chose(_data: object, default: object) -> object:
    return default


class Leaf(anywidget.AnyWidget):
    """Base of the leaves. A subclass sets `_esm = module("its.js")` and may override `opening` and `receive`.

    Of a leaf itself `_esm` is only the loader, which asks for the module of its class: state is saved with notebooks
    and sent for every widget, and modules of tens of kilobytes should not be.

    `problem` is the alert that the leaf shows: `what` happened, `why`, the `next` step, and `details` to copy; empty
    for none.
    """

    _css = styles()

    _fingerprint = traitlets.Unicode(help="of the module, by which a page knows it").tag(sync=True)
    problem = traitlets.Dict(value_trait=traitlets.Unicode(), help="what, why, next, details").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._as_text = False  # the browser asked for base64
        self._parts: dict[str, list[bytes]] = {}
        self._module = Message("module", {"script": self._esm, "styles": self._css})
        texts = {"_esm": LOADER, "_css": ""}
        self.add_traits(**{name: traitlets.Unicode(text).tag(sync=True) for name, text in texts.items()})
        super().__init__(_fingerprint=hashlib.sha256(repr(self._module).encode()).hexdigest()[:16], **traits)
        self.on_msg(self._dispatch)

    def open(self) -> None:
        """Open the comm, and leave the choice of thread for its messages to the front end."""
        super().open()
        free(self)

    def opening(self) -> Iterable[Message]:
        """The messages for a view that has just opened, so that a reload or a second view shows the same."""
        return ()

    def receive(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Handle one message from the browser. An exception is shown as the leaf's `problem`."""

    def post(self, kind: str, content: dict[str, Any] | None = None, buffers: Iterable[bytes] = ()) -> None:
        """Send a message to every open view, from any thread."""
        buffers = list(buffers)
        content = {"kind": kind, **(content or {}), "count": len(buffers)}  # so that lost bytes are noticed
        if self._as_text and buffers:
            self.send({**content, "base64": [base64.b64encode(each).decode("ascii") for each in buffers]})
        else:
            self.send(content, buffers)

    def say(self, *messages: Message) -> None:
        """Send messages to every open view, one after the other."""
        for message in messages:
            self.post(message.kind, message.content, message.buffers)

    def show_problem(self, what: str, *, why: str = "", next_step: str = "", details: str = "") -> None:
        """Show an alert in the leaf: what happened, why, and what to do next."""
        problem = {"what": what, "why": why, "next": next_step, "details": details}
        self.problem = {key: text for key, text in problem.items() if text}

    def show_error(self, what: str, error: Exception, next_step: str = "") -> None:
        """Show an exception as an alert, with its traceback as the details."""
        details = "".join(traceback.format_exception(error))
        self.show_problem(what, why=str(error), next_step=next_step, details=details)

    def clear_problem(self) -> None:
        """Remove the alert."""
        self.problem = {}

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Apply a change made in the browser. A value that is refused is reported in the panel, and set back there."""
        try:
            super().set_state(sync_data)
        except Exception as error:
            self._say_failed(error)
            self.send_state([name for name in sync_data if name in self.keys])

    def _dispatch(self, _widget: object, content: Any, buffers: Sequence[Any]) -> None:
        try:
            self._handle(dict(content), [bytes(each) for each in buffers])
        except Exception as error:
            self._say_failed(error)

    def _say_failed(self, error: Exception) -> None:
        """Show the exception being handled in the panel: raised further, it would only reach a log."""
        self.show_problem(
            f"The panel could not do that: {error}",
            next_step="Try again; if it stays, copy the details into an issue.",
            details=traceback.format_exc(),
        )

    def _handle(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        kind = str(content.pop("kind", ""))
        if kind == "ready":
            self.post("hello", {"heard": buffers == [PROBE]}, [PROBE])
            self._open_view()
        elif kind == "as-text":
            self._as_text = True
            self._open_view()
        elif kind == "ping":
            self.post("pong")
        elif kind == "module":
            self.post(self._module.kind, self._module.content)
        elif kind == "part":
            self._collect(content, _bytes(content, buffers))
        elif kind:
            self.receive(kind, content, _bytes(content, buffers))

    def _open_view(self) -> None:
        self.say(*self.opening())

    def _collect(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        """Join the parts of an upload: front ends drop messages above their limit, 1 to 10 MB."""
        upload = str(content["upload"])
        if content["part"] == 0:
            self._parts = {upload: []}  # one at a time: an abandoned upload is forgotten
        parts = self._parts.get(upload)
        if parts is None:
            return
        parts += buffers
        if sum(map(len, parts)) > MAX_UPLOAD:
            self._parts.clear()
            raise ValueError(f"the file is larger than {MAX_UPLOAD // 2**20} MB; choose a smaller one.")
        if len(parts) == content["parts"]:
            self._parts.clear()
            message = dict(content["message"])
            self.receive(str(message.pop("kind")), message, [b"".join(parts)])


def _bytes(content: dict[str, Any], buffers: list[bytes]) -> list[bytes]:
    if "base64" not in content:
        return buffers
    try:
        return [base64.b64decode(text, validate=True) for text in content.pop("base64")]
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"the upload did not arrive whole: {error}.") from error
