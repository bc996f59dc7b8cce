"""Inpainting: what the mask leaves black is the image itself, pixel for pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from variety import BLACK, LEFT, OTHER, PLAIN, SIZE, SOFT, WHITE, few

import ctrl
from ctrl.sampling.inpainting import drawn_share

INPAINT = PLAIN.replace(image=OTHER, mask=LEFT, strength=1.0)


def pixels(model, recipe):
    return np.asarray(ctrl.sample(model, recipe).image)


def test_what_the_mask_leaves_black_is_the_image_itself(model):
    drawn = pixels(model, INPAINT)
    assert np.array_equal(drawn[:, SIZE // 2 :], OTHER[:, SIZE // 2 :])
    assert not np.array_equal(drawn[:, : SIZE // 4], OTHER[:, : SIZE // 4])


def test_a_black_mask_gives_the_image_back_and_a_white_one_the_drawn_picture(model):
    assert np.array_equal(pixels(model, INPAINT.replace(mask=BLACK)), OTHER)
    white = INPAINT.replace(mask=WHITE)
    assert np.array_equal(pixels(model, white), pixels(model, white.replace(unmasked="latents")))


def test_round_after_round_what_stays_stays(model):
    image = Image.fromarray(OTHER)
    for seed in range(3):
        image = ctrl.sample(model, INPAINT.replace(image=image, seed=seed)).image
    assert np.array_equal(np.asarray(image)[:, SIZE // 2 :], OTHER[:, SIZE // 2 :])


def test_latents_are_what_diffusers_gives(model):
    drawn = pixels(model, INPAINT.replace(unmasked="latents"))
    *_, step = ctrl.steps(model, INPAINT)
    assert np.array_equal(drawn, np.asarray(model.decode(step.latents)[0]))


def test_it_is_of_the_finished_picture_and_of_no_step():
    times = [1.0, 0.5]
    latents = INPAINT.replace(unmasked="latents")
    assert INPAINT.at(0, times) == latents.at(0, times)
    assert latents != INPAINT and PLAIN.replace(unmasked="latents") == PLAIN
    with pytest.raises(ValueError, match="unmasked"):
        INPAINT.replace(unmasked="grey")


def test_a_grey_image_stays_too(model):
    grey = OTHER[..., 0]
    assert np.array_equal(pixels(model, INPAINT.replace(image=grey))[:, SIZE // 2 :, 1], grey[:, SIZE // 2 :])


@few(50)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), size=st.integers(1, 12))
def test_the_share_is_nothing_where_the_mask_is_black_and_never_above_it(seed, share, size):
    random = np.random.default_rng(seed)
    cells = (random.random((size, size)) < share).astype(np.float32)
    mask = np.kron(cells, np.ones((7, 7), np.float32)) * random.random()
    found = drawn_share(mask)
    assert (found[mask == 0] == 0).all() and (found <= mask).all() and (found >= 0).all()


def test_the_edge_is_feathered_on_the_white_side():
    mask = np.zeros((64, 64), np.float32)
    mask[:, :32] = 1
    row = drawn_share(mask)[32]
    assert (row[32:] == 0).all() and (np.diff(row[:33]) <= 0).all()
    assert row[:16].min() > 0.999 and 0 < row[28] < 1


def test_a_soft_mask_mixes():
    assert np.allclose(drawn_share(np.full((16, 16), 0.8, np.float32)), 0.6, atol=1e-5)
    assert SOFT.max() > 0
