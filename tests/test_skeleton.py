import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from variety import share

import ctrl
from ctrl.skeleton import COLOURS, JOINTS, LIMBS, POSES, People, Skeleton, pose_of

POINTS = arrays.arrays(np.float64, (18, 2), elements=st.floats(0, 1))
SHOWN = arrays.arrays(np.bool_, 18)
quick = settings(max_examples=share(40), deadline=None)


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
        ("[]", "not OpenPose JSON"),
        ("[1]", "not OpenPose JSON"),
        ('{"people": 5}', "no list of people"),
        ('{"people": [5]}', "no list of people"),
        ('{"people": [{}]}', "a person has no keypoints"),
        ('{"people": []}', "the file holds 0 people; it needs one"),
        ('{"people": [{"pose_keypoints_2d": [NaN' + ", 1" * 53 + "]}]}", "finite numbers"),
        (
            '{"people": [{"pose_keypoints_2d": [1' + ", 1" * 53 + '], "hand_left_keypoints_2d": [1, 2, 3]}]}',
            "hold 21 x, y",
        ),
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
    assert [one.points[0, 0] for one in People.from_json(text).skeletons] == [0.5, 0.25]
    for wrong in (2, -1, True, "1", 0.0):
        with pytest.raises(
            ValueError, match="person must be a whole number below 2, the people in the file, from 0; got"
        ):
            Skeleton.from_json(text, person=wrong)
    with pytest.raises(ValueError, match="0 people"):
        People.from_json('{"people": []}')


def openpose_file(skeletons, width, height):
    """What OpenPose itself writes: 25 keypoints in pixels, no canvas, empty lists for what it did not look for."""
    people = []
    for one in skeletons:
        joints = np.column_stack([one.points * [width, height], one.shown * 0.9])
        body = np.zeros((25, 3))
        body[[0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]] = joints
        empty = {f"{part}_keypoints_3d": [] for part in ("pose", "face", "hand_left", "hand_right")}
        rest = {f"{part}_keypoints_2d": [] for part in ("face", "hand_left", "hand_right")}
        people.append({"person_id": [-1], "pose_keypoints_2d": body.ravel().tolist(), **rest, **empty})
    return json.dumps({"version": 1.3, "people": people})


def test_openposes_own_file_is_in_pixels_of_a_size_it_does_not_say():
    waving = Skeleton.named("waving")
    text = openpose_file([waving], 1280, 720)
    back = Skeleton.from_json(text, size=(1280, 720))
    assert np.allclose(back.points, waving.points) and (back.shown == waving.shown).all()
    with pytest.raises(ValueError, match=r"in pixels and the file gives no canvas size; pass size="):
        Skeleton.from_json(text)
    with pytest.raises(ValueError, match=r"far outside the canvas of 128×72; pass the true size=\(width, height\)"):
        Skeleton.from_json(text, size=(128, 72))
    for wrong in ((1280, 0), (True, 720), ("1280", 720)):
        with pytest.raises(ValueError, match="the canvas must have a width and a height in pixels"):
            Skeleton.from_json(text, size=wrong)


def test_comfyuis_frames_are_chosen_among():
    frames = [json.loads(Skeleton.named(name).to_json(640, 360)) for name in ("waving", "standing")]
    text = json.dumps(frames)
    with pytest.raises(ValueError, match="the file holds 2 frames; choose one by frame=0 and so on"):
        Skeleton.from_json(text)
    assert np.allclose(Skeleton.from_json(text, frame=1).points, Skeleton.named("standing").points)
    with pytest.raises(ValueError, match="frame must be a whole number below 2, the frames in the file, from 0; got 2"):
        Skeleton.from_json(text, frame=2)
    assert np.allclose(Skeleton.from_json(json.dumps(frames[:1])).points, Skeleton.named("waving").points)


def figure(seed, hands=True):
    """A figure with hands and a face, some of whose keypoints are hidden."""
    rng = np.random.default_rng(seed)
    left, right, face = (rng.uniform(0.05, 0.95, (count, 2)) for count in (21, 21, 70))
    for part in (left, right, face):
        part[rng.integers(len(part), size=3)] = 0
    shown = rng.uniform(size=18) > 0.2
    return Skeleton(rng.uniform(0.05, 0.95, (18, 2)), shown, *((left, right, face) if hands else ()))


def keypoints(points, shown):
    from controlnet_aux.open_pose.body import Keypoint

    return [Keypoint(x, y) if seen else None for (x, y), seen in zip(points, shown, strict=True)]


def result(skeleton):
    """The figure as controlnet_aux has it."""
    from controlnet_aux.open_pose import PoseResult
    from controlnet_aux.open_pose.body import BodyResult, Keypoint

    def part(points):
        return None if points is None else [Keypoint(*point) for point in points]

    body = BodyResult(keypoints(skeleton.points, skeleton.shown), 1.0, 18)
    return PoseResult(body, *map(part, (skeleton.left_hand, skeleton.right_hand, skeleton.face)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("width", "height"), [(512, 512), (768, 512), (512, 1024)])
def test_figures_are_drawn_as_controlnet_aux_draws_them(width, height):
    from controlnet_aux.open_pose import draw_poses

    for people in ([figure(0)], [figure(1), figure(2, hands=False)], [Skeleton.named(name) for name in POSES]):
        theirs = draw_poses([result(one) for one in people], height, width)
        assert (People(people).draw(width, height) == theirs).all()
        assert (people[0].draw(width, height) == draw_poses([result(people[0])], height, width)).all()


def test_small_drawings_are_where_the_large_one_is():
    large = figure(3).draw(512, 512).reshape(128, 4, 128, 4, 3).mean((1, 3))
    small = figure(3).draw(128, 128).astype(float)
    assert (small.max(2) > 0).mean() > 0.05
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.6


@quick
@given(st.integers(0, 1000), st.sampled_from([(512, 512), (640, 360)]))
def test_hands_and_faces_are_written_and_read_again(seed, size):
    one, other = figure(seed), figure(seed + 1, hands=False)
    back = People.from_json(People([one, other]).to_json(*size)).skeletons
    for given_, read in zip((one, other), back, strict=True):
        assert (read.shown == given_.shown).all() and np.allclose(read.points, given_.points)
    for name in ("left_hand", "right_hand", "face"):
        assert np.allclose(getattr(back[0], name), getattr(one, name)) and getattr(back[1], name) is None
    assert Skeleton.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    twice = one.mirror().mirror()
    assert np.allclose(twice.left_hand, one.left_hand) and np.allclose(twice.face, one.face)
    assert np.allclose(one.mirror().right_hand.any(1), one.left_hand.any(1))
    assert one != Skeleton(one.points, one.shown)


def test_a_face_without_a_body_is_a_figure():
    flat = np.column_stack([figure(0).face, np.ones(70)]).ravel().tolist()
    face = Skeleton.from_json(json.dumps({"people": [{"pose_keypoints_2d": [], "face_keypoints_2d": flat}]}))
    assert not face.shown.any() and (face.draw(512, 512) == 255).any()


def test_recipes_carry_hands_and_faces():
    recipe = ctrl.Recipe("a", controls=[ctrl.Pose(figure(0))])
    assert ctrl.Recipe.from_json(recipe.to_json()) == recipe
    names = {"ctrl": ctrl}
    exec(recipe.code(), names)
    assert names["recipe"] == recipe
    assert recipe.hash != ctrl.Recipe("a", controls=[ctrl.Pose(Skeleton(figure(0).points, figure(0).shown))]).hash


def test_a_pose_may_be_given_as_anything_that_is_one(tmp_path):
    waving, standing = Skeleton.named("waving"), Skeleton.named("standing")
    (tmp_path / "pose.json").write_text(waving.to_json())
    rows = np.column_stack([waving.points, waving.shown])
    forms = ["waving", waving, waving.points, waving.points.tolist(), rows, rows.astype(np.float32), ["waving"]]
    forms += [waving.to_json(), json.loads(waving.to_json()), tmp_path / "pose.json", str(tmp_path / "pose.json")]
    forms += [[json.loads(waving.to_json())], torch.from_numpy(rows), rows[None]]
    for form in forms:
        found = pose_of(form)
        assert isinstance(found, Skeleton) and np.allclose(found.points, waving.points, atol=1e-6), type(form)
    both = People([waving, standing])
    for form in (both, [waving, standing], ("waving", "standing"), [waving, People([standing])], both.to_json(),
                 np.stack([waving.points, standing.points])):  # fmt: skip
        found = pose_of(form)
        assert isinstance(found, People) and len(found.skeletons) == 2
        assert np.allclose(found.skeletons[1].points, standing.points)
    assert both == People((waving, standing)) != People([standing, waving])


def test_what_may_be_a_picture_is_left_to_be_one():
    for picture in ("photo.png", "~/photo", b"bytes", None, np.zeros((18, 2, 3)), np.zeros((18, 18), np.uint8), 5, []):
        assert pose_of(picture) is None
    with pytest.raises(ValueError, match=r"there is no pose 'wavin'; there are standing, waving"):
        pose_of("wavin")
    with pytest.raises(ValueError, match="the file holds 0 people"):
        pose_of('{"people": []}')
    with pytest.raises(ValueError, match=r"a pose's JSON must be a file of at most \d+ bytes, and 'no.json' is not"):
        pose_of("no.json")
    with pytest.raises(TypeError, match="People takes a list of Skeletons, at least one, got"):
        People([])


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            {"left_hand": np.zeros((20, 2))},
            r"left_hand must have shape \(21, 2\), one \(x, y\) a keypoint, got \(20, 2\)",
        ),
        ({"face": np.zeros((21, 2))}, r"face must have shape \(68, 2\) or \(70, 2\)"),
        ({"right_hand": np.full((21, 2), np.inf)}, "right_hand must be finite numbers"),
        ({"right_hand": np.full((21, 2), 99.0)}, r"right_hand are fractions .* got \(99, 99\) for the keypoint 0"),
        ({"face": "x"}, "face must be an array of numbers"),
    ],
)
def test_bad_hands_and_faces_are_a_sentence(parts, sentence):
    with pytest.raises(ValueError, match=sentence):
        Skeleton(Skeleton.named("waving").points, **parts)


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


def test_a_notebook_shows_the_drawing():
    for pose in (figure(0), People([figure(0), figure(1)])):
        shown = np.asarray(Image.open(io.BytesIO(pose._repr_png_())))
        assert (shown == pose.draw(512, 512)).all()
