"""Obedience: a picture of the very scene follows its controls, another scene's does not."""

import warnings

import numpy as np
import pytest
from PIL import Image

import ctrl
from ctrl.atelier.bench import look, pixels
from ctrl.atelier.edges import edges_of
from ctrl.atelier.render import disparity
from ctrl.atelier.scene import EVALUATION_SEEDS, sample
from ctrl.sampling import Shot

SIZE = 128


@pytest.fixture(scope="module")
def scenes():
    """Two true renders with their truth: picture, skeleton, depth and edges."""
    seeds = range(EVALUATION_SEEDS + 20_000, EVALUATION_SEEDS + 22_000)
    wanted = [("waving", "3d render"), ("walking", "comic book")]
    found = [next(s for s in map(sample, seeds) if (s.pose, s.style) == one) for one in wanted]
    view = look(found, SIZE)
    made = pixels(view.picture)
    near = (disparity(view.depth) * 255).round().byte().numpy()
    points, shown = view.keypoints.numpy(), view.visible.numpy().astype(bool)
    return [
        (Image.fromarray(made[i]), ctrl.Skeleton(points[i].clip(0, 1), shown[i]), near[i], edges_of(made[i]))
        for i in range(2)
    ]


def controls(scene):
    return [ctrl.Pose(scene[1]), ctrl.Depth(scene[2]), ctrl.Edges(scene[3])]


def values(image, recipe, **detectors):
    return [one.value for one in Shot(image, recipe).obeys(**detectors)]


def test_the_scene_itself_obeys_and_another_does_not(scenes):
    recipe = ctrl.Recipe("a figure", controls=controls(scenes[0]), styles=[ctrl.Style(scenes[0][0])])
    own, other = values(scenes[0][0], recipe), values(scenes[1][0], recipe)
    assert own[0] >= 0.8 and own[1] >= 0.8 and own[2] == 1.0 and own[3] == 1.0
    assert other[0] < own[0] and other[1] < own[1] and other[2] < own[2] and other[3] == 0.0
    assert [one.measure for one in Shot(scenes[0][0], recipe).obeys()] == [
        "PCK",
        "rank correlation",
        "edge F1",
        "style",
    ]


def test_what_cannot_be_measured_says_why(scenes):
    image = scenes[0][0]
    recipe = ctrl.Recipe(
        "a figure",
        controls=[
            ctrl.Depth(scenes[0][2], on=False),
            ctrl.Edges(scenes[0][3], 0.0),
            ctrl.Control("scribble", scenes[0][3]),
            ctrl.Pose(np.asarray(scenes[0][1].draw(SIZE, SIZE))),
        ],
    )
    found = Shot(image, recipe).obeys()
    assert [one.value for one in found] == [None] * 4
    assert [one.reason.split(";")[0] for one in found] == [
        "it is switched off",
        "its weight is 0",
        "there is no measure for 'scribble'",
        "its pose is a picture",
    ]


def test_a_mask_leaves_the_rest_out(scenes):
    left = np.zeros((SIZE, SIZE), np.uint8)
    left[:, : SIZE // 2] = 255
    mixed = np.asarray(scenes[0][3]).copy()
    mixed[:, SIZE // 2 :] = np.asarray(scenes[1][3])[:, SIZE // 2 :]
    whole, masked = (ctrl.Edges(mixed, mask=mask) for mask in (None, left))
    found = values(scenes[0][0], ctrl.Recipe("a figure", controls=[whole, masked]))
    assert sorted(found)[1] == 1.0 > sorted(found)[0]


def test_a_detector_of_ones_own_is_asked(scenes):
    recipe = ctrl.Recipe("a figure", controls=controls(scenes[0]), styles=[ctrl.Style(scenes[1][0])])
    own = {
        "pose": lambda _: scenes[0][1],
        "depth": lambda _: scenes[0][2],
        "edges": lambda _: scenes[0][3],
        "style": lambda image: image.size,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(scenes[1][0], recipe, **own) == pytest.approx([1.0, 1.0, 1.0, 1.0])


def test_other_models_are_read_by_other_detectors(scenes):
    recipe = ctrl.Recipe("a figure", controls=[ctrl.Edges(scenes[0][3])], styles=[ctrl.Style(scenes[0][0])])
    edges, style = Shot(scenes[0][0], recipe, family="sd1").obeys()
    canny = Shot(scenes[0][0], recipe).obeys(edges="canny")[0]
    assert edges == canny and style.value is None and "no detector reads styles" in style.reason


def test_an_unknown_detector_is_refused(scenes):
    recipe = ctrl.Recipe("a figure", controls=[ctrl.Edges(scenes[0][3])])
    with pytest.raises(TypeError, match="no argument 'poses'; it takes a detector for pose, depth, edges, style"):
        Shot(scenes[0][0], recipe).obeys(poses="openpose")
    with pytest.raises(ValueError, match="detector must be one of"):
        Shot(scenes[0][0], recipe).obeys(edges="nonsense")


@pytest.mark.slow
def test_over_the_steps_every_preview_is_measured_and_the_last_is_the_picture():
    model = ctrl.load()
    drawn = ctrl.Skeleton.named("waving").draw(SIZE, SIZE)
    recipe = ctrl.Recipe(
        "a figure waving",
        controls=[ctrl.Pose("waving"), ctrl.Edges(edges_of(drawn)), ctrl.Depth(drawn, on=False)],
        steps=6,
        seed=1,
    )
    shot = ctrl.sample(model, recipe)
    pose, edges, depth = shot.obeys_over_steps(ctrl.steps(model, shot.recipe))
    assert (pose.name, pose.measure, len(pose.values)) == ("controls[0]", "PCK", 6)
    assert [pose.values[-1], edges.values[-1]] == [one.value for one in shot.obeys()[:2]]
    previews = [step.preview() for step in ctrl.steps(model, recipe)]
    assert list(pose.values) == [Shot(preview, recipe).obeys()[0].value for preview in previews]
    assert len(set(edges.values)) > 1, "the outlines come out over the steps"
    assert depth.values == (None,) * 6 and depth.reason == "it is switched off"
    with pytest.raises(TypeError, match="obeys has no argument 'hands'"):
        shot.obeys_over_steps(ctrl.steps(model, shot.recipe), hands="openpose")
