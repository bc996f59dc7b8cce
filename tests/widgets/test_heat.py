"""TokenHeat: shares of attention stay shares on their way to the eye, and looking at them costs no message."""

import base64
import gc
import io
import json
import re
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import scene

from widgets.heat import Heat, TokenHeat, Word

SIDE = 16
LAYERS = ("up 16×16", "down 8×8")
STEPS = ("t = 0.9", "t = 0.6", "t = 0.3", "t = 0.1")
WORDS = ("the", "sun", "over", "the", "hills", "<b>sky</b>")
SUN, HILLS, SKY = 1, 4, 5
CLEAR = (0.25, 0.5, 1, 1)  # how strongly a word acts at each step
PLACE = "shot.attention.at({place})"


def grid():
    y, x = np.mgrid[:SIDE, :SIDE]
    return (x + 0.5) / SIDE, (y + 0.5) / SIDE


def planted():
    """Shares (layers, steps, words, h, w): the sun at (.7, .3), hills below, sky above."""
    x, y = grid()
    sun = np.exp(-((x - 0.7) ** 2 + (y - 0.3) ** 2) / 0.012)
    flat = np.ones_like(x)
    words = [
        0.02 * flat,
        sun * 0.4,
        0.01 * flat,
        0.03 * flat,
        (y > 0.6) * 0.3,
        (y < 0.5) * 0.25 * (1 - sun),
        0.6 * flat,
    ]
    parties = np.stack([0.2 + (y > 0.6) * 0.5, 0.8 - (y > 0.6) * 0.5])
    layers = [[np.concatenate([np.stack(words) * clear * depth, parties]) for clear in CLEAR] for depth in (1, 0.5)]
    return np.array(layers)


def between():
    """Self-attention (256, 256): every place attends to those of its own height."""
    _, y = grid()
    near = np.exp(-((y.reshape(-1, 1) - y.reshape(1, -1)) ** 2) / 0.01)
    return near / near.sum(1, keepdims=True)


def heat(**changed):
    start = 0
    words = []
    for text in WORDS:
        words.append(Word(text, start, start + len(text), code=f"shot.attention.map({text!r}{{chosen}}){{step}}"))
        start += len(text) + 1
    swatch = io.BytesIO()
    Image.new("RGB", (24, 24), (200, 120, 40)).save(swatch, "PNG")
    words += [Word("style 1", source="style", picture=swatch.getvalue())]
    words += [Word("words", source="influence"), Word("the model itself", source="influence")]
    fields = {
        "layers": LAYERS,
        "steps": STEPS,
        "attends": between(),
        "code": PLACE,
        "first": 4,
        "note": "10 of 10 sites seen.",
    }
    return Heat.of(scene(size=(384, 384)), words, planted(), **(fields | changed))


@pytest.fixture
def shown(stage):
    """A TokenHeat of the planted heat, painted."""
    leaf = TokenHeat(heat())
    stage.show(leaf)
    stage.until("document.querySelector('canvas')?.dataset.painted > 0")
    yield leaf
    leaf.close()


# ---- without a kernel -----------------------------------------------------------------------------------------


def test_bytes_and_scale_give_every_share_back_to_half_a_level():
    one, shares = heat(), planted()
    back = one.maps * one.scales[..., None, None] / 255
    assert np.all(np.abs(back - shares) <= one.scales[..., None, None] / 510 + 1e-7)
    assert one.scales[0, 3, SUN] == pytest.approx(shares[0, 3, SUN].max())
    rows = one.attends * one.attends_scales[:, None] / 255
    assert np.abs(rows - between()).max() < 0.001


def test_one_map_a_word_is_enough():
    one = Heat.of(scene(), ["sun"], np.ones((1, 8, 12)) * 0.2)
    assert (one.maps.shape, one.layers, one.steps, one.places) == ((1, 1, 1, 8, 12), ("layer 1",), ("step 1",), (0, 0))


def test_words_may_be_plain_tuples():
    assert Heat.of(scene(), [("sun", 4, 7, "negative")], np.ones((1, 8, 8))).words == (Word("sun", 4, 7, "negative"),)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layers": ("one",)}, "maps must be uint8 \\(1, 4, 9, 16, 16\\)"),
        ({"steps": ("one",)}, "maps must be uint8 \\(2, 1, 9, 16, 16\\)"),
        ({"places": (16, 15)}, "attends must be uint8 \\(240, 240\\)"),
        ({"attends": -between()}, "attends must be finite and not negative"),
    ],
)
def test_what_does_not_fit_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        heat(**change)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1])
def test_shares_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="shares must be finite and not negative"):
        Heat.of(scene(), ["sun"], np.full((1, 8, 8), bad))


def test_what_is_not_a_picture_is_refused_by_name():
    with pytest.raises(TypeError, match="picture must be a PIL image, not str"):
        Heat.of("sun.png", ["sun"], np.ones((1, 8, 8)))


def test_the_maps_are_no_part_of_the_saved_state():
    leaf = TokenHeat(heat())
    state = {name: value for name, value in leaf.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state, default=str)) < 5_000
    message = next(iter(leaf.opening()))
    assert message.content["shape"] == [2, 4, 9, 16, 16]
    assert len(message.buffers[3]) == 65_536, "self-attention of 16 × 16 places in 64 KB"
    leaf.close()


def test_another_heat_forgets_the_words_and_keeps_the_look():
    leaf = TokenHeat(heat(), pinned=[SUN], look="outline", place=[[0.5, 0.5]])
    leaf.show(Heat.of(scene(), ["moon"], np.ones((1, 8, 8)), code="moon"))
    assert (leaf.pinned, leaf.place, leaf.look, leaf.code) == ([], [], "outline", "moon")
    leaf.close()


def test_a_closed_one_is_gone():
    leaf = TokenHeat(heat())
    dead = weakref.ref(leaf)
    leaf.close()
    del leaf
    gc.collect()
    assert dead() is None


def test_the_module_is_small_and_takes_no_text_for_html():
    assert len(TokenHeat._esm.encode()) < 50_000
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://(?!www\.w3\.org)", TokenHeat._esm
    )


# Machado, Oliveira and Fernandes 2009, severity 1: what a linear RGB colour looks like without one kind of cone.
BLIND = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def colour_maps():
    text = (Path(__file__).parents[2] / "widgets" / "raster.js").read_text(encoding="utf-8")
    return dict(re.findall(r'^  (\w+): "([0-9a-f ]+)",$', text, re.MULTILINE))


@pytest.mark.parametrize("sight", BLIND)
@pytest.mark.parametrize("name", TokenHeat.colours.values)
def test_a_colour_map_rises_in_lightness_for_every_kind_of_sight(name, sight):
    stops = np.array([[int(stop[at : at + 2], 16) for at in (0, 2, 4)] for stop in colour_maps()[name].split()]) / 255
    seen = np.clip(
        np.where(stops <= 0.04045, stops / 12.92, ((stops + 0.055) / 1.055) ** 2.4) @ np.transpose(BLIND[sight]), 0, 1
    )
    lightness = np.cbrt(seen @ [0.2126, 0.7152, 0.0722])
    assert np.all(np.diff(lightness) > 0.01)


# ---- in the browser -------------------------------------------------------------------------------------------


def pixels(stage):
    """What is painted, (H, W, 3)."""
    data = stage.page.evaluate("document.querySelector('canvas').toDataURL().split(',')[1]")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(float)


def bright(stage, x, y):
    """Mean brightness around a place of the painted picture."""
    found = pixels(stage)
    row, column = int(y * found.shape[0]), int(x * found.shape[1])
    return found[row - 6 : row + 6, column - 6 : column + 6].mean()


def spot(stage, x, y):
    box = stage.page.locator("canvas").bounding_box()
    return box["x"] + box["width"] * x, box["y"] + box["height"] * y


def chip(stage, at):
    return stage.page.locator(".words button").nth(at)


def ranked(stage):
    return [text.split("\n") for text in stage.page.locator(".ranked button").all_inner_texts()]


def words(stage):
    return " ".join(stage.page.locator(".ctrl-heat").inner_text().split())


def traffic(stage):
    return stage.page.evaluate("[models[0].model.sent.length, models[0].model.saves]")


def test_hovering_a_word_heats_its_thing_without_a_message(stage, shown):
    before, plain = traffic(stage), bright(stage, 0.7, 0.3)
    chip(stage, HILLS).hover()
    stage.settle(60)
    assert bright(stage, 0.7, 0.3) < plain, "what is not meant goes dim"
    assert bright(stage, 0.5, 0.9) > 1.5 * bright(stage, 0.1, 0.1)
    assert "“hills”" in words(stage)
    assert traffic(stage) == before


def test_shares_are_said_and_not_rescaled(stage, shown):
    chip(stage, SUN).click()
    stage.settle(60)
    top = planted()[:, :, SUN].mean((0, 1)).max()
    said = stage.page.locator(".bar small").last.inner_text()
    assert float(said.split()[0]) == pytest.approx(100 * top, rel=0.01)
    shown.same_scale = True
    stage.settle(60)
    assert float(stage.page.locator(".bar small").last.inner_text().split()[0]) == pytest.approx(100 * top, rel=0.01)
    shown.pinned = [HILLS]
    stage.settle(60)
    assert float(stage.page.locator(".bar small").last.inner_text().split()[0]) == pytest.approx(100 * top, rel=0.01)


def test_a_step_and_a_layer_show_their_own_shares(stage, shown):
    chip(stage, HILLS).click()
    stage.page.get_by_role("button", name="One step").click()
    stage.page.get_by_role("spinbutton", name="Step").fill("2")
    stage.page.keyboard.press("Enter")
    stage.page.get_by_role("button", name="down 8×8").click()
    stage.settle(60)
    assert (shown.when, shown.step, shown.active_layers) == ("one", 1, [1])
    assert "Up to 7.5 % of attention" in words(stage), "0.3 · 0.5 for the step · 0.5 for the layer"
    assert "down 8×8, step 2 of 4" in words(stage)
    stage.page.get_by_role("button", name="All steps").click()
    stage.settle(60)
    assert f"Up to {100 * 0.3 * 0.5 * 2.75 / 4:.1f} % of attention" in words(stage)


def test_a_place_tells_its_words_and_where_it_attends(stage, shown):
    before = traffic(stage)
    stage.page.mouse.move(*spot(stage, 0.7, 0.3))
    stage.settle(60)
    assert ranked(stage)[0][0] == "sun"
    assert "Where this place attends" in words(stage) and "0.39 %" in words(stage), "1 of 256"
    assert bright(stage, 0.1, 0.31) > 1.5 * bright(stage, 0.1, 0.8), "its own height"
    stage.page.mouse.move(*spot(stage, 0.5, 0.9))
    stage.settle(60)
    assert ranked(stage)[0][0] == "hills"
    assert traffic(stage) == before


def test_words_and_styles_are_ranked_apart(stage, shown):
    stage.page.mouse.move(*spot(stage, 0.7, 0.3))
    stage.settle(60)
    names = [row[0] for row in ranked(stage)]
    assert names.index("style 1") == len(names) - 1, "its share is of another softmax"


def test_a_circled_area_is_kept_and_python_has_it(stage, shown):
    outline = [(0.5 + 0.3 * np.cos(a), 0.8 + 0.15 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24)]
    stage.page.mouse.move(*spot(stage, *outline[0]))
    stage.page.mouse.down()
    for point in outline[1:]:
        stage.page.mouse.move(*spot(stage, *point))
    stage.page.mouse.up()
    stage.settle(60)
    assert len(shown.place) > 10 and 0.15 < min(x for x, _ in shown.place) < 0.25
    assert "In this area of" in words(stage) and ranked(stage)[0][0] == "hills"
    stage.page.keyboard.press("Escape")
    stage.settle(60)
    assert shown.place == []


def test_a_click_keeps_a_place_and_a_second_lets_it_go(stage, shown):
    stage.page.mouse.click(*spot(stage, 0.7, 0.3))
    stage.settle(60)
    assert shown.place == [[pytest.approx(0.7, abs=0.01), pytest.approx(0.3, abs=0.01)]]
    stage.page.mouse.click(*spot(stage, 0.7, 0.3))
    stage.settle(60)
    assert shown.place == []


def test_a_finger_points_too(stage, shown):
    stage.page.touchscreen.tap(*spot(stage, 0.5, 0.9))
    stage.settle(60)
    assert len(shown.place) == 1 and ranked(stage)[0][0] == "hills"


def test_the_keyboard_reaches_words_and_places(stage, shown):
    chip(stage, 0).focus()
    stage.page.keyboard.press("ArrowRight")
    stage.settle(60)
    assert "“sun”" in words(stage)
    stage.page.keyboard.press("Enter")
    stage.settle(60)
    assert shown.pinned == [SUN]
    stage.page.locator("canvas").focus()
    stage.page.keyboard.press("Escape")
    for _ in range(3):
        stage.page.keyboard.press("ArrowUp")
    stage.settle(60)
    assert shown.pinned == [] and shown.place == [[pytest.approx(8.5 / 16), pytest.approx(5.5 / 16)]]


def test_two_words_are_told_apart_by_colour(stage, shown):
    chip(stage, SUN).click()
    chip(stage, HILLS).click()
    stage.page.mouse.move(2, 2)
    stage.settle(60)
    found = pixels(stage)
    sun, hills = found[int(0.3 * 512), int(0.7 * 512)], found[int(0.9 * 512), 256]
    assert sun[0] > sun[2] + 60, "orange"
    assert hills[2] > hills[0] + 60, "sky blue"
    chip(stage, SKY).click()
    stage.settle(60)
    assert shown.pinned == [HILLS, SKY], "the oldest makes room"


def test_who_decided_a_place_is_a_map_and_a_share(stage, shown):
    stage.page.get_by_role("button", name="Who decided").click()
    stage.page.mouse.move(*spot(stage, 0.5, 0.9))
    stage.settle(60)
    top, bottom = pixels(stage)[100:120, 100:120].mean((0, 1)), pixels(stage)[470:490, 100:120].mean((0, 1))
    assert top[2] > top[0] and bottom[0] > bottom[2], "blue is the model itself, orange the words"
    assert "Decided most by words" in words(stage)


def test_the_model_itself_does_not_hide_which_of_the_others_decided(stage):
    _, y = grid()
    shares = np.stack([0.1 * (y > 0.5), 0.1 * (y < 0.5), 0.8 * np.ones_like(y)])
    parties = [Word(name, source="influence") for name in ("words", "style 0", "the model itself")]
    leaf = TokenHeat(Heat.of(scene(size=(384, 384)), parties, shares), look="decided")
    stage.show(leaf)
    stage.until("document.querySelector('canvas')?.dataset.painted > 0")
    top, bottom = pixels(stage)[100:120, 100:120].mean((0, 1)), pixels(stage)[470:490, 100:120].mean((0, 1))
    assert top[2] > top[0] and bottom[0] > bottom[2], "blue is the style, orange the words"
    assert "beside the model itself" in words(stage)


def test_python_may_choose_and_the_view_follows(stage, shown):
    shown.pinned = [SUN]
    stage.settle(60)
    assert chip(stage, SUN).get_attribute("aria-pressed") == "true"
    shown.show(Heat.of(scene(), ["moon"], np.ones((1, 8, 8)) * 0.125))
    stage.until("document.querySelectorAll('.words button').length === 1")
    chip(stage, 0).hover()
    stage.settle(60)
    assert "Up to 12.5 % of attention" in words(stage)


def test_the_code_follows_what_is_chosen(stage, shown):
    stage.page.get_by_role("button", name="Show code").click()
    with shown.hold_sync():
        shown.pinned, shown.active_layers, shown.when, shown.step = [SUN, SKY], [0], "one", 2
        shown.place = [[0.5, 0.25]]
    stage.until("document.querySelector('pre').textContent.includes('.at(')")
    code = stage.page.locator("pre").inner_text()
    assert code.splitlines() == [
        """shot.attention.map('sun', layers=["up 16×16"]).steps[6]""",
        """shot.attention.map('<b>sky</b>', layers=["up 16×16"]).steps[6]""",
        "shot.attention.at([[0.5, 0.25], [0.562, 0.25], [0.562, 0.312], [0.5, 0.312]])",
    ]


def test_words_are_never_html(stage, shown):
    assert chip(stage, SKY).inner_text() == "<b>sky</b>"
    assert stage.page.locator(".words b").count() == 0


def test_a_png_carries_its_settings(stage, shown):
    shown.pinned = [SUN]
    stage.settle(60)
    with stage.page.expect_download() as download:
        stage.page.get_by_role("button", name="PNG").click()
    image = Image.open(download.value.path())
    image.load()
    said = json.loads(image.text["ctrl-attention"])
    assert download.value.suggested_filename == "attention-sun.png"
    assert said["shown"][0]["label"] == "sun" and said["steps"] == [0, 1, 2, 3] and said["layers"] == list(LAYERS)
    painted = np.asarray(image.convert("RGB")).astype(float)[:512]
    assert np.abs(painted - pixels(stage)).max() <= 2


def test_a_gif_plays_the_steps_with_the_settings_inside(stage, shown):
    shown.pinned = [SUN]
    stage.settle(60)
    with stage.page.expect_download() as download:
        stage.page.get_by_role("button", name="GIF").click()
    image = Image.open(download.value.path())
    assert (image.n_frames, image.size, image.info["duration"], image.info["loop"]) == (4, (384, 384), 160, 0)
    said = json.loads(image.info["comment"])["shown"][0]
    assert (said["label"], said["top"]) == ("sun", pytest.approx(planted()[:, 2, SUN].mean(0).max(), rel=0.01))
    row, column = int(0.3 * 384), int(0.7 * 384)
    first = image.convert("RGB").getpixel((column, row))
    image.seek(2)
    frame = np.asarray(image.convert("RGB")).astype(float)
    assert sum(first) < frame[row, column].sum() - 100, (
        "one scale for all frames: the first step is a quarter as strong"
    )
    shown.when, shown.step = "one", 2
    stage.settle(60)
    painted = Image.fromarray(pixels(stage).astype(np.uint8)).resize((384, 384), Image.Resampling.BILINEAR)
    assert np.abs(frame - np.asarray(painted)).mean() < 6


def test_the_steps_play_and_stop_with_the_view(stage, shown):
    stage.page.get_by_role("button", name="Play").click()
    stage.until("models[0].model.get('step') === 2")
    stage.page.get_by_role("button", name="Stop").click()
    stage.page.get_by_role("button", name="Play").click()
    stage.close()
    stage.settle(400)
    saves = traffic(stage)[1]
    stage.settle(400)
    assert traffic(stage)[1] == saves
    assert stage.page.evaluate("models[0].model.listening") == 0


def test_a_second_view_shows_the_same(stage, shown):
    shown.pinned = [SUN]
    stage.again()
    stage.until("[...document.querySelectorAll('canvas')].filter((c) => c.dataset.painted).length === 2")
    first, second = stage.page.evaluate("[...document.querySelectorAll('canvas')].map((c) => c.toDataURL())")
    assert first == second


def test_maps_that_do_not_arrive_whole_are_an_alert(stage):
    leaf = TokenHeat(heat())
    whole = leaf.heat.message()
    picture, maps, *rest = whole.buffers
    leaf.opening = lambda: (replace(whole, buffers=(picture, maps[:-1], *rest)),)
    shown = stage.show(leaf)
    assert "did not arrive whole" in shown.get_by_role("alert").inner_text()
    leaf.close()


def test_where_bytes_are_dropped_they_come_as_text(stage):
    stage.blind = True
    leaf = TokenHeat(heat())
    stage.show(leaf)
    stage.until("document.querySelector('canvas')?.dataset.painted > 0")
    leaf.close()


def test_without_maps_it_says_so(stage):
    leaf = TokenHeat()
    assert stage.show(leaf).get_by_text("No maps yet.").is_visible()
    leaf.show(heat())
    stage.until("document.querySelector('canvas')?.dataset.painted > 0")
    leaf.close()


def test_it_is_accessible_and_narrow_and_dark(stage, shown):
    shown.pinned, shown.look = [SUN], "heat"
    stage.settle(60)
    stage.picture("heat-light")
    assert stage.axe() == []
    assert stage.fits(360)
    stage.picture("heat-360")
    stage.page.set_viewport_size({"width": 900, "height": 900})
    stage.dark("jupyter")
    stage.page.mouse.move(*spot(stage, 0.7, 0.3))
    stage.settle(60)
    stage.picture("heat-dark")
    assert stage.axe() == []


def test_forced_colours_keep_it_usable(stage, shown):
    stage.page.emulate_media(forced_colors="active")
    chip(stage, SUN).click()
    stage.settle(60)
    stage.picture("heat-contrast")
    outline = stage.page.evaluate("getComputedStyle(document.querySelector('.words [aria-pressed=true]')).outlineStyle")
    assert outline == "solid"
