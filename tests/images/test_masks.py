"""A mask says where something acts, in every form in which people keep them."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from variety import share

import ctrl
from ctrl.images import Picture

quick = settings(max_examples=share(25), deadline=None)


def ramp(shape, dtype=float):
    return np.linspace(0, 1, int(np.prod(shape))).reshape(shape).astype(dtype)


SHAPE = np.zeros((24, 16), bool)
SHAPE[6:15, 3:12] = True
EVERYWHERE = {
    "control": lambda mask: ctrl.Depth(np.zeros((8, 8), np.uint8), mask=mask).mask,
    "style": lambda mask: ctrl.Style(np.zeros((8, 8), np.uint8), mask=mask).mask,
    "region": lambda mask: ctrl.Region("a", mask).mask,
    "recipe": lambda mask: ctrl.Recipe("a", image=np.zeros((8, 8), np.uint8), mask=mask).mask,
    "guidance": lambda mask: ctrl.Guidance(map=mask).map,
}


def numbers():
    """The shape in every type and range of numbers."""
    yield SHAPE
    for kind in (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64, np.float16, np.float64):
        yield SHAPE.astype(kind)
    for kind in (np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64):
        yield SHAPE.astype(kind) * 255
    for kind in (np.uint16, np.int32, np.int64, np.float64):
        yield SHAPE.astype(kind) * 65535


def colours(background, shape, mode):
    """A PIL image of two colours."""
    image = Image.new(mode, SHAPE.shape[::-1], background)
    image.paste(shape, mask=Image.fromarray(SHAPE))
    return image


def pil_images():
    """The shape in every mode of Pillow's."""
    grey = Image.fromarray(SHAPE.astype(np.uint8) * 255)
    for mode in ("1", "L", "P", "RGB", "LA", "RGBA", "PA"):
        yield grey.convert(mode)
    for through, mode in (("LA", "La"), ("RGBA", "RGBa"), ("RGB", "CMYK"), ("RGB", "YCbCr"), ("RGB", "HSV")):
        yield grey.convert(through).convert(mode)
    yield Image.fromarray(SHAPE.astype(np.uint8))  # L of 0 and 1
    yield Image.fromarray(SHAPE.astype(np.int32))
    yield Image.fromarray(SHAPE.astype(np.float32) * 255)
    yield Image.fromarray(SHAPE.astype(np.uint16) * 65535)
    labels = Image.new("P", grey.size)  # its palette is grey: 0 and 1 of 255
    labels.paste(1, mask=Image.fromarray(SHAPE))
    yield labels


def arrays_of(values):
    """One array in every layout, and as a tensor."""
    yield from (values, values[..., None], values[None], values[None, None], values[None, ..., None])
    yield np.repeat(values[..., None], 3, 2)
    yield np.repeat(values[None], 3, 0)
    yield np.asfortranarray(values)
    if values.dtype not in (np.uint16, np.uint64):
        tensor = torch.from_numpy(values)
        yield from (tensor, tensor[None], tensor[None, None], tensor[..., None])


def test_a_mask_of_any_numbers_in_any_layout_is_the_shape():
    expected = Picture(SHAPE.astype(np.uint8) * np.uint8(255))
    for values in numbers():
        for form in arrays_of(values):
            mask = Picture.mask(form)
            assert mask == expected, (form.dtype, tuple(form.shape))
            assert mask.remarks == ()
    for kind in (torch.float16, torch.bfloat16, torch.bool):
        assert Picture.mask(torch.from_numpy(SHAPE).to(kind)) == expected


def test_a_mask_in_any_mode_of_pillow_is_the_shape(tmp_path):
    expected = Picture(SHAPE.astype(np.uint8) * np.uint8(255))
    for image in pil_images():
        assert Picture.mask(image) == expected, image.mode
        if image.mode in ("1", "L", "RGB", "LA", "RGBA", "I;16") or (image.mode == "P" and image.getpalette()):
            image.save(tmp_path / "mask.png")
            assert Picture.mask(tmp_path / "mask.png") == expected, image.mode


@pytest.mark.parametrize("place", EVERYWHERE)
def test_a_mask_of_ones_acts_wherever_a_mask_goes(place):
    ones = SHAPE.astype(np.uint8)
    for form in (ones, Picture(ones), torch.from_numpy(ones)[None], ones.astype(np.int64)[..., None]):
        assert (EVERYWHERE[place](form).pixels == SHAPE * 255).all()


CLEAR = [
    ("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),  # a white brush on nothing
    ("RGBA", (255, 255, 255, 0), (0, 0, 0, 255)),  # a black one
    ("RGBA", (0, 0, 0, 0), (255, 0, 0, 255)),
    ("RGBA", (0, 0, 0, 0), (120, 120, 120, 255)),
    ("LA", (0, 0), (0, 255)),
    ("LA", (0, 0), (255, 255)),
]


@pytest.mark.parametrize(("mode", "background", "shape"), CLEAR)
def test_a_mask_may_have_its_shape_in_its_transparency(mode, background, shape, tmp_path):
    image = colours(background, shape, mode)
    image.save(tmp_path / "mask.png")
    forms = [image, tmp_path / "mask.png"]
    if mode == "RGBA":
        forms += [np.asarray(image), np.asarray(image) / 255.0, torch.from_numpy(np.array(image)).permute(2, 0, 1)]
        image.quantize().save(tmp_path / "palette.png")
        forms.append(tmp_path / "palette.png")
    for form in forms:
        mask = Picture.mask(form)
        assert (mask.pixels == SHAPE * 255).all()
        assert len(mask.remarks) == 1 and "transparen" in mask.remarks[0]


def test_a_photograph_with_a_hole_is_white_where_it_is_opaque():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 4), np.uint8)
    pixels[..., 3] = SHAPE * 255
    mask = Picture.mask(pixels)
    assert (mask.pixels == SHAPE * 255).all()
    assert "white in the 21% of it that is opaque" in mask.remarks[0]


def test_black_and_white_on_nothing_lies_on_black():
    image = Image.new("RGBA", (16, 16))
    image.paste((0, 0, 0, 255), (0, 0, 8, 8))
    image.paste((255, 255, 255, 255), (8, 8, 16, 16))
    mask = Picture.mask(image).pixels
    assert mask[8:, 8:].min() == 255 and mask[:8].max() == mask[:, :8].max() == 0


def test_soft_masks_stay_soft():
    soft = ramp((16, 16))
    expected = np.round(soft * 255).astype(np.uint8)
    forms = [soft, soft.astype(np.float32)[None], torch.from_numpy(soft), expected / 255.0]
    forms += [expected, expected.astype(np.int64), expected.astype(np.float64), Picture(expected)]
    for form in forms:
        mask = Picture.mask(form)
        assert (mask.pixels == expected).all()
        assert mask.remarks == ()
    assert Picture.mask(soft * 0.3).remarks == ()


DOUBTFUL = [
    (SHAPE.astype(np.uint8) * 2, 2, "nowhere brighter than 2 of 255, so it acts at 1% at most"),
    (SHAPE.astype(np.int64) * 5, 5, "had values from 0 to 5, read as of 255"),
    (SHAPE.astype(np.uint16) * 200, 200, "had values from 0 to 200, read as of 255"),
    (SHAPE.astype(float) * 100, 100, "nowhere brighter than 100 of 255, so it acts at 39% at most"),
    (SHAPE / 255, 255, "no value above 1/255, so 1/255 was read as white"),
    (SHAPE * 1.07 - 0.03, 255, r"had values from -0.03 to 1.04, cut to 0 to 1"),
    (SHAPE * 272.0 - 8, 255, r"had values from -8 to 264, cut to 0 to 255"),
    (SHAPE[..., None] * np.array([0, 255, 0], np.uint8), 150, "is coloured, so its brightness .* from 0 to 150 of 255"),
    (Image.fromarray(SHAPE.astype(np.uint8) * np.uint8(38)), 38, "so it acts at 15% at most"),
]


@pytest.mark.parametrize(("given", "white", "remark"), DOUBTFUL)
def test_a_mask_that_could_mean_something_else_says_its_numbers(given, white, remark):
    mask = Picture.mask(given)
    assert set(np.unique(mask.pixels)) == {0, white}
    assert any(re.search(remark, said) for said in mask.remarks), mask.remarks


REFUSED_MASKS = [
    (SHAPE * 2.0 - 1, "mask has values from -1 to 1; a mask goes from 0, where nothing acts, to 1, 255 or 65535"),
    (SHAPE.astype(np.int8) - 1, "values from -1 to 0"),
    (SHAPE * 1.5, "values from 0 to 1.5"),
    (SHAPE * 300, "values from 0 to 300"),
    (SHAPE * 10**6, "values from 0 to 1e[+]06"),
    (np.where(SHAPE, np.nan, 1.0), "81 values NaN or infinite"),
    (SHAPE.astype(complex), "array of complex128; use bool, whole numbers or floats"),
    (np.zeros((2, 24, 16)), "one picture is"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED_MASKS)
def test_a_mask_that_cannot_be_read_is_refused_in_a_sentence(given, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        Picture.mask(given)


@quick
@given(arrays.arrays(st.sampled_from([np.uint8, np.bool_, np.uint16]), (9, 11)))
def test_a_mask_of_a_mask_is_that_mask(values):
    try:
        mask = Picture.mask(values)
    except ValueError:
        return
    assert mask.pixels.ndim == 2
    assert Picture.mask(mask) == mask
    assert Picture.mask(mask).remarks == mask.remarks
    assert Picture.mask(Picture.from_base64(mask.to_base64())) == mask
