import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ctrl.skeleton import COLOURS, JOINTS, LIMBS, POSES, Skeleton

POINTS = arrays.arrays(np.float64, (18, 2), elements=st.floats(0, 1))
SHOWN = arrays.arrays(np.bool_, 18)
quick = settings(max_examples=40, deadline=None)


def test_the_ten_poses():
    assert list(POSES) == [
        "standing", "waving", "arms raised", "arms outstretched", "hands on hips",
        "pointing", "walking", "running", "sitting", "kneeling",
    ]  # fmt: skip


@pytest.mark.parametrize("name", POSES)
def test_a_named_pose_is_a_figure_standing_in_the_picture(name):
    skeleton = Skeleton.named(name)
    assert skeleton.shown.sum() >= 14  # what the body hides is not drawn
    seen = skeleton.points[skeleton.shown]
    assert ((seen > 0) & (seen < 1)).all()
    ankles = [JOINTS.index("right ankle"), JOINTS.index("left ankle")]
    assert 0.75 < skeleton.points[ankles, 1].max() < 0.92
    assert 0.4 < skeleton.points[1, 0] < 0.6
    right, left = JOINTS.index("right shoulder"), JOINTS.index("left shoulder")
    assert skeleton.points[right, 0] < skeleton.points[left, 0]  # it faces the viewer


def test_an_unknown_pose_is_answered_with_the_list():
    with pytest.raises(ValueError, match=r"no pose 'wavin'; there are standing, waving"):
        Skeleton.named("wavin")


@quick
@given(POINTS, SHOWN)
def test_a_mirror_of_a_mirror_is_the_pose(points, shown):
    skeleton = Skeleton(points, shown)
    twice = skeleton.mirror().mirror()
    assert np.allclose(twice.points[shown], skeleton.points[shown], atol=1e-12)
    assert (twice.shown == shown).all()


@quick
@given(POINTS, SHOWN, st.sampled_from([(512, 512), (640, 360)]))
def test_json_gives_the_pose_back(points, shown, size):
    skeleton = Skeleton(points, shown)
    back = Skeleton.from_json(skeleton.to_json(*size))
    assert (back.shown == shown).all()
    in_pixels = (skeleton.points[shown] * size > 2).any()
    if in_pixels:  # a figure of two pixels cannot be told from fractions
        assert np.allclose(back.points, skeleton.points, atol=1e-12)


def test_json_of_25_joints_drops_the_hip_and_the_feet():
    joints = [[i / 100, i / 50, 1.0] for i in range(25)]
    flat = [number for joint in joints for number in joint]
    skeleton = Skeleton.from_json(json.dumps({"people": [{"pose_keypoints_2d": flat}]}))
    assert skeleton.points[8].tolist() == [0.09, 0.18]
    assert skeleton.points[17].tolist() == [0.18, 0.36]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not OpenPose JSON"),
        ("{}", "not OpenPose JSON"),
        ("[" * 100_000, "not OpenPose JSON"),
        ('{"people": []}', "0 people"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "18 or 25"),
        ('{"people": [{"pose_keypoints_2d": "x"}]}', "must be an array of numbers"),
    ],
)
def test_bad_json_is_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        Skeleton.from_json(text)


def test_two_people_need_a_choice():
    one = {"pose_keypoints_2d": [0.5] * 54}
    text = json.dumps({"people": [one, {"pose_keypoints_2d": [0.25] * 54}]})
    with pytest.raises(ValueError, match="2 people; choose one"):
        Skeleton.from_json(text)
    assert Skeleton.from_json(text, person=1).points[0, 0] == 0.25


@pytest.mark.parametrize(
    ("points", "shown", "sentence"),
    [
        (np.zeros((17, 2)), np.ones(18, bool), r"shape \(18, 2\)"),
        (np.full((18, 2), np.nan), np.ones(18, bool), "finite"),
        (np.full((18, 2), 300.0), np.ones(18, bool), "divide pixels"),
        (np.zeros((18, 2)), np.ones(18), "18 booleans"),
    ],
)
def test_bad_joints_are_a_sentence(points, shown, sentence):
    with pytest.raises(ValueError, match=sentence):
        Skeleton(points, shown)


def test_hidden_joints_do_not_count():
    points, shown = np.array(POSES["standing"])[:, :2], np.ones(18, bool)
    shown[4] = False
    moved = points.copy()
    moved[4] = 0.9
    assert Skeleton(points, shown) == Skeleton(moved, shown)
    assert hash(Skeleton(points, shown)) == hash(Skeleton(moved, shown))
    assert Skeleton(points, shown) != Skeleton(points)


@pytest.mark.parametrize(("width", "height"), [(128, 128), (512, 512), (256, 128)])
def test_limbs_are_drawn_where_the_joints_are(width, height):
    skeleton = Skeleton.named("arms outstretched")
    drawn = skeleton.draw(width, height)
    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8
    at = (skeleton.points * [width, height]).round().astype(int)
    for joint in (4, 7, 10, 13):  # hands and feet, which nothing else covers
        x, y = at[joint]
        assert tuple(drawn[y, x]) == COLOURS[joint]
    for limb in (4, 8):
        x, y = ((at[LIMBS[limb][0]] + at[LIMBS[limb][1]]) / 2).astype(int)
        assert tuple(drawn[y, x]) == tuple(int(0.6 * part) for part in COLOURS[limb])
    assert (drawn == Skeleton.named("arms outstretched").draw(width, height)).all()


def test_nothing_shown_is_black():
    assert Skeleton(np.zeros((18, 2)), np.zeros(18, bool)).draw(64, 64).max() == 0
