"""Gallery in Chromium: finding, marking, comparing, what would change, files."""

import pytest
from scenes import scene

import ctrl
from ctrl import Recipe

BALL = Recipe("A red ball on a table", seed=7, guidance=6.0)
OTHERS = [
    BALL.replace(guidance=9.0),
    BALL.replace(prompt="a blue cube at the café", seed=11),
    BALL.replace(prompt="a tall figure waving", controls=(ctrl.Pose(ctrl.Skeleton.named("waving"), weight=0.8),)),
    BALL.replace(prompt="hills at dusk", steps=30, sampler="euler"),
]


@pytest.fixture
def gallery():
    from widgets import Gallery

    one = Gallery(current=BALL)
    for i, recipe in enumerate([BALL, *OTHERS]):
        one.add(scene(0.1 + 0.17 * i, sun=(0.2 + 0.15 * i, 0.3), size=(256, 256)), recipe)
    yield one
    one.close()


def item(leaf, key):
    return leaf.locator(f".item[data-key='{key}']")


def until_diff(stage):
    stage.until("document.querySelector('.details .diff').textContent !== '…'")


def test_pointing_shows_what_would_change_and_changes_nothing(stage, gallery):
    leaf = stage.show(gallery)
    item(leaf, 2).hover()
    until_diff(stage)
    lines = leaf.locator(".details .diff li").all_inner_texts()
    assert lines == [str(change) for change in BALL.diff(OTHERS[0])]
    assert gallery.current == BALL and gallery.used is None
    item(leaf, 1).hover()
    until_diff(stage)
    assert leaf.locator(".details").get_by_text("Nothing: these settings are the current ones.").is_visible()


def test_settings_are_used_when_asked_for(stage, gallery):
    leaf = stage.show(gallery)
    item(leaf, 3).click()
    until_diff(stage)
    leaf.get_by_role("button", name="Use these settings").click()
    stage.settle(30)
    assert gallery.used.recipe == OTHERS[1] == gallery.current
    assert item(leaf, 3).locator(".badge").inner_text() == "current"


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("red ball", [2, 1]),
        ("CAFE", [3]),
        ("pose", [4]),
        ("seed 11", [3]),
        ("-ball", [5, 4, 3]),
        ("euler 30", [5]),
        ("zebra", []),
    ],
)
def test_words_find_pictures(stage, gallery, query, keys):
    leaf = stage.show(gallery)
    leaf.get_by_role("searchbox").fill(query)
    stage.settle(30)
    found = [int(node.get_attribute("data-key")) for node in leaf.locator(".item").all()]
    assert found == keys
    if not keys:
        assert leaf.get_by_text("No picture fits the search.").is_visible()


def test_marks_pin_to_the_front_and_survive_clearing(stage, gallery):
    leaf = stage.show(gallery)
    item(leaf, 2).click()
    leaf.get_by_role("button", name="Pin").click()
    item(leaf, 4).click()
    leaf.get_by_role("button", name="Favourite", exact=True).click()
    stage.settle(30)
    assert leaf.locator(".item").first.get_attribute("data-key") == "2"
    leaf.get_by_role("button", name="Favourites").click()
    assert leaf.locator(".item").count() == 1
    leaf.get_by_role("button", name="Favourites").click()
    leaf.get_by_role("button", name="Clear").click()
    stage.settle(30)
    assert [entry.key for entry in gallery.entries] == [4]
    leaf.get_by_role("button", name="Bring back").click()
    stage.settle(30)
    assert len(gallery.entries) == 5 and gallery.entries[1].pinned


def test_keys_walk_mark_compare_and_use(stage, gallery):
    leaf = stage.show(gallery)
    item(leaf, 5).focus()
    stage.page.keyboard.press("ArrowRight")
    stage.page.keyboard.press("f")
    stage.page.keyboard.press("ArrowRight")
    stage.page.keyboard.press("p")
    stage.settle(30)
    assert [entry.key for entry in gallery.entries if entry.favourite] == [4]
    assert [entry.key for entry in gallery.entries if entry.pinned] == [3]
    assert leaf.locator(".item:focus").get_attribute("data-key") == "3", "the focus goes with it"
    stage.page.keyboard.press("Enter")
    stage.settle(30)
    assert gallery.used.recipe == OTHERS[1]


def test_two_are_compared_by_divider_and_flip_with_their_difference(stage, gallery):
    leaf = stage.show(gallery)
    for key in (1, 5):
        item(leaf, key).click()
        leaf.get_by_role("button", name="Compare").click()
    stage.until("[...document.querySelectorAll('.stack img')].every((i) => i.naturalWidth === 256)")
    stage.settle(30)
    assert gallery.compared == [1, 5]
    assert leaf.locator(".versus .diff li").all_inner_texts() == [str(change) for change in BALL.diff(OTHERS[3])]
    over = leaf.locator(".stack img.over")
    leaf.locator(".versus").get_by_label("Divider in percent").fill("30")
    leaf.locator(".versus").get_by_label("Divider in percent").press("Enter")
    assert "30%" in over.evaluate("(node) => node.style.clipPath")
    box = leaf.locator(".stack").bounding_box()
    stage.page.mouse.move(box["x"] + 20, box["y"] + 60)
    stage.page.mouse.down()
    stage.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60, steps=3)
    stage.page.mouse.up()
    assert "25%" in over.evaluate("(node) => node.style.clipPath")
    leaf.locator(".stack").click(position={"x": 30, "y": 30})
    assert "100%" in over.evaluate("(node) => node.style.clipPath")


def test_a_dropped_png_gives_its_recipe_back(stage, gallery, tmp_path):
    leaf = stage.show(gallery)
    wanted = Recipe("a lighthouse in a storm", seed=99)
    ctrl.Shot(scene(0.5, size=(700, 700)), wanted).save(tmp_path / "out.png")
    import base64

    data = base64.b64encode((tmp_path / "out.png").read_bytes()).decode()
    leaf.locator(".shelf").evaluate(
        """(node, text) => {
          const transfer = new DataTransfer();
          const data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          transfer.items.add(new File([data], "out.png", { type: "image/png" }));
          node.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        data,
    )
    stage.until("document.querySelectorAll('.item').length === 6")
    assert gallery.entries[-1].recipe == wanted
    assert leaf.locator(".item").first.get_attribute("aria-label").startswith("a lighthouse in a storm")


def test_a_session_is_saved_and_opened_from_the_panel(stage, gallery, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leaf = stage.show(gallery)
    leaf.get_by_role("button", name="Save the session").click()
    leaf.get_by_label("Session file", exact=True).fill("evening.zip")
    leaf.get_by_role("button", name="Save", exact=True).click()
    stage.settle(100)
    assert leaf.get_by_text("Saved as").is_visible()
    leaf.locator("input[type=file]").set_input_files(tmp_path / "evening.zip")
    stage.until("document.querySelectorAll('.item').length === 10")


def test_a_file_without_a_recipe_is_an_alert(stage, gallery, tmp_path):
    scene(size=(20, 20)).save(tmp_path / "photo.png")
    leaf = stage.show(gallery)
    leaf.locator("input[type=file]").set_input_files(tmp_path / "photo.png")
    stage.settle(100)
    assert "without a recipe" in leaf.get_by_role("alert").inner_text()


def test_words_are_never_html(stage, gallery):
    gallery.add(scene(size=(32, 32)), BALL.replace(prompt="<img src=x onerror=alert(1)>"))
    leaf = stage.show(gallery)
    item(leaf, 6).click()
    until_diff(stage)
    assert leaf.locator(".details h3").first.inner_text() == "<img src=x onerror=alert(1)>"


def test_closing_leaves_no_listener_behind(stage, gallery):
    stage.show(gallery)
    stage.close()
    assert stage.page.evaluate("models[0].model.listening") == 0


@pytest.mark.parametrize("theme", ["light", "dark", "jupyter", "contrast"])
def test_it_can_be_read_by_everyone_and_fits_a_phone(stage, gallery, theme):
    stage.theme(theme)
    gallery.mark(2, favourite=True)
    gallery.mark(1, pinned=True)
    leaf = stage.show(gallery)
    item(leaf, 4).click()
    until_diff(stage)
    stage.settle(60)
    stage.picture(f"gallery-{theme}")
    for key in (1, 5):
        item(leaf, key).click()
        leaf.get_by_role("button", name="Compare").click()
    stage.until("[...document.querySelectorAll('.stack img')].every((i) => i.naturalWidth === 256)")
    stage.settle(60)
    assert stage.axe() == []
    stage.picture(f"gallery-compare-{theme}")
    assert stage.fits(360)
    stage.picture(f"gallery-phone-{theme}")


def test_an_empty_gallery_says_what_to_do(stage):
    from widgets import Gallery

    gallery = Gallery()
    leaf = stage.show(gallery)
    assert leaf.get_by_text("Drop a PNG here to get its recipe back").is_visible()
    assert stage.axe() == []
    gallery.close()
