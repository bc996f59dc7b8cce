"""Saved shots: the recipe comes back, galleries read the parameters, and the file says that it was generated."""

import numpy as np
import pytest
from PIL import Image
from variety import BLACK, EVERYTHING, LEFT, OTHER, PLAIN

import ctrl
from ctrl.images import origin_of, read_generation
from ctrl.sampling import Shot

PICTURE = Image.fromarray(OTHER)


@pytest.mark.parametrize("recipe", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_a_png_gives_the_recipe_back_and_the_pixels(tmp_path, recipe):
    Shot(PICTURE, recipe).save(tmp_path / "one.png")
    again = ctrl.Recipe.load(tmp_path / "one.png")
    assert again == recipe and again.to_json() == recipe.to_json()
    with Image.open(tmp_path / "one.png") as image:
        assert np.array_equal(np.asarray(image), OTHER)


def test_a_picture_in_a_recipe_is_stored_once_however_often_it_is_used(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    once = PLAIN.replace(styles=[ctrl.Style(noise)])
    often = PLAIN.replace(styles=[ctrl.Style(noise, 0.1 * at) for at in range(1, 9)], controls=[ctrl.Depth(noise)])
    sizes = []
    for number, recipe in enumerate((once, often)):
        Shot(PICTURE, recipe).save(tmp_path / f"{number}.png")
        sizes.append((tmp_path / f"{number}.png").stat().st_size)
    assert sizes[1] < sizes[0] + 4000


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".webp", ".PNG"])
def test_galleries_read_the_parameters_and_the_mark_is_there(tmp_path, ending):
    recipe = PLAIN.replace(prompt="a red ball", negative="blue", guidance=4.5, sampler="euler a", spacing="trailing")
    path = tmp_path / f"one{ending}"
    Shot(PICTURE, recipe).save(path)
    found = read_generation(path.read_bytes())
    assert (found.prompt, found.negative, found.steps, found.seed) == ("a red ball", "blue", recipe.steps, recipe.seed)
    assert (found.guidance, found.sampler, found.size) == (4.5, "euler a", PICTURE.size)
    assert origin_of(path.read_bytes()) == "trainedAlgorithmicMedia"


@pytest.mark.parametrize("changes", [{"image": OTHER}, {"image": OTHER, "mask": LEFT}])
def test_a_picture_made_of_another_says_so(tmp_path, changes):
    Shot(PICTURE, PLAIN.replace(**changes)).save(tmp_path / "one.png")
    assert origin_of((tmp_path / "one.png").read_bytes()) == "compositeWithTrainedAlgorithmicMedia"


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_the_mark_has_a_switch(tmp_path, ending):
    Shot(PICTURE, PLAIN).save(tmp_path / f"one{ending}", marked=False)
    assert origin_of((tmp_path / f"one{ending}").read_bytes()) is None


def test_another_ending_is_refused_and_nothing_is_written(tmp_path):
    for name in ("one.bmp", "one", "one.png.txt"):
        with pytest.raises(ValueError, match=r"path must end in \.png"):
            Shot(PICTURE, PLAIN).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_shot_in_a_notebook_carries_a_small_recipe_and_no_large_one(tmp_path):
    big = PLAIN.replace(styles=[ctrl.Style(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))])
    (tmp_path / "small.png").write_bytes(Shot(PICTURE, PLAIN)._repr_png_())
    (tmp_path / "big.png").write_bytes(Shot(PICTURE, big)._repr_png_())
    assert ctrl.Recipe.load(tmp_path / "small.png") == PLAIN
    with pytest.raises(ValueError, match="without a recipe"):
        ctrl.Recipe.load(tmp_path / "big.png")
    assert (tmp_path / "big.png").stat().st_size < 40_000 and BLACK.max() == 0
