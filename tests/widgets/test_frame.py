"""The leaves, without a kernel: ipywidgets keeps a dummy comm, which is all these need."""

import io
import re
import subprocess
import sys
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


def test_the_page_never_takes_words_for_html():
    script = (ROOT / "widgets" / "frame.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    assert len(script) < 50_000
