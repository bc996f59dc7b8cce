"""Gallery without a kernel: pictures in, marks, recipes back, one session file."""

import gc
import io
import json
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image
from scenes import scene

import ctrl
from ctrl import Recipe

BALL = Recipe("a red ball", seed=1)
CUBE = Recipe("a blue cube on a hill", seed=2, guidance=ctrl.ramp(9, 3), negative="fog")
POSED = Recipe("a person", seed=3, controls=(ctrl.Pose(ctrl.Skeleton.named("waving")),))


@pytest.fixture
def gallery():
    from widgets import Gallery

    one = Gallery()
    one.sent = []
    one.send = lambda content, buffers=None: one.sent.append((content, buffers or []))
    yield one
    one.close()


def say(gallery, kind, *buffers, **content):
    gallery._handle_custom_msg({"kind": kind, **content}, [memoryview(part) for part in buffers])
    return gallery.sent[-1] if gallery.sent else None


def recipes(gallery):
    return [entry.recipe for entry in gallery.entries]


@pytest.fixture
def three(gallery):
    for hue, recipe in ((0.1, BALL), (0.4, CUBE), (0.7, POSED)):
        gallery.add(scene(hue, size=(64, 48)), recipe)
    gallery.sent.clear()
    return gallery


def test_a_shot_or_a_picture_is_added_and_its_words_go_to_the_browser(gallery):
    gallery.add(ctrl.Shot(scene(size=(64, 48)), CUBE))
    gallery.add(scene(size=(48, 64)), note="a photo")
    assert recipes(gallery) == [CUBE, None]
    (first, (thumb,)), (second, _) = gallery.sent
    entry = first["entries"][0]
    assert (entry["title"], entry["facts"][0]) == ("a blue cube on a hill", "seed 2")
    assert "fog" in entry["words"] and "dpm++ 2m" in entry["words"]
    assert second["entries"][0]["title"] == "a photo" and second["entries"][0]["recipe"] is False
    assert max(Image.open(io.BytesIO(thumb)).size) <= 192


@pytest.mark.parametrize("wrong", ["x.png", None, 3])
def test_what_is_no_picture_is_refused(gallery, wrong):
    with pytest.raises(TypeError, match="picture must be a PIL image"):
        gallery.add(wrong)
    assert gallery.entries == ()


def test_a_recipe_that_is_none_is_refused(gallery):
    with pytest.raises(TypeError, match="recipe must be a Recipe or None, got dict"):
        gallery.add(scene(), {"prompt": "x"})


def test_the_difference_is_that_of_the_recipes_and_touches_nothing(three):
    three.current = BALL
    content, _ = say(three, "diff", key=2)
    assert content["lines"] == [str(change) for change in BALL.diff(CUBE)]
    content, _ = say(three, "diff", **{"from": 3, "key": 2})
    assert content["lines"] == [str(change) for change in POSED.diff(CUBE)]
    assert three.current == BALL and three.used is None
    three.add(scene(), note="a photo")
    assert say(three, "diff", key=4)[0]["lines"] is None


def test_without_a_current_recipe_the_newest_is_compared_to(three):
    assert three.current == POSED
    assert say(three, "diff", key=3)[0]["lines"] == []
    three.remove(3)
    assert three.current == CUBE


def test_using_settings_hands_over_the_recipe_every_time(three):
    seen, called = [], []
    three._on_use = called.append
    three.observe(lambda change: seen.append(change["new"].recipe), "used")
    say(three, "use", key=1)
    say(three, "use", key=1)
    assert seen == called == [BALL, BALL] and three.current == BALL
    three.add(scene(), note="a photo")
    say(three, "use", key=4)
    assert "without a recipe" in three.problem["what"]


def test_clearing_keeps_favourites_and_can_be_undone(three):
    say(three, "mark", key=2, favourite=True)
    say(three, "clear")
    assert recipes(three) == [CUBE]
    say(three, "bring back")
    assert recipes(three) == [BALL, CUBE, POSED]
    three.clear(keep_favourites=False)
    assert three.entries == ()


def test_a_key_that_is_gone_is_a_problem_in_the_panel(three):
    for kind in ("mark", "remove", "use", "full", "diff", "download"):
        three.clear_problem()
        say(three, kind, key=99)
        assert "no picture 99" in three.problem["what"], kind


def test_a_session_file_brings_everything_back(three, tmp_path):
    three.mark(1, favourite=True)
    three.mark(3, pinned=True)
    three.add(scene(size=(10, 10)).convert("RGBA"), note="a photo")
    path = three.save(tmp_path / "evening.ctrl.zip")
    from widgets import Gallery

    other = Gallery()
    other.read(path)
    assert recipes(other) == recipes(three)
    for mine, theirs in zip(three.entries, other.entries, strict=True):
        assert np.array_equal(np.asarray(mine.image), np.asarray(theirs.image))
        marks = ("pinned", "favourite", "note", "when")
        assert [getattr(mine, name) for name in marks] == [getattr(theirs, name) for name in marks]
    other.read(path)
    assert len(other.entries) == 8, "a second time, beside the first"
    assert [p.name for p in tmp_path.iterdir()] == ["evening.ctrl.zip"], "nothing half written is left"


@pytest.mark.parametrize(("path", "says"), [("x.png", "must end in .zip"), ("nowhere/x.zip", "does not exist")])
def test_a_place_where_nothing_can_be_saved_is_refused(three, tmp_path, path, says):
    with pytest.raises(ValueError, match=says):
        three.save(tmp_path / path)
    say(three, "save", path=str(tmp_path / path))
    assert says in three.problem["what"]


def zipped(table, **members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if table is not None:
            archive.writestr("session.json", table if isinstance(table, str) else json.dumps(table))
        for name, data in members.items():
            archive.writestr(name.replace("_", ".").lstrip("n"), data)
    return buffer.getvalue()


ROW = {"picture": "00000.png", "recipe": None, "note": "", "when": "", "pinned": False, "favourite": False}
HEAD = {"format": "ctrl-session", "version": 1}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\x03\x04 and no more", "no session file"),
        (zipped(None), "no session file"),
        (zipped("{}"), "no session file"),
        (zipped("[" * 100_000), "no session file"),
        (zipped({**HEAD, "version": 2, "entries": []}), "version 2"),
        (zipped({**HEAD, "entries": [ROW]}), "no session file"),
        (zipped({**HEAD, "entries": [ROW]}, n00000_png=b"no picture"), "no session file"),
        (zipped({**HEAD, "entries": [{**ROW, "picture": "../../etc/passwd"}]}), "would not write"),
        (zipped({**HEAD, "entries": [{**ROW, "picture": 7}]}), "would not write"),
        (zipped({**HEAD, "entries": [{"picture": "00000.png"}]}, n00000_png=b""), "no session file"),
        (zipped({**HEAD, "entries": [ROW] * 10_001}), "10000 are the most"),
    ],
)
def test_other_files_are_refused_in_one_sentence_and_add_nothing(three, data, says):
    from widgets import session

    with pytest.raises(ValueError, match=says):
        session.load(data)
    say(three, "file", data, name="x.zip")
    assert says in three.problem["what"]
    assert len(three.entries) == 3


def test_a_member_that_swells_is_not_unpacked(three, monkeypatch):
    monkeypatch.setattr("widgets.session.MAX_MEMBER", 1000)
    say(three, "file", zipped({**HEAD, "entries": [ROW]}, n00000_png=b"0" * 100_000), name="x.zip")
    assert "1000 are the most" in three.problem["what"]


def test_a_dropped_png_of_ours_gives_its_recipe_back(three, tmp_path):
    ctrl.Shot(scene(0.3, size=(64, 48)), CUBE).save(tmp_path / "out.png")
    say(three, "file", (tmp_path / "out.png").read_bytes(), name="out.png")
    assert three.problem == {}
    assert three.entries[-1].recipe == CUBE and three.entries[-1].note == "from out.png"
    assert three.used is None, "until it is asked for"


def test_a_png_without_a_recipe_says_so(three):
    buffer = io.BytesIO()
    scene(size=(8, 8)).save(buffer, format="PNG")
    say(three, "file", buffer.getvalue(), name="photo.png")
    assert "'photo.png' is a PNG without a recipe" in three.problem["what"]
    assert len(three.entries) == 3


@pytest.mark.parametrize("name", ["../../out.png", "..", "", "/etc/passwd", "a" * 300 + ".png", "nul\0.png"])
def test_no_name_of_a_dropped_file_leads_anywhere(three, tmp_path, name):
    ctrl.Shot(scene(0.3, size=(64, 48)), CUBE).save(tmp_path / "out.png")
    say(three, "file", (tmp_path / "out.png").read_bytes(), name=name)
    assert three.problem or three.entries[-1].recipe == CUBE
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_a_download_carries_the_recipe(three, tmp_path):
    content, (data,) = say(three, "download", key=2)
    (tmp_path / content["name"]).write_bytes(data)
    assert Recipe.load(tmp_path / content["name"]) == CUBE


def test_a_view_that_opens_is_sent_all_of_it_in_batches(gallery):
    for i in range(50):
        gallery.add(scene(i / 50, size=(32, 32)), BALL.replace(seed=i))
    gallery.sent.clear()
    say(gallery, "ready", bytes([0, 127, 128, 255]))
    kinds = [content["kind"] for content, _ in gallery.sent]
    assert kinds == ["hello", "entries", "added", "added", "added"]
    assert sum(len(buffers) for _, buffers in gallery.sent[2:]) == 50
    assert gallery.sent[1][0]["same"] == [50]


def test_the_saved_state_does_not_grow_with_the_history(gallery):
    for i in range(50):
        gallery.add(scene(i / 50, size=(32, 32)), BALL.replace(seed=i))
    state = {name: value for name, value in gallery.get_state().items() if name not in ("_esm", "_css")}
    assert len(repr(state)) < 3000


def test_threads_may_add_at_once(gallery):
    threads = [
        threading.Thread(target=lambda i=i: [gallery.add(scene(size=(8, 8)), BALL.replace(seed=i)) for _ in range(20)])
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.key for entry in gallery.entries] == list(range(1, 81))
    gc.collect()
