"""PosePad in Chromium: joints and figures moved by mouse, touch, keys and typed numbers."""

import json

import numpy as np
import pytest
from scenes import scene

import ctrl

LEFT_WRIST = ctrl.skeleton.JOINTS.index("left wrist")
NECK = ctrl.skeleton.JOINTS.index("neck")


@pytest.fixture
def pad():
    from widgets import PosePad

    one = PosePad(ctrl.Skeleton.named("waving"))
    yield one
    one.close()


def on_page(stage, pad, point):
    """Where a point of the canvas, in fractions, is on the page."""
    box = stage.page.locator("svg.canvas").evaluate(
        "(svg) => { const m = svg.getScreenCTM(), v = svg.viewBox.baseVal;"
        " return [m.e, m.f, v.width * m.a, v.height * m.d] }"
    )
    return box[0] + point[0] * box[2], box[1] + point[1] * box[3]


def drag(stage, pad, start, end):
    stage.page.mouse.move(*on_page(stage, pad, start))
    stage.page.mouse.down()
    stage.page.mouse.move(*on_page(stage, pad, np.add(start, end) / 2))
    stage.page.mouse.move(*on_page(stage, pad, end))
    stage.settle(40)
    stage.page.mouse.up()
    stage.settle(60)


def test_a_wrist_is_dragged_and_python_has_it_there(stage, pad):
    stage.show(pad)
    moves = []
    pad.observe(lambda change: moves.append(change["new"]), "moving")
    drag(stage, pad, pad.skeleton.points[LEFT_WRIST], (0.8, 0.2))
    assert pad.skeleton.points[LEFT_WRIST] == pytest.approx((0.8, 0.2), abs=0.01)
    others = np.arange(18) != LEFT_WRIST
    assert np.array_equal(pad.skeleton.points[others], ctrl.Skeleton.named("waving").points[others])
    assert moves == [True, False]


def with_hands_and_face(skeleton):
    """The same figure with two open hands and a round face."""
    turn = np.linspace(0, 2 * np.pi, 70, endpoint=False)
    face = skeleton.points[0] + 0.03 * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    finger, along = np.divmod(np.arange(20), 4)
    angle = (finger - 2) * 0.4
    spread = np.stack([np.sin(angle), -np.cos(angle)], axis=-1) * (0.03 + 0.015 * along[:, None])
    left, right = (np.concatenate([[wrist], wrist + spread]) for wrist in skeleton.points[[7, 4]])
    right[3] = 0  # a keypoint that is not shown
    return ctrl.Skeleton(skeleton.points, skeleton.shown, left, right, face)


@pytest.mark.parametrize("name", ["waving", "walking"])
@pytest.mark.parametrize("parts", ["body", "hands and face"])
def test_what_is_seen_is_what_the_controlnet_is_shown(stage, pad, name, parts):
    """The canvas without its box and rings, against `Skeleton.draw`."""
    import io

    from PIL import Image

    one = ctrl.Skeleton.named(name)
    pad.people = one if parts == "body" else with_hands_and_face(one)
    leaf = stage.show(pad)
    leaf.locator("svg.canvas").evaluate(
        "(svg) => { Object.assign(svg.style, { width: '512px', borderRadius: 0, outline: 'none' }) }"
    )
    stage.page.add_style_tag(content=".frame, .ring, .name { display: none !important }")
    stage.settle(60)
    box = leaf.locator("svg.canvas").bounding_box()
    clip = {"x": box["x"], "y": box["y"], "width": 512, "height": 512}
    seen = np.asarray(Image.open(io.BytesIO(stage.page.screenshot(clip=clip))).convert("RGB")).astype(int)
    drawn = pad.skeleton.draw(512, 512).astype(int)
    away = np.abs(seen - drawn).max(axis=-1) > 60
    # Edges differ, smooth here and in whole pixels there; inside nothing does.
    edge = np.zeros_like(away)
    for axis in (0, 1):
        for by in (-2, -1, 1, 2):
            edge |= (np.roll(drawn, by, axis) != drawn).any(axis=-1)
    assert (drawn.max(axis=-1) > 0).sum() > 4000
    assert not (away & ~edge).any()
    assert away.mean() < 0.015


def test_a_figure_is_moved_by_a_limb_scaled_by_a_corner_and_turned_by_the_handle(stage, pad):
    leaf = stage.show(pad)
    first = pad.skeleton.points
    drag(stage, pad, (first[1] + first[8]) / 2, (first[1] + first[8]) / 2 + [0.1, 0.02])
    assert pad.skeleton.points - first == pytest.approx(np.full((18, 2), (0.1, 0.02)), abs=0.01)
    corner = leaf.locator("[data-grip=se]").bounding_box()
    before = np.ptp(pad.skeleton.points, axis=0)
    stage.page.mouse.move(corner["x"] + 5, corner["y"] + 5)
    stage.page.mouse.down()
    stage.page.mouse.move(corner["x"] - 60, corner["y"] - 110, steps=4)
    stage.page.mouse.up()
    stage.settle(60)
    after = np.ptp(pad.skeleton.points, axis=0)
    assert after[1] < before[1] * 0.9
    assert after[0] / after[1] == pytest.approx(before[0] / before[1], rel=0.01)
    turn = leaf.locator("[data-grip=turn]").bounding_box()
    spine = pad.skeleton.points[8] - pad.skeleton.points[1]
    stage.page.mouse.move(turn["x"] + 5, turn["y"] + 5)
    stage.page.mouse.down()
    stage.page.mouse.move(turn["x"] + 120, turn["y"] + 60, steps=4)
    stage.page.mouse.up()
    stage.settle(60)
    turned = pad.skeleton.points[8] - pad.skeleton.points[1]
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(spine), rel=0.02)
    assert abs(np.cross([*turned, 0], [*spine, 0])[2]) > 0.3 * np.linalg.norm(spine) ** 2


def test_a_joint_is_found_before_it_is_pressed_and_stays_on_the_canvas(stage, pad):
    leaf = stage.show(pad)
    wrist = pad.skeleton.points[LEFT_WRIST]
    stage.page.mouse.move(*on_page(stage, pad, wrist + np.array((0.012, 0.0))))
    stage.settle(50)
    assert leaf.locator(".joint.hover").get_attribute("aria-label") == "left wrist"
    assert leaf.locator("text.name").text_content() == "left wrist"
    drag(stage, pad, wrist, (1.3, 0.5))
    assert pad.skeleton.points[LEFT_WRIST] == pytest.approx((1.0, 0.5), abs=0.01)


def test_keys_move_hide_choose_mirror_and_undo(stage, pad):
    leaf = stage.show(pad)
    stage.settle(50)
    leaf.locator(".joint[data-joint='7']").focus()
    x, y = pad.skeleton.points[LEFT_WRIST]
    stage.page.keyboard.press("ArrowRight")
    stage.page.keyboard.press("Shift+ArrowDown")
    stage.settle(50)
    assert pad.skeleton.points[LEFT_WRIST] == pytest.approx((x + 4 / 512, y + 1 / 512), abs=1e-6)
    assert leaf.locator(".joint:focus").get_attribute("aria-label") == "left wrist"
    stage.page.keyboard.press("PageDown")
    stage.settle(50)
    assert leaf.locator(".joint:focus").get_attribute("aria-label") == "right hip"
    stage.page.keyboard.press("Delete")
    stage.settle(50)
    assert not pad.skeleton.shown[8]
    stage.page.keyboard.press("m")
    stage.settle(50)
    assert not pad.skeleton.shown[11] and pad.skeleton.shown[8]
    for _ in range(4):
        stage.page.keyboard.press("Control+z")
    stage.settle(50)
    assert pad.skeleton == ctrl.Skeleton.named("waving")
    stage.page.keyboard.press("Control+Shift+z")
    stage.settle(50)
    assert pad.skeleton.points[LEFT_WRIST] == pytest.approx((x + 4 / 512, y), abs=1e-6)


def test_numbers_can_be_typed_for_joint_and_figure(stage, pad):
    leaf = stage.show(pad)
    leaf.get_by_label("Joint", exact=True).select_option("left wrist")
    stage.settle(50)
    joint = leaf.get_by_role("group", name="Joint", exact=True)
    joint.get_by_label("x").fill("90")
    joint.get_by_label("x").press("Enter")
    stage.settle(50)
    assert pad.skeleton.points[LEFT_WRIST][0] == pytest.approx(0.9)
    figure = leaf.get_by_role("group", name="Figure", exact=True)
    figure.get_by_label("height").fill("30")
    figure.get_by_label("height").press("Enter")
    stage.settle(50)
    assert np.ptp(pad.skeleton.points[:, 1]) == pytest.approx(0.3, abs=0.002)
    spine = pad.skeleton.points[1] - pad.skeleton.points[8]
    figure.get_by_label("turn").fill("90")
    figure.get_by_label("turn").press("Enter")
    stage.settle(50)
    turned = pad.skeleton.points[1] - pad.skeleton.points[8]
    assert turned == pytest.approx((-spine[1], spine[0]), abs=1e-4)


def test_a_hidden_joint_comes_back_where_it_was(stage, pad):
    leaf = stage.show(pad)
    leaf.get_by_label("Joint", exact=True).select_option("nose")
    leaf.get_by_label("shown").click()
    stage.settle(50)
    assert not pad.skeleton.shown[0]
    leaf.get_by_role("button", name="+ nose").click()
    stage.settle(50)
    assert pad.skeleton == ctrl.Skeleton.named("waving")


def test_figures_are_added_posed_duplicated_and_removed(stage, pad):
    leaf = stage.show(pad)
    leaf.get_by_role("button", name="Figure", exact=True).click()
    stage.settle(50)
    assert len(pad.people) == 2 and pad.people[0] == ctrl.Skeleton.named("waving")
    leaf.get_by_label("Pose of the chosen figure").select_option("running")
    stage.settle(50)
    running = ctrl.Skeleton.named("running")
    shift = pad.people[1].points[NECK] - running.points[NECK]
    assert not pad.people[1].shown[11], "the joints out of sight in that pose"
    leaf.get_by_role("button", name="Duplicate").click()
    leaf.get_by_role("button", name="Remove the figure").click()
    leaf.get_by_role("button", name="Remove the figure").click()
    stage.settle(50)
    assert len(pad.people) == 1 and np.isfinite(shift).all()
    leaf.get_by_role("button", name="Undo").click()
    stage.settle(50)
    assert len(pad.people) == 2


def test_two_fingers_scale_and_turn_the_chosen_figure(stage, pad):
    stage.show(pad)
    before = np.ptp(pad.skeleton.points[:, 1])
    client = stage.page.context.new_cdp_session(stage.page)

    def touch(kind, *points):
        at = [on_page(stage, pad, point) for point in points]
        client.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(at)]},
        )
        stage.settle(20)

    touch("touchStart", (0.3, 0.92))
    touch("touchStart", (0.3, 0.92), (0.7, 0.92))
    touch("touchMove", (0.4, 0.92), (0.6, 0.92))
    touch("touchEnd")
    stage.settle(60)
    assert np.ptp(pad.skeleton.points[:, 1]) == pytest.approx(before / 2, rel=0.02)


def test_hands_and_faces_are_carried_and_follow_their_joints(stage, pad):
    wrist = pad.skeleton.points[LEFT_WRIST]
    data = json.loads(pad.to_json())
    hand = [[(wrist[0] + 0.004 * i) * 512, (wrist[1] - 0.004 * i) * 512, 1] for i in range(21)]
    data["people"][0]["hand_left_keypoints_2d"] = [value for point in hand for value in point]
    leaf = stage.show(pad)
    leaf.locator("input[accept*=json]").set_input_files(
        {"name": "pose.json", "mimeType": "application/json", "buffer": json.dumps(data).encode()}
    )
    stage.settle(150)
    drag(stage, pad, wrist, wrist + np.array((0.1, -0.1)))
    out = json.loads(pad.to_json())["people"][0]["hand_left_keypoints_2d"]
    assert len(out) == 63, "21 keypoints"
    assert np.array(out).reshape(21, 3)[:, :2] == pytest.approx(np.array(hand)[:, :2] + [51.2, -51.2], abs=6)
    leaf.get_by_role("button", name="Mirror").click()
    stage.settle(60)
    assert pad.figures[0]["hand_right"] and not pad.figures[0]["hand_left"]


def test_what_is_no_pose_is_an_alert(stage, pad):
    leaf = stage.show(pad)
    leaf.locator("input[accept*=json]").set_input_files(
        {"name": "x.json", "mimeType": "application/json", "buffer": b"[]"}
    )
    stage.settle(150)
    assert "not OpenPose JSON" in leaf.get_by_role("alert").inner_text()
    assert pad.skeleton == ctrl.Skeleton.named("waving")


def test_a_background_is_opened_in_the_browser_and_kept_in_python(stage, pad, tmp_path):
    scene(size=(640, 400)).save(tmp_path / "hills.png")
    leaf = stage.show(pad)
    leaf.locator("input[accept='image/*']").set_input_files(tmp_path / "hills.png")
    stage.settle(250)
    stage.until("document.querySelector('svg image').hasAttribute('href')")
    assert pad.background.size == (640, 400) and (pad.width, pad.height) == (640, 400)
    leaf.get_by_role("button", name="None").click()
    stage.settle(60)
    assert pad.background is None


def test_the_figures_of_the_background_are_found(stage):
    from widgets import PosePad

    running = ctrl.Skeleton.named("running")
    pad = PosePad(background=scene(), detect=lambda picture: [running] if picture.size == (512, 384) else [])
    leaf = stage.show(pad)
    stage.until("document.querySelector('svg image').hasAttribute('href')")
    leaf.get_by_role("button", name="Find figures").click()
    stage.settle(100)
    assert pad.people == (running,)
    assert not leaf.get_by_text("Looking for figures").is_visible()
    leaf.get_by_role("button", name="Undo").click()
    stage.settle(60)
    assert pad.skeleton == ctrl.Skeleton.named("standing")
    pad._detector = lambda picture: 1 / 0
    leaf.get_by_role("button", name="Find figures").click()
    stage.settle(100)
    assert "No figure was taken: division by zero" in leaf.get_by_role("alert").inner_text()
    pad.close()


def test_a_large_photo_is_made_smaller_and_it_is_said(stage, pad, tmp_path):
    scene(size=(4000, 3000)).save(tmp_path / "photo.png")
    leaf = stage.show(pad)
    leaf.locator("input[accept='image/*']").set_input_files(tmp_path / "photo.png")
    stage.until("document.querySelector('svg image').hasAttribute('href')", timeout=15000)
    assert (pad.width, pad.height) == (1414, 1061)
    assert leaf.get_by_text("The picture was made smaller, to 1414 × 1061.").is_visible()


def test_closing_leaves_no_listener_behind(stage, pad):
    stage.show(pad)
    stage.close()
    assert stage.page.evaluate("models[0].model.listening") == 0


@pytest.mark.parametrize("theme", ["light", "dark", "jupyter", "contrast"])
def test_it_can_be_read_by_everyone_and_fits_a_phone(stage, pad, theme):
    stage.theme(theme)
    pad.people = [
        ctrl.Skeleton.named("waving"),
        ctrl.Skeleton(ctrl.Skeleton.named("running").points * 0.7 + [0.3, 0.25], ctrl.Skeleton.named("running").shown),
    ]
    pad.background = scene(size=(640, 560))
    leaf = stage.show(pad)
    stage.until("document.querySelector('svg image').hasAttribute('href')")
    leaf.locator(".joint[data-joint='7']").first.focus()
    stage.settle(150)
    stage.picture(f"pose-{theme}")
    assert stage.axe() == []
    assert stage.fits(360)
    stage.picture(f"pose-phone-{theme}")
