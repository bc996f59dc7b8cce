import base64
import io
import os
import struct
import zlib
from datetime import UTC, datetime

import cv2
import ipywidgets as widgets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from variety import share

import ctrl
import ctrl.recipe
from ctrl.images import (
    COMPOSITE,
    GENERATED,
    MAX_SIDE,
    MAX_TEXT,
    Picture,
    encode,
    origin_of,
    png_pictures,
    png_text,
    png_with_text,
    save,
)

GREY = arrays.arrays(np.uint8, st.tuples(st.integers(8, 20), st.integers(8, 20)))
RGB = arrays.arrays(np.uint8, st.tuples(st.integers(8, 20), st.integers(8, 20), st.just(3)))
quick = settings(max_examples=share(25), deadline=None)


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
@given(st.one_of(GREY, RGB, GREY.map(lambda grey: np.repeat(grey[..., None], 3, 2))))
def test_base64_gives_the_picture_back(pixels):
    picture = Picture.of(pixels)
    assert Picture.from_base64(picture.to_base64()) == picture
    assert Picture.from_encoded(picture.encoded) == picture


def test_pictures_in_png_are_read_from_base64_too():
    for pixels in (ramp((16, 16)), ramp((16, 16, 3))):
        picture, buffer = Picture.of(pixels), io.BytesIO()
        picture.image.save(buffer, "PNG")
        assert Picture.from_base64(base64.b64encode(buffer.getvalue()).decode()) == picture


def test_recipes_carry_pictures_compactly():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((256, 256), Image.Resampling.BICUBIC)
    lines = np.zeros((256, 256), np.uint8)
    lines[::16] = 255
    for source in (smooth, lines, np.eye(16, dtype=bool).repeat(20, 0)):
        picture, buffer = Picture.of(source), io.BytesIO()
        picture.image.save(buffer, "PNG", optimize=True)
        assert picture.encoded[8:12] == b"WEBP"
        assert len(picture.encoded) < 0.9 * len(buffer.getvalue())


CARRIED = [
    (Image.new("RGBA", (8, 8)), "PNG", "RGB or grey"),
    (Image.new("RGBA", (8, 8), (1, 2, 3, 4)), "WEBP", "RGB or grey"),
    (Image.new("L", (4097, 8)), "PNG", "at most 4096 pixels long"),
    (Image.new("RGB", (8, 4097)), "WEBP", "at most 4096 pixels long"),
    (Image.new("RGB", (8, 8)), "GIF", "neither PNG nor WebP"),
]


@pytest.mark.parametrize(("image", "kind", "sentence"), CARRIED)
def test_what_a_recipe_may_not_carry_is_refused(image, kind, sentence):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    with pytest.raises(ValueError, match=sentence):
        Picture.from_encoded(buffer.getvalue())
    with pytest.raises(ValueError, match="cannot be read"):
        Picture.from_encoded(buffer.getvalue()[:30])


def saved(image, kind, **how):
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"])
def test_every_format_is_read_from_paths_bytes_files_and_uploads(kind, tmp_path, monkeypatch):
    image = Image.fromarray(np.round(ramp((16, 24)) * 255).astype(np.uint8))
    data = saved(image, kind)
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(data)
    monkeypatch.setenv("HOME", str(tmp_path))
    upload = widgets.FileUpload()
    held = {"name": "a", "type": "image/png", "size": len(data), "content": memoryview(data)}
    upload.value = (held | {"last_modified": datetime.now(tz=UTC)},)
    buffer = io.BytesIO()
    buffer.write(data)  # and is left at its end
    shot = ctrl.Shot(Image.open(path), ctrl.Recipe("a"))
    forms = [path, str(path), f"~/{path.name}", os.fspath(path), data, bytearray(data), memoryview(data), buffer]
    forms += [path.open("rb"), upload, upload.value, upload.value[0], held, {"a.png": {"content": data}}, shot]
    expected = Picture.of(Image.open(io.BytesIO(data)))
    assert expected.size == (24, 16)
    for form in forms:
        assert Picture.of(form) == expected, type(form)
        assert Picture.mask(form) == Picture.mask(expected), type(form)


def test_of_several_frames_the_first_is_taken_and_said(tmp_path):
    frames = [Image.new("RGB", (16, 16), (at, at, at)) for at in (10, 20, 30)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        picture = Picture.of(data)
        assert picture.pixels.max() <= 12, kind
        assert picture.remarks == ("has several frames, of which the first was taken",)
    opened = Image.open(io.BytesIO(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])))
    opened.seek(2)
    assert Picture.of(opened).pixels.max() == 30
    assert Picture.of(opened).remarks == ("has several frames, of which number 3 was taken",)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ((), "must be one uploaded file, got 0"),
        (({"content": b"a"}, {"content": b"b"}), "must be one uploaded file, got 2"),
        (io.StringIO("a"), "a file of text; open it in binary mode"),
        (b"", "picture is none of PNG"),
        ({"picture": 1}, "must be a picture, got dict"),
        ("~nobody at all/a.png", "there is no file"),
    ],
)
def test_what_holds_no_picture_is_refused_in_a_sentence(source, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        Picture.of(source)
    closed = io.BytesIO(b"a")
    closed.close()
    with pytest.raises(ValueError, match="a file object that cannot be read"):
        Picture.of(closed)


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


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(depth, colour, rows, *, transparent):
    """A PNG of 16 × 16 whose rows are given, byte for byte."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", transparent) + pixels + chunk(b"IEND", b"")


# The upper half is white and declared to be transparent, the lower half is darker and is not.
KEYED = {
    "1 bit grey": (1, 0, b"\xff\xff", b"\x00\x00", b"\0\1", 0),
    "2 bit grey": (2, 0, b"\xff" * 4, b"\x55" * 4, b"\0\3", 85),
    "4 bit grey": (4, 0, b"\xff" * 8, b"\x11" * 8, b"\0\x0f", 17),
    "8 bit grey": (8, 0, b"\xff" * 16, b"\x11" * 16, b"\0\xff", 17),
    "16 bit grey": (16, 0, b"\xff\xff" * 16, b"\x80\x80" * 16, b"\xff\xff", 128),
    "8 bit RGB": (8, 2, b"\xff" * 48, b"\x11" * 48, b"\0\xff" * 3, 17),
    "16 bit RGB": (16, 2, b"\xff\xff" * 48, b"\x11\x11" * 48, b"\xff\xff" * 3, 17),
}


@pytest.mark.parametrize("kind", KEYED)
def test_a_colour_that_a_png_declares_transparent_shows_the_background(kind, tmp_path):
    depth, colour, white, dark, transparent, value = KEYED[kind]
    data = png(depth, colour, [white] * 8 + [dark] * 8, transparent=transparent)
    (tmp_path / "keyed.png").write_bytes(data)
    for source in (data, tmp_path / "keyed.png", Image.open(io.BytesIO(data))):
        for background in (0, 255):
            picture = Picture.of(source, background=background)
            assert (picture.pixels[:8] == background).all() and (picture.pixels[8:] == value).all()
            shade = "black" if background == 0 else "white"
            assert picture.remarks == (f"was transparent in 50% of it, and is {shade} there",)
        mask = Picture.mask(source)
        assert mask.pixels[:8].max() == 0 and mask.pixels[8:].min() == 255


def test_pngs_of_pillow_with_a_transparent_colour_are_read_as_pillow_reads_them():
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:8] = 200
    for mode, key in (("L", 200), ("RGB", (200, 200, 200)), ("1", 255), ("P", 200)):
        data = saved(Image.fromarray(pixels).convert(mode), "PNG", transparency=key)
        ours = Picture.of(data, background=255)
        theirs = Image.alpha_composite(
            Image.new("RGBA", (16, 16), "white"), Image.open(io.BytesIO(data)).convert("RGBA")
        )
        assert (np.asarray(ours.image.convert("RGB")) == np.asarray(theirs.convert("RGB"))).all()
    converted = Image.open(io.BytesIO(saved(Image.fromarray(pixels), "GIF", transparency=200))).convert("RGB")
    assert Picture.of(converted).remarks == ()  # whoever converts it to RGB has taken the transparency away


def test_a_turned_photograph_stands_upright(tmp_path):
    image = Image.new("RGB", (32, 16))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert Picture.of(tmp_path / "turned.jpg").size == (16, 32)


@pytest.mark.slow
def test_a_picture_is_kept_as_given_up_to_the_largest_size_drawn():
    assert MAX_SIDE == ctrl.recipe.MAX_SIDE
    lines = np.zeros((768, 1344), np.uint8)
    lines[:, ::8] = 255
    assert (Picture.of(lines).pixels == lines).all()
    assert (ctrl.Edges(lines).hint(1344, 768)[..., 0] * 255 == lines).all()
    assert (ctrl.Recipe("a", image=lines, mask=lines).image.pixels == lines).all()
    assert (ctrl.Region("a", lines).mask.pixels == lines).all()
    picture = Picture.of(Image.new("RGB", (8192, 2048)))
    assert picture.size == (4096, 1024)
    assert picture.original_size == (8192, 2048)
    assert picture.remarks == ("was reduced from 8192×2048 to 4096×1024",)
    assert Picture.from_base64(picture.to_base64()) == picture


def test_only_references_of_a_style_are_reduced():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 1500, 3), np.uint8)
    style = ctrl.Style(pixels, negative=pixels)
    assert style.picture.size == style.negative.size == (1024, 410)
    assert style.picture.remarks == ("was reduced from 1500×600 to 1024×410",)
    assert style == ctrl.Style(Picture.of(pixels), negative=Picture.of(pixels))


def test_a_picture_that_is_black_by_mistake_says_so():
    assert "multiply it by 255" in ctrl.Edges(np.eye(16, dtype=np.uint8)).picture.remarks[0]


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
    Image.new("RGB", (16, 16)).save(tmp_path / "picture.ico")
    with pytest.raises(ValueError, match=r"picture 'picture\.ico' is none of PNG, JPEG, WEBP, AVIF, GIF, BMP, TIFF"):
        Picture.of(tmp_path / "picture.ico")
    with pytest.raises(ValueError, match="picture is none of PNG, JPEG, WEBP, AVIF, GIF, BMP, TIFF; convert it"):
        Picture.of((tmp_path / "picture.ico").read_bytes())
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


def test_what_could_not_be_read_back_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("ctrl.images.files.MAX_FILE", 100)
    with pytest.raises(ValueError, match=r"'a.png' would have 101 bytes; at most 100 can be read back"):
        save(tmp_path / "a.png", bytes(101))
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("HOME", str(tmp_path))
    save("~/a.png", bytes(100))
    assert (tmp_path / "a.png").stat().st_size == 100


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    save(target, b"old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# What is saved for other people.

DECLARED = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("origin", [GENERATED, COMPOSITE])
def test_a_saved_picture_says_where_it_comes_from(kind, origin):
    image = Picture.of(ramp((16, 16, 3))).image
    data = encode(image, kind, origin=origin)
    opened = Image.open(io.BytesIO(data))
    assert opened.format == kind
    described = opened.getxmp()["xmpmeta"]["RDF"]["Description"]
    assert described["DigitalSourceType"] == DECLARED + origin
    assert origin_of(data) == origin
    assert kind == "JPEG" or (np.asarray(opened) == np.asarray(image)).all()
    assert origin_of(encode(image, kind)) == "trainedAlgorithmicMedia"
    for silent in (encode(image, kind, origin=None), saved(image, kind)):
        assert origin_of(silent) is None and b"xmpmeta" not in silent


def test_the_mark_is_read_as_others_write_it():
    for written in (
        f'Iptc4xmpExt:DigitalSourceType="{DECLARED}digitalArt"',
        f"<a:DigitalSourceType>{DECLARED}digitalArt<",
    ):
        assert origin_of(saved(Image.new("RGB", (8, 8)), "WEBP", xmp=written.encode())) == "digitalArt"


@pytest.mark.parametrize("text", ["a red ball", "ein Hügel, 丘\nSteps: 4", "👩‍🚀"])
def test_parameters_are_where_galleries_look_for_them(text):
    image = Image.new("RGB", (8, 8))
    assert Image.open(io.BytesIO(encode(image, texts={"parameters": text}))).text["parameters"] == text
    for kind in ("JPEG", "WEBP"):
        exif = Image.open(io.BytesIO(encode(image, kind, texts={"parameters": text}))).getexif().get_ifd(0x8769)
        assert exif[0x9286] == b"UNICODE\0" + text.encode("utf-16-be")


def test_a_png_carries_pictures_each_once_and_opens_anywhere():
    rng = np.random.default_rng(0)
    large, small = Picture(rng.integers(0, 256, (1500, 1500, 3), np.uint8)), Picture.of(ramp((16, 16)))
    shown = Image.new("RGB", (8, 8), (1, 2, 3))
    data = encode(shown, pictures=[large, small, Picture(small.pixels)], texts={"key": "value"})
    found = png_pictures(data)
    assert found == {large.sha256: large.encoded, small.sha256: small.encoded}
    assert Picture.from_encoded(found[large.sha256]) == large
    assert png_text(data, "key") == "value"
    assert len(data) < len(large.encoded) + len(small.encoded) + 3000
    opened = Image.open(io.BytesIO(data))
    assert opened.getpixel((0, 0)) == (1, 2, 3) and opened.text["key"] == "value"
    assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[0, 0] == (3, 2, 1)).all()


def test_what_nothing_would_open_again_is_refused_before_it_is_written(monkeypatch):
    image = Image.new("RGB", (8, 8))
    largest = encode(image, texts={"key": "x" * MAX_TEXT})
    assert Image.open(io.BytesIO(largest)).size == (8, 8)
    with pytest.raises(ValueError, match=r"the texts have \d+ bytes; a PNG with more than \d+ .* opened again"):
        encode(image, texts={"key": "x" * MAX_TEXT, "other": "y"})
    with pytest.raises(ValueError, match="too many for EXIF; save as PNG"):
        encode(image, "JPEG", texts={"parameters": "x" * 40_000})
    with pytest.raises(ValueError, match="a WEBP file carries no text but 'parameters'; save as PNG"):
        encode(image, "WEBP", texts={"key": "value"})


def test_a_notebook_shows_the_picture():
    picture = Picture.of(ramp((16, 16, 3)))
    assert Picture.of(picture._repr_png_()) == picture
