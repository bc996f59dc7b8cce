"""What is given as a control map is one: of its kind, not inverted, and no photograph."""

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data

from ctrl.atelier import render
from ctrl.atelier.bench import look, pixels
from ctrl.atelier.edges import edges_of
from ctrl.atelier.scene import EVALUATION_SEEDS, STYLES, sample
from ctrl.images import Picture, map_notes
from ctrl.skeleton import Skeleton


@pytest.fixture(scope="module")
def view():
    """One evaluation scene in each of the eight styles."""
    return look([replace(sample(EVALUATION_SEEDS + i), style=style) for i, style in enumerate(STYLES)], 128)


@pytest.fixture(scope="module")
def maps(view):
    """Eight maps of each kind, and the pictures they are of, uint8."""
    poses = [Skeleton(view.keypoints[at].numpy(), view.visible[at].numpy()).draw(128, 128) for at in range(8)]
    near = list(render.disparity(view.depth).mul(255).round().byte().numpy())
    pictures = list(pixels(view.picture))
    return {"pose": poses, "depth": near, "edges": [edges_of(one) for one in pictures], "picture": pictures}


def disparity():
    """A real depth map: Middlebury's motorcycle, white near."""
    found = np.load(Path(data.__file__).parent / "motorcycle_disp.npz")["arr_0"]
    found = np.where(np.isfinite(found), found, 0)
    return (found / found.max() * 255).astype(np.uint8)


def forms(map_):
    """As it is, enlarged, compressed, in three channels."""
    yield map_
    yield np.asarray(Image.fromarray(map_).resize((512, 512), Image.Resampling.LANCZOS))
    buffer = io.BytesIO()
    Image.fromarray(map_).save(buffer, "JPEG", quality=80)
    yield np.asarray(Image.open(buffer))
    yield map_ if map_.ndim == 3 else np.repeat(map_[..., None], 3, 2)


def said(kind, map_):
    """The one note on a map in any form."""
    notes = [map_notes(kind, Picture(form)) for form in forms(map_)]
    assert all(len(note) == 1 for note in notes), notes
    return notes[0][0]


@pytest.mark.parametrize("kind", ["pose", "depth", "edges"])
def test_a_map_of_its_kind_passes(maps, kind):
    for map_ in maps[kind]:
        assert [map_notes(kind, Picture(form)) for form in forms(map_)] == [()] * 4


@pytest.mark.parametrize(
    ("given", "control"), [("pose", "ctrl.Pose"), ("depth", "ctrl.Depth"), ("edges", "ctrl.Edges")]
)
def test_a_map_of_another_kind_is_sent_to_its_control(maps, given, control):
    for kind in {"pose", "depth", "edges", "canny", "midas", "openpose"}:
        other = {"canny": "edges", "midas": "depth", "openpose": "pose"}.get(kind, kind)
        if other != given:
            for map_ in maps[given][:4]:
                assert said(kind, map_).endswith(f"give it to {control}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pose", "edges"])
def test_an_inverted_map_is_known(maps, kind):
    for map_ in maps[kind]:
        assert "looks inverted" in said(kind, 255 - map_) and "invert it" in said(kind, 255 - map_)
        assert map_notes(kind, Picture.of(ImageOps.invert(Image.fromarray(255 - map_)))) == ()


def test_inverted_depth_is_known(maps):
    for map_ in [*maps["depth"], disparity()]:
        assert "as if far were white; ctrl.Depth expects near to be white: invert it" in said("depth", 255 - map_)
    assert map_notes("depth", Picture(disparity())) == ()


@pytest.mark.slow
def test_lines_on_paper_are_inverted_edges_whatever_they_were_drawn_with(maps):
    paper = np.full((256, 256, 3), (244, 241, 236), np.uint8)
    for thickness in (1, 4, 12):
        drawn = cv2.polylines(
            paper.copy(), [np.array([[20, 30], [200, 60], [120, 220], [40, 180]])], True, 40, thickness
        )
        for kind in ("edges", "scribble", "line art", "lineart", "softedge"):
            assert "looks inverted" in said(kind, drawn)
    assert "looks like dark lines on white" in said("depth", 255 - maps["edges"][0])


def test_a_pose_on_white_is_told_from_an_inverted_one(maps):
    for drawn in maps["pose"]:
        white = np.where(drawn.max(2, keepdims=True) < 8, np.uint8(255), drawn)
        assert map_notes("pose", Picture(white))[0].startswith("is drawn on white")


PHOTOGRAPHS = [data.astronaut, data.coffee, data.chelsea, data.rocket]


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
@pytest.mark.parametrize(
    ("kind", "detector"), [("pose", "pose"), ("depth", "depth"), ("edges", "edges"), ("hed", "edges")]
)
def test_a_photograph_is_no_map(photograph, kind, detector):
    note = said(kind, photograph())
    assert note.startswith("does not look like") and f"ctrl.detect.{detector}(picture) makes one" in note


@pytest.mark.parametrize("kind", ["pose", "depth", "edges"])
def test_neither_is_one_in_black_and_white_nor_a_drawing(maps, kind):
    for picture in [data.camera(), data.coins(), *maps["picture"]]:
        assert said(kind, picture).startswith("does not look like")


def test_depth_of_few_greys_is_to_be_stretched(maps):
    narrow = (maps["depth"][0] // 16).astype(np.uint8)
    assert map_notes("depth", Picture(narrow)) == (
        "spans only 0 to 15 of 255, and a depth map black to white; stretch it",
    )


def test_lines_of_any_kind_pass():
    for photograph in (data.astronaut(), data.camera()):
        canny = cv2.Canny(photograph, 100, 200)
        soft = np.clip(cv2.GaussianBlur(canny, (0, 0), 3).astype(int) * 3, 0, 255).astype(np.uint8)
        for lines in (canny, soft, cv2.dilate(cv2.Canny(photograph, 300, 400), np.ones((7, 7)))):
            for kind in ("edges", "canny", "softedge", "scribble", "mlsd"):
                assert map_notes(kind, Picture(lines)) == ()


def test_kinds_whose_maps_look_like_anything_are_let_be():
    for kind in ("tile", "normal", "shuffle", "seg", "inpaint", "qr"):
        assert map_notes(kind, Picture(data.astronaut())) == ()
    assert map_notes("pose", Picture(np.zeros((64, 64), np.uint8))) == ()
