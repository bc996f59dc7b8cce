import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from ctrl.images import Picture, png_text, png_with_text, save

GREY = arrays.arrays(np.uint8, st.tuples(st.integers(8, 20), st.integers(8, 20)))
RGB = arrays.arrays(np.uint8, st.tuples(st.integers(8, 20), st.integers(8, 20), st.just(3)))
quick = settings(max_examples=25, deadline=None)


def ramp(shape, dtype=float):
    return np.linspace(0, 1, int(np.prod(shape))).reshape(shape).astype(dtype)


@quick
@given(RGB)
def test_every_road_in_gives_the_same_picture(pixels):
    roads = [
        pixels,
        pixels[None],
        pixels.transpose(2, 0, 1),
        Image.fromarray(pixels),
        torch.from_numpy(pixels).permute(2, 0, 1),
        pixels / 255.0,
        (torch.from_numpy(pixels) / 255).permute(2, 0, 1)[None],
    ]
    pictures = {Picture.of(road) for road in roads}
    assert len(pictures) == 1
    assert (pictures.pop().pixels == pixels).all()


@quick
@given(st.one_of(GREY, RGB))
def test_base64_gives_the_picture_back(pixels):
    picture = Picture.of(pixels)
    assert Picture.from_base64(picture.to_base64()) == picture


def test_pixels_are_frozen_and_not_the_callers():
    pixels = np.zeros((8, 8), np.uint8)
    picture = Picture(pixels)
    pixels[:] = 9
    assert picture.pixels.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0, 0] = 1


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    deep = np.round(ramp((16, 16)) * 65535).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    expected = np.round(deep / 65535 * 255).astype(np.uint8)
    for source in (
        deep,
        tmp_path / "deep.png",
        Image.open(tmp_path / "deep.png"),
        str(tmp_path / "deep.png"),
    ):
        assert (Picture.of(source).pixels == expected).all()


def test_a_float_image_is_taken_as_zero_to_one():
    values = ramp((16, 16), np.float32)
    assert (Picture.of(Image.fromarray(values)).pixels == np.round(values * 255)).all()


def test_transparency_shows_the_background():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert Picture.of(clear, background=0).pixels.max() == 0
    assert Picture.of(clear, background=255).pixels.min() == 255
    palette = Image.new("P", (8, 8))
    palette.info["transparency"] = 0
    assert Picture.of(palette, background=255).pixels.min() == 255
    assert Picture.of(Image.new("LA", (8, 8), (200, 0))).pixels.max() == 0


def test_a_turned_photograph_stands_upright(tmp_path):
    image = Image.new("RGB", (32, 16))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert Picture.of(tmp_path / "turned.jpg").size == (16, 32)


def test_a_long_picture_is_reduced_and_remembers():
    picture = Picture.of(Image.new("RGB", (2048, 512)))
    assert picture.size == (1024, 256)
    assert picture.came_as == (2048, 512)


NAN = ramp((8, 8))
NAN[2, 3] = np.nan
REFUSED = [
    (NAN, r"picture has 1 values NaN or infinite, the first at \(2, 3\)"),
    (ramp((8, 8)) * 255, r"floats must be in \[0, 1\]"),
    (ramp((8, 8)) - 0.5, r"floats must be in \[0, 1\]"),
    (np.zeros((8, 8), np.int64), "array of int64"),
    (np.zeros((2, 8, 8, 3)), "one picture is"),
    (np.zeros((8, 8, 5)), "one picture is"),
    (np.zeros((3, 8, 3)), "which axis is colour"),
    (np.zeros((4, 4), np.uint8), "smallest picture"),
    (np.array([[70000.0] * 8] * 8, np.int32), "array of int32"),
    (Image.fromarray(np.full((8, 8), 70000, np.int32)), "16 bits go from 0 to 65535"),
    ("https://example.org/a.png", "download it first"),
    ("nowhere.png", "there is no file"),
    (None, "must be a picture, got NoneType"),
    ([], "must be a picture, got list"),
]


@pytest.mark.parametrize(("source", "sentence"), REFUSED)
def test_what_is_no_picture_is_refused_in_a_sentence(source, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        Picture.of(source)


def test_formats_are_allow_listed_and_broken_files_refused_at_the_door(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    (tmp_path / "short.png").write_bytes(buffer.getvalue()[:-40])
    with pytest.raises(ValueError, match="cannot be read"):
        Picture.of(tmp_path / "short.png")
    Image.new("RGB", (16, 16)).save(tmp_path / "picture.gif")
    with pytest.raises(ValueError, match="none of PNG, JPEG"):
        Picture.of(tmp_path / "picture.gif")
    with pytest.raises(ValueError, match="megapixels"):
        Picture.of(Image.new("1", (20000, 20000)))


def test_text_chunks_are_read_with_care():
    image = Image.new("RGB", (8, 8))
    data = png_with_text(image, "key", "value")
    assert png_text(data, "key") == "value"
    assert png_text(data, "other") is None
    start = data.index(b"tEXt") - 4
    chunk = data[start : start + 12 + 9]
    with pytest.raises(ValueError, match="two recipes"):
        png_text(data[:start] + chunk + data[start:], "key")
    with pytest.raises(ValueError, match="checksum"):
        png_text(data.replace(b"value", b"valve"), "key")
    with pytest.raises(ValueError, match="middle of a chunk"):
        png_text(data[: start + 12], "key")
    with pytest.raises(ValueError, match="not a PNG"):
        png_text(b"GIF89a", "key")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    save(target, b"old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
