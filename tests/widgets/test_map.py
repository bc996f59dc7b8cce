"""MapPad: what is painted is what Python has, every stroke can be taken back, and regions never overlap."""

import base64
import gc
import io
import json
import re
import threading
import weakref
import zlib

import numpy as np
import pytest
from PIL import Image
from scenes import scene

import ctrl
from widgets.map import MapPad

SIZE = (160, 120)  # (width, height)


def slope():
    """A map that rises from left to right."""
    return Image.fromarray(np.tile(np.linspace(0, 255, SIZE[0]).astype(np.uint8), (SIZE[1], 1)))


def half(side):
    """A mask of the left or right half."""
    x = np.arange(SIZE[0]) < SIZE[0] // 2
    return Image.fromarray(np.tile(np.where(x if side == "left" else ~x, 255, 0).astype(np.uint8), (SIZE[1], 1)))


@pytest.fixture
def pad():
    one = MapPad(size=SIZE, radius=10, soft=0)
    yield one
    one.close()


# ---- without a kernel -----------------------------------------------------------------------------------------


def test_an_empty_pad_is_black_and_has_no_regions(pad):
    assert (pad.picture.mode, pad.picture.size, pad.picture.getextrema(), pad.regions) == ("L", SIZE, (0, 0), {})


def test_a_map_goes_in_and_the_same_pixels_come_out():
    one = MapPad(slope())
    assert (one.width, one.height) == SIZE
    assert one.picture.tobytes() == slope().tobytes()
    assert ctrl.Depth(one.picture).picture == ctrl.Picture.of(slope()), "it steers as it is"
    assert MapPad(ctrl.Picture.of(slope())).picture.tobytes() == slope().tobytes()


@pytest.mark.parametrize(("low", "high", "inverted"), [(50, 200, False), (0, 255, True), (30, 90, True)])
def test_range_and_inversion_are_part_of_the_map(low, high, inverted):
    one = MapPad(slope(), low=low, high=high, inverted=inverted)
    one.low, one.high, one.inverted = low, high, inverted
    wanted = low + np.asarray(slope()).astype(float) * (high - low) / 255
    wanted = 255 - wanted if inverted else wanted
    assert np.abs(np.asarray(one.picture) - wanted).max() <= 0.5 + 1e-9


def test_a_picture_larger_than_the_pad_is_reduced():
    assert MapPad(Image.new("L", (3000, 1500))).picture.size == (1024, 512)


@pytest.mark.parametrize("mode", ["I;16", "F", "CMYK"])
def test_a_mode_that_would_be_clipped_is_refused_with_the_cure(mode):
    with pytest.raises(ValueError, match=re.escape(repr(mode)) + r".*convert\('RGB'\)"):
        MapPad(Image.new(mode, SIZE))


def test_regions_given_by_python_do_not_overlap():
    one = MapPad(size=SIZE, regions={"sky": half("left"), "rest": None})
    one.add_region("ball", Image.new("L", SIZE, 128))
    masks = {name: np.asarray(mask).astype(int) for name, mask in one.regions.items()}
    assert list(masks) == ["sky", "ball"], "what was never painted is no region yet"
    assert sum(masks.values()).max() <= 255
    assert masks["sky"][60, 10] == 127 and masks["sky"][60, 150] == 0 and masks["ball"].min() == 128
    one.add_region("sky", half("right"))
    assert np.asarray(one.regions["sky"])[60, 150] == 255 and len(one.palette) == 3


@pytest.mark.parametrize("name", ["", "x" * 61, 3])
def test_a_region_needs_a_name(pad, name):
    with pytest.raises(ValueError, match="name must be a string of 1 to 60 characters"):
        pad.add_region(name)


def test_a_palette_has_a_limit(pad):
    for n in range(32):
        pad.add_region(f"region {n}")
    with pytest.raises(ValueError, match="at most 32 regions"):
        pad.add_region("one more")


def browser_says(pad, kind, content, *buffers):
    pad._handle_custom_msg({"kind": kind, **content}, list(buffers))


def plane(value, count=SIZE[0] * SIZE[1]):
    return zlib.compress(bytes([value]) * count)


def test_a_plane_from_the_browser_is_the_map(pad):
    browser_says(pad, "plane", {"id": "map"}, plane(7))
    assert pad.picture.getextrema() == (7, 7)
    browser_says(pad, "plane", {"id": "map"})
    assert pad.picture.getextrema() == (0, 0)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("map", plane(9, 100), "has 19200 bytes, got 100"),
        ("map", plane(9, 50_000_000), "got 19201"),
        ("map", b"no zlib", "could not do that"),
        ("../map", plane(9), "called 'map'"),
    ],
)
def test_a_plane_that_does_not_fit_is_an_alert_and_changes_nothing(pad, name, data, said):
    browser_says(pad, "plane", {"id": "map"}, plane(7))
    browser_says(pad, "plane", {"id": name}, data)
    assert said in pad.problem["what"]
    assert pad.picture.getextrema() == (7, 7)


def test_what_is_painted_is_no_part_of_the_saved_state():
    one = MapPad(Image.effect_noise((512, 512), 90), background=scene(), regions={"sky": None})
    state = {name: value for name, value in one.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state, default=str)) < 5_000
    one.close()


def wait(thread_name):
    for thread in threading.enumerate():
        if thread.name == thread_name:
            thread.join(10)


def test_a_detector_runs_in_a_thread_of_its_own():
    go, seen = threading.Event(), []

    def detect(picture):
        go.wait(10)
        seen.append((threading.current_thread(), picture.size))
        return ctrl.Picture.of(slope())

    one = MapPad(size=SIZE, background=scene(), detect=detect)
    browser_says(one, "detect", {})
    assert seen == [] and one.picture.getextrema() == (0, 0), "the message is handled, the detector still works"
    go.set()
    wait("MapPad detect")
    assert seen[0][0] is not threading.main_thread() and seen[0][1] == SIZE
    assert one.picture.tobytes() == slope().tobytes() and one.problem == {}
    one.close()


@pytest.mark.filterwarnings("error")
def test_a_detector_that_fails_is_an_alert():
    def detect(picture):
        raise RuntimeError("no figure in it")

    one = MapPad(size=SIZE, background=scene(), detect=detect)
    browser_says(one, "detect", {})
    wait("MapPad detect")
    assert one.problem["what"] == "Nothing was detected: no figure in it" and "Traceback" in one.problem["details"]
    one.close()


def test_a_background_that_is_no_picture_is_an_alert(pad):
    browser_says(pad, "backdrop", {}, b"GIF89a")
    assert "cannot be read" in pad.problem["what"] and pad.background is None


def test_a_closed_one_is_gone():
    one = MapPad(slope(), background=scene(), regions=["sky"])
    dead = weakref.ref(one)
    one.close()
    del one
    gc.collect()
    assert dead() is None


def test_the_module_is_small_and_takes_no_text_for_html():
    assert len(MapPad._esm.encode()) < 50_000
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", MapPad._esm)
    assert not re.search(r"https?://(?!www\.w3\.org)|\bwindow\.", MapPad._esm), "no network, no listener outside"


# ---- in the browser -------------------------------------------------------------------------------------------


@pytest.fixture
def shown(stage, pad):
    stage.show(pad)
    painted(stage)
    return pad


def painted(stage):
    stage.until("document.querySelector('canvas')?.dataset.painted > 0")


def at(stage, x, y):
    """Page coordinates of a pixel of the map."""
    box = stage.page.locator(".stage canvas").first.bounding_box()
    return box["x"] + box["width"] * x / SIZE[0], box["y"] + box["height"] * y / SIZE[1]


def quiet(stage, milliseconds=80):
    """Wait until every view has drawn and every plane has been packed and carried, however busy the machine."""
    stage.settle(milliseconds)
    stage.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    packed = "new Response(new Blob(['x']).stream().pipeThrough(new CompressionStream('deflate'))).arrayBuffer()"
    for _ in range(3):
        stage.page.evaluate(f"async () => {{ await {packed}; }}")
        stage.settle(20)


def drag(stage, *points):
    stage.page.mouse.move(*at(stage, *points[0]))
    stage.page.mouse.down()
    for point in points[1:]:
        stage.page.mouse.move(*at(stage, *point), steps=4)
    stage.page.mouse.up()
    quiet(stage, 80)


def key(stage, *keys):
    stage.page.locator(".stage canvas").first.focus()
    for one in keys:
        stage.page.keyboard.press(one)
    quiet(stage, 80)


def grey(pad):
    return np.asarray(pad.picture).astype(int)


def screen(stage, index=0):
    data = stage.page.evaluate("(i) => document.querySelectorAll('.stage canvas')[i].toDataURL().split(',')[1]", index)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def drop(stage, image, name="photo.png", how="drop"):
    """Drop or paste a picture as a file."""
    data = image
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        data = buffer.getvalue()
    stage.page.evaluate(
        """([data, name, how]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
          const target = document.querySelector('.stage');
          const rest = { bubbles: true, cancelable: true };
          const event = how === 'drop' ? new DragEvent('drop', { dataTransfer: carried, ...rest })
            : new ClipboardEvent('paste', { clipboardData: carried, ...rest });
          target.dispatchEvent(event);
        }""",
        [base64.b64encode(data).decode(), name, how],
    )
    quiet(stage, 150)


def press(stage, name, exact=False):
    stage.page.get_by_role("button", name=name, exact=exact).click()
    quiet(stage, 150)


def test_a_stroke_is_what_python_has(stage, shown):
    drag(stage, (30, 60), (130, 60))
    assert shown.revision == 1
    found = grey(shown)
    assert found[60, 30:130].min() == 255 and found[40].max() == 0 and found[80].max() == 0
    assert found[52, 80] == 255 and found[68, 80] == 255 and found[60, 17] == 0
    assert np.abs(screen(stage) - found[..., None]).max() == 0


def test_a_soft_edge_falls_off_and_a_hard_one_does_not(stage, shown):
    drag(stage, (30, 30), (130, 30))
    hard = grey(shown)[30:45, 80]
    assert set(hard) <= {0, 255} or np.count_nonzero((hard > 0) & (hard < 255)) <= 2
    key(stage, "Control+z")
    shown.soft = 1.0
    quiet(stage, 30)
    drag(stage, (30, 30), (130, 30))
    soft = grey(shown)[30:45, 80]
    assert np.all(np.diff(soft) <= 0) and np.count_nonzero((soft > 0) & (soft < 255)) >= 7


def test_a_soft_stroke_that_crosses_itself_is_no_brighter_there(stage, shown):
    shown.soft, shown.value = 1.0, 100
    quiet(stage, 30)
    drag(stage, (40, 60), (120, 60), (40, 60), (120, 60))
    assert grey(shown).max() == 100


def test_a_typed_value_is_painted_exactly(stage, shown):
    field = stage.page.get_by_role("spinbutton", name="Value, 0 black")
    field.fill("77")
    field.press("Enter")
    drag(stage, (40, 60), (60, 60))
    assert grey(shown)[60, 50] == 77


def test_the_eraser_takes_away(stage, shown):
    drag(stage, (30, 60), (130, 60))
    key(stage, "e")
    drag(stage, (80, 20), (80, 100))
    assert grey(shown)[60, 80] == 0 and grey(shown)[60, 40] == 255 and shown.revision == 2


def test_a_lasso_fills_its_inside(stage, shown):
    key(stage, "l")
    drag(stage, (40, 30), (120, 30), (120, 90), (40, 90))
    found = grey(shown)
    assert found[35:85, 45:115].min() == 255 and found[:28].max() == 0 and found[:, :38].max() == 0


def test_a_lasso_with_a_soft_edge_fades(stage, shown):
    shown.soft, shown.radius = 1.0, 12
    key(stage, "l")
    drag(stage, (40, 30), (120, 30), (120, 90), (40, 90))
    edge = grey(shown)[60, 28:56]
    assert np.all(np.diff(edge) >= 0) and np.count_nonzero((edge > 0) & (edge < 255)) > 8


def test_a_gradient_goes_from_one_value_to_the_other(stage, shown):
    shown.value, shown.value_to = 200, 40
    key(stage, "g")
    drag(stage, (80, 20), (80, 100))
    column = grey(shown)[:, 80]
    assert column[10] == 200 and column[110] == 40 and abs(column[60] - 120) <= 2 and np.all(np.diff(column) <= 0)


def test_a_fill_stops_at_what_differs(stage, shown):
    key(stage, "l")
    drag(stage, (40, 30), (120, 30), (120, 90), (40, 90))
    shown.value = 90
    key(stage, "f")
    stage.page.mouse.click(*at(stage, 80, 60))
    quiet(stage, 80)
    found = grey(shown)
    assert found[60, 80] == 90 and found[10, 10] == 0


def test_undo_and_redo_go_back_and_forth_bit_for_bit(stage, shown):
    states = [shown.picture.tobytes()]
    for y in (30, 60, 90):
        drag(stage, (20, y), (140, y))
        states.append(shown.picture.tobytes())
    assert len(set(states)) == 4
    for wanted in reversed(states[:-1]):
        press(stage, "Undo")
        assert shown.picture.tobytes() == wanted
    assert stage.page.get_by_role("button", name="Undo").is_disabled()
    for wanted in states[1:]:
        key(stage, "Control+Shift+z")
        assert shown.picture.tobytes() == wanted


def test_clear_is_one_click_and_can_be_undone(stage, shown):
    drag(stage, (20, 60), (140, 60))
    before = shown.picture.tobytes()
    press(stage, "Clear")
    assert grey(shown).max() == 0
    press(stage, "Undo")
    assert shown.picture.tobytes() == before


def test_inverted_and_ranged_the_shown_value_is_painted(stage, shown):
    press(stage, "Invert")
    assert grey(shown).min() == 255
    shown.low, shown.high, shown.value = 100, 200, 80
    quiet(stage, 30)
    drag(stage, (40, 60), (60, 60))
    assert abs(grey(shown)[60, 50] - 80) <= 1
    assert np.abs(screen(stage) - grey(shown)[..., None]).max() == 0


def test_it_can_be_painted_by_keyboard(stage, shown):
    key(stage, " ", *["ArrowRight"] * 5, " ")
    found = grey(shown)
    assert found[60, 80] == 255 and found[60, 100] == 255 and found[60, 60] == 0 and shown.revision == 1
    key(stage, "]", "]")
    assert shown.radius > 10
    assert "pen up" in stage.at().inner_text()


def test_a_finger_paints_too(stage, shown):
    stage.page.touchscreen.tap(*at(stage, 80, 60))
    quiet(stage, 80)
    assert grey(shown)[60, 80] == 255


def regions_on(stage, pad, *names):
    pad.layer = "regions"
    for name in names:
        pad.add_region(name)
    quiet(stage, 60)


def test_regions_are_painted_once_and_never_overlap(stage, shown):
    regions_on(stage, shown, "sky", "ball")
    key(stage, "l")
    drag(stage, (2, 2), (158, 2), (158, 60), (2, 60))
    stage.page.get_by_role("radio", name="Paint ball").check()
    quiet(stage, 60)
    shown.soft = 0.8
    key(stage, "b")
    drag(stage, (70, 40), (90, 40))
    masks = {name: np.asarray(mask).astype(int) for name, mask in shown.regions.items()}
    assert list(masks) == ["sky", "ball"]
    assert masks["ball"][40, 80] == 255 and masks["sky"][40, 80] == 0 and masks["sky"][20, 20] == 255
    assert sum(masks.values()).max() <= 256, "rounding of one level"
    assert shown.picture.getextrema() == (0, 0), "the map is another layer"
    label = stage.page.locator(".stage text").all_text_contents()
    assert set(label) == {"sky", "ball"}


def test_a_region_is_added_named_coloured_and_removed(stage, shown):
    shown.layer = "regions"
    quiet(stage, 60)
    drag(stage, (70, 40), (90, 40))
    assert "Add a region first" in stage.at().get_by_role("status").inner_text()
    press(stage, "Add a region")
    press(stage, "Add a region")
    names = stage.page.get_by_role("textbox", name="Name of the region")
    names.first.fill("sky")
    names.first.press("Enter")
    quiet(stage, 60)
    stage.page.get_by_role("textbox", name="Name of the region").last.fill("sky")
    stage.page.keyboard.press("Enter")
    quiet(stage, 60)
    assert [one["name"] for one in shown.palette] == ["sky", "sky 2"], "no two have one name"
    assert len({one["colour"] for one in shown.palette}) == 2
    drag(stage, (70, 40), (90, 40))
    assert list(shown.regions) == ["sky 2"]
    press(stage, "Remove sky 2")
    assert shown.regions == {} and [one["name"] for one in shown.palette] == ["sky"]
    press(stage, "Undo")
    assert list(shown.regions) == ["sky 2"]


def test_a_region_flows_round_what_is_in_the_picture(stage):
    pad = MapPad(size=SIZE, background=scene(size=SIZE), regions=["sun"], layer="regions", tool="fill")
    stage.show(pad)
    quiet(stage, 100)
    stage.page.mouse.click(*at(stage, 112, 36))
    quiet(stage, 80)
    mask = np.asarray(pad.regions["sun"])
    assert mask[36, 112] == 255 and mask[36, 20] == 0 and 400 < np.count_nonzero(mask) < 1000, "the disc of the sun"
    pad.close()


def test_a_region_name_is_never_html(stage, shown):
    regions_on(stage, shown, "<img src=x onerror=alert(1)>")
    drag(stage, (70, 40), (90, 40))
    assert stage.page.locator(".stage text").text_content() == "<img src=x onerror=alert(1)>"
    assert stage.page.locator(".stage img").count() == 0


def test_a_dropped_picture_becomes_the_map(stage, shown):
    drop(stage, scene(size=SIZE))
    press(stage, "The depth map")
    assert np.abs(grey(shown) - np.asarray(scene(size=SIZE).convert("L"))).max() <= 1
    press(stage, "Undo")
    assert grey(shown).max() == 0


def test_a_pasted_picture_is_fitted(stage, shown):
    drop(stage, Image.new("RGB", (100, 100), "white"), how="paste")
    stage.page.get_by_role("combobox", name="Fit").select_option("pad")
    press(stage, "The depth map")
    found = grey(shown)
    assert found[60, 80] == 255 and found[60, 5] == 0 and found[60, 155] == 0


def test_shown_in_another_shape_a_picture_keeps_its_proportions(stage, shown):
    shown.shape = 2.0
    quiet(stage, 50)
    box = stage.page.locator(".stage canvas").first.bounding_box()
    assert abs(box["width"] / box["height"] - 2) < 0.02
    drop(stage, Image.new("RGB", (100, 100), "white"))
    stage.page.get_by_role("combobox", name="Fit").select_option("pad")
    press(stage, "The depth map")
    found = grey(shown)
    assert found.shape == SIZE[::-1] and np.all(found[:, 45:115] == 255) and not found[:, :35].any()
    drop(stage, Image.new("RGB", (200, 100), "white"))
    assert not stage.page.get_by_role("combobox", name="Fit").is_visible()


def test_a_large_photo_is_reduced_and_said_to_be(stage, shown):
    noise = np.random.default_rng(0).integers(0, 255, (1680, 2520, 3), np.uint8)  # 12 MB as a PNG
    drop(stage, Image.fromarray(noise))
    stage.until("!document.querySelector('.intake').hidden", timeout=10000)
    assert "It was reduced to 1500 × 1000." in stage.at().inner_text()
    press(stage, "Something to paint over")
    stage.until("models[0].model.sent.some((m) => m.kind === 'backdrop')")
    quiet(stage, 50)
    assert shown.background.size == SIZE


def test_a_file_that_is_no_picture_is_an_alert(stage, shown):
    drop(stage, b"%PDF-1.7", name="paper.pdf")
    assert "paper.pdf is not a picture" in stage.at().get_by_role("alert").inner_text()


def test_a_map_is_detected_from_a_dropped_picture(stage):
    pad = MapPad(size=SIZE, detect=lambda picture: picture.convert("L").point(lambda value: 255 - value))
    stage.show(pad)
    drop(stage, scene(size=SIZE))
    press(stage, "Detect its depth")
    wait("MapPad detect")
    quiet(stage, 100)
    wanted = 255 - np.asarray(scene(size=SIZE).convert("L")).astype(int)
    assert np.abs(grey(pad) - wanted).mean() < 4, "WebP on its way to Python"
    assert stage.at().get_by_role("status").is_hidden()
    pad.close()


def test_without_a_detector_the_button_says_why_it_is_grey(stage, shown):
    drop(stage, scene(size=SIZE))
    button = stage.page.get_by_role("button", name="Detect its depth")
    assert button.is_disabled() and "MapPad(detect=" in button.get_attribute("title")
    press(stage, "Cancel")
    assert stage.page.locator(".intake").is_hidden()


CAMERA = """() => {
  const canvas = document.createElement('canvas'); canvas.width = 160; canvas.height = 120;
  const g = canvas.getContext('2d'); let n = 0;
  setInterval(() => { g.fillStyle = '#ffffff'; g.fillRect(0, 0, 160, 120); n++; }, 20);
  window.stream = canvas.captureStream(30);
  Object.defineProperty(navigator, 'mediaDevices', { value: { getUserMedia: async () => window.stream } });
}"""


def test_the_camera_gives_a_picture_and_is_switched_off(stage, shown):
    stage.page.evaluate(CAMERA)
    press(stage, "Take a picture with the camera")
    stage.until("document.querySelector('video')?.videoWidth > 0")
    press(stage, "Take the picture")
    stage.until("document.querySelector('.intake .ctrl-main')?.textContent === 'The depth map'")
    press(stage, "The depth map")
    assert grey(shown).min() > 240
    assert stage.page.evaluate("stream.getTracks().every((track) => track.readyState === 'ended')")


def test_without_a_camera_there_is_an_alert_with_the_next_step(stage, shown):
    none = "{ getUserMedia: async () => { throw new Error('denied'); } }"
    stage.page.evaluate(f"() => {{ Object.defineProperty(navigator, 'mediaDevices', {{ value: {none} }}); }}")
    press(stage, "Take a picture with the camera")
    said = stage.at().get_by_role("alert").inner_text()
    assert "camera is not available" in said and "denied" in said and "drop or paste" in said


def test_a_view_that_opens_later_shows_the_same_and_python_repaints_both(stage, shown):
    drag(stage, (30, 60), (130, 60))
    stage.again()
    quiet(stage, 200)
    assert np.array_equal(screen(stage, 0), screen(stage, 2))
    shown.picture = slope()
    quiet(stage, 200)
    assert np.array_equal(screen(stage, 0)[..., 0], np.asarray(slope()))
    assert np.array_equal(screen(stage, 0), screen(stage, 2))
    stage.page.get_by_role("button", name="Undo").first.click()
    quiet(stage, 100)
    assert grey(shown)[60, 80] == 255 and grey(shown)[40].max() == 0, "one step back, not two"


def test_what_python_brought_is_the_first_state(stage):
    pad = MapPad(slope(), regions={"left": half("left")}, background=scene(size=SIZE), veil=0)
    stage.show(pad)
    quiet(stage, 200)
    assert np.array_equal(screen(stage)[..., 0], np.asarray(slope()))
    assert stage.page.get_by_role("button", name="Undo").is_disabled()
    assert pad.revision == 2, "opening a view changes nothing"
    pad.close()


def test_in_relief_the_near_comes_forward_and_arrows_turn_it(stage):
    near = Image.new("L", SIZE, 0)
    near.paste(255, (60, 40, 100, 80))
    pad = MapPad(near, relief=True)
    stage.show(pad)
    quiet(stage, 200)
    solid = stage.page.locator("canvas.relief")
    first = screen(stage, 1)
    white = first.min(-1) > 200
    assert 0.4 < np.count_nonzero(white) / (40 * 40) < 2.2
    assert np.nonzero(white)[1].mean() > 85, "turned to the left, what is near moves right of the middle"
    solid.focus()
    for _ in range(9):
        stage.page.keyboard.press("ArrowLeft")
    quiet(stage, 100)
    assert np.nonzero(screen(stage, 1).min(-1) > 200)[1].mean() < 75
    pad.close()


def test_nothing_is_left_after_the_view_ends(stage, shown):
    stage.close()
    assert stage.page.evaluate("models[0].model.listening") == 0


def test_it_is_accessible_and_narrow_and_dark(stage):
    pad = MapPad(size=(512, 384), background=scene(), regions=["sky", "hills", "sun"], layer="regions", radius=36)
    y, x = np.mgrid[:384, :512]
    pad.add_region("sky", Image.fromarray(((y < 190) * 255).astype(np.uint8)))
    pad.add_region("hills", Image.fromarray(((y > 250) * 255).astype(np.uint8)))
    pad.add_region("sun", Image.fromarray(((np.hypot(x - 358, y - 115) < 50) * 255).astype(np.uint8)))
    pad.picture = Image.fromarray(np.clip(y / 384 * 220, 0, 255).astype(np.uint8))
    stage.show(pad)
    quiet(stage, 250)
    stage.picture("map-regions")
    assert stage.axe() == []
    assert stage.fits(360)
    stage.picture("map-360")
    stage.page.set_viewport_size({"width": 900, "height": 900})
    stage.dark("jupyter")
    drop(stage, scene(hue=0.1, size=(300, 300)))
    stage.picture("map-dark")
    assert stage.axe() == []
    pad.relief = True
    quiet(stage, 100)
    stage.picture("map-relief")
    pad.close()
