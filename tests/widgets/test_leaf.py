"""What every leaf shares, without a kernel: ipywidgets keeps a dummy comm, which is all these need."""

import base64
import gc
import json
import re
import threading
import weakref

import pytest
import traitlets

PROBE = bytes([0, 127, 128, 255])


def leaves():
    """Every leaf there is; panels and the Studio are made of leaves."""
    import widgets

    return [getattr(widgets, name) for name in widgets.__all__ if not name.endswith(("Panel", "Studio"))]


@pytest.fixture
def leaf():
    """A leaf that notes what it sends and receives."""
    from widgets.leaf import Leaf, Message, module

    class Noting(Leaf):
        _esm = module("frame.js")

        def opening(self):
            return [Message("picture", {"name": "a"}, (b"bytes",))]

        def receive(self, kind, content, buffers):
            if kind == "fail":
                raise ValueError("the mask has another size")
            self.got.append((kind, content, buffers))

    one = Noting()
    one.got, one.sent = [], []
    one.send = lambda content, buffers=None: one.sent.append((content, buffers or []))
    yield one
    one.close()


def say(leaf, content, *buffers):
    """A message from the browser; buffers arrive as memoryviews."""
    leaf._handle_custom_msg(content, [memoryview(part) for part in buffers])


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_twenty_closed_leaves_are_gone(kind):
    dead = []
    for _ in range(20):
        one = kind()
        dead.append(weakref.ref(one))
        one.close()
        del one
    gc.collect()
    assert [ref() for ref in dead if ref() is not None] == []


def modules():
    from widgets import Studio

    return [*leaves(), Studio]


@pytest.mark.parametrize("kind", modules(), ids=lambda kind: kind.__name__)
def test_a_module_is_small_plain_and_never_takes_words_for_html(kind):
    script = kind._esm
    assert isinstance(script, str)
    assert len(script.encode()) < 50_000
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://(?!www\.w3\.org)", script
    )
    assert "window.addEventListener" not in script and "document.addEventListener" not in script


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_a_problem_has_what_why_and_next(kind):
    one = kind()
    one.show_problem("It failed.", why="No memory.", next_step="Halve the size.")
    assert one.problem == {"what": "It failed.", "why": "No memory.", "next": "Halve the size."}
    one.clear_problem()
    assert one.problem == {}
    one.close()


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_the_state_that_a_notebook_saves_is_small(kind):
    one = kind()
    assert len(json.dumps(one.get_state(), default=str)) < 5_000
    assert len(kind._css.encode()) < 10_000
    one.close()


def test_a_leaf_hands_out_its_module_when_it_is_asked(leaf):
    say(leaf, {"kind": "module"})
    ((content, buffers),) = leaf.sent
    assert content["script"].startswith("function make(") and "renderFrame" in content["script"] and buffers == []
    assert content["styles"].startswith(".ctrl {")


def test_a_view_that_opens_is_answered_and_sent_what_there_is(leaf):
    say(leaf, {"kind": "ready"}, PROBE)
    assert leaf.sent == [
        ({"kind": "hello", "heard": True, "count": 1}, [PROBE]),
        ({"kind": "picture", "name": "a", "count": 1}, [b"bytes"]),
    ]


def test_where_bytes_are_lost_both_sides_speak_text(leaf):
    say(leaf, {"kind": "ready"})
    assert leaf.sent[0][0]["heard"] is False
    leaf.sent.clear()
    say(leaf, {"kind": "as-text"})
    assert leaf.sent == [
        ({"kind": "picture", "name": "a", "count": 1, "base64": [base64.b64encode(b"bytes").decode()]}, [])
    ]
    say(leaf, {"kind": "mask", "base64": [base64.b64encode(b"white").decode()]})
    assert leaf.got == [("mask", {}, [b"white"])]


def test_a_large_upload_comes_in_parts_and_arrives_whole(leaf):
    for part, data in enumerate((b"abc", b"def", b"g")):
        message = {"kind": "mask", "name": "hill"}
        say(leaf, {"kind": "part", "upload": "1", "part": part, "parts": 3, "message": message}, data)
    assert leaf.got == [("mask", {"name": "hill"}, [b"abcdefg"])]


def test_an_upload_begun_anew_forgets_the_one_before(leaf):
    say(leaf, {"kind": "part", "upload": "1", "part": 0, "parts": 2, "message": {"kind": "mask"}}, b"old")
    for part in (0, 1):
        say(leaf, {"kind": "part", "upload": "2", "part": part, "parts": 2, "message": {"kind": "mask"}}, b"new")
    say(leaf, {"kind": "part", "upload": "1", "part": 1, "parts": 2, "message": {"kind": "mask"}}, b"old")
    assert leaf.got == [("mask", {}, [b"newnew"])]


def test_an_upload_above_the_limit_is_a_problem_in_the_panel(leaf, monkeypatch):
    monkeypatch.setattr("widgets.leaf.MAX_UPLOAD", 4)
    say(leaf, {"kind": "part", "upload": "1", "part": 0, "parts": 2, "message": {"kind": "mask"}}, b"12345")
    assert "larger than" in leaf.problem["what"]
    assert leaf.got == []


@pytest.mark.parametrize("content", [{"kind": "fail"}, {"kind": "mask", "base64": ["no base64!"]}, {"kind": "part"}])
def test_what_goes_wrong_in_a_message_is_said_in_the_panel(leaf, content):
    say(leaf, content)
    assert leaf.problem["what"].startswith("The panel could not do that: ")
    assert leaf.problem["next"] and "Traceback" in leaf.problem["details"]


def test_a_value_that_no_trait_takes_is_said_and_set_back(leaf):
    back = []
    leaf.send_state = lambda key: back.append(key)
    leaf.add_traits(steps=traitlets.Int(3, min=1).tag(sync=True))
    leaf.observe(lambda change: 1 / (change["new"] - 4), names="steps")
    for value, words in (("many", "expected an int"), (0, "less than 1"), (4, "division by zero")):
        leaf.clear_problem()
        leaf.set_state({"steps": value})
        assert words in leaf.problem["what"] and "Traceback" in leaf.problem["details"]
    assert back.count(["steps"]) == 3 and leaf.steps == 4
    leaf.set_state({"steps": 5})
    assert leaf.steps == 5


def test_the_front_end_chooses_the_thread_of_messages(leaf, monkeypatch):
    class Comm:
        def _reply_subshell_for(self, data, default):
            return "the thread that wrote last"

    monkeypatch.setattr("ipywidgets.Widget.open", lambda self: setattr(self, "_comm", Comm()))
    monkeypatch.setattr(type(leaf), "comm", property(lambda self: self._comm))
    leaf.open()
    assert leaf.comm._reply_subshell_for({}, "the front end's") == "the front end's"


def test_a_leaf_answers_whether_the_kernel_is_there(leaf):
    say(leaf, {"kind": "ping"})
    assert leaf.sent == [({"kind": "pong", "count": 0}, [])]


def test_a_timer_of_the_flow_ends_with_it():
    from PIL import Image

    from widgets import FrameView

    view = FrameView()
    for i in range(20):
        view.show(Image.new("RGB", (8, 8), (i, 0, 0)), draft=True)
    view.close()
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(2)
            assert not thread.is_alive()
