"""Bad inputs, row by row: each is refused in a sentence that names the argument, taken as it should be, or noted.

The numbers are those of the list of inputs to survive: B1 pictures, B2 prompts, B3 numbers, B4 what is put on a model,
B5 runs. B6, files, is tests/hostile and tests/test_hostile_models.py but for names and places; B7 is the panels'.

Rows that are elsewhere: threads, guidance that crosses 1 and copies handed to callbacks (B5.3, 4, 13-15, 17) in
test_sampling, one revision for every part and the hub (B4.32, B6.34, 35) in test_hub, pipelines that are moved about
(B5.24) in test_formats.

Rows that cannot come up: a recipe is one picture, and each control has its own weight and window, so no lists can
disagree (B1.26, B3.5, 10, 17); latents, embeddings, generators and output types are no arguments (B1.32, B2.13-15,
B3.38, B4.29-31); pictures always go through the encoder's processor (B1.40), noise is always drawn on the CPU (B3.37);
nothing is attached to a model, so nothing is detached, replaced or saved with it (B4.13, 15-18, 23, 33, 36, B5.18); a
callback's answer is not read (B5.6). Layers of an adapter in another order have the same shapes and cannot be seen
(B4.7). Word maps (B2.16), workers, cancelling and memory (B5.9, 11, 21-23, 25, 26, 28, 29) are with what brings them.
"""

import base64
import copy
import gc
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_formats
import torch
from fingerprint import fingerprint
from PIL import Image
from safetensors.torch import load_file, save_file

import ctrl
from ctrl.model import Model, solver
from ctrl.model.loading.hub import Hub

rng = np.random.default_rng(0)
RGB = rng.integers(0, 255, (64, 64, 3), np.uint8)
GREY = rng.integers(0, 255, (64, 64), np.uint8)
NEAR = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None], (1, 64))  # a floor, near below
RECIPE = ctrl.Recipe("a red ball", steps=2, seed=7)
FULL = RECIPE.replace(controls=[ctrl.Depth(NEAR, 0.7)], styles=[ctrl.Style(RGB, 0.5)], loras=[ctrl.Lora("lcm", 0.3)])
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Bench:
    """What a case may work with: a model, its folder, and a folder to write to."""

    model: Model
    folder: Path
    place: Path

    def run(self, **changes: Any) -> ctrl.Shot:
        return ctrl.sample(self.model, RECIPE.replace(**changes))

    def load(self, **given: Any) -> Model:
        return ctrl.load(self.folder, device="cpu", local_files_only=True, **given)

    def file(self, tensors: dict[str, torch.Tensor]) -> Path:
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, self.place / "given.safetensors")
        return self.place / "given.safetensors"

    def style(self, tensors: dict[str, torch.Tensor]) -> ctrl.Shot:
        """A run with an IP-Adapter of these tensors."""
        return ctrl.sample(self.load(ip_adapter=self.file(tensors)), RECIPE.replace(styles=[ctrl.Style(RGB)]))

    def lora(self, tensors: dict[str, torch.Tensor]) -> ctrl.Shot:
        """A run under a LoRA of these tensors."""
        return ctrl.sample(self.load(lora={"it": self.file(tensors)}), RECIPE.replace(loras=[ctrl.Lora("it")]))

    def control(self, net: Any) -> ctrl.Shot:
        """A run with this as its ControlNet."""
        return ctrl.sample(self.load(controlnets={"it": net}), RECIPE.replace(controls=[ctrl.Control("it", RGB)]))

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / name)

    @property
    def adapter(self) -> dict[str, torch.Tensor]:
        return self.tensors("ip_adapter/ip_adapter.safetensors")

    def png(self, name: str = "a.png", picture: Any = RGB, **how: Any) -> Path:
        """A picture in a file."""
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(self.place / name, **how)
        return self.place / name

    def written(self, name: str, content: bytes) -> Path:
        (self.place / name).write_bytes(content)
        return self.place / name


@pytest.fixture
def bench(model, folder, tmp_path):
    return Bench(model, folder, tmp_path)


def bits(model: Model, recipe: ctrl.Recipe = FULL) -> tuple[Any, ...]:
    """A picture, and every weight, hook and processor of what draws it."""
    for kind in model.controls:  # loaded on first use
        model.controlnet(kind)
    image = ctrl.sample(model, recipe).image.tobytes()
    return image, *fingerprint(model)


@pytest.fixture(scope="module", autouse=True)
def before(model):
    """What the model draws before all of this file, and must draw after it, to the bit."""
    found = bits(model)
    yield found
    assert bits(model) == found


def with_nan(value: float) -> np.ndarray:
    picture = np.full((64, 64, 3), 0.5)
    picture[2, 3, 1] = value
    return picture


def cut(content: bytes) -> io.BytesIO:
    return io.BytesIO(content[: len(content) // 2])


def closed(path: Path) -> Image.Image:
    image = Image.open(path)
    image.close()
    return image


def carried(name: str) -> str:
    """A recipe in JSON that names a file where a picture should be."""
    held = json.loads(ctrl.Recipe("a", image=RGB).to_json())
    return json.dumps(held | {"image": name})


PICTURES = [
    (
        "B1.05",
        lambda b: ctrl.Depth(Image.fromarray(np.full((8, 8), 70_000, np.int32))),
        "Depth's picture .* 0 to 65535",
    ),
    ("B1.08", lambda b: ctrl.Depth(np.zeros((1, 1), np.uint8)), "Depth's picture is 1×1; the smallest .* is 8×8"),
    ("B1.10", lambda b: ctrl.Depth(Image.new("1", (20_000, 20_000))), "is 20000×20000; at most 64 megapixels"),
    ("B1.11 of a file", lambda b: ctrl.Style(b.png(picture=Image.new("1", (10_000, 10_000)))), "at most 64 megapixels"),
    ("B1.11 to come", lambda b: b.run(width=100_000, height=64), "width must be .* from 8 to 4096, got 100000"),
    ("B1.12", lambda b: ctrl.Depth(with_nan(NAN)), r"Depth's picture has 1 values NaN .* the first at \(2, 3, 1\)"),
    ("B1.13", lambda b: ctrl.Style(with_nan(-INF)), "Style's picture has 1 values NaN or infinite"),
    ("B1.14 of a batch", lambda b: ctrl.Depth(np.zeros((2, 64, 64, 3))), r"shape \(2, 64, 64, 3\); one picture is"),
    (
        "B1.16 of a type",
        lambda b: ctrl.Depth(RGB.astype(np.int64)),
        "array of int64; use uint8, uint16, bool or floats",
    ),
    ("B1.17 of a type", lambda b: ctrl.Depth(torch.zeros(3, 64, 64, dtype=torch.int32)), "array of int32"),
    (
        "B1.17 sparse",
        lambda b: ctrl.Depth(torch.zeros(64, 64).to_sparse()),
        "must be a dense tensor .* torch.sparse_coo",
    ),
    (
        "B1.17 without data",
        lambda b: ctrl.Depth(torch.zeros(64, 64, device="meta")),
        "must be a dense tensor .* on meta",
    ),
    ("B1.19", lambda b: ctrl.Depth(np.zeros((3, 64, 3), np.uint8)), r"shape \(3, 64, 3\): which axis is colour"),
    ("B1.19 of two", lambda b: ctrl.Depth(np.zeros((64, 64, 2))), r"shape \(64, 64, 2\); one picture is"),
    ("B1.20", lambda b: ctrl.Depth(RGB / 127.5 - 1), r"floats from -1 to .*; floats must be in \[0, 1\]"),
    ("B1.21", lambda b: ctrl.Depth(RGB.astype(np.float32)), r"floats from 0 to 254; floats must be in \[0, 1\]"),
    ("B1.25", lambda b: ctrl.Depth([RGB, RGB]), "Depth's picture must be a picture, got list"),
    ("B1.28 of the run", lambda b: b.run(width=67, height=64), "width must be a multiple of 4 .* got 67; try 68"),
    ("B1.29", lambda b: b.run(width=64, height=63), "height must be a multiple of 4 for this model, got 63; try 64"),
    ("B1.29 alone", lambda b: b.run(height=64), "width and height go together"),
    ("B1.30", lambda b: b.run(width=64, height=0), "height must be a whole number from 8 to 4096, got 0"),
    ("B1.30 below", lambda b: b.run(width=-64, height=64), "width must be a whole number from 8 to 4096, got -64"),
    ("B1.31", lambda b: b.run(width=64.5, height=64), "width must be a whole number from 8 to 4096, got 64.5"),
    ("B1.31 of truth", lambda b: b.run(width=64, height=True), "height must be a whole number .* got True"),
    ("B1.33", lambda b: ctrl.Depth([]), "Depth's picture must be a picture, got list"),
    ("B1.33 of a style", lambda b: ctrl.Style([]), "Style takes 1 to 16 pictures, got 0"),
    ("B1.34", lambda b: ctrl.Depth(None), "Depth's picture must be a picture, got NoneType; pass a path"),
    ("B1.34 of a style", lambda b: ctrl.Style([RGB, None]), "Style's picture 2 must be a picture, got NoneType"),
    ("B1.34 of a region", lambda b: ctrl.Region("a", None), "mask must be a picture of where the region is, got None"),
    ("B1.35", lambda b: ctrl.Style("https://a.org/a.png"), "Style's picture must be a local file, got the address"),
    (
        "B1.35 of no file",
        lambda b: ctrl.Depth("nowhere.png"),
        "Depth's picture must be a picture file, but there is no",
    ),
    ("B1.35 of a long name", lambda b: ctrl.Depth("x" * 5000), "Depth's picture must be .* there is no file 'xxx"),
    ("B1.35 of nobody", lambda b: ctrl.Depth("~nobody-at-all/a.png"), "there is no file '~nobody-at-all/a.png'"),
    ("B1.35 in a recipe", lambda b: ctrl.Recipe.from_json(carried("a.png")), "image must be .* in the recipe itself"),
    (
        "B1.36",
        lambda b: ctrl.Depth(Image.open(cut(b.png().read_bytes()))),
        "Depth's picture cannot be read: .*truncated",
    ),
    ("B1.36 of a file", lambda b: ctrl.Depth(b.written("c.png", b.png().read_bytes()[:900])), "'c.png' cannot be read"),
    ("B1.38", lambda b: ctrl.Style(b.written("a.svg", b"<svg/>")), "'a.svg' is none of PNG, JPEG, WEBP, AVIF, GIF"),
    ("B1.38 of PostScript", lambda b: ctrl.Depth(b.png("a.eps")), "'a.eps' is none of PNG"),
    (
        "B1.38 not decoded",
        lambda b: ctrl.Depth(Image.open(io.BytesIO(b.png("a.eps").read_bytes()))),
        "the format EPS, not yet decoded, and ctrl",
    ),
    (
        "B1.42",
        lambda b: ctrl.Depth(closed(b.png())),
        "Depth's picture is an image whose file was closed before it was read",
    ),
    ("B1.42 of base64", lambda b: ctrl.Picture.from_base64("!"), "a carried picture cannot be read"),
    ("B1.42 of another", lambda b: ctrl.Picture.from_base64(base64.b64encode(b"GIF89a").decode()), "neither PNG nor"),
]
PROMPTS = [
    ("B2.04", lambda b: ctrl.Recipe(None), "prompt must be a string, got NoneType"),
    ("B2.05", lambda b: ctrl.Recipe([]), "prompt must be a string, got list; make one recipe a prompt"),
    ("B2.06", lambda b: ctrl.Recipe(("a", "b")), "prompt must be a string, got tuple; make one recipe a prompt"),
    ("B2.07", lambda b: ctrl.Recipe(["a", 3]), "prompt must be a string, got list"),
    ("B2.08", lambda b: ctrl.Recipe(3), "prompt must be a string, got int"),
    ("B2.09", lambda b: ctrl.Recipe("a", negative=["b", "c"]), "negative must be a string, got list"),
    ("B2.10", lambda b: ctrl.Recipe("ab\ud800"), "prompt is not valid Unicode at character 2: a lone surrogate"),
    ("B2.11", lambda b: ctrl.Recipe("a" * 10**6), "prompt has 1000000 characters; at most 20000"),
    ("B2.12 of weights", lambda b: ctrl.Recipe("a (ball:nan)"), "a weight in the prompt must be a finite number"),
    ("B2.12 multiplied", lambda b: ctrl.Recipe("((a:4):4)"), "from 0 to 5, multiplied out .* got 16"),
    ("B2.12 of a region", lambda b: ctrl.Region("(a:9)", GREY), "a weight in the prompt .* got 9"),
]
NUMBERS = [
    ("B3.01", lambda b: ctrl.Depth(RGB, -1), "weight must be a number from 0 to 10, got -1"),
    ("B3.02", lambda b: ctrl.Depth(RGB, NAN), "weight must be a number from 0 to 10, got nan"),
    ("B3.03", lambda b: ctrl.Depth(RGB, -INF), "weight must be a number from 0 to 10, got -inf"),
    ("B3.03 large", lambda b: ctrl.Depth(RGB, 1e30), "weight must be a number from 0 to 10, got 1e\\+30"),
    ("B3.03 whole", lambda b: ctrl.Depth(RGB, 10**400), "weight must be a number from 0 to 10, got inf"),
    ("B3.04", lambda b: ctrl.Depth(RGB, "0.5"), "weight must be a number from 0 to 10, got '0.5'"),
    ("B3.04 of truth", lambda b: ctrl.Depth(RGB, True), "weight must be a number from 0 to 10, got True"),
    ("B3.04 of numpy's", lambda b: ctrl.Depth(RGB, np.bool_(1)), "weight must be a number from 0 to 10, got .*True"),
    ("B3.06", lambda b: b.run(controls=[ctrl.Depth(RGB, blocks=[1, 1])]), "blocks must hold 7 weights .* got 2"),
    ("B3.06 in a list", lambda b: ctrl.Depth(RGB, [1.0]), r"weight must be a number from 0 to 10, got \[1.0\]"),
    ("B3.07", lambda b: ctrl.Depth(RGB, blocks=[1] * 65), "blocks must be a list of weights"),
    ("B3.07 of a word", lambda b: ctrl.Depth(RGB, blocks=[1, "a"]),
     r"blocks\[1\] must be a number from 0 to 10, got 'a'"),
    ("B3.08", lambda b: ctrl.Style(RGB, NAN), "weight must be a number from 0 to 10, got nan"),
    ("B3.08 large", lambda b: ctrl.Style(RGB, 1e30), "weight must be a number from 0 to 10, got 1e\\+30"),
    ("B3.09", lambda b: ctrl.Style(RGB, None), "weight must be a number from 0 to 10, got None"),
    ("B3.09 of a word", lambda b: ctrl.Style(RGB, "0.5"), "weight must be a number from 0 to 10, got '0.5'"),
    ("B3.11", lambda b: b.run(styles=[ctrl.Style(RGB, blocks={"middle": 1})]), "blocks names 'middle', .* 'mid_block'"),
    ("B3.12", lambda b: b.run(styles=[ctrl.Style(RGB, blocks={"up_blocks.9": 1})]),
     "blocks names 'up_blocks.9', where"),
    ("B3.12 twice", lambda b: ctrl.Style(RGB, blocks=[("a", 1), ("a", 0)]), "blocks must give each block one weight"),
    ("B3.12 of a preset", lambda b: b.run(styles=[ctrl.Style(RGB, blocks="stile")]),
     "blocks must be one of all, style"),
    ("B3.13", lambda b: b.run(styles=[ctrl.Style(RGB, 0, adapter="none")]), "has no IP-Adapter 'none'; it has base"),
    ("B3.14", lambda b: ctrl.hold(1, start=0.7, until=0.3), "start must come before until, got start=0.7, until=0.3"),
    ("B3.14 equal", lambda b: ctrl.hold(1, start=0.5, until=0.5), "start must come before until"),
    ("B3.14 below", lambda b: ctrl.hold(1, start=-0.1), "start must be a number from 0 to 1, got -0.1"),
    ("B3.14 above", lambda b: ctrl.hold(1, until=1.1), "until must be a number from 0 to 1, got 1.1"),
    ("B3.15", lambda b: ctrl.hold(1, until=NAN), "until must be a number from 0 to 1, got nan"),
    ("B3.18 unsorted", lambda b: ctrl.curve((0.5, 1), (0.2, 1)),
     r"points must have rising positions, got \[0.5, 0.2\]"),
    ("B3.18 empty", lambda b: ctrl.curve(), r"points must be 1 to 1000 pairs .* got \(\)"),
    ("B3.18 outside", lambda b: ctrl.curve((0, 1), (1.5, 1)), "position must be a number from 0 to 1, got 1.5"),
    ("B3.18 of triples", lambda b: ctrl.curve((0, 1, 2)), r"points must be pairs .* got \(0, 1, 2\)"),
    ("B3.18 of what", lambda b: ctrl.hold(1, by="sigma"), "by 'sigma' is unknown; there is steps, noise"),
    ("B3.19", lambda b: b.run(guidance=NAN), "guidance must be a number from 0 to 100, got nan"),
    ("B3.20", lambda b: b.run(guidance=-5), "guidance must be a number from 0 to 100, got -5"),
    ("B3.21", lambda b: b.run(guidance=1e30), "guidance must be a number from 0 to 100, got 1e\\+30"),
    ("B3.21 in a schedule", lambda b: ctrl.ramp(INF, 0), "value must be a number from 0 to 100, got inf"),
    ("B3.22", lambda b: b.run(steps=0), "steps must be a whole number from 1 to 1000, got 0"),
    ("B3.23", lambda b: b.run(steps=-1), "steps must be a whole number from 1 to 1000, got -1"),
    ("B3.24", lambda b: b.run(steps=1001), "steps must be a whole number from 1 to 1000, got 1001"),
    ("B3.24 of a sampler", lambda b: b.run(steps=51, sampler="lcm"), "sampler 'lcm' takes 1 to 50 steps .* got 51"),
    ("B3.25", lambda b: b.run(steps=2.5), "steps must be a whole number from 1 to 1000, got 2.5"),
    ("B3.25 of none", lambda b: b.run(steps=None), "steps must be a whole number from 1 to 1000, got None"),
    ("B3.26", lambda b: ctrl.sample_many(b.model, [RECIPE], batch=0),
     "batch must be a whole number from 1 to 1024, got 0"),
    ("B3.26 below", lambda b: ctrl.sample_many(b.model, [RECIPE], batch=-1), "batch must be .* from 1 to 1024, got -1"),
    ("B3.26 of one", lambda b: ctrl.sample_many(b.model, RECIPE), r"recipes must be a list .* write \[recipe\]"),
    ("B3.26 of words", lambda b: ctrl.sample_many(b.model, "ab"), r"recipes\[0\] must be a Recipe, got str"),
    ("B3.27", lambda b: ctrl.APG(eta=50), "eta must be a number from 0 to 10, got 50"),
    ("B3.27 of SEG", lambda b: ctrl.SEG(sigma=0), "sigma must be a number from 0.001 to 10000, got 0"),
    ("B3.28", lambda b: ctrl.Recipe("a", controlnet_scale=1), "Recipe has no argument 'controlnet_scale'; .*controls"),
    ("B3.28 near", lambda b: ctrl.Depth(RGB, wieght=1), "Depth has no argument 'wieght'; did you mean 'weight'"),
    ("B3.28 of load", lambda b: ctrl.load(b.folder, divice="cpu"), "no argument 'divice'; did you mean 'device'"),
    ("B3.29", lambda b: b.run(guidance=ctrl.Guidance(6, perturb=[ctrl.PAG(ctrl.hold(1, start=0.5), ("nope",))])),
     "blocks: 'nope' has no self-attention in unet; there is down_blocks.0"),
    ("B3.30", lambda b: ctrl.Shot(Image.new("RGB", (8, 8)), RECIPE).save(b.place / "a.bmp"), "path must end in .png"),
    ("B3.30 of a sampler", lambda b: b.run(sampler="eular"), "sampler 'eular' is unknown; did you mean 'euler'"),
    ("B3.30 of a list", lambda b: b.run(sampler=["euler"]), r"sampler \['euler'\] is unknown"),
    ("B3.30 of a spacing", lambda b: b.run(sampler="ddim", spacing="karras"), "sampler 'ddim' has no 'karras' spacing"),
    ("B3.30 of a flow", lambda b: b.run(sampler="flow euler"),
     "'flow euler' is for a flow-matching model.* take 'euler'"),
    ("B3.31", lambda b: b.run(seed=2**64),
     "seed must be a whole number from 0 to 9223372036854775807, got 18446744073"),
    ("B3.31 larger", lambda b: b.run(seed=10**5000), "seed must be a whole number from 0 .* got one of 16610 bits"),
    ("B3.32", lambda b: b.run(seed=-1), "seed must be a whole number from 0 to 9223372036854775807, got -1"),
    ("B3.33", lambda b: b.run(seed=1.5), "seed must be a whole number .* got 1.5"),
    ("B3.33 of a word", lambda b: b.run(seed="42"), "seed must be a whole number .* got '42'"),
    ("B3.34", lambda b: ctrl.Recipe("a", generator=42), "Recipe has no argument 'generator'"),
    ("B3.35", lambda b: b.run(seed=[1, 2]), r"seed must be a whole number .* got \[1, 2\]"),
    ("B3.39", lambda b: b.run(image=RGB, strength=0), "strength must be above 0 and at most 1; got 0"),
    ("B3.39 of a step", lambda b: b.run(image=RGB, strength=0.1), "strength 0.1 of 2 steps is less than one of them"),
    ("B3.39 of nothing", lambda b: b.run(mask=GREY), "mask is the part of image .* there is no image"),
]  # fmt: skip


def other_unet(**differing: Any) -> Any:
    """A ControlNet for a U-Net like the model's but for this."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    same = {
        "in_channels": 8,
        "layers_per_block": 1,
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    hints = differing.pop("hints", (8, 16, 16))
    unet = UNet2DConditionModel(**(same | differing))
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=hints)


def saved(net: Any, place: Path) -> Path:
    net.save_pretrained(place / "net")
    return place / "net"


def without(tensors: dict[str, torch.Tensor], ending: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in tensors.items() if not key.endswith(ending)}


def wider(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: torch.cat([tensor, tensor], 1) if "_ip." in key else tensor for key, tensor in tensors.items()}


def only(tensors: dict[str, torch.Tensor], beginning: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key.startswith(beginning)}


EXTRAS = [
    ("B4.01", lambda b: b.style(wider(b.adapter)), "was made for a text width of 64; this model has 32"),
    ("B4.03", lambda b: b.style(without(b.adapter, "norm.bias")), "missing or .* such as image_proj.norm.bias"),
    ("B4.05", lambda b: b.style(without(b.adapter, "11.to_k_ip.weight")),
     "10 cross-attention layers; .* 1, such as .*11.to_k"),
    ("B4.06", lambda b: b.style(b.adapter | {"ip_adapter.99.to_k_ip.weight": torch.ones(8, 32)}),
     "too many tensors: 1"),
    ("B4.08", lambda b: b.style(b.adapter | {"image_proj.proj.weight": torch.ones(128, 48)}),
     "reads image_embeds of width 48, and this image encoder's are of width 32"),
    ("B4.09", lambda b: b.style(only(b.adapter, "ip_adapter.")), "is no IP-Adapter of the base, plus or full layout"),
    ("B4.10", lambda b: b.style({}), "is no IP-Adapter of .* it holds nothing"),
    ("B4.11", lambda b: b.style(b.tensors("lora/pytorch_lora_weights.safetensors")),
     "it looks like a LoRA, to be given"),
    ("B4.11 as a LoRA", lambda b: b.lora(b.adapter),
     "is no LoRA .* it looks like an IP-Adapter, to be given as ip_ada"),
    ("B4.11 as a net", lambda b: b.control(b.file(b.adapter)), "is no ControlNet .* it looks like an IP-Adapter"),
    ("B4.14", lambda b: ctrl.sample(ctrl.load(pipe(b.model)), RECIPE.replace(styles=[ctrl.Style(RGB)])),
     r"this model has no IP-Adapter; it has none: load\(..., ip_adapter=...\)"),
    ("B4.26", lambda b: b.control(tiny_formats.controlnet(tiny_formats.sdxl().unet)),
     "the it ControlNet was made for another model: its cross_attention_dim is 128, not 32|and 32 here"),
    ("B4.26 in a folder", lambda b: b.control(saved(other_unet(cross_attention_dim=64), b.place)),
     "cross_attention_dim"),
    ("B4.27", lambda b: b.control(other_unet(layers_per_block=2)), "it adds to 9 skips, .* there are 6 here"),
    ("B4.27 in a folder", lambda b: b.control(saved(other_unet(layers_per_block=2), b.place)), "it adds to 9 skips"),
    ("B4.27 of channels", lambda b: b.control(other_unet(in_channels=4)), "its in_channels is 4, not 8|in_channels"),
    ("B4.27 of hints", lambda b: b.control(other_unet(hints=(8, 8, 16, 16))),
     "reads 8 pixels as one, and a latent of this model is 4"),
    ("B4.28", lambda b: b.control(copy.deepcopy(b.model.controlnet("pose").module).half()),
     "the it ControlNet is in torch.float16 on cpu and the U-Net in torch.float32 on cpu; give it as net.to"),
    ("B4.28 without data", lambda b: b.control(copy.deepcopy(b.model.controlnet("pose").module).to("meta")),
     "on meta and the"),
    ("B4.28 of no kind", lambda b: b.control(torch.nn.Linear(1, 1)), "must be a ControlNetModel .* got a Linear"),
    ("B4.48 of a LoRA", lambda b: b.lora(changed_lora(b, "mid_block", "mid_blocks")),
     "changes unet.mid_blocks.* does not"),
    ("B4.48 of sizes", lambda b: b.lora(resized_lora(b)), r"\(8, 4\) times \(4, 9\), and the weight is \(8, 8\)"),
    ("B4.48 of a kind", lambda b: b.run(controls=[ctrl.Control("scribble", RGB)]),
     "no ControlNet for 'scribble'; it has"),
    ("B4.48 of a name", lambda b: b.run(loras=[ctrl.Lora("ink")]), r"has no LoRA 'ink'; it has lcm: load\(..., lora="),
    ("B4.48 of kinds", lambda b: b.load(controlnets=[b.place]),
     "controlnets must map kinds to ControlNets, .* got list"),
    ("B4.48 of numbers", lambda b: b.load(controlnets={3: b.place}), "must be short strings, .* got 3"),
    ("B4.48 of another", lambda b: b.load(controlnets={"openpose": b.place}),
     "'openpose', which ctrl calls 'pose'"),
    ("B4.48 of no place", lambda b: b.load(controlnets={"a": 3}), r"controlnets\['a'\] must be a path, a hub id"),
    ("B4.48 of a list", lambda b: b.load(ip_adapter=["a"]), "ip_adapter must be a path, a hub id .* got"),
]  # fmt: skip
PLACES = [
    ("B5.00 of a model", lambda b: ctrl.sample(None, RECIPE), "model must be a Model, got NoneType; ctrl.load"),
    ("B5.00 turned round", lambda b: ctrl.sample(RECIPE, b.model), "model must be a Model, got Recipe"),
    (
        "B5.00 of a recipe",
        lambda b: ctrl.steps(b.model, "a cat"),
        "recipe must be a Recipe, got str; write ctrl.Recipe",
    ),
    ("B5.05", lambda b: ctrl.sample(b.model, RECIPE, on_step=3), "on_step must be a function of a Step, got 3"),
    ("B5.05 of no step", lambda b: ctrl.sample(b.model, RECIPE, lambda: 0), r"one argument, a Step, and it takes \(\)"),
    ("B5.20 of a device", lambda b: ctrl.load(b.folder, device="gpu"), "device must be auto, cpu, cuda, .* got 'gpu'"),
    ("B5.20 of none", lambda b: ctrl.load(b.folder, device=None), "device must be auto, cpu, cuda, .* got None"),
    (
        "B5.20 without data",
        lambda b: ctrl.load(b.folder, device="meta"),
        "device must be auto, cpu, cuda, .* got 'meta'",
    ),
    ("B5.20 of many", lambda b: ctrl.load(b.folder, device="cuda:99"), "device 'cuda:99' is not available"),
    ("B5.19 of a type", lambda b: b.load(dtype=torch.int8), "dtype must be one of torch.float32, .* got torch.int8"),
    ("B5.19 of a word", lambda b: b.load(dtype="float16"), "dtype must be one of torch.float32, .* got 'float16'"),
    ("B5.08 of tell", lambda b: b.load(tell=3), "tell must be a function of a sentence, got 3"),
    ("B6.28", lambda b: Hub("owner/name", "../../x"), "path must be inside the repository, .* got '../../x'"),
    ("B6.31", lambda b: ctrl.load(b.place / "none", device="cpu"), "source must be .* is no folder and no file"),
    ("B6.31 like a path", lambda b: ctrl.load("./no/such", device="cpu"), "'./no/such' is no folder and no file"),
    ("B6.31 of nothing", lambda b: ctrl.load("", device="cpu"), "source must be .* '' is no folder"),
    ("B6.31 long", lambda b: ctrl.load("a" * 5000, device="cpu"), "source must be .* 'aaa"),
    ("B6.31 of a number", lambda b: ctrl.load(3, device="cpu"), "source must be a path, a hub id .* got 3"),
    ("B6.32", lambda b: ctrl.load("no/such.safetensors", device="cpu"), "is no folder and no file"),
    (
        "B6.32 of an address",
        lambda b: ctrl.load("https://a.org/a.safetensors", device="cpu"),
        "is no folder and no file",
    ),
    ("B6.32 of a pickle", lambda b: ctrl.load(b.written("a.ckpt", b"PK"), device="cpu"), "must be a .safetensors file"),
    ("B6.34", lambda b: b.load(revision="main"), "revision is for the hub, and source is .* leave it out"),
    ("B6.34 of a number", lambda b: b.load(revision=3), "revision must be a branch, a tag or a commit"),
    (
        "B6.44",
        lambda b: ctrl.Recipe.load("none.png"),
        "path must be a PNG or JSON file, but there is no file 'none.png'",
    ),
    ("B6.44 of a number", lambda b: ctrl.Recipe.load(3), "path must be the path of a PNG or JSON file, got int"),
    (
        "B6.44 of an address",
        lambda b: ctrl.Recipe.load("https://a.org/a.png"),
        "path must be a local file, got the addr",
    ),
    ("B6.48", lambda b: b.run(loras=[ctrl.Lora("lcm"), ctrl.Lora("none")]), "has no LoRA 'none'"),
]
REFUSED = [*PICTURES, *PROMPTS, *NUMBERS, *EXTRAS, *PLACES]


def pipe(model: Model) -> Any:
    """A pipeline of the model's own parts, which has no adapters."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    tower = model.parts.text_encoders[0]
    return StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=tower.encoder,
        tokenizer=tower.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler.from_config(dict(model.parts.scheduler)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def changed_lora(bench: Bench, old: str, new: str) -> dict[str, torch.Tensor]:
    held = bench.tensors("lora/pytorch_lora_weights.safetensors")
    return {key.replace(old, new): tensor for key, tensor in held.items()}


def resized_lora(bench: Bench) -> dict[str, torch.Tensor]:
    held = bench.tensors("lora/pytorch_lora_weights.safetensors")
    return held | {next(key for key in held if key.endswith("lora_A.weight")): torch.ones(4, 9)}


def is_one_sentence(message: str) -> bool:
    return "\n" not in message and 15 < len(message) < 700 and not re.search(r"\w\. [A-Z]", message)


@pytest.mark.parametrize(("call", "sentence"), [pytest.param(call, says, id=row) for row, call, says in REFUSED])
def test_a_bad_input_is_refused_in_a_sentence_that_names_it(bench, call, sentence):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=sentence) as caught:
        call(bench)
    assert type(caught.value) in (ValueError, TypeError, FileNotFoundError)
    assert is_one_sentence(str(caught.value))


@pytest.mark.slow
def test_the_run_after_all_refusals_is_bit_equal_to_the_one_before(bench, before):
    for _, call, _ in [*NUMBERS, *EXTRAS[-3:], *PLACES[:6]]:
        with pytest.raises((ValueError, TypeError, FileNotFoundError)):
            call(bench)
    assert bits(bench.model) == before


def flat(colour: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new(mode, size, colour)


def palette(clear: bool) -> Image.Image:
    image = Image.new("P", (16, 16))
    image.putpalette([200, 100, 50])
    if clear:
        image.info["transparency"] = 0
    return image


def turned(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB[:32]).save(path, exif=exif)
    return path


SHADES = np.linspace(0, 65535, 256).reshape(16, 16)
EIGHT = np.round(SHADES / 65535 * 255).astype(np.uint8)
TAKEN = [
    ("B1.01", lambda b: flat((9, 9, 9, 0), "RGBA"), lambda b: flat((0, 0, 0))),
    ("B1.02", lambda b: flat((9, 0), "LA"), lambda b: flat((0, 0, 0))),
    ("B1.03", lambda b: palette(clear=False), lambda b: flat((200, 100, 50))),
    ("B1.03 clear", lambda b: palette(clear=True), lambda b: flat((0, 0, 0))),
    ("B1.04", lambda b: b.png(picture=SHADES.round().astype(np.uint16)), lambda b: EIGHT),
    ("B1.05", lambda b: Image.fromarray(SHADES.round().astype(np.int32)), lambda b: EIGHT),
    ("B1.06", lambda b: Image.fromarray((SHADES / 65535).astype(np.float32)), lambda b: EIGHT),
    ("B1.07", lambda b: turned(b.place / "a.png"), lambda b: np.rot90(RGB[:32], -1)),
    ("B1.14", lambda b: RGB, lambda b: Image.fromarray(RGB)),
    ("B1.15", lambda b: RGB / 255, lambda b: RGB),
    ("B1.16", lambda b: RGB[None], lambda b: RGB),
    ("B1.17", lambda b: torch.from_numpy(RGB).permute(2, 0, 1)[None], lambda b: RGB),
    ("B1.18", lambda b: torch.from_numpy(RGB).permute(2, 0, 1), lambda b: RGB),
    ("B1.19", lambda b: torch.from_numpy(RGB)[None], lambda b: RGB),
    ("B1.19 of numpy", lambda b: RGB.transpose(2, 0, 1)[None], lambda b: RGB),
    ("B1.22", lambda b: GREY, lambda b: Image.fromarray(GREY)),
    ("B1.23", lambda b: torch.from_numpy(GREY)[None, None] / 255, lambda b: GREY),
    ("B1.24", lambda b: torch.eye(4)[:1, :, None, None].expand(1, 4, 9, 9), lambda b: np.zeros((9, 9, 3), np.uint8)),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), [pytest.param(*roads, id=row) for row, *roads in TAKEN])
def test_a_picture_is_taken_for_what_it_is(bench, given, expected):
    control = ctrl.Depth(given(bench))
    assert control.picture == ctrl.Picture.of(expected(bench))
    assert not np.array_equal(control.hint(64, 64), ctrl.Depth(np.full((16, 16), 77, np.uint8)).hint(64, 64))


def test_transparency_is_black_in_a_control_and_white_in_a_style():  # B1.01
    clear = flat((9, 9, 9, 0), "RGBA")
    assert ctrl.Depth(clear).picture.pixels.max() == 0
    assert ctrl.Style(clear).picture.pixels.min() == 255
    assert ctrl.Recipe("a", image=clear).image.pixels.min() == 255


def test_a_picture_is_copied_when_it_is_handed_over(bench):  # B1.42
    array, path = RGB.copy(), bench.png()
    controls = ctrl.Depth(array), ctrl.Depth(path), ctrl.Depth(opened := Image.open(path))
    array[:] = 0
    opened.close()
    path.unlink()
    assert all(control.picture == ctrl.Picture.of(RGB) for control in controls)


def frames(bench: Bench) -> Path:
    return bench.png("a.webp", Image.fromarray(RGB), save_all=True, append_images=[flat((1, 2, 3), size=(64, 64))])


LONG = "a red ball, " * 200
BLACK = np.zeros((64, 64), np.uint8)
NOTED = [
    ("B1.01", lambda b: {"controls": [ctrl.Depth(flat((9, 9, 9, 0), "RGBA", (64, 64)))]},
     "Depth: the picture was transparent in 100% of it, and is black there"),
    ("B1.02", lambda b: {"styles": [ctrl.Style(flat((9, 0), "LA", (64, 64)))]}, "Style: .* and is white there"),
    ("B1.03", lambda b: {"controls": [ctrl.Depth(RGB, mask=palette(clear=True))]}, "Depth's mask: .* was transparent"),
    ("B1.09", lambda b: {"controls": [ctrl.Edges(GREY[:8, :8])]}, "Edges: the picture of 8×8 was enlarged to 64×64"),
    ("B1.11", lambda b: {"image": np.zeros((4100, 4100), np.uint8)}, "image: .* reduced from 4100×4100 to 4096×4096"),
    ("B1.28", lambda b: {"controls": [ctrl.Depth(GREY[:61, :40])]},
     "Depth: the picture of 40×61 was stretched to 64×64"),
    ("B1.28 cropped", lambda b: {"controls": [ctrl.Depth(GREY[:, :40], resize="crop")]},
     "of 40×64 was cropped to 64×64"),
    ("B1.37", lambda b: {"controls": [ctrl.Depth(frames(b))]}, "Depth: .* frames, of which the first was taken"),
    ("B1.39", lambda b: {"controls": [ctrl.Depth(GREY), ctrl.Edges(GREY[:32])]},
     "Edges: the picture of 64×32 was stretch"),
    ("B1.41", lambda b: {"image": np.zeros((8, 512), np.uint8)}, "image: the picture of 512×8 was stretched to 64×64"),
    ("B2.02", lambda b: {"prompt": LONG}, "the prompt was too long for the text encoder; it did not see: '.*red ball"),
    ("B2.02 negative", lambda b: {"negative": LONG}, "the negative was too long for the text encoder"),
    ("B2.02 of a region", lambda b: {"regions": [ctrl.Region(LONG, GREY)]}, "the region's prompt was too long"),
    ("B3.16", lambda b: {"controls": [ctrl.Depth(RGB, ctrl.hold(1, start=0.9))]},
     "Depth acts in 0 of 2 steps: its window"),
    ("B3.16 by noise", lambda b: {"styles": [ctrl.Style(RGB, ctrl.hold(1, start=0.7, until=0.71, by="noise"))]},
     "Style acts in 0 of 2 steps"),
    ("B3.16 of guidance", lambda b: {"guidance": ctrl.hold(7, start=0.6, until=0.9)}, "guidance acts in 0 of 2 steps"),
    ("B3.16 of PAG", lambda b: {"guidance": ctrl.Guidance(6, perturb=[ctrl.PAG(ctrl.hold(1, until=0.1))])},
     "PAG acts in 0"),
    ("B3.16 of fewer", lambda b: {"image": RGB, "strength": 0.5, "styles": [ctrl.Style(RGB, ctrl.hold(1, until=0.5))]},
     "Style acts in 0 of 1 steps"),
    ("B3.16 held still", lambda b: {"guidance": ctrl.Guidance(6, zero=ctrl.CFGZero(9))},
     "CFGZero holds all 2 steps still"),
    ("B3.20", lambda b: {"guidance": 0.5}, "guidance 0.5 is off, as it is up to 1"),
    ("B3.20 negative", lambda b: {"guidance": 1, "negative": "b"},
     "guidance 1 is off, so the negative prompt has no effect"),
    ("B3.20 refined", lambda b: {"guidance": ctrl.Guidance(1, apg=ctrl.APG())}, "so apg, zero and map have no effect"),
    ("B3.39", lambda b: {"strength": 0.5}, "strength 0.5 has no effect without an image"),
    ("black mask of a control", lambda b: {"controls": [ctrl.Depth(RGB, mask=BLACK)]},
     "^Depth's mask is black all over, so Depth has no effect$"),
    ("black mask of a style", lambda b: {"styles": [ctrl.Style(RGB, mask=BLACK)]}, "so Style has no effect$"),
    ("black mask of a region", lambda b: {"regions": [ctrl.Region("b", BLACK)]}, "so the region has no effect$"),
    ("black mask of an image", lambda b: {"image": RGB, "mask": BLACK}, "^mask is .* so the image stays as it is$"),
    ("black map", lambda b: {"guidance": ctrl.Guidance(6, map=BLACK)}, "^guidance's map is .* has no effect$"),
    ("a LoRA twice", lambda b: {"loras": [ctrl.Lora("lcm", 0.5), ctrl.Lora("lcm", 0.25)]},
     "^LoRA 'lcm' is listed 2 times, which amounts to a weight of 0.75$"),
    ("a LoRA that is not there", lambda b: {"loras": [ctrl.Lora("ink", 0)]},
     "^the model has no LoRA 'ink'; at weight 0 it is not needed$"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "note"), [pytest.param(make, says, id=row) for row, make, says in NOTED])
def test_what_is_cut_changed_or_without_effect_is_noted_on_the_shot(bench, capfd, changes, note):
    shot = bench.run(**changes(bench))
    assert any(re.search(note, said) for said in shot.notes)
    assert len({*shot.notes}) == len(shot.notes)
    assert "ball" not in "".join(capfd.readouterr())  # on the shot, and not in a log


def test_an_ordinary_run_has_no_notes(bench):
    assert bench.run().notes == ()
    more = {"controls": FULL.controls, "styles": FULL.styles, "guidance": ctrl.ramp(6, 2)}
    assert bench.run(**more, width=64.0, height=64).notes == ()


@pytest.mark.parametrize("same", [1, 1.0, np.float32(1), np.int64(1)])
def test_a_number_may_be_any_real_number(bench, same):  # B1.31, B3.04, B3.05
    assert ctrl.Depth(RGB, same) == ctrl.Depth(RGB)
    assert RECIPE.replace(width=same * 64, height=np.float32(64)) == RECIPE.replace(width=64, height=64)
    assert isinstance(ctrl.Depth(RGB, same).weight, float)


def test_any_text_is_a_prompt_and_stays_text(bench, capfd):  # B2.01, B2.03, B2.12
    markup = "</script><img src=x onerror=alert(1)> $\\href{javascript:1}{x}$ {{7*7}} %s {0}"
    for prompt in ("", "\0", "👩\u200d👩\u200d👧 \u202eabc\u0301\u0301", markup):
        shot = bench.run(prompt=prompt)
        back = ctrl.Recipe.from_json(shot.recipe.to_json())
        assert back.prompt == prompt
        names = {"ctrl": ctrl}
        exec(back.code(), names)
        assert names["recipe"].prompt == prompt
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_the_same_recipe_draws_the_same_picture_twice(bench):  # B3.36
    for sampler in ("euler a", "lcm", "dpm++ 2m sde"):
        assert bits(bench.model, FULL.replace(sampler=sampler)) == bits(bench.model, FULL.replace(sampler=sampler))


def test_a_bad_adapter_leaves_the_good_one_as_it_was(bench):  # B4.02, B4.04
    good = ctrl.Style(RGB, adapter="good")
    paths = [bench.place / name for name in ("good.safetensors", "bad.safetensors")]
    save_file(bench.adapter, paths[0])
    save_file(without(bench.adapter, "norm.bias"), paths[1])
    model = bench.load(ip_adapter={"good": paths[0], "bad": paths[1]})
    before = bits(model, RECIPE.replace(styles=[good]))
    with pytest.raises(ValueError, match=r"bad.safetensors is no IP-Adapter for this model"):
        ctrl.sample(model, RECIPE.replace(styles=[good, ctrl.Style(RGB, adapter="bad")]))
    assert bits(model, RECIPE.replace(styles=[good])) == before


def test_a_style_needs_an_image_encoder(bench):  # B4.12
    model = ctrl.load(pipe(bench.model), ip_adapter=bench.file(bench.adapter))
    with pytest.raises(ValueError, match="a style needs an image encoder, and there is none: put its folder"):
        ctrl.sample(model, RECIPE.replace(styles=[ctrl.Style(RGB)]))


def test_hooks_of_others_stay_and_are_called(bench):  # B4.19, B4.20
    seen = []
    handle = bench.model.unet.conv_in.register_forward_hook(lambda *_: seen.append(1))
    try:
        bench.run(styles=FULL.styles, controls=FULL.controls)
        assert len(seen) == 2
        assert handle.id in bench.model.unet.conv_in._forward_hooks
    finally:
        handle.remove()


def test_attention_that_somebody_changed_is_said_and_not_passed_over(bench):  # B4.21, B4.22
    model = bench.load()
    expected = bits(model, RECIPE)[0]
    own = model.unet.attn_processors
    for change in (lambda: model.unet.set_attention_slice("max"), model.unet.set_default_attn_processor):
        change()
        with pytest.raises(RuntimeError, match=r"no scaled_dot_product_attention call under \w*AttnProcessor: give"):
            ctrl.sample(model, RECIPE.replace(styles=FULL.styles))
        model.unet.set_attn_processor(dict(own))
    assert bits(model, RECIPE)[0] == expected


def test_a_unet_and_a_scheduler_may_serve_two_pipelines(bench):  # B4.24, B4.25
    one = pipe(bench.model)
    config = dict(one.scheduler.config)
    first, second = ctrl.load(one), ctrl.load(one)
    expected = bits(first, RECIPE)[0]
    styled = ctrl.load(one, controlnets={"depth": bench.model.controlnet("depth").module})
    ctrl.sample(styled, RECIPE.replace(controls=FULL.controls, sampler="lcm", spacing="default"))
    assert bits(second, RECIPE)[0] == bits(first, RECIPE)[0] == expected
    assert dict(one.scheduler.config) == config


def test_two_styles_of_which_one_has_no_weight_are_the_other_alone(bench):  # B4.34
    pair = [ctrl.Style(RGB, 1.0), ctrl.Style(255 - RGB, 0.0)]
    assert bench.run(styles=pair).image.tobytes() == bench.run(styles=pair[:1]).image.tobytes()


@pytest.mark.slow
def test_thirty_runs_with_everything_leave_no_object_behind(bench):  # B4.35
    small = FULL.replace(steps=1, width=16, height=16, loras=[])
    ctrl.sample(bench.model, small)
    gc.collect()
    before = len(gc.get_objects())
    for seed in range(30):
        ctrl.sample(bench.model, small.replace(seed=seed))
    gc.collect()
    assert len(gc.get_objects()) - before < 30


def test_a_file_that_changes_after_loading_changes_nothing(bench):  # B4.37
    file, lora = bench.file(bench.adapter), bench.place / "lora.safetensors"
    save_file(bench.tensors("lora/pytorch_lora_weights.safetensors"), lora)
    model = bench.load(ip_adapter=file, lora=lora)
    recipe = RECIPE.replace(styles=FULL.styles, loras=FULL.loras)
    before = bits(model, recipe)
    for path in (file, lora):
        with path.open("r+b") as opened:
            opened.seek(-2000, 2)
            opened.write(bytes(2000))
    assert bits(model, recipe) == before


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("where", ["torch.float16 on cpu", "torch.float32 on meta"])
def test_a_unet_that_was_moved_is_said(bench, when, where):  # B4.38, B5.19, B5.20
    model = bench.load()

    def move(*_):
        model.unet.half() if "16" in where else model.unet.to("meta")

    if when == "before":
        move()
    with pytest.raises(RuntimeError, match=f"its U-Net in torch.float32 on cpu, and now it is in {where}: load"):
        ctrl.sample(model, RECIPE, on_step=move)


FAILING = [  # where a run may fail: the owner and the name of what is called
    ("text encoder", lambda model: (model.parts.text_encoders[0].encoder, "forward")),
    ("tokenizer", lambda model: (type(model.parts.text_encoders[0].tokenizer), "__call__")),
    ("image encoder", lambda model: (model.ip_adapter().encoder, "forward")),
    ("picture processor", lambda model: (type(model.ip_adapter().processor), "preprocess")),
    ("ControlNet", lambda model: (model.controlnet("depth").module, "forward")),
    ("U-Net", lambda model: (model.unet, "forward")),
    ("middle block", lambda model: (model.unet.mid_block, "forward")),
    ("attention", lambda model: (model.unet.mid_block.attentions[0].transformer_blocks[0].attn2, "forward")),
    ("scheduler", lambda model: (solver.Solver, "step")),
    ("codec", lambda model: (model.vae.decoder, "forward")),
    ("picture", lambda model: (Image, "fromarray")),
]


@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError])
@pytest.mark.parametrize("where", [pytest.param(where, id=part) for part, where in FAILING])
def test_a_failure_anywhere_leaves_the_next_run_as_it_was(bench, before, monkeypatch, where, error):  # B5.07, B5.08
    model = bench.model
    owner, name = where(model)

    def fail(*_: Any, **__: Any) -> None:
        raise error("stop")

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fail)
        with pytest.raises(error, match="stop"):
            ctrl.sample(model, FULL.replace(loras=[]))
    assert bits(model) == before


def test_a_callback_that_fails_ends_the_run_and_one_that_answers_does_not(bench, before):  # B5.01, B5.02
    def fail(step: ctrl.Step) -> None:
        raise LookupError(f"enough at {step.index}")

    with pytest.raises(LookupError, match="enough at 0"):
        ctrl.sample(bench.model, FULL, on_step=fail)
    assert bits(bench.model) == before
    for answer in (None, 3, {"latents": None}):
        assert ctrl.sample(bench.model, FULL, on_step=lambda step, given=answer: given).image.tobytes() == before[0]


def test_a_run_may_be_closed_twice_and_before_it_began(bench, before):  # B5.09, B5.10, B5.12
    for begun in (0, 1):
        run = ctrl.steps(bench.model, FULL)
        for _ in range(begun):
            next(run)
        run.close()
        run.close()
        assert list(run) == []
    assert bits(bench.model) == before


def test_a_run_inside_a_run_changes_neither(bench):  # B5.16
    inner = FULL.replace(seed=1, guidance=3.0, sampler="euler")
    alone = [ctrl.sample(bench.model, recipe).image.tobytes() for recipe in (FULL, inner)]
    within = []

    def again(step: ctrl.Step) -> None:
        within.append(ctrl.sample(bench.model, inner).image.tobytes())

    outer = ctrl.sample(bench.model, FULL, on_step=again)
    assert [outer.image.tobytes(), *within] == [alone[0], alone[1], alone[1]]


@pytest.mark.parametrize("value", [NAN, INF])
def test_numbers_that_stop_being_finite_stop_the_run_at_their_step(bench, monkeypatch, value):  # B5.27
    asked = []
    inner = bench.model.unet.forward

    def spoil(*args: Any, **kwargs: Any) -> Any:
        (out,) = inner(*args, **kwargs)
        asked.append(out)
        return (out if len(asked) < 2 else out * value,)

    monkeypatch.setattr(bench.model.unet, "forward", spoil)
    seen = []
    with pytest.raises(FloatingPointError, match="the latents stopped being finite at step 2 of 2"):
        ctrl.sample(bench.model, RECIPE, on_step=seen.append)
    assert len(seen) == 1 and seen[0].latents.isfinite().all()  # what was finite was handed over


def test_a_full_disk_keeps_the_file_that_was_there(bench, monkeypatch):  # B5.30
    shot = bench.run()
    shot.save(bench.place / "a.png")
    kept = (bench.place / "a.png").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        bench.run(seed=8).save(bench.place / "a.png")
    assert (bench.place / "a.png").read_bytes() == kept
    assert [path.name for path in bench.place.iterdir()] == ["a.png"]
