"""FrameView in Chromium: what is seen, with which keys and pointers, and how little is sent for it."""

import re

import pytest
from scenes import scene


@pytest.fixture
def view():
    from widgets import FrameView

    one = FrameView()
    yield one
    one.close()


def sent(stage, kind, index=0):
    """What the browser sent of this kind."""
    return [m for m in stage.page.evaluate("(i) => models[i].model.sent", index) if m["kind"] == kind]


def drawn(stage, selector="img"):
    """Natural size and average colour of a picture on the page."""
    return stage.page.evaluate(
        """async (selector) => {
          const image = document.querySelector(selector); await image.decode();
          const canvas = new OffscreenCanvas(1, 1), g = canvas.getContext('2d'); g.drawImage(image, 0, 0, 1, 1);
          return [image.naturalWidth, image.naturalHeight, ...g.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        }""",
        selector,
    )


def until_drawn(stage):
    stage.until("document.querySelector('.stage img')?.naturalWidth > 0")


def test_an_empty_frame_says_so_and_a_picture_takes_its_place(stage, view):
    leaf = stage.show(view)
    assert leaf.get_by_text("No picture yet.").is_visible()
    view.show(scene(), caption="guidance 6", alt="hills under a sun")
    until_drawn(stage)
    assert not leaf.get_by_text("No picture yet.").is_visible()
    assert leaf.get_by_role("img", name="hills under a sun").is_visible()
    assert leaf.get_by_text("guidance 6").is_visible()
    assert leaf.get_by_text("exact", exact=True).is_visible()
    assert drawn(stage)[:2] == [512, 384]


def test_an_empty_frame_has_its_caption_too(stage):
    from widgets import FrameView

    view = FrameView(caption="waiting for the first step")
    leaf = stage.show(view)
    assert leaf.get_by_text("waiting for the first step").is_visible()
    view.caption = "still waiting"
    stage.settle()
    assert leaf.get_by_text("still waiting").is_visible()
    view.close()


def test_a_draft_moves_as_jpeg_and_rests_lossless(stage, view):
    leaf = stage.show(view)
    view.show(scene(size=(128, 96)), draft=True, caption="step 3 of 20")
    (_, first, (data,)) = stage.waiting[-1]
    assert first["lossless"] is False and data.startswith(b"\xff\xd8")
    until_drawn(stage)
    assert leaf.get_by_text("draft", exact=True).is_visible()
    stage.until("models[0].model.sent.some((m) => m.kind === 'sharpen')", timeout=3000)
    stage.settle(50)
    kind = "async () => (await (await fetch(document.querySelector('.stage img').src)).blob()).type"
    assert stage.page.evaluate(kind) == "image/png"
    assert leaf.get_by_text("draft", exact=True).is_visible(), "lossless, and a draft all the same"


def test_a_flood_leaves_two_on_the_way_and_ends_with_the_last(stage, view):
    stage.show(view)
    view.show(scene(), draft=True)
    stage.settle(20)
    for i in range(100):
        view.show(scene(hue=i / 100, size=(64, 48)), draft=True, caption=f"frame {i}")
    assert len([m for m in stage.waiting if m[1]["kind"] == "frame"]) <= 2
    stage.until("document.querySelector('.caption').textContent === 'frame 99'")
    assert drawn(stage)[:2] == [64, 48]
    assert len(sent(stage, "shown")) < 12


def test_stale_is_said_and_seen_until_the_next_picture(stage, view):
    leaf = stage.show(view)
    view.show(scene())
    until_drawn(stage)
    view.mark_stale("guidance 6 → 9")
    stage.settle()
    assert leaf.get_by_role("status").get_by_text("stale: guidance 6 → 9").is_visible()
    assert "grayscale" in leaf.locator(".clip").first.evaluate("(node) => getComputedStyle(node).filter")
    view.show(scene(0.1))
    stage.settle(50)
    assert not leaf.get_by_text("stale").is_visible()


def test_before_and_after_by_divider_flip_difference_and_side(stage, view):
    leaf = stage.show(view)
    view.compare(scene(sun=(0.3, 0.3)), scene(sun=(0.7, 0.3)), captions=("weight 0", "weight 1"))
    until_drawn(stage)
    over = leaf.locator(".clip").nth(1)
    box = leaf.locator(".cell").first.bounding_box()
    handle = leaf.locator(".handle").bounding_box()
    stage.page.mouse.move(handle["x"] + 16, handle["y"] + 40)
    stage.page.mouse.down()
    stage.page.mouse.move(box["x"] + box["width"] * 0.25, handle["y"] + 60, steps=3)
    stage.page.mouse.up()
    assert re.search(r"inset\(0(px)? 0(px)? 0(px)? 25", over.evaluate("(node) => node.style.clipPath"))
    leaf.get_by_label("Divider in percent").fill("80")
    leaf.get_by_label("Divider in percent").press("Enter")
    assert "80%" in over.evaluate("(node) => node.style.clipPath")
    leaf.get_by_role("button", name="Flip", exact=True).click()
    assert leaf.locator(".tag.left").first.inner_text() == "weight 1"
    leaf.locator(".stage").click(position={"x": 50, "y": 50})
    assert leaf.locator(".tag.left").first.inner_text() == "weight 0"
    assert over.evaluate("(node) => node.style.visibility") == "hidden"
    leaf.locator(".stage").press("Space")
    assert over.evaluate("(node) => node.style.visibility") == "visible"
    leaf.get_by_role("button", name="Difference").click()
    assert over.evaluate("(node) => getComputedStyle(node).mixBlendMode") == "difference"
    leaf.get_by_role("button", name="Side by side").click()
    stage.until("[...document.querySelectorAll('.cell img')].filter((i) => i.offsetParent).length === 2")


def test_the_difference_of_a_picture_to_itself_is_black(stage, view):
    leaf = stage.show(view)
    view.compare(scene(), scene())
    until_drawn(stage)
    leaf.get_by_role("button", name="Difference").click()
    stage.settle(100)
    shot = leaf.locator(".cell").first.screenshot()
    import io

    from PIL import Image

    inner = Image.open(io.BytesIO(shot)).convert("RGB").crop((40, 60, 400, 300))
    assert max(high for _, high in inner.getextrema()) == 0


def test_a_kept_picture_stays_as_before_while_others_come(stage, view):
    leaf = stage.show(view)
    view.show(scene(0.1), caption="one")
    until_drawn(stage)
    leaf.get_by_role("button", name="Keep as before").click()
    stage.settle()
    view.show(scene(0.6), caption="two")
    stage.settle(80)
    assert leaf.get_by_role("group", name="Compare by").is_visible()
    assert drawn(stage, ".cell .clip:nth-child(1) img")[2:] != drawn(stage, ".cell .clip:nth-child(2) img")[2:]
    leaf.get_by_role("button", name="Keep as before").click()
    stage.settle()
    assert not leaf.get_by_role("group", name="Compare by").is_visible()


def test_zoom_by_keys_typed_percent_and_wheel_and_move_by_drag(stage, view):
    leaf = stage.show(view)
    view.show(scene())
    until_drawn(stage)
    percent, plane = leaf.get_by_label("Zoom in percent"), leaf.locator(".plane").first
    leaf.locator(".stage").press("+")
    assert percent.input_value() == "150"
    percent.fill("400")
    percent.press("Enter")
    assert "scale(4)" in plane.evaluate("(node) => node.style.transform")
    before = plane.evaluate("(node) => node.style.transform")
    box = leaf.locator(".stage").bounding_box()
    stage.page.mouse.move(box["x"] + 200, box["y"] + 200)
    stage.page.mouse.down()
    stage.page.mouse.move(box["x"] + 260, box["y"] + 230)
    stage.page.mouse.up()
    assert plane.evaluate("(node) => node.style.transform") != before
    stage.page.keyboard.down("Control")
    stage.page.mouse.wheel(0, 2000)
    stage.page.keyboard.up("Control")
    stage.settle(50)
    assert percent.input_value() == "100"


def test_the_previews_of_two_runs_are_scrubbed_side_by_side(stage, view):
    leaf = stage.show(view)
    runs = [[scene(hue, size=(96, 72), blur=6 - i) for i in range(7)] for hue in (0.1, 0.6)]
    view.frames(runs[0], beside=runs[1])
    stage.until("[...document.querySelectorAll('.cell img')].filter((i) => i.naturalWidth).length === 2")
    stage.settle(100)
    assert len(sent(stage, "still")) == 14, "each preview is asked for once"
    assert leaf.get_by_text("step 7 of 7").is_visible()
    step = leaf.get_by_role("spinbutton", name="step")
    step.fill("2")
    step.press("Enter")
    assert leaf.get_by_text("step 2 of 7").is_visible()
    leaf.get_by_role("slider", name="Step").press("ArrowRight")
    assert leaf.get_by_text("step 3 of 7").is_visible()


def test_a_front_end_that_drops_bytes_gets_text_and_a_note(stage, view):
    view.show(scene(), caption="all the same")
    stage.blind = True
    leaf = stage.show(view)
    until_drawn(stage)
    assert leaf.get_by_text("drops binary data").is_visible()
    assert drawn(stage)[:2] == [512, 384]


def test_a_view_whose_first_word_is_lost_says_it_again(stage, view):
    heard, receive = [], view._handle_custom_msg

    def lossy(content, buffers):
        heard.append(content["kind"])
        if heard.count(content["kind"]) > 1:
            receive(content, buffers)

    view.show(scene())
    view._handle_custom_msg = lossy
    stage.show(view)
    stage.until("document.querySelector('.stage img')?.naturalWidth > 0", timeout=20_000)
    assert heard[:4] == ["module", "module", "ready", "ready"]


def test_a_second_view_shows_the_same_at_once(stage, view):
    stage.show(view)
    view.show(scene(), caption="twice")
    until_drawn(stage)
    stage.page.evaluate("view(0)")
    stage.page.wait_for_timeout(200)  # and not one message carried
    assert stage.page.evaluate("[...document.querySelectorAll('.stage img')].filter((i) => i.naturalWidth).length") == 2


def test_a_problem_is_an_alert_with_a_next_step_and_can_be_dismissed(stage, view):
    leaf = stage.show(view)
    view.show_problem("Out of memory.", why="<b>512</b>", next_step="Halve the size.", details="Traceback …")
    stage.settle()
    alert = leaf.get_by_role("alert")
    assert alert.locator("p").all_inner_texts() == ["Out of memory.", "<b>512</b>", "Halve the size."]
    assert alert.get_by_role("button", name="Copy details").is_visible()
    alert.get_by_role("button", name="Dismiss").click()
    stage.settle()
    assert view.problem == {} and alert.inner_text() == ""


def test_keys_stay_in_the_panel(stage, view):
    leaf = stage.show(view)
    view.show(scene())
    until_drawn(stage)
    stage.page.evaluate("window.heard = []; document.addEventListener('keydown', (e) => heard.push(e.key))")
    leaf.locator(".stage").focus()
    stage.page.keyboard.type("xabddmy00")
    assert stage.page.evaluate("heard") == []
    assert leaf.locator(".stage").get_attribute("data-lm-suppress-shortcuts") == "true"


def test_a_kernel_that_does_not_answer_is_said_and_unsaid(stage, view):
    leaf = stage.show(view)
    stage.page.evaluate("models[0].model.send = () => {}")  # nothing arrives any more
    leaf.locator(".empty").click()
    stage.page.wait_for_timeout(1700)
    assert leaf.get_by_text("The kernel does not answer").is_visible()
    view.show(scene())
    until_drawn(stage)
    assert not leaf.get_by_text("The kernel does not answer").is_visible()


def test_what_a_leaf_cannot_show_is_an_alert(stage, view):
    leaf = stage.show(view)
    stage.page.evaluate("fromPython(0, { kind: 'layout', set: 5, runs: null, count: 0 }, [])")
    stage.settle()
    assert "could not show what the kernel sent" in leaf.get_by_role("alert").inner_text()


def test_closing_leaves_no_listener_behind(stage, view):
    stage.show(view)
    view.show(scene())
    until_drawn(stage)
    stage.close()
    assert stage.page.evaluate("models[0].model.listening") == 0
    assert stage.at().count() == 0


@pytest.mark.parametrize("theme", ["light", "dark", "jupyter", "contrast"])
def test_it_can_be_read_by_everyone_and_fits_a_phone(stage, view, theme):
    stage.theme(theme)
    stage.show(view)
    view.show(scene(), caption="A red ball to the left of a blue cube, guidance 6, seed 11")
    until_drawn(stage)
    stage.picture(f"frame-exact-{theme}")
    view.mark_stale("guidance 6 → 9")
    stage.settle(50)
    stage.picture(f"frame-stale-{theme}")
    view.compare(scene(sun=(0.3, 0.3)), scene(), captions=("guidance 1", "guidance 9"))
    stage.settle(100)
    stage.picture(f"frame-compare-{theme}")
    view.show_problem("The picture could not be made.", why="The GPU has no memory left.", next_step="Halve the size.")
    stage.settle(50)
    assert stage.axe() == []
    assert stage.fits(360)
    stage.picture(f"frame-phone-{theme}")
