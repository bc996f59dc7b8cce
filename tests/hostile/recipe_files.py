"""Hostile recipes: JSON that is too large, too deep or not one, and PNGs that carry such."""

from __future__ import annotations

import base64
import json

import numpy as np
from corpus import MARK, Hostile, data, text
from picture_files import bomb, chunk, head, png
from tensor_files import pickled

import ctrl

LENGTH = 65 << 20  # characters
PLACES = ("a.png", "/etc/passwd", "~/a.png", "\\\\host\\a.png", "file:///a.png", "https://a.org/a.png", "NUL")


def corpus() -> list[Hostile]:
    """Every recipe."""
    good = json.loads(ctrl.Recipe("a", controls=[ctrl.Depth(np.zeros((8, 8), np.uint8))]).to_json())
    return [*_texts(json.dumps(good)), *_values(good), *_carried(good), *_pngs(json.dumps(good))]


def _texts(good: str) -> list[Hostile]:
    """What is no JSON, or too much of it."""
    number = '"seed": 0'
    found = [
        ("huge", '{"ctrl": 2' + " " * LENGTH + "}", "characters; at most"),
        ("a million numbers", '{"ctrl": 2, "is": "Recipe", "prompt": [' + "0," * 10**6 + "0]}", "values; at most"),
        ("deep lists", '{"ctrl": 2, "is": "Recipe", "prompt": ' + "[" * 10**5, "nested too deeply"),
        ("deep objects", '{"a":' * 10**5, "nested too deeply"),
        ("deep by twenty", '{"ctrl": 2, "is": "Recipe", "prompt": ' + "[" * 20 + "]" * 20 + "}", "nested too deeply"),
        ("NaN", good.replace(number, '"seed": NaN'), "numbers must be finite"),
        ("infinity", good.replace(number, '"seed": -Infinity'), "numbers must be finite"),
        ("1e999", good.replace(number, '"seed": 1e999'), "seed must be"),
        ("five thousand digits", good.replace(number, '"seed": ' + "9" * 5000), "5000 digits"),
        ("twins", good[:-1] + ', "seed": 1}', "names a field twice"),
        ("cut", good[:99], "is not JSON"),
        ("more behind", good + "{}", "is not JSON"),
        ("a list", f"[{good}]", "is not a PNG|not a recipe"),
        ("comments", "{/* a */}", "is not JSON"),
        ("lone surrogate", good.replace('"prompt": "a"', '"prompt": "\\ud800"'), "lone surrogate"),
    ]
    return [Hostile(name, "recipe", text(content), says) for name, content, says in found] + [
        Hostile("UTF-16", "recipe", data(good.encode("utf-16")), "not a PNG"),
        Hostile("no UTF-8", "recipe", data(b"{\xff\xfe\xfd}"), "is not JSON"),
        Hostile("pickle", "recipe", data(pickled(2)), "not a PNG"),
        Hostile("nothing", "recipe", data(b""), "not a PNG"),
        Hostile("a device", "recipe", lambda path: path.symlink_to("/dev/zero"), "there is no file"),
        Hostile("a link to itself", "recipe", lambda path: path.symlink_to(path), "there is no file"),
    ]


def _values(good: dict) -> list[Hostile]:
    """Recipes whose fields are not what they should be."""
    depth, picture = good["controls"][0], good["controls"][0]["picture"]
    many = [{"is": "Schedule", "points": [[at / 10**5, 1] for at in range(10**5)]}]
    found = [
        *[(f"version {value}", {"ctrl": value}, "has version") for value in (1, 3, "2", True, None, 10**30, [2])],
        *[(f"class {value}", {"is": value}, "of class") for value in ("os.system", "__class__", None, 7, MARK)],
        *[
            (f"picture {at}", {"controls": [depth | {"picture": value}]}, "in the recipe itself")
            for at, value in enumerate(PLACES)
        ],
        ("no picture", {"controls": [depth | {"picture": None}]}, "must be a picture"),
        ("mask a file", {"controls": [depth | {"mask": "/dev/zero"}]}, "in the recipe itself"),
        ("another hash", {"controls": [depth | {"picture": picture | {"sha256": "0" * 64}}]}, "sha256 differs"),
        ("unknown fields", {"__class__": 1}, "no argument"),
        ("weight a bool", {"controls": [depth | {"weight": True}]}, "weight must be"),
        ("many controls", {"controls": [depth] * 17}, "at most 16"),
        ("many points", {"guidance": many[0]}, "points must be"),
        ("many blocks", {"controls": [depth | {"blocks": [1.0] * 10**5}]}, "blocks must be"),
        ("100000 pixels", {"width": 100_000, "height": 100_000}, "width must be"),
        ("10000 steps", {"steps": 10_000}, "steps must be"),
        ("500 adapters", {"loras": [{"is": "Lora", "name": "lcm"}] * 500}, "at most 16"),
        ("a path for an adapter", {"loras": [{"is": "Lora", "name": "../../x.safetensors"}]}, None),
        ("a million letters", {"prompt": "a" * 10**6}, "at most 20000"),
        ("brackets", {"prompt": "(" * 9999 + ":1)" * 3000}, None),
        ("weights that multiply", {"prompt": "(" * 500 + "a" + ":1.5)" * 500}, "from 0 to 5"),
        ("skeleton of words", {"controls": [posed(points="x", shown=[])]}, "points must be"),
        ("skeleton far away", {"controls": [posed(points=[[10**400, 1]] * 18, shown=[True] * 18)]}, "401 digits"),
        ("skeleton of many", {"controls": [posed(points=[[0, 1]] * 10**4, shown=[True] * 10**4)]}, "points must have"),
        ("skeleton by half", {"controls": [posed()]}, "missing fields"),
    ]
    return [Hostile(name, "recipe", text(json.dumps(good | changes)), says) for name, changes, says in found]


def posed(**skeleton: object) -> dict:
    """A pose by a skeleton of these fields."""
    return {"is": "Pose", "picture": {"is": "Skeleton", **skeleton}}


def _carried(good: dict) -> list[Hostile]:
    """Recipes that carry a hostile picture."""
    pictures = {
        "zTXt bomb": png(chunk(b"zTXt", b"a\0\0" + bomb(100 << 20))),
        "20000 by 20000": png(first=head(20_000, 20_000)),
        "9000 by 9000": png(first=head(9000, 9000)),
        "wrong checksum": png(first=head()[:-4] + b"abcd"),
        "cut": png()[:50],
        "JPEG": b"\xff\xd8\xff\xe0",
        "nothing": b"",
    }
    texts = {name: base64.b64encode(content).decode() for name, content in pictures.items()}
    texts |= {"no base64": "!!!", "no ASCII": "é", "a number": 7, "a list": ["a"]}
    images = {name: {"is": "Picture", "png": value, "sha256": ""} for name, value in texts.items()}
    return [
        Hostile(f"carried {name}", "recipe", text(json.dumps(good | {"image": image})), "carried picture")
        for name, image in images.items()
    ]


def _pngs(good: str) -> list[Hostile]:
    """PNGs that carry a recipe, or something in its place."""
    carried = chunk(b"tEXt", b"ctrl-recipe\0" + good.encode())
    found = {
        "one": (png(carried), None),
        "two": (png(carried, carried), "carries two recipes"),
        "wrong checksum": (png(carried[:-4] + b"abcd"), "checksum is wrong"),
        "beside a bomb": (png(chunk(b"zTXt", b"a\0\0" + bomb(100 << 20)), carried), None),
        "compressed": (png(chunk(b"zTXt", b"ctrl-recipe\0\0" + bomb(100 << 20))), "PNG without a recipe"),
        "three megabytes": (png(chunk(b"tEXt", b"ctrl-recipe\0" + b"x" * (3 << 20))), "is not JSON"),
        "behind ten thousand": (png(*[chunk(b"tEXt", b"a\0b")] * 10_000, carried), None),
        "length of 2^32-1": (png(chunk(b"tEXt", b"a", length=2**32 - 1)), "middle of a chunk"),
        "none": (png(), "PNG without a recipe"),
    }
    found |= {f"cut at {at}": (png(carried)[:at], "PNG") for at in (4, 8, 20, 40, 200)}
    return [Hostile(f"PNG {name}", "recipe", data(content), says) for name, (content, says) in found.items()]
