"""The leaves, without a kernel: ipywidgets keeps a dummy comm, which is all these need."""

import io
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

ROOT = Path(__file__).parent.parent.parent
RED = Image.new("RGB", (4, 2), (200, 30, 30))


@pytest.fixture
def frame():
    import widgets.frame

    return widgets.frame


def opened(view):
    return Image.open(io.BytesIO(view.png))


def test_the_package_imports_without_any_widget_library():
    code = (
        "import sys; sys.modules['anywidget'] = sys.modules['ipywidgets'] = None\n"
        "import widgets\n"
        "assert 'FrameView' in dir(widgets)\n"
        "try:\n    from widgets import FrameView\n"
        "except ImportError as told:\n    print(told)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'pip install "ctrl-diffusion[widgets]"' in done.stdout
    assert "anywidget" in done.stdout


def test_an_unknown_name_says_what_there_is():
    import widgets

    with pytest.raises(AttributeError, match=r"it has .*FrameView"):
        widgets.Studio_of_another_day  # noqa: B018


def test_a_picture_goes_in_and_the_same_pixels_come_out(frame):
    view = frame.FrameView(RED, caption="red", alt="a red field")
    assert opened(view).size == (4, 2)
    assert opened(view).tobytes() == RED.tobytes()
    assert (view.caption, view.alt) == ("red", "a red field")


def test_it_starts_empty_and_can_be_emptied(frame):
    view = frame.FrameView()
    assert view.png == b""
    view.show(RED, caption="red")
    view.clear()
    assert (view.png, view.caption, view.alt) == (b"", "", "")


def test_showing_another_picture_leaves_no_words_of_the_last(frame):
    view = frame.FrameView(RED, caption="red", alt="a red field")
    view.show(RED.transpose(Image.Transpose.ROTATE_90))
    assert opened(view).size == (2, 4)
    assert (view.caption, view.alt) == ("", "")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_it_accepts_is_shown_as_it_looks(frame, mode):
    image = RED.convert(mode)
    assert opened(frame.FrameView(image)).convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


@pytest.mark.parametrize("mode", ["F", "I", "I;16", "CMYK"])
def test_a_mode_that_would_be_clipped_is_refused_with_the_cure(frame, mode):
    with pytest.raises(ValueError, match=re.escape(repr(mode)) + r".*convert\('RGB'\)"):
        frame.FrameView(Image.new(mode, (2, 2)))


@pytest.mark.parametrize("other", ["out.png", b"PNG", [[0, 1]]])
def test_what_is_not_a_picture_is_refused_by_name(frame, other):
    with pytest.raises(TypeError, match=f"not {type(other).__name__}"):
        frame.FrameView(other)


def test_a_refused_picture_leaves_the_old_one_standing(frame):
    view = frame.FrameView(RED, caption="red")
    before = view.png
    with pytest.raises(TypeError):
        view.show("out.png", caption="new")
    assert (view.png, view.caption) == (before, "red")


def test_a_photo_lying_on_its_side_is_shown_upright(frame):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    buffer = io.BytesIO()
    RED.save(buffer, format="JPEG", exif=exif)
    assert opened(frame.FrameView(Image.open(buffer))).size == (2, 4)


def test_metadata_stays_behind(frame):
    text = PngImagePlugin.PngInfo()
    text.add_text("ctrl", "a private recipe")
    buffer = io.BytesIO()
    RED.save(buffer, format="PNG", pnginfo=text)
    image = Image.open(buffer)
    assert b"private" not in frame.FrameView(image).png
    assert image.info["ctrl"] == "a private recipe", "the caller's picture is not touched"


@pytest.fixture
def told(frame):
    """A view, and the list of what it sends to the browser."""
    view = frame.FrameView()
    sent = []
    view.send = lambda content, buffers=None: sent.append((content, buffers or []))
    yield view, sent
    view.close()


def kinds(sent):
    return [(content["kind"], content.get("place")) for content, _ in sent]


def test_a_draft_is_a_jpeg_and_the_exact_picture_a_png(told):
    view, sent = told
    view.show(RED, draft=True, caption="step 3")
    view.show(RED, caption="done")
    (draft, (jpeg,)), (exact, (png,)) = sent
    assert (draft["quality"], draft["lossless"], draft["caption"]) == ("draft", False, "step 3")
    assert (exact["quality"], exact["lossless"], exact["caption"]) == ("exact", True, "done")
    assert jpeg.startswith(b"\xff\xd8") and png.startswith(b"\x89PNG")


def test_a_draft_at_rest_is_sent_again_lossless_and_an_older_one_is_not(told):
    view, sent = told
    view.show(RED, draft=True)
    number = sent[0][0]["number"]
    view._handle_custom_msg({"kind": "sharpen", "number": number}, [])
    assert sent[-1][0]["lossless"] is True and sent[-1][0]["quality"] == "draft"
    view._handle_custom_msg({"kind": "sharpen", "number": number - 1}, [])
    assert len(sent) == 2


def test_a_picture_changed_after_it_was_shown_is_shown_as_it_was(frame):
    image = RED.copy()
    view = frame.FrameView(image)
    image.paste((0, 0, 0), (0, 0, 4, 2))
    assert opened(view).tobytes() == RED.tobytes()


def test_showing_ends_a_comparison_unless_its_before_was_kept(told):
    view, sent = told
    view.compare(RED, RED.rotate(180))
    assert kinds(sent) == [("layout", None), ("frame", "before"), ("frame", "now")]
    sent.clear()
    view.show(RED)
    assert sent[0][0]["before"] is False
    view._handle_custom_msg({"kind": "pin", "pinned": True}, [])
    sent.clear()
    view.show(RED.rotate(180))
    assert kinds(sent) == [("frame", "now")]


def test_a_preview_of_a_run_is_sent_when_asked_for(told):
    view, sent = told
    view.frames([RED, RED.rotate(180)], beside=[RED], captions=["first", "last"])
    layout = sent[-1][0]
    assert (layout["runs"], layout["captions"]) == ([2, 1], ["first", "last"])
    asked = {"kind": "still", "set": layout["set"], "run": 0, "index": 1, "lossless": False}
    view._handle_custom_msg(dict(asked), [])
    content, (png,) = sent[-1]
    assert content["index"] == 1 and content["lossless"] is True, "so small a one travels lossless"
    assert Image.open(io.BytesIO(png)).tobytes() == RED.rotate(180).tobytes()
    view.show(RED)
    sent.clear()
    view._handle_custom_msg(dict(asked), [])
    assert sent == [] and view.problem == {}


@pytest.mark.parametrize(("images", "says"), [([], "images holds no picture"), ([RED, "x"], r"images\[1\] must be")])
def test_previews_that_are_none_are_refused_by_name(frame, images, says):
    with pytest.raises((TypeError, ValueError), match=says):
        frame.FrameView().frames(images)


def test_a_view_that_opens_late_is_sent_what_is_shown(told):
    view, sent = told
    view.show(RED, draft=True, caption="step 3")
    sent.clear()
    view._handle_custom_msg({"kind": "ready"}, [memoryview(bytes([0, 127, 128, 255]))])
    assert kinds(sent) == [("hello", None), ("layout", None), ("frame", "now")]
    assert sent[-1][0]["quality"] == "draft"


def test_stale_is_said_until_the_next_picture(frame):
    view = frame.FrameView(RED)
    view.mark_stale("guidance 6 → 9")
    assert view.stale == "guidance 6 → 9"
    view.show(RED)
    assert view.stale == ""


def test_threads_may_show_at_once_and_the_last_number_wins(told):
    view, sent = told
    images = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(40)]
    threads = [threading.Thread(target=view.show, args=(image,), kwargs={"draft": True}) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert view.problem == {}
    frames = [content for content, _ in sent if content["kind"] == "frame"]
    assert 1 <= len(frames) <= 40
    assert view.png
