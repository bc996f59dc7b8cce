"""PosePad without a kernel: Skeletons in and out, OpenPose JSON, and messages as a browser would send them."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import ctrl
from ctrl.skeleton import POSES


@pytest.fixture
def pad():
    from widgets import PosePad

    one = PosePad()
    yield one
    one.close()


def person(count=18, *, scale=512.0, **others):
    """OpenPose's keys for one person with that many body points, in pixels."""
    rng = np.random.default_rng(count)
    flat = np.concatenate([rng.uniform(0.1, 0.9, (count, 2)) * scale, np.ones((count, 1))], axis=1).reshape(-1).tolist()
    return {"pose_keypoints_2d": flat, **others}


def sheet(*people, width=512, height=512):
    return json.dumps({"people": list(people), "canvas_width": width, "canvas_height": height})


@pytest.mark.parametrize("name", POSES)
def test_every_named_pose_goes_in_and_comes_out_equal(pad, name):
    pad.skeleton = ctrl.Skeleton.named(name)
    assert pad.skeleton == ctrl.Skeleton.named(name)
    assert pad.people == (ctrl.Skeleton.named(name),)


def test_it_begins_with_a_standing_figure_or_what_it_is_given():
    from widgets import PosePad

    both = [ctrl.Skeleton.named("waving"), ctrl.Skeleton.named("running")]
    assert PosePad().skeleton == ctrl.Skeleton.named("standing")
    assert PosePad(both).people == tuple(both)
    assert PosePad([]).people == ()
    assert PosePad("waving").people == PosePad(["waving"]).people == (both[0],)
    assert PosePad(ctrl.skeleton.People(tuple(both))).people == tuple(both)


def test_a_pad_without_figures_says_what_to_do(pad):
    pad.people = []
    with pytest.raises(ValueError, match=r"add one in the panel, or assign pad\.skeleton"):
        pad.skeleton  # noqa: B018


@pytest.mark.parametrize("wrong", ["wving", [None], [{"body": []}], 3, b"", Image.new("RGB", (8, 8))])
def test_what_is_no_pose_is_refused_and_changes_nothing(pad, wrong):
    before = pad.people
    with pytest.raises((TypeError, ValueError), match=r"people must be|no pose|OpenPose JSON"):
        pad.people = wrong
    assert pad.people == before


def test_pixels_without_a_canvas_are_those_of_the_pad(pad):
    pad.load_json(json.dumps({"people": [person()]}))
    assert pad.skeleton.points == pytest.approx(np.array(person()["pose_keypoints_2d"]).reshape(18, 3)[:, :2] / 512)


def test_any_skeleton_comes_out_bit_for_bit(pad):
    rng = np.random.default_rng(0)
    hand, face = rng.uniform(0.1, 0.9, (21, 2)), rng.uniform(0.1, 0.9, (68, 2))
    hand[3] = 0
    skeleton = ctrl.Skeleton(rng.uniform(-0.2, 1.2, (18, 2)), rng.random(18) > 0.3, hand, None, face)
    pad.people = [skeleton, "walking"]
    assert pad.people == (skeleton, ctrl.Skeleton.named("walking"))
    assert pad.skeleton.right_hand is None


def test_more_figures_than_a_pad_holds_are_refused(pad):
    with pytest.raises(ValueError, match="32 figures at most"):
        pad.people = [ctrl.Skeleton.named("standing")] * 33


def test_json_of_a_skeleton_goes_through_the_pad_unchanged(pad):
    skeleton = ctrl.Skeleton.named("walking")
    pad.load_json(skeleton.to_json(640, 480))
    assert (pad.width, pad.height) == (640, 480)
    assert pad.skeleton.points == pytest.approx(skeleton.points, abs=1e-9)
    assert np.array_equal(pad.skeleton.shown, skeleton.shown)
    again = ctrl.Skeleton.from_json(pad.to_json())
    assert again.points == pytest.approx(skeleton.points, abs=1e-5)


def test_several_people_with_hands_and_faces_come_out_as_they_went_in(pad):
    hand = [float(i) for point in range(21) for i in (100 + point, 200 + point, 1)]
    face = [float(i) for point in range(70) for i in (300 + point, 100 + point, 1)]
    people = [
        person(hand_left_keypoints_2d=hand, face_keypoints_2d=face),
        person(hand_right_keypoints_2d=hand, hand_left_keypoints_2d=None),
    ]
    pad.load_json(sheet(*people))
    out = json.loads(pad.to_json())
    assert (out["canvas_width"], out["canvas_height"], len(out["people"])) == (512, 512, 2)
    assert out["people"][0]["hand_left_keypoints_2d"] == pytest.approx(hand, abs=0.01)
    assert out["people"][0]["face_keypoints_2d"] == pytest.approx(face, abs=0.01)
    assert out["people"][1]["hand_right_keypoints_2d"] == pytest.approx(hand, abs=0.01)
    assert "hand_left_keypoints_2d" not in out["people"][1]
    assert pad.people == ctrl.skeleton.People.from_json(sheet(*people)).skeletons
    assert out["people"][0]["pose_keypoints_2d"] == pytest.approx(people[0]["pose_keypoints_2d"], abs=0.01)


def test_25_points_lists_and_fractions_are_read_too(pad):
    pad.load_json(sheet(person(25)))
    assert len(pad.figures[0]["body"]) == 18
    pad.load_json(json.dumps([{"people": [person(scale=1.0)]}]))
    assert pad.skeleton.points.max() <= 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not OpenPose JSON"),
        ("[]", "not OpenPose JSON"),
        ('{"people": 3}', "not OpenPose JSON"),
        ('{"people": []}', "holds 0 people"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 1]}], "canvas_width": 9, "canvas_height": 9}', "18 or 25"),
        (json.dumps({"people": [{"pose_keypoints_2d": [9000.0] * 54}]}), "outside the canvas of 512×512"),
        (json.dumps({"people": [{"pose_keypoints_2d": [float("nan")] * 54}]}), "finite numbers"),
        (json.dumps({"people": [{"pose_keypoints_2d": ["a"] * 54}]}), "array of numbers"),
        ("[" * 100_000, "not OpenPose JSON"),
    ],
)
def test_other_json_is_refused_in_one_sentence_and_changes_nothing(pad, text, says):
    before = pad.figures
    with pytest.raises(ValueError, match=says):
        pad.load_json(text)
    assert pad.figures == before
    pad._handle_custom_msg({"kind": "json", "text": text}, [])
    assert says in pad.problem["what"]


def test_a_background_gives_the_canvas_its_size_and_travels_as_a_message(pad):
    sent = []
    pad.send = lambda content, buffers=None: sent.append((content, buffers))
    pad.background = Image.new("RGB", (300, 200), "navy")
    assert (pad.width, pad.height) == (300, 200)
    assert Image.open(io.BytesIO(sent[-1][1][0])).size == (300, 200)
    pad.background = None
    assert sent[-1] == ({"kind": "background", "count": 0}, [])
    with pytest.raises(TypeError, match="background must be a PIL image"):
        pad.background = "hills.png"


def test_a_large_background_is_sent_small(pad):
    pad.background = Image.new("RGB", (4000, 3000))
    (message,) = pad.opening()
    assert Image.open(io.BytesIO(message.buffers[0])).size == (1500, 1125)
    assert (pad.width, pad.height) == (4000, 3000)


def test_a_broken_background_from_the_browser_is_a_problem_in_the_panel(pad):
    pad._handle_custom_msg({"kind": "background"}, [memoryview(b"no picture")])
    assert "no picture that can be opened" in pad.problem["what"]


def test_a_drag_in_the_browser_reaches_whoever_observes(pad):
    seen = []
    pad.observe(lambda change: seen.append(pad.skeleton), "figures")
    moved = [{**pad.figures[0], "body": [[0.25, 0.75, 1], *pad.figures[0]["body"][1:]]}]
    pad.set_state({"figures": moved})
    assert seen[-1].points[0] == pytest.approx((0.25, 0.75))


def test_the_poses_of_the_panel_are_those_of_ctrl(pad):
    from widgets import PosePad

    script = PosePad._esm.splitlines()[0]
    told = json.loads(script.removeprefix("const SKELETON = ").removesuffix(";"))
    assert {name: np.array(pose) for name, pose in told["poses"].items()}.keys() == POSES.keys()
    for name, pose in told["poses"].items():
        assert np.array(pose) / [1000, 1000, 1] == pytest.approx(np.array(POSES[name]), abs=5e-4)
