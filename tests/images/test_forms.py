"""Pictures and masks in the forms in which other programs leave them: tables, lists, open and closed files."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ctrl.images import Picture

SHAPE = np.zeros((24, 32), bool)
SHAPE[4:12, 8:20] = True
WHITE = SHAPE * np.uint8(255)
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


class Interface:
    """An array that says so by numpy's older protocol alone."""

    def __init__(self, array):
        self.array, self.__array_interface__ = array, array.__array_interface__


class OnAnotherDevice:
    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


def buffer_of(array):
    return memoryview(array)


@pytest.mark.parametrize(
    "mask",
    [
        SHAPE.astype(object),
        WHITE.astype(object),
        pd.DataFrame(SHAPE),
        pd.DataFrame(SHAPE).astype("boolean"),
        pd.DataFrame(WHITE).astype("Int64"),
        SHAPE.tolist(),
        list(SHAPE),
        SHAPE.astype(float).tolist(),
        tuple(map(tuple, SHAPE)),
        [SHAPE],
        [Image.fromarray(WHITE)],
        (torch.from_numpy(SHAPE),),
        Interface(WHITE),
        buffer_of(WHITE),
        np.ma.array(SHAPE),
        np.dstack([WHITE, np.full_like(WHITE, 255)]),  # grey and alpha
        np.dstack([np.zeros_like(WHITE), WHITE]),
        torch._neg_view(-torch.from_numpy(SHAPE).float()),
    ],
    ids=lambda mask: type(mask).__name__,
)
def test_a_mask_in_a_table_a_list_or_another_librarys_array_is_the_shape(mask):
    assert np.array_equal(Picture.mask(mask).pixels, WHITE)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (np.where(SHAPE, 10.0, -10.0), "mask has values from -10 to 10; a mask goes from 0"),
        (np.where(SHAPE, 200.0, -20.5), "mask has values from -20.5 to 200"),
        (np.ma.array(np.ones((24, 32)), mask=~SHAPE), "mask has 672 values masked out; fill them: array.filled"),
        (OnAnotherDevice(), "mask, OnAnotherDevice, cannot be made a numpy array: Implicit conversion"),
        ([[1, 0], [1]], "mask, list, cannot be made a numpy array"),
        ([Image.fromarray(WHITE)] * 2, "mask must be a picture, got list"),
        (np.ndarray, "mask must be a picture, got the class ndarray"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_scores_and_what_is_masked_out_are_no_mask(mask, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        Picture.mask(mask)


def test_what_resizing_leaves_beyond_black_and_white_is_cut():
    softened = np.where(SHAPE, 1.05, -0.05)
    assert np.array_equal(Picture.mask(softened).pixels, WHITE)
    assert np.array_equal(Picture.mask(softened * 255).pixels, WHITE)
    assert Picture.mask(np.full((24, 32), -1e-9)).range == (0, 0)


def test_floats_may_be_beyond_black_and_white_by_less_than_a_step():
    exact = COLOURS / 255
    for floats in (exact * 1.0000002, exact - 1e-6, torch.from_numpy(exact).half() * 1.001):
        assert np.array_equal(Picture.of(floats).pixels, COLOURS)
    with pytest.raises(ValueError, match=r"floats from 0 to 1\.\d+; floats must be in \[0, 1\]"):
        Picture.of(exact * 1.01)


def test_an_array_of_grey_and_alpha_is_put_on_the_background():
    grey, alpha = COLOURS[..., 0], np.where(SHAPE, 0, 255).astype(np.uint8)
    shown = Picture.of(np.dstack([grey, alpha]), background=255)
    assert np.array_equal(shown.pixels[..., 0], np.where(SHAPE, 255, grey))


def test_an_image_of_32_bits_that_holds_no_more_than_8_is_not_black():
    grey = COLOURS[..., 0]
    shown = Picture.of(Image.fromarray(grey.astype(np.int32)))
    assert np.array_equal(shown.pixels, grey)
    assert shown.remarks == ("has no value above 255 in its 32 bits, so 255 was read as white",)
    assert np.array_equal(Picture.of(Image.fromarray(grey.astype(np.int32) * 257)).pixels, grey)


def test_an_image_whose_file_was_closed_before_it_was_read_says_so(tmp_path):
    file = tmp_path / "one.png"
    Image.fromarray(COLOURS).save(file)
    with Image.open(file) as image:
        pass
    with pytest.raises(
        ValueError, match=r"picture is an image whose file was closed before it was read; call its load"
    ):
        Picture.of(image)
    with Image.open(file) as image:
        image.load()
    assert np.array_equal(Picture.of(image).pixels, COLOURS)
    file.unlink()
    kept = io.BytesIO()
    image.save(kept, "PNG")
    assert np.array_equal(Picture.of([kept]).pixels, COLOURS)
