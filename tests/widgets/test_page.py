"""One HTML file that shows a shot offline: opened by a bare Chromium from the disk, and in a frame of a notebook."""

import base64
import html
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sessions import pixels
from variety import PLAIN

import ctrl
from widgets.export import Snapshot, page

EVIL = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'> & \"quotes\" </title>"
RECIPE = PLAIN.replace(prompt=f"a red ball {EVIL}", negative=EVIL, controls=[ctrl.Pose("waving", 0.8)])
WORDS = PLAIN.replace(prompt="a blue box on grass", seed=11)


@pytest.fixture(scope="module")
def shots(model):
    watched = ctrl.sample(model, RECIPE, watch=ctrl.Watch(history=True, influence=True))
    noted = ctrl.Shot(watched.image, watched.recipe, (f"a note {EVIL}",), watched.attention, watched.family)
    return noted, ctrl.sample(model, WORDS), ctrl.sample(model, RECIPE.replace(guidance=2.0))


@pytest.fixture(scope="module")
def file(shots, tmp_path_factory):
    return page(tmp_path_factory.mktemp("page") / "x.html", *shots)


@pytest.fixture
def tab(chromium):
    """A page without a network, that may leave no error in its console."""
    context = chromium.new_context(viewport={"width": 1000, "height": 900}, accept_downloads=True)
    context.set_default_timeout(8000)
    context.set_offline(True)
    one = context.new_page()
    errors, asked = [], []
    one.on("pageerror", lambda error: errors.append(str(error)))
    one.on("console", lambda line: errors.append(line.text) if line.type in ("error", "warning") else None)
    one.on("request", lambda request: asked.append(request.url))
    yield one
    pwned = [frame.evaluate("window.pwned") for frame in one.frames]
    context.close()
    assert errors == [] and pwned == [None] * len(pwned)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []


def opened(tab, file):
    tab.goto(file.as_uri())
    tab.locator(".ctrl-frame .stage img").first.wait_for()
    return tab


def test_the_picture_is_the_shot_and_saves_with_its_recipe(tab, file, shots, tmp_path):
    opened(tab, file)
    image = tab.locator(".ctrl-frame .stage img").first
    assert image.get_attribute("alt") == RECIPE.prompt
    assert tab.locator(".ctrl-frame .quality").inner_text() == "exact"
    with tab.expect_download() as saved:
        tab.locator(".ctrl-frame button[aria-label*='Save']").click()
    saved.value.save_as(tmp_path / "x.png")
    assert np.array_equal(pixels(Image.open(tmp_path / "x.png")), pixels(shots[0].image))
    assert ctrl.Recipe.load(tmp_path / "x.png") == RECIPE


def test_text_of_users_is_text(tab, file):
    opened(tab, file)
    assert tab.title() == tab.locator("h1").inner_text() == RECIPE.prompt
    body = tab.locator("main").inner_text()
    assert body.count("<script>window.pwned = 1</script>") >= 3  # title, prompt, negative, note
    assert tab.evaluate("document.scripts.length") == 2
    assert tab.locator("img[src=x]").count() == 0


def test_show_python_runs_and_gives_an_equal_recipe(tab, file):
    opened(tab, file)
    tab.locator("summary").click()
    names = {}
    exec(tab.locator("#code").inner_text(), names)
    assert names["recipe"] == RECIPE


def test_a_word_shows_its_heat_and_a_place_its_words(tab, file):
    opened(tab, file)
    canvas = tab.locator(".ctrl-heat canvas").first
    picture = "(node) => node.toDataURL()"
    tab.wait_for_timeout(300)
    before = canvas.evaluate(picture)
    tab.locator(".ctrl-heat .chips button", has_text="ball").first.hover()
    tab.wait_for_timeout(300)
    assert canvas.evaluate(picture) != before
    assert "ball" in tab.locator(".ctrl-heat h3").first.inner_text()
    canvas.click(position={"x": 20, "y": 20})
    assert "%" in tab.locator(".ctrl-heat").inner_text()
    with tab.expect_download():
        tab.locator(".ctrl-heat button", has_text="PNG").click()


def test_the_history_shows_compares_and_says_what_differs(tab, file, shots):
    opened(tab, file)
    gallery = tab.locator(".ctrl-gallery")
    assert gallery.locator(".item").count() == 3
    gallery.locator(".item[data-key='2']").click()
    lines = [str(change) for change in shots[0].recipe.diff(shots[1].recipe)]
    assert gallery.locator(".details .diff li").all_inner_texts() == lines
    gallery.get_by_role("button", name="Compare").click()
    gallery.locator(".item[data-key='1']").click()
    gallery.get_by_role("button", name="Compare").click()
    tab.wait_for_timeout(300)
    sizes = gallery.locator(".versus .stack img").evaluate_all("(all) => all.map((one) => one.naturalWidth)")
    assert sizes == [32, 32]
    lines = [str(change) for change in shots[1].recipe.diff(shots[2].recipe)]
    assert gallery.locator(".versus .diff li").all_inner_texts() == lines
    gallery.locator(".item[data-key='2']").click()
    gallery.get_by_role("button", name="Use these settings").click()
    assert tab.locator("h1").inner_text() == WORDS.prompt
    assert "a blue box on grass" in tab.locator("#code").text_content()
    assert not tab.locator("#maps").is_visible()  # this one was not watched
    tab.wait_for_timeout(300)
    assert tab.locator(".ctrl-frame .stage img").first.get_attribute("alt") == WORDS.prompt
    gallery.locator(".item[data-key='3']").click()
    gallery.get_by_role("button", name="Use these settings").click()
    assert tab.locator("#maps").is_visible() and tab.locator("h1").inner_text() == RECIPE.prompt


def test_marks_search_and_removal_work_without_a_kernel(tab, file):
    opened(tab, file)
    gallery = tab.locator(".ctrl-gallery")
    gallery.locator("input[type=search]").fill("box")
    assert gallery.locator(".item").count() == 1
    gallery.locator("input[type=search]").fill("")
    gallery.locator(".item[data-key='1']").click()
    gallery.get_by_role("button", name="Pin").click()
    tab.wait_for_timeout(100)
    assert gallery.locator(".item").first.get_attribute("data-key") == "1"
    gallery.get_by_role("button", name="Remove").click()
    tab.wait_for_timeout(100)
    assert gallery.locator(".item").count() == 2
    gallery.get_by_role("button", name="Bring back").click()
    tab.wait_for_timeout(100)
    assert gallery.locator(".item").count() == 3
    assert not tab.get_by_text("kernel does not answer").is_visible()


def test_no_kernel_is_missed(tab, file):
    opened(tab, file)
    tab.locator(".ctrl-frame .stage").click()
    tab.wait_for_timeout(3500)
    assert "kernel" not in tab.locator(".ctrl-frame").inner_text()


def test_it_fits_a_phone_and_axe_finds_nothing_serious(tab, file):
    from importlib.resources import files

    opened(tab, file)
    tab.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        found = tab.evaluate("axe.run(document.body, { resultTypes: ['violations'] })")
        serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
        assert [(rule["id"], rule["nodes"][0]["html"][:100]) for rule in serious] == []
    tab.set_viewport_size({"width": 360, "height": 800})
    tab.wait_for_timeout(200)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_shot_that_was_not_watched_is_a_page_too(tab, shots, tmp_path):
    opened(tab, page(tmp_path / "plain.htm", shots[1]))
    assert tab.locator(".ctrl-heat, .ctrl-gallery").count() == 0
    assert tab.locator("h1").inner_text() == WORDS.prompt


def test_a_recipe_with_large_pictures_says_how_to_get_it(tab, model, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    shot = ctrl.sample(model, PLAIN.replace(controls=[ctrl.Edges(noise)]))
    opened(tab, page(tmp_path / "x.html", shot))
    assert 'ctrl.Recipe.load("picture.png")' in tab.locator("#code").text_content()


def test_a_wrong_path_is_a_sentence_and_nothing_is_written(shots, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.html"):
        page(tmp_path / "x.png", shots[1])
    with pytest.raises(ValueError, match="does not exist"):
        page(tmp_path / "no" / "x.html", shots[1])
    with pytest.raises(TypeError, match=r"shots\[1\] must be a Shot"):
        page(tmp_path / "x.html", shots[1], shots[2].image)
    with pytest.raises(ValueError, match="at most 50 shots, got 51"):
        page(tmp_path / "x.html", *[shots[1]] * 51)
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_is_a_picture_with_its_recipe_or_a_frame_that_cannot_reach_out(shots):
    still = Snapshot((shots[1],))._repr_mimebundle_()
    assert set(still) == {"text/plain", "image/png"}
    assert np.array_equal(pixels(Image.open(io.BytesIO(base64.b64decode(still["image/png"])))), pixels(shots[1].image))
    live = Snapshot(shots, interactive=True)._repr_mimebundle_()["text/html"]
    assert live.startswith('<iframe sandbox="allow-scripts allow-downloads"') and live.count("<") == 2
    assert "allow-same-origin" not in live and html.escape(EVIL, quote=True) in live


@pytest.mark.slow
def test_a_snapshot_works_after_nbconvert(chromium, shots, tmp_path):
    import nbformat  # here: what it imports takes seconds, and only the whole suite needs it

    bundle = Snapshot(shots, interactive=True)._repr_mimebundle_()
    still = Snapshot((shots[1],))._repr_mimebundle_()
    book = nbformat.v4.new_notebook()
    book.cells = [
        nbformat.v4.new_code_cell("panel.snapshot()", outputs=[nbformat.v4.new_output("display_data", data)])
        for data in (bundle, still)
    ]
    nbformat.write(book, tmp_path / "book.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--to", "html", str(tmp_path / "book.ipynb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    context = chromium.new_context(viewport={"width": 1000, "height": 900})
    context.set_default_timeout(8000)
    context.set_offline(True)
    tab = context.new_page()
    tab.goto((tmp_path / "book.html").as_uri(), wait_until="domcontentloaded")
    frame = tab.frame_locator("iframe")
    frame.locator(".ctrl-frame .stage img").first.wait_for()
    frame.locator(".ctrl-heat .chips button", has_text="ball").first.hover()
    assert "ball" in frame.locator(".ctrl-heat h3").first.inner_text()
    assert frame.locator(".ctrl-gallery .item").count() == 3
    assert frame.locator("h1").inner_text() == RECIPE.prompt
    assert tab.locator("img[src^='data:image/png']").first.evaluate("(image) => image.naturalWidth") == 32
    assert [one.evaluate("window.pwned") for one in tab.frames] == [None] * len(tab.frames)
    context.close()


def test_a_shot_writes_its_page_by_the_door_of_the_panels(shots, tmp_path, monkeypatch):
    written = shots[1].page(tmp_path / "x.html", shots[2])
    assert written == tmp_path / "x.html" and "a blue box on grass" in written.read_text(encoding="utf-8")
    monkeypatch.setattr("ctrl.sampling.shot.entry_points", lambda group: [])
    with pytest.raises(ImportError, match=r'pip install "ctrl-diffusion\[widgets\]"'):
        shots[1].page(tmp_path / "y.html")
