"""StyleShelf: what the cards say is what the recipe gets, and what they cannot say stays as it came."""

import base64
import gc
import io
import json
import re
import threading
import weakref

import pytest
from PIL import Image
from scenes import scene

import ctrl
from widgets.shelf import StyleShelf

WIDE = scene(size=(320, 200))
TALL = scene(hue=0.9, size=(150, 240))
SQUARE = scene(hue=0.3, size=(200, 200))


@pytest.fixture
def shelf():
    one = StyleShelf()
    one.add(ctrl.Style(WIDE, weight=0.7, blocks="style"), name="hills")
    one.add(TALL, name="dusk")
    one.add(SQUARE, name="meadow")
    yield one
    one.close()


def edit(shelf, at, **values):
    """As the browser does: another list of items."""
    shelf.items = [item | values if index == at else item for index, item in enumerate(shelf.items)]


# ---- without a kernel -----------------------------------------------------------------------------------------


def test_what_nobody_touched_comes_out_as_it_went_in():
    given = (
        ctrl.Style(WIDE, weight=ctrl.curve((0, 1), (1, 0.2)), mask=SQUARE, negative=TALL, blocks={"mid_block": 0.5}),
        ctrl.Style([WIDE, TALL], weight=ctrl.hold(0.5, start=0.25, until=0.75, by="noise"), combine="average"),
        ctrl.Style(SQUARE, weight=ctrl.hold(0.8, until=0.5), blocks="layout"),
    )
    assert StyleShelf(given).styles == given


def test_knobs_change_what_they_name_and_nothing_else(shelf):
    kept = ctrl.Style(WIDE, weight=ctrl.curve((0, 1), (1, 0.2)), mask=SQUARE, negative=TALL, blocks={"mid_block": 0.5})
    shelf = StyleShelf([kept])
    edit(shelf, 0, blocks="style")
    assert shelf.styles == (ctrl.Style(WIDE, weight=kept.weight, mask=SQUARE, negative=TALL, blocks="style"),)
    edit(shelf, 0, weight=0.4, start=0.2)
    assert shelf.styles[0].weight == ctrl.hold(0.4, start=0.2)
    edit(shelf, 0, start=0.0)
    assert shelf.styles[0].weight == 0.4


def test_other_styles_may_be_put_on_the_shelf_and_equal_cards_stay(shelf):
    ids = [item["id"] for item in shelf.items]
    meadow, hills = shelf.styles[2], shelf.styles[0]
    shelf.styles = [meadow, ctrl.Style(TALL, weight=0.2), hills]
    assert shelf.styles == (meadow, ctrl.Style(TALL, weight=0.2), hills)
    assert [names(shelf)[0], names(shelf)[2]] == ["meadow", "hills"]
    assert [item["id"] for item in shelf.items][::2] == [ids[2], ids[0]]
    with pytest.raises(ValueError, match="16 references at most, got 17"):
        shelf.styles = [SQUARE] * 17
    assert len(shelf.items) == 3


def test_a_removed_reference_is_forgotten(shelf):
    kept = weakref.ref(shelf.styles[0])
    shelf.items = shelf.items[1:]
    gc.collect()
    assert kept() is None and len(shelf.opening()) == 2


def test_what_is_off_is_left_out_and_keeps_its_numbers(shelf):
    edit(shelf, 0, on=False, weight=0.3)
    assert [style.picture for style in shelf.styles] == [ctrl.Picture.of(TALL), ctrl.Picture.of(SQUARE)]
    edit(shelf, 0, on=True)
    assert shelf.styles[0].weight == 0.3


def test_the_order_of_the_cards_is_the_order_of_the_styles(shelf):
    shelf.items = shelf.items[::-1]
    assert [style.picture.size for style in shelf.styles] == [(200, 200), (150, 240), (320, 200)]


def test_a_reference_acts_in_a_region_and_follows_it_as_it_is_painted():
    mask = ctrl.Picture.of(SQUARE.convert("L"))
    shelf = StyleShelf([ctrl.Style(WIDE, 0.5, mask=mask), TALL])
    assert [item["where"] for item in shelf.items] == ["its own mask", ""]
    for hat in (Image.linear_gradient("L"), Image.radial_gradient("L")):
        shelf.regions = {"a hat": hat, "a box": mask}
        assert shelf.places == ["a hat", "a box"] and shelf.styles[0].mask == mask
        edit(shelf, 1, where="a hat")
        assert shelf.styles == (ctrl.Style(WIDE, 0.5, mask=mask), ctrl.Style(TALL, mask=hat))
    edit(shelf, 0, where="a hat")
    assert shelf.styles[0].mask == shelf.styles[1].mask
    shelf.regions = {}
    assert [item["where"] for item in shelf.items] == ["", ""] and shelf.styles[1] == ctrl.Style(TALL)
    assert shelf.styles[0] == ctrl.Style(WIDE, 0.5)
    shelf.close()


@pytest.mark.parametrize("crop", [[0.25, 0.1, 0.5], [0, 0, 1], [0.9, 0.9, 1]])
def test_a_crop_is_a_square_inside_the_picture(shelf, crop):
    edit(shelf, 0, crop=crop)
    found = shelf.styles[0].picture
    side = round(crop[2] * 200)
    left, top = min(round(crop[0] * 320), 320 - side), min(round(crop[1] * 200), 200 - side)
    assert found == ctrl.Picture.of(WIDE.crop((left, top, left + side, top + side)))
    assert shelf.styles[0].blocks == "style"


def test_a_recipe_takes_it(shelf):
    assert ctrl.Recipe("a hill", styles=shelf.styles).styles == shelf.styles


def test_a_full_shelf_says_so():
    shelf = StyleShelf([SQUARE] * 16)
    with pytest.raises(ValueError, match="16 references at most; remove one first"):
        shelf.add(SQUARE)


def test_what_is_no_picture_is_refused_by_name(shelf):
    with pytest.raises(TypeError, match="Style's picture"):
        shelf.add(3)
    assert len(shelf.items) == 3


def browser_says(shelf, kind, content, *buffers):
    shelf._handle_custom_msg({"kind": kind, **content}, list(buffers))


def test_a_file_that_is_no_picture_is_an_alert(shelf):
    browser_says(shelf, "add", {"name": "x"}, b"%PDF")
    assert "cannot be read" in shelf.problem["what"] and len(shelf.items) == 3


def wait():
    for thread in threading.enumerate():
        if thread.name == "StyleShelf sees":
            thread.join(10)


def test_what_the_encoder_sees_is_asked_in_a_thread_and_again_for_a_crop():
    sizes, threads = [], []

    def sees(picture):
        sizes.append(picture.size)
        threads.append(threading.current_thread())
        return ctrl.Picture.of(picture.resize((32, 32)))

    shelf = StyleShelf([WIDE], sees=sees)
    wait()
    edit(shelf, 0, crop=[0.1, 0.1, 0.5])
    wait()
    edit(shelf, 0, weight=0.2)
    wait()
    assert sizes == [(320, 200), (100, 100)] and threading.main_thread() not in threads
    (message,) = shelf.opening()
    assert Image.open(io.BytesIO(message.buffers[1])).size == (32, 32)
    shelf.close()


def test_an_encoder_that_fails_is_an_alert():
    def sees(picture):
        raise RuntimeError("this model has no IP-Adapter")

    shelf = StyleShelf([WIDE], sees=sees)
    wait()
    assert "no IP-Adapter" in shelf.problem["what"]
    shelf.close()


def test_pictures_are_no_part_of_the_saved_state(shelf):
    state = {name: value for name, value in shelf.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state, default=str)) < 5_000


def test_a_closed_one_is_gone():
    shelf = StyleShelf([WIDE], sees=lambda picture: picture)
    wait()
    dead = weakref.ref(shelf)
    shelf.close()
    del shelf
    gc.collect()
    assert dead() is None


def test_the_module_is_small_and_takes_no_text_for_html():
    assert len(StyleShelf._esm.encode()) < 50_000
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", StyleShelf._esm)
    assert not re.search(r"https?://(?!www\.w3\.org)|\bwindow\.", StyleShelf._esm), "no network, no listener outside"


# ---- in the browser -------------------------------------------------------------------------------------------


@pytest.fixture
def shown(stage, shelf):
    stage.show(shelf)
    stage.until("[...document.querySelectorAll('.crop img')].filter((one) => one.naturalWidth).length === 3")
    return shelf


def names(shelf):
    return [item["name"] for item in shelf.items]


def drop(stage, image, name="ink.png", how="drop"):
    data = image
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = buffer.getvalue()
    stage.page.evaluate(
        """([data, name, how]) => {
          const carried = new DataTransfer(), rest = { bubbles: true, cancelable: true };
          carried.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
          document.querySelector('.add').dispatchEvent(how === 'drop'
            ? new DragEvent('drop', { dataTransfer: carried, ...rest })
            : new ClipboardEvent('paste', { clipboardData: carried, ...rest }));
        }""",
        [base64.b64encode(data).decode(), name, how],
    )


def typed(stage, name, value, nth=0):
    field = stage.page.get_by_role("spinbutton", name=name, exact=True).nth(nth)
    field.fill(str(value))
    field.press("Enter")
    stage.settle(50)


def centre(stage, selector, nth=0):
    box = stage.page.locator(selector).nth(nth).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_dropped_or_pasted_picture_becomes_a_reference(stage, shown, how):
    drop(stage, SQUARE, how=how)
    stage.until("document.querySelectorAll('li').length === 4")
    assert names(shown)[-1] == "ink"
    assert shown.styles[-1] == ctrl.Style(SQUARE), "lossless on its way"
    assert shown.revision == 1


def test_a_file_the_browser_cannot_read_is_an_alert(stage, shown):
    drop(stage, b"%PDF-1.7", name="paper.pdf")
    stage.settle(150)
    assert "paper.pdf is not a picture" in stage.at().get_by_role("alert").inner_text()


def test_weights_are_slid_and_typed(stage, shown):
    typed(stage, "Weight", 1.35)
    assert shown.styles[0].weight == 1.35
    slider = stage.page.get_by_role("slider", name="Weight of dusk")
    slider.focus()
    stage.page.keyboard.press("ArrowLeft")
    stage.settle(50)
    assert shown.styles[1].weight == pytest.approx(0.95)
    assert slider.evaluate("(node) => node === document.activeElement"), "the card is not built anew"


def test_a_reference_is_put_into_a_painted_region(shown, stage):
    choice = stage.at().get_by_label("Where it acts").first
    assert not choice.is_visible()
    shown.regions = {"a hat": Image.linear_gradient("L")}
    stage.settle()
    choice.select_option("a hat")
    stage.settle()
    assert shown.styles[0].mask == ctrl.Region("a hat", Image.linear_gradient("L")).mask


def test_what_is_followed_is_one_press(stage, shown):
    stage.page.get_by_role("button", name="Layout").nth(1).click()
    stage.settle(50)
    assert [style.blocks for style in shown.styles] == ["style", "layout", "all"]


def test_the_window_cannot_be_turned_round(stage, shown):
    typed(stage, "Acts until, typed", 40)
    typed(stage, "Acts from, typed", 20)
    assert shown.styles[0].weight == ctrl.hold(0.7, start=0.2, until=0.4)
    typed(stage, "Acts from, typed", 70)
    item = shown.items[0]
    assert item["start"] == 0.7 and item["until"] > 0.7
    last = stage.page.get_by_role("slider", name="Acts until").nth(1)
    last.focus()
    for _ in range(3):
        stage.page.keyboard.press("ArrowLeft")
    stage.settle(50)
    assert shown.styles[1].weight == ctrl.hold(1.0, until=0.97)


def test_a_card_is_dragged_to_another_place(stage, shown):
    x, y, _ = centre(stage, ".grip", 0)
    _, to, _ = centre(stage, "li", 2)
    stage.page.mouse.move(x, y)
    stage.page.mouse.down()
    stage.page.mouse.move(x, to + 5, steps=12)
    stage.page.mouse.move(x, to + 60, steps=4)
    stage.page.mouse.up()
    stage.settle(50)
    assert names(shown) == ["dusk", "meadow", "hills"]
    assert stage.page.locator("[data-held]").count() == 0


def test_cards_move_by_keys_and_say_where_they_are(stage, shown):
    stage.page.locator(".grip").first.focus()
    stage.page.keyboard.press("ArrowDown")
    stage.settle(50)
    assert names(shown) == ["dusk", "hills", "meadow"]
    assert "hills: place 2 of 3" in stage.at().inner_text()
    stage.page.keyboard.press("ArrowDown")
    stage.settle(50)
    assert names(shown) == ["dusk", "meadow", "hills"], "the grip keeps its focus"
    stage.page.get_by_role("button", name="Move hills up").click()
    stage.settle(50)
    assert names(shown) == ["dusk", "hills", "meadow"]


def test_a_reference_is_switched_off_renamed_and_removed(stage, shown):
    stage.page.get_by_role("checkbox", name="Follow dusk").uncheck()
    field = stage.page.get_by_role("textbox", name="Name of the reference").first
    field.fill("<b>far hills</b>")
    field.press("Enter")
    stage.page.get_by_role("button", name="Remove meadow").click()
    stage.settle(50)
    assert names(shown) == ["<b>far hills</b>", "dusk"] and len(shown.styles) == 1
    assert stage.page.locator("li b").count() == 0


def test_a_crop_is_dragged_sized_and_let_go(stage, shown):
    typed(stage, "Side of the crop, in percent of the shorter side", 50)
    assert shown.items[0]["crop"] == [pytest.approx(110 / 320, abs=1e-3), 0.25, 0.5]
    typed(stage, "Left of the crop, in percent", 10)
    typed(stage, "Top of the crop, in percent", 80)
    assert shown.items[0]["crop"] == [0.1, 0.5, 0.5], "as far down as it goes"
    x, y, box = centre(stage, ".crop", 0)
    x, y = box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"]
    stage.page.mouse.move(x, y)
    stage.page.mouse.down()
    stage.page.mouse.move(box["x"] + 2, box["y"] + 2, steps=6)
    stage.page.mouse.up()
    stage.settle(50)
    assert shown.styles[0].picture == ctrl.Picture.of(WIDE.crop((0, 0, 100, 100))), "the corner, and not beyond"
    stage.page.locator(".crop").first.focus()
    for key in ("ArrowRight", "+"):
        stage.page.keyboard.press(key)
    stage.settle(50)
    assert shown.items[0]["crop"][2] == pytest.approx(0.55)
    stage.page.get_by_role("button", name="Whole").first.click()
    stage.settle(50)
    assert shown.styles[0].picture == ctrl.Picture.of(WIDE)


def test_the_part_the_encoder_sees_is_shown(stage):
    shelf = StyleShelf([WIDE], sees=lambda picture: picture.crop((0, 0, 40, 40)))
    wait()
    stage.show(shelf)
    stage.until("document.querySelector('.seen img')?.naturalWidth === 40")
    assert stage.at().get_by_text("what the encoder sees").is_visible()
    shelf.close()


def test_several_pictures_of_one_reference_are_used_as_they_are(stage):
    shelf = StyleShelf([ctrl.Style([WIDE, TALL])])
    stage.show(shelf)
    stage.settle(100)
    assert stage.at().get_by_text("2 pictures, used as they are").is_visible()
    assert stage.page.get_by_role("spinbutton", name="Side of the crop").count() == 0
    shelf.close()


def test_a_full_shelf_greys_its_button_and_says_why(stage):
    shelf = StyleShelf([SQUARE] * 16)
    stage.show(shelf)
    stage.settle(100)
    assert stage.page.get_by_role("button", name="Open pictures").is_disabled()
    assert "The shelf is full with 16 references." in stage.at().inner_text()
    drop(stage, SQUARE)
    stage.settle(100)
    assert "at most" in stage.at().get_by_role("alert").inner_text()
    shelf.close()


def test_a_second_view_follows(stage, shown):
    stage.again()
    stage.settle(100)
    typed(stage, "Weight", 0.25)
    assert stage.page.get_by_role("spinbutton", name="Weight", exact=True).nth(3).input_value() == "0.25"


def test_nothing_is_left_after_the_view_ends(stage, shown):
    stage.close()
    assert stage.page.evaluate("models[0].model.listening") == 0


def test_it_is_accessible_and_narrow_and_dark(stage, shown):
    edit(shown, 1, crop=[0.1, 0.2, 0.7])
    edit(shown, 2, on=False)
    edit(shown, 0, until=0.6)
    stage.settle(150)
    stage.picture("shelf-light")
    assert stage.axe() == []
    assert stage.fits(360)
    stage.picture("shelf-360")
    stage.page.set_viewport_size({"width": 900, "height": 900})
    stage.dark("jupyter")
    stage.settle(100)
    stage.picture("shelf-dark")
    assert stage.axe() == []
