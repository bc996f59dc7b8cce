"""Detectors: what they find is there, what they cannot do they say, and nothing unsafe or unasked is loaded."""

import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ctrl
from ctrl import detect
from ctrl.atelier import render
from ctrl.atelier.bench import look, pixels
from ctrl.atelier.edges import edges_of
from ctrl.atelier.metrics import edge_f1, pck, spearman
from ctrl.atelier.scene import EVALUATION_SEEDS, STYLES, sample
from ctrl.detect import controlnet_aux
from ctrl.detect.detect import DETECTORS
from ctrl.images import Picture, looks_like
from ctrl.skeleton import Skeleton


@pytest.fixture(scope="module")
def view():
    """One evaluation scene in each of the eight styles, and the truth of it."""
    return look([replace(sample(EVALUATION_SEEDS + i), style=style) for i, style in enumerate(STYLES)], 128)


@pytest.fixture(scope="module")
def pictures(view):
    """(8, 128, 128, 3) uint8."""
    return pixels(view.picture)


@pytest.fixture(scope="module")
def near(view):
    """(8, 128, 128) uint8, white near."""
    return render.disparity(view.depth).mul(255).round().byte().numpy()


@pytest.fixture(autouse=True)
def nothing_loaded():
    controlnet_aux.load.cache_clear()
    yield
    controlnet_aux.load.cache_clear()


@pytest.fixture
def photo():
    """A picture of no world we know: a hundred discs of all colours and sizes, (192, 320, 3) uint8."""
    rng = np.random.default_rng(0)
    picture = np.full((192, 320, 3), 90, np.uint8)
    for _ in range(100):
        centre = (int(rng.integers(320)), int(rng.integers(192)))
        cv2.circle(picture, centre, int(rng.integers(3, 40)), rng.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
    return picture


def enlarged(picture, size=512):
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS))


def compressed(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80)
    return np.asarray(Image.open(buffer))


def a_sentence(error):
    text = str(error.value)
    assert re.fullmatch(r"[^\n]+[.]", text), text
    return text


# What the atelier's eyes find.


@pytest.mark.parametrize("size", [128, 512])
def test_the_figure_is_found_where_it_is(view, pictures, size):
    scores = []
    for picture, points, visible in zip(pictures[:4], view.keypoints.numpy(), view.visible.numpy(), strict=False):
        found = detect.pose(enlarged(picture, size))
        scores.append(pck(found.points, points, visible & found.shown))
        assert (found.shown == visible).mean() >= 0.8
    assert np.mean(scores) >= 0.9


@pytest.mark.parametrize("size", [128, 512])
def test_what_is_near_is_white(pictures, near, size):
    for picture, true in zip(pictures[:4], near, strict=False):
        found = detect.depth(enlarged(picture, size))
        assert found.size == (size, size) and found.pixels.ndim == 2
        assert spearman(np.asarray(found.image.resize((128, 128))), true) >= 0.9
        assert np.abs(found.image.resize((128, 128)) - true.astype(float)).mean() <= 20


@pytest.mark.slow
def test_the_edges_of_the_atelier_are_those_its_controlnet_learned():
    for picture in pixels(look([sample(EVALUATION_SEEDS + at) for at in range(4)], 256).picture):
        assert np.array_equal(detect.edges(picture).pixels, edges_of(picture))
        assert edge_f1(detect.edges(enlarged(picture)).pixels, edges_of(picture)) >= 0.9


def test_a_picture_may_come_in_as_anything(pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / "picture.png")
    tensor = torch.from_numpy(pictures[0]).permute(2, 0, 1).float() / 255
    many = [tmp_path / "picture.png", Image.fromarray(pictures[0]), pictures[0], tensor, Picture(pictures[0])]
    for find in (detect.pose, detect.depth, detect.edges):
        assert len({find(one) for one in many}) == 1


def test_what_was_found_steers(pictures):
    pose, depth, edges = (find(pictures[1]) for find in (detect.pose, detect.depth, detect.edges))
    recipe = ctrl.Recipe("a figure", controls=[ctrl.Pose(pose), ctrl.Depth(depth, weight=0.6), ctrl.Edges(edges)])
    assert len(recipe.controls) == 3


def test_a_stranger_is_read_with_a_warning(photo):
    with pytest.warns(UserWarning, match=r"does not look like the atelier's world.*'midas'"):
        assert detect.depth(photo).size == (320, 192)


def test_where_nobody_is_nobody_is_found():
    with pytest.raises(ValueError, match="no figure was found in picture by detector 'atelier'") as error:
        detect.pose(np.full((128, 128, 3), 200, np.uint8))
    a_sentence(error)


# Canny.


def test_canny_is_opencvs_and_controlnet_auxs(aux, photo):
    found = detect.edges(photo, detector="canny").pixels
    assert np.array_equal(found, cv2.Canny(photo, 100, 200))
    assert np.array_equal(found, aux.CannyDetector()(photo, detect_resolution=192, image_resolution=192)[..., 0])
    few = detect.edges(photo, detector="canny", low=400, high=900).pixels
    assert 0 < (few > 0).sum() < (found > 0).sum()


@pytest.mark.parametrize(("given", "made"), [(None, (320, 192)), (64, (107, 64)), (384, (640, 384))])
def test_a_map_of_lines_has_the_size_it_was_read_at(photo, given, made):
    assert detect.edges(photo, detector="canny", size=given).size == made


@pytest.mark.filterwarnings("ignore:picture already looks like", "ignore:no line was found")
def test_a_long_picture_does_not_grow_without_end():
    long = np.zeros((8, 1024, 3), np.uint8)
    long[:, ::16] = 255
    assert detect.edges(long, size=2048).size == (2048, 16)
    assert detect.line_art(long, detector="lineart_standard").size == (2048, 16)


def test_no_edges_is_said():
    with pytest.warns(UserWarning, match="no line was found"):
        assert not detect.edges(np.full((64, 64, 3), 200, np.uint8)).pixels.any()


# Maps that are maps already.


@pytest.mark.slow
def test_a_true_picture_of_any_style_raises_no_alarm(pictures):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for picture in pictures:
            for shape in (picture, enlarged(picture), compressed(picture)):
                detect.pose(shape)
                detect.depth(shape)
                detect.edges(shape)


def test_a_grey_picture_is_no_map(photo):
    grain = np.random.default_rng(0).normal(0, 12, photo.shape[:2])
    grey = np.clip(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY) + grain, 0, 255).astype(np.uint8)
    rough = np.clip(np.arange(256) + grain[:128, :256] / 2, 0, 255).astype(np.uint8)
    page = np.full((256, 256), 245, np.uint8)
    for row in range(20, 240, 12):
        cv2.putText(page, "black on white", (10, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 20)
    disc = cv2.circle(np.zeros((256, 256), np.uint8), (128, 128), 90, 220, -1)
    for picture in (photo, grey, rough, page, disc, np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)):
        assert looks_like(Picture(picture)) is None


@pytest.mark.parametrize("changed", [np.asarray, enlarged, compressed])
def test_a_map_is_known_for_what_it_is(view, pictures, near, changed):
    for row in range(8):
        drawn = Skeleton(view.keypoints[row].numpy(), view.visible[row].numpy()).draw(128, 128)
        maps = {"a drawing of a pose": drawn, "an edge map": edges_of(pictures[row]), "a depth map": near[row]}
        for name, made in maps.items():
            seen = looks_like(Picture(changed(made)))
            assert seen is not None and seen.name == name
    assert looks_like(detect.depth(pictures[0])).control == "ctrl.Depth"
    assert looks_like(Picture(np.repeat(near[0][..., None], 3, 2))).control == "ctrl.Depth"


@pytest.mark.parametrize("name", ["depth", "edges", "line_art"])
def test_a_map_is_read_with_a_warning_at_the_users_line(near, pictures, name):
    find = {"depth": detect.depth, "edges": detect.edges, "line_art": detect.line_art}[name]
    made = edges_of(pictures[0])
    with pytest.warns(UserWarning, match="already looks like an edge map.*ctrl.Edges") as caught:
        find(made, detector=lambda image: image)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_drawn_pose_is_read_with_a_warning():
    with pytest.warns(UserWarning, match="already looks like a drawing of a pose.*ctrl.Pose"):
        detect.pose(Skeleton.named("waving").draw(256, 256), detector=lambda image: Skeleton.named("waving"))


# The detectors of controlnet_aux. Their networks are real, their weights are not.


class Grey(nn.Module):
    """A network whose answer is the picture in grey, whatever its scale."""

    def __init__(self, shape):
        super().__init__()
        self.weight, self.shape = nn.Parameter(torch.zeros(1)), shape

    def forward(self, x):
        """(1, 3, h, w) to what the detector around it expects."""
        return self.shape(x.mean(1, keepdim=True) + self.weight)

    infer = forward


@pytest.fixture
def slope():
    """A picture that gets brighter to the right, (128, 256, 3) uint8."""
    return np.repeat(np.tile(np.arange(256, dtype=np.uint8), (128, 1))[..., None], 3, 2)


class Loader:
    """Stands for `controlnet_aux.load`: gives the network it was given."""

    def __init__(self, net):
        self.net = net

    def __call__(self, tool):
        return self.net

    def cache_clear(self):
        """What the fixture calls."""


@pytest.fixture
def given(monkeypatch):
    """Make a network the one that is loaded."""
    return lambda net: monkeypatch.setattr(controlnet_aux, "load", Loader(net))


@pytest.fixture(scope="module")
def aux():
    """The library, imported as the package does: without its complaints."""
    return controlnet_aux._library(controlnet_aux.OPENPOSE)


@pytest.mark.filterwarnings("ignore:picture already looks like")
def test_midas_white_is_near_and_zoes_too(aux, given, slope):
    given(aux.MidasDetector(Grey(lambda x: x[:, 0])))  # says how near
    found = detect.depth(slope, detector="midas")
    assert found.size == (256, 128) and found.pixels[:, -1].min() > 250 and found.pixels[:, 0].max() < 5
    given(aux.ZoeDetector(Grey(lambda x: x)))  # says how far
    found = detect.depth(slope, detector="zoe")
    assert found.size == (256, 128) and found.pixels[:, 0].min() > 250 and found.pixels[:, -1].max() < 5


@pytest.fixture
def ruled():
    """One dark line across a white page, (192, 128, 3) uint8."""
    page = np.full((192, 128, 3), 255, np.uint8)
    page[90:96] = 0
    return page


@pytest.mark.parametrize("name", ["lineart", "lineart_anime"])
def test_line_art_is_white_on_black(aux, given, ruled, name):
    net = Grey(lambda x: x)
    kinds = {"lineart": aux.LineartDetector(net, net), "lineart_anime": aux.LineartAnimeDetector(net)}
    given(kinds[name])
    found = detect.line_art(ruled, detector=name, size=128)
    assert found.size == (128, 192)
    assert found.pixels[92].min() > 200 and np.delete(found.pixels, range(80, 106), axis=0).max() < 20


@pytest.mark.filterwarnings("ignore:picture already looks like")
def test_the_outlines_of_hed_are_white_on_black(aux, given, ruled):
    given(aux.HEDdetector(Grey(lambda x: [x / 10 - 12] * 5)))  # log odds of an edge: here where the picture is bright
    found = detect.edges(255 - ruled, detector="hed", size=128)
    assert found.size == (128, 192)
    assert found.pixels[92].min() > 200 and np.delete(found.pixels, range(80, 106), axis=0).max() < 20


def test_standard_line_art_takes_no_weights(ruled):
    found = detect.line_art(ruled, detector="lineart_standard")
    assert found.size == (512, 768)
    assert found.pixels[360:384].max(0).min() > 200 and found.pixels[:340].max() < 20


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where the weights of the hub would lie."""
    monkeypatch.setattr(controlnet_aux, "_fetch", lambda tool: tmp_path)
    return tmp_path


def test_networks_load_from_a_folder_and_read(aux, folder, photo):
    from controlnet_aux.lineart import Generator
    from controlnet_aux.pidi.model import pidinet

    torch.manual_seed(0)
    torch.save({"state_dict": pidinet().state_dict()}, folder / "table5_pidinet.pth")
    for name in ("sk_model.pth", "sk_model2.pth"):
        torch.save(Generator(3, 1, 3).state_dict(), folder / name)
    for find, name in ((detect.edges, "pidinet"), (detect.line_art, "lineart")):
        found = find(photo, detector=name, size=96)
        assert found.size == (160, 96) and found.pixels.ndim == 2
        (tool,) = (tool for tool in (*controlnet_aux.EDGES, *controlnet_aux.LINE_ART) if tool.name == name)
        net = controlnet_aux.load(tool)
        assert net is controlnet_aux.load(tool)
        direct = net(Image.fromarray(photo), detect_resolution=96, image_resolution=96).convert("L")
        expected = np.asarray(direct.resize((160, 96), Image.Resampling.LANCZOS))
        assert np.array_equal(found.pixels, expected)


class Trap:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused(folder, photo):
    torch.save({"state_dict": Trap(folder / "sprung")}, folder / "table5_pidinet.pth")
    with pytest.raises(ValueError, match=r"'pidinet' cannot be loaded.*UnpicklingError") as error:
        detect.edges(photo, detector="pidinet")
    a_sentence(error)
    assert not (folder / "sprung").exists()


def test_weights_of_another_detector_are_refused(folder, photo):
    torch.save({"state_dict": {"other": torch.zeros(1)}}, folder / "table5_pidinet.pth")
    with pytest.raises(ValueError, match=r"weights of detector 'pidinet' cannot be loaded.*RuntimeError") as error:
        detect.edges(photo, detector="pidinet")
    a_sentence(error)


def test_nothing_is_loaded_where_the_guard_is_off(monkeypatch, folder, photo):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "Yes")
    torch.save({"state_dict": Trap(folder / "sprung")}, folder / "table5_pidinet.pth")
    with pytest.raises(ValueError, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD") as error:
        detect.edges(photo, detector="pidinet")
    a_sentence(error)
    assert not (folder / "sprung").exists()


def test_without_controlnet_aux_the_extra_is_named(monkeypatch, photo):
    monkeypatch.setitem(sys.modules, "controlnet_aux", None)
    for find, name in ((detect.pose, "openpose"), (detect.depth, "zoe"), (detect.line_art, "lineart_standard")):
        with pytest.raises(ImportError, match=re.escape("pip install ctrl-diffusion[detectors]")) as error:
            find(photo, detector=name)
        a_sentence(error)


def test_weights_in_the_cache_are_taken_from_there(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file: str(tmp_path / file))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("the hub was asked"))
    assert controlnet_aux._fetch(controlnet_aux.LINE_ART[0]) == tmp_path


def test_weights_that_cannot_be_had_are_named(monkeypatch, photo):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(repo, file):
        raise LocalEntryNotFoundError("no connection,\nand no cache")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(FileNotFoundError, match=r"'hed'.*ControlNetHED.pth.*could not be fetched") as error:
        detect.edges(photo, detector="hed")
    a_sentence(error)


# OpenPose's figures.


class Body:
    """Stands for the network of OpenPose: a tall figure whose wrist is out of sight, and a small one."""

    def __call__(self, picture):
        """(h, w, 3) BGR to candidates (n, 4) x, y, score, index in pixels, and figures (2, 20) of indices."""
        height, width, _ = picture.shape
        tall = Skeleton.named("waving").points
        small = (tall - 0.5) * 0.3 + 0.2
        places = np.concatenate([small, tall]) * [width, height]
        candidates = np.column_stack([places, np.full(36, 0.9), np.arange(36)])
        rows = np.column_stack([np.arange(36).reshape(2, 18), [30, 30], [18, 17]]).astype(float)
        rows[1, 4] = -1
        return candidates, rows

    @staticmethod
    def format_body_result(candidates, rows):
        """The library's own."""
        from controlnet_aux.open_pose.body import Body

        return Body.format_body_result(candidates, rows)


@pytest.fixture
def openpose(aux, given):
    net = aux.OpenposeDetector(Body())
    given(net)
    return net


def test_openposes_largest_figure_is_taken(openpose, photo):
    with pytest.warns(UserWarning, match="shows 2 figures and the largest was taken") as caught:
        found = detect.pose(photo, detector="openpose")
    assert caught[0].filename == __file__
    true = Skeleton.named("waving")
    assert list(np.flatnonzero(~found.shown)) == [4]
    assert np.allclose(found.points[found.shown], true.points[found.shown], atol=1e-9)
    assert detect.pose(photo, detector="openpose", person=0) == found
    small = detect.pose(photo, detector="openpose", person=1)
    assert small.shown.all() and np.allclose(small.points, (true.points - 0.5) * 0.3 + 0.2)
    with pytest.raises(ValueError, match="person must be below 2"):
        detect.pose(photo, detector="openpose", person=2)


def test_a_detector_of_your_own_may_return_poses(openpose, photo):
    found = detect.pose(photo, detector=lambda image: openpose.detect_poses(np.asarray(image)), person=0)
    assert np.allclose(found.points, detect.pose(photo, detector="openpose", person=0).points)
    with pytest.raises(ValueError, match="no figure was found in picture by detector; "):
        detect.pose(photo, detector=lambda image: [])
    with pytest.raises(TypeError, match="detector must return a Skeleton"):
        detect.pose(photo, detector=lambda image: [3])


def test_only_the_body_of_openpose_is_loaded(aux, monkeypatch, tmp_path):
    import controlnet_aux.open_pose.body as module

    monkeypatch.setattr(controlnet_aux, "_fetch", lambda tool: tmp_path)
    monkeypatch.setattr(module, "Body", lambda path: path)
    net = controlnet_aux.load(controlnet_aux.OPENPOSE)
    assert net.body_estimation == str(tmp_path / "body_pose_model.pth")
    assert net.hand_estimation is None and net.face_estimation is None


# Functions, and wrong arguments.


def test_a_function_may_be_the_detector(photo):
    seen = []

    def inverted(image):
        seen.append((image.mode, image.size))
        return 1 - torch.from_numpy(np.array(image)).float() / 255

    found = detect.depth(photo, detector=inverted)
    assert np.array_equal(found.pixels, Picture(255 - photo).grey().pixels)
    assert detect.edges(photo, detector=inverted, size=96).size == (160, 96)
    assert seen == [("RGB", (320, 192)), ("RGB", (160, 96))]
    with pytest.raises(TypeError, match="detector's map must be a picture, got dict"):
        detect.depth(photo, detector=lambda image: {"depth": image})


WRONG = [
    (detect.pose, {"detector": "dwpose"}, "detector must be one of atelier, openpose"),
    (detect.depth, {"detector": "canny"}, "detector must be one of atelier, midas, zoe"),
    (detect.edges, {"detector": None}, "detector must be one of atelier, canny, hed, pidinet"),
    (detect.line_art, {"detector": "hed"}, "detector must be one of lineart"),
    (detect.pose, {"person": -1}, "person must be"),
    (detect.pose, {"person": True}, "person must be"),
    (detect.edges, {"detector": "canny", "low": 300}, "low must not be above high"),
    (detect.edges, {"detector": "canny", "high": float("nan")}, "high must be a number"),
    (detect.edges, {"detector": "canny", "low": "100"}, "low must be a number"),
    (detect.edges, {"low": 50}, "thresholds of detector='canny'"),
    (detect.edges, {"size": 63}, "size must be a whole number of pixels from 64 to 2048"),
    (detect.line_art, {"size": 512.0}, "size must be"),
]


@pytest.mark.parametrize(("find", "arguments", "says"), WRONG)
def test_a_wrong_argument_is_named_before_anything_is_read(find, arguments, says):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        find("no such file.png", **arguments)
    a_sentence(error)


def test_a_wrong_picture_is_named_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "controlnet_aux", None)
    for find, name in ((detect.pose, "openpose"), (detect.depth, "midas"), (detect.edges, "hed")):
        with pytest.raises(ValueError, match="picture must be a picture file"):
            find("no such file.png", detector=name)


def test_the_detectors_are_there_without_what_they_need():
    code = "import sys, ctrl.detect; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "controlnet_aux", "huggingface_hub", "timm"} & set(done.stdout.split())
    assert done.stderr == ""


def test_the_room_completes_to_its_functions_only():
    assert dir(detect) == detect.__all__ == ["depth", "edges", "line_art", "pose"]
    assert all(callable(getattr(detect, name)) for name in dir(detect))


def test_every_detector_is_named_where_it_is_explained():
    for kind, readers in DETECTORS.items():
        explained = getattr(detect, kind).__doc__
        assert all(f'"{name}"' in explained for name in readers)


def test_where_nothing_answers_it_is_said_at_once(monkeypatch, photo):
    import huggingface_hub

    with socket.socket() as listening:  # and never answers
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file: None)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("the hub's client was asked"))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        started = time.perf_counter()
        with pytest.raises(FileNotFoundError, match=r"'hed'.*could not be fetched \(\w+\); check the connection"):
            detect.edges(photo, detector="hed")
        assert time.perf_counter() - started < 3


def test_a_name_that_takes_long_to_look_up_is_not_waited_for(monkeypatch):
    def look_up(*_, **__):
        time.sleep(20)
        raise socket.gaierror("nobody waits for this")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    started = time.perf_counter()
    with pytest.raises(TimeoutError, match=r"nothing answered at https://hub\.example within 2 seconds"):
        controlnet_aux.check_connection("https://hub.example")
    assert time.perf_counter() - started < 4


@pytest.mark.parametrize("status", [200, 404, 500])
def test_any_answer_is_a_connection(status):
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            """Nothing to the log."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        controlnet_aux.check_connection(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def test_hands_and_faces_of_a_detector_are_kept(aux, photo):
    from controlnet_aux.open_pose import PoseResult
    from controlnet_aux.open_pose.body import BodyResult, Keypoint

    true = Skeleton.named("waving")
    body = BodyResult([Keypoint(*point) for point in true.points], 1.0, 18)
    hand = [Keypoint(-0.01, -0.02), None, *[Keypoint(0.1, 0.02 * at) for at in range(1, 20)]]
    found = detect.pose(photo, detector=lambda image: [PoseResult(body, hand, None, [Keypoint(0.5, 0.5)] * 70)])
    assert found.left_hand[:2].tolist() == [[0, 0], [0, 0]] and found.left_hand[2].tolist() == [0.1, 0.02]
    assert found.right_hand is None and found.face.shape == (70, 2)
