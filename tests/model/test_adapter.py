"""IP-Adapters: what is read, what is refused, and that their terms are diffusers' own to the bit, in float32."""

import copy

import numpy as np
import pytest
import tiny_adapters
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.ip_adapter import IPAdapterMixin
from PIL import Image
from torch.overrides import TorchFunctionMode
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ctrl.attention import Hooks, Source, Term, sites, tap
from ctrl.model.ip_adapter.adapter import read_style_adapter, seen
from ctrl.model.ip_adapter.blocks import weights
from ctrl.model.ip_adapter.reference import StyleReference
from ctrl.model.loading.families import FAMILIES
from ctrl.rows import Rows

CPU, WIDTH = torch.device("cpu"), tiny_adapters.WIDTH
EMBEDDING = {"base": (WIDTH,), "plus": (17, WIDTH), "full": (17, WIDTH)}  # of one picture
UNETS = {"sd1": tiny_adapters.sd1(), "sdxl": tiny_adapters.sdxl()}
SD1 = UNETS["sd1"]
BLOCKS = {family.key: family.style_blocks for family in FAMILIES}


class Pipe(IPAdapterMixin):
    """The part of a diffusers pipeline that sets scales."""

    def __init__(self, unet):
        self.unet = unet


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(family, rows=2):
    added = {"text_embeds": noise(3, rows, WIDTH), "time_ids": noise(4, rows, 6)} if family == "sdxl" else {}
    sample, text = noise(1, 1, 4, 16, 8).repeat(rows, 1, 1, 1), noise(2, rows, 7, WIDTH)  # twice as high as wide
    return (sample, torch.tensor(500), text), added


@torch.no_grad()
def theirs(family, tensors, embeds, scales, masks=None, rows=2):
    """diffusers' output under these adapters, with embeddings (R, n, *S) and scales for each."""
    pipe = Pipe(copy.deepcopy(UNETS[family]))
    pipe.unet._load_ip_adapter_weights([tiny_adapters.nested(one) for one in tensors])
    pipe.set_ip_adapter_scale(scales)
    given, added = inputs(family, rows)
    kwargs = None if masks is None else {"ip_adapter_masks": masks}
    return pipe.unet(
        *given, added_cond_kwargs=added | {"image_embeds": embeds}, cross_attention_kwargs=kwargs, return_dict=False
    )[0]


def at(style, weight, *, guided=True, perturbed=0):
    """The edit of a step with this weight."""
    return style.at(weight, Rows(pictures=len(style.cond), guided=guided, perturbed=perturbed))


def tapped(unet, edits):
    return tap(sites(unet, kind="all"), Hooks(edits))


@torch.no_grad()
def ours(family, edits, rows=2):
    given, added = inputs(family, rows)
    with tapped(UNETS[family], edits):
        return UNETS[family](*given, added_cond_kwargs=added, return_dict=False)[0]


@pytest.fixture
def read(tmp_path):
    def reader(tensors, unet=SD1, dtype=torch.float32):
        file = tiny_adapters.write(tensors, tmp_path / "style.safetensors")
        return read_style_adapter(file, unet, CPU, dtype)

    return reader


@pytest.fixture(scope="module")
def encoder(folder):
    return CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor(folder):
    return CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")


@pytest.fixture(scope="module")
def small(folder):
    """The U-Net of tests/tiny.py: three levels, cross-attention in all."""
    return UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32).eval()


def names(unet=SD1):
    return [site.name for site in sites(unet)]


def everywhere(unet=SD1):
    return weights("all", names(unet), None)


@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("layout", ["base", "plus", "full"])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_style_adds_what_diffusers_adds(read, family, layout, pictures):
    unet = UNETS[family]
    tensors = getattr(tiny_adapters, layout)(unet)
    cond, uncond = (noise(seed, 1, pictures, *EMBEDDING[layout]) for seed in (5, 6))
    style = StyleReference.of(read(tensors, unet), cond, uncond, blocks=everywhere(unet))
    expected = theirs(family, [tensors], [torch.cat([uncond, cond])], 0.7)
    assert torch.equal(ours(family, [at(style, 0.7)]), expected)
    assert not torch.equal(ours(family, []), expected)


def test_two_adapters_each_with_its_own_weight_and_number_of_tokens(read):
    tensors = [tiny_adapters.base(SD1, tokens=4), tiny_adapters.plus(SD1, seed=2)]
    cond = [noise(5, 1, 1, WIDTH), noise(6, 1, 2, 17, WIDTH)]
    styles = [
        StyleReference.of(read(one), embeds, embeds / 2, blocks=everywhere())
        for one, embeds in zip(tensors, cond, strict=True)
    ]
    expected = theirs("sd1", tensors, [torch.cat([one / 2, one]) for one in cond], [0.7, 0.4])
    assert torch.equal(ours("sd1", [at(styles[0], 0.7), at(styles[1], 0.4)]), expected)
    swapped = ours("sd1", [at(styles[1], 0.4), at(styles[0], 0.7)])
    assert torch.allclose(swapped, expected, atol=1e-5)  # a sum of floats in another order


def test_soft_masks_and_a_weight_for_each_picture(read):
    tensors = tiny_adapters.plus(SD1)
    embeds = noise(5, 1, 2, 17, WIDTH)
    masks = torch.rand(1, 2, 128, 64, generator=torch.Generator().manual_seed(6))
    adapter = read(tensors)
    edits = []
    for number, weight in enumerate((0.7, 0.4)):
        one = embeds[:, number : number + 1]
        style = StyleReference.of(adapter, one, one / 2, blocks=everywhere(), mask=masks[:, number : number + 1])
        edits.append(at(style, weight))
    expected = theirs("sd1", [tensors], [torch.cat([embeds / 2, embeds])], [[0.7, 0.4]], [masks])
    assert torch.equal(ours("sd1", edits), expected)


def test_masks_of_a_batch_go_to_their_pictures(read):
    adapter, blocks = read(tiny_adapters.base(SD1)), everywhere()
    embeds, mask = noise(5, 2, 1, WIDTH), torch.rand(2, 1, 128, 64, generator=torch.Generator().manual_seed(6))
    both = StyleReference.of(adapter, embeds, embeds / 2, blocks=blocks, mask=mask)
    out = ours("sd1", [at(both, 0.7)], rows=4)  # uncond, uncond, cond, cond
    one = StyleReference.of(adapter, embeds[1:], embeds[1:] / 2, blocks=blocks, mask=mask[1:])
    given, _ = inputs("sd1", rows=4)
    with torch.no_grad(), tapped(SD1, [at(one, 0.7)]):
        alone = SD1(given[0][:2], given[1], given[2][[1, 3]], return_dict=False)[0]
    assert torch.allclose(out[[1, 3]], alone, atol=1e-5)
    assert not torch.allclose(out[[0, 2]], alone, atol=1e-2)


SCALES = [
    ("sdxl", "style", {"up": {"block_0": [0.0, 1.0, 0.0]}}),
    ("sdxl", "layout", {"down": {"block_2": [0.0, 1.0]}}),
    ("sdxl", "style+layout", {"down": {"block_2": [0.0, 1.0]}, "up": {"block_0": [0.0, 1.0, 0.0]}}),
    ("sd1", "style+layout", {"down": {"block_2": 1.0}, "mid": 1.0, "up": {"block_1": 1.0}}),
    ("sd1", "layout (comfyui)", {"down": {"block_2": [0.25, 1.0]}}),
    ("sd1", {"up_blocks.2": 0.5, "mid_block": 2}, {"mid": 2.0, "up": {"block_2": 0.5}}),
]


@pytest.mark.parametrize(("family", "blocks", "scale"), SCALES)
def test_blocks_are_diffusers_scales(read, family, blocks, scale):
    unet = UNETS[family]
    tensors = tiny_adapters.base(unet)
    embeds = noise(5, 1, 1, WIDTH)
    chosen = weights(blocks, names(unet), BLOCKS[family])
    style = StyleReference.of(read(tensors, unet), embeds, torch.zeros_like(embeds), blocks=chosen)
    expected = theirs(family, [tensors], [torch.cat([torch.zeros_like(embeds), embeds])], scale)
    assert torch.equal(ours(family, [at(style, 1.0)]), expected)


def test_average_is_the_mean_embedding_and_a_negative_picture_changes_uncond_only(read):
    tensors = tiny_adapters.plus(SD1)
    cond, negative = noise(5, 1, 3, 17, WIDTH), noise(6, 1, 1, 17, WIDTH)
    adapter = read(tensors)
    mean = StyleReference.of(adapter, cond, negative, blocks=everywhere(), combine="average")
    expected = theirs("sd1", [tensors], [torch.cat([negative, cond.mean(1, keepdim=True)])], 0.7)
    assert torch.equal(ours("sd1", [at(mean, 0.7)]), expected)
    beside = StyleReference.of(adapter, cond, negative, blocks=everywhere())
    expected = theirs("sd1", [tensors], [torch.cat([negative.repeat(1, 3, 1, 1), cond])], 0.7)
    led = ours("sd1", [at(beside, 0.7)])
    assert torch.equal(led, expected)
    blank = ours("sd1", [at(StyleReference.of(adapter, cond, 0 * negative, blocks=everywhere()), 0.7)])
    assert torch.equal(led[1], blank[1])
    assert not torch.allclose(led[0], blank[0], atol=1e-3)
    with pytest.raises(ValueError, match="combine must be 'concat' or 'average', got 'add'"):
        StyleReference.of(adapter, cond, negative, blocks=everywhere(), combine="add")


@pytest.mark.parametrize("layout", ["base", "plus"])
def test_pictures_are_encoded_as_the_pipeline_encodes_them(folder, small, processor, tmp_path, layout):
    tensors = getattr(tiny_adapters, layout)(small)
    file = tiny_adapters.write(tensors, tmp_path / "style.safetensors")
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.feature_extractor = processor
    pipe.load_ip_adapter(str(tmp_path), subfolder="", weight_name=file.name)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (50, 80, 3), np.uint8)) for _ in range(2)]
    with torch.no_grad():
        expected = pipe.prepare_ip_adapter_image_embeds([pictures], None, CPU, 1, True)[0]  # (2, 2, *S)
    adapter = read_style_adapter(file, small, CPU, torch.float32)
    pixels = processor(pictures, return_tensors="pt").pixel_values
    found = [adapter.blank(pipe.image_encoder, pixels), adapter.embed(pipe.image_encoder, pixels)]
    assert torch.equal(torch.stack(found), expected)
    with torch.no_grad():
        tokens = pipe.unet.encoder_hid_proj([expected])[0]  # (2, 2, t, D)
    assert torch.equal(adapter.tokens(expected), tokens.flatten(1, 2))


def every_time(adapter, tokens, weight, mask):
    """The same term by the plain formula, keeping nothing."""

    def edit(call, terms):
        pair = adapter.projections[call.site]
        rows, heads, _, depth = call.q.shape
        k, v = (F.linear(tokens, one).view(rows, -1, heads, depth).transpose(1, 2) for one in (pair.to_k, pair.to_v))
        shrunk = F.interpolate(mask, size=(call.height, call.width), mode="bicubic").reshape(1, 1, -1, 1)
        return [*terms, Term(call.q, k, v, gate=weight, mask=shrunk)]

    return edit


class Count(TorchFunctionMode):
    """Counts the products with any of these weights."""

    def __init__(self, counted):
        self.counted, self.calls = {id(tensor) for tensor in counted}, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls += func is F.linear and id(args[1]) in self.counted
        return func(*args, **(kwargs or {}))


def test_keys_and_values_are_projected_once_a_run_and_equal_those_of_every_step(read):
    adapter, blocks = read(tiny_adapters.plus(SD1)), everywhere()
    cond, uncond = noise(5, 1, 2, 17, WIDTH), noise(6, 1, 2, 17, WIDTH)
    mask = torch.rand(1, 1, 64, 32, generator=torch.Generator().manual_seed(7))
    style = StyleReference.of(adapter, cond, uncond, blocks=blocks, mask=mask)
    projected = [weight for pair in adapter.projections.values() for weight in (pair.to_k, pair.to_v)]
    with Count([*projected, *adapter.projection.parameters()]) as count:
        first = ours("sd1", [at(style, 0.3)])
        once = count.calls
        second = ours("sd1", [at(style, 0.9)])
    assert once >= len(projected) == 32
    assert count.calls == once
    for weight, out in ((0.3, first), (0.9, second)):
        anew = every_time(adapter, adapter.tokens(torch.cat([uncond, cond])), weight, mask)
        assert torch.equal(ours("sd1", [anew]), out)


@pytest.mark.slow
def test_rows_follow_the_branches_of_a_step(read):
    tensors = tiny_adapters.base(SD1)
    cond, uncond = noise(5, 1, 1, WIDTH), noise(6, 1, 1, WIDTH)
    style = StyleReference.of(read(tensors), cond, uncond, blocks=everywhere())
    for guided, perturbed in ((False, 0), (True, 0), (True, 1), (False, 1), (True, 2)):
        rows = Rows(pictures=1, guided=guided, perturbed=perturbed)
        embeds = torch.cat([uncond if branch == "uncond" else cond for branch in rows.branches])
        expected = theirs("sd1", [tensors], [embeds], 0.7, rows=len(rows))
        assert torch.equal(ours("sd1", [style.at(0.7, rows)], rows=len(rows)), expected)
    with pytest.raises(ValueError, match=r"prepared for 1 rows, and unet\.\S+ got 2"):
        ours("sd1", [at(style, 0.7, guided=False)])
    with pytest.raises(ValueError, match="prepared for 1 pictures, and rows has 2"):
        style.at(0.7, Rows(pictures=2, guided=False))


def test_an_observer_is_told_which_style_a_term_is_of_and_of_how_many_pictures(read):
    adapter, heard = read(tiny_adapters.base(SD1)), {}
    embeds = [noise(5, 1, pictures, WIDTH) for pictures in (1, 3, 2)]
    combine = ("concat", "concat", "average")
    styles = [
        StyleReference.of(adapter, one, one / 2, blocks=everywhere(), combine=how)
        for one, how in zip(embeds, combine, strict=True)
    ]
    rows = Rows(pictures=1, guided=True)
    edits = [style.at(0.5, rows, index) for index, style in enumerate(styles)]
    given, _ = inputs("sd1")
    tokens = [style.tokens(rows).shape[1] for style in styles]
    hooks = Hooks(edits, [lambda call, terms: heard.update({call.site: terms})], rows=rows)
    with torch.no_grad(), tap(sites(SD1), hooks):
        SD1(*given, return_dict=False)
    assert set(heard) == set(names())
    expected = [Source("style", 0, 1), Source("style", 1, 3), Source("style", 2, 1)]  # the mean is one picture
    for text, *terms in heard.values():
        assert text.source == Source("prompt")
        assert [term.source for term in terms] == expected
        assert [term.k.shape[2] for term in terms] == tokens
    assert tokens[1] == 3 * tokens[0] == 3 * tokens[2]


def test_weight_zero_is_bit_equal_to_absent(read):
    adapter, plain = read(tiny_adapters.base(SD1)), ours("sd1", [])
    embeds = noise(5, 1, 1, WIDTH)
    nowhere = weights({"down_blocks": 0}, names(), BLOCKS["sd1"])
    style = StyleReference.of(adapter, embeds, embeds, blocks=everywhere())
    assert torch.equal(ours("sd1", [at(style, 0)]), plain)
    assert torch.equal(ours("sd1", [at(StyleReference.of(adapter, embeds, embeds, blocks=nowhere), 1.0)]), plain)
    asked = []
    with Count([adapter.projections[name].to_k for name in names()]) as count:
        only = StyleReference.of(adapter, embeds, embeds, blocks=weights({"mid_block": 1}, names(), BLOCKS["sd1"]))
        edits = [at(only, 1.0), lambda call, terms: asked.append((call.site, len(terms))) or terms]
        assert not torch.equal(ours("sd1", edits), plain)
    assert count.calls == 1
    assert {site for site, terms in asked if terms > 1} == {name for name in names() if ".mid_block." in name}
    dark = StyleReference.of(adapter, embeds, embeds, blocks=everywhere(), mask=torch.zeros(1, 1, 8, 4))
    assert torch.equal(ours("sd1", [at(dark, 1.0)]), plain)
    white = StyleReference.of(adapter, embeds, embeds, blocks=everywhere(), mask=torch.ones(1, 1, 8, 4))
    assert torch.allclose(ours("sd1", [at(white, 1.0)]), ours("sd1", [at(style, 1.0)]), atol=1e-5)


def without(key):
    return lambda tensors: tensors.pop(key)


def become(key, tensor):
    return lambda tensors: tensors.update({key: tensor})


K = "ip_adapter.1.to_k_ip.weight"
REFUSED = [
    (
        "base",
        without("ip_adapter.7.to_v_ip.weight"),
        r"16 cross-attention layers; .*: 1, such as ip_adapter\.7",
    ),
    ("base", become("ip_adapter.33.to_k_ip.weight", torch.zeros(8, 32)), r"such as ip_adapter\.33\.to_k_ip\.weight"),
    ("base", become("image_proj.extra", torch.zeros(1)), r"such as image_proj\.extra"),
    ("base", without("image_proj.norm.bias"), r"such as image_proj\.norm\.bias"),
    ("base", become(K, torch.zeros(8, 48)), "made for a text width of 48; this model has 32"),
    ("base", become(K, torch.zeros(16, 32)), rf"{K} is float32 of shape \(16, 32\).* \(8, 32\) are needed"),
    ("base", become(K, torch.zeros(8)), "does not fit this model"),
    ("base", become(K, torch.zeros(8, 32, dtype=torch.int8)), "is int8 of shape"),
    ("base", become("image_proj.proj.weight", torch.zeros(130, 32)), r"of shape \(130, 32\).* \(128, 32\) are needed"),
    ("base", become("image_proj.proj.weight", torch.zeros(32)), "image_proj.proj.weight is missing or has another"),
    ("base", become(K, torch.full((8, 32), torch.nan)), f"NaN or infinite numbers in {K}"),
    ("base", become(K, torch.full((8, 32), 1e6)), r"infinite numbers in .* \(read as torch\.float16\)"),
    ("plus", without("image_proj.latents"), "no IP-Adapter of the base, plus or full layout"),
    ("plus", without("image_proj.layers.2.0.to_q.weight"), r"tensors: 1, such as image_proj\.layers\.2\.0\.to_q"),
    ("plus", without("image_proj.proj_in.weight"), r"image_proj\.proj_in\.weight is missing"),
    ("plus", become("image_proj.layers.1.0.to_kv.weight", torch.zeros(128, 24)), r"to_kv.* \(256, 24\) are needed"),
    ("plus", become("image_proj.layers.0.0.to_q.weight", torch.zeros(100, 24)), "does not fit this model"),
    ("plus", become("image_proj.latents", torch.zeros(1, 0, 24)), "latents is float32 of shape"),
    ("plus", become("image_proj.norm_out.bias", torch.full((32,), torch.inf)), "infinite numbers in image_proj.norm"),
    ("full", without("image_proj.proj.3.bias"), r"such as image_proj\.proj\.3\.bias"),
    ("face", lambda tensors: None, "FaceID adapter"),
    ("face", without("ip_adapter.0.to_q_lora.down.weight"), "FaceID adapter"),
    ("base", lambda tensors: tensors.clear(), "it holds nothing"),
]


@pytest.mark.parametrize(("layout", "change", "sentence"), REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_is_touched(read, layout, change, sentence):
    tensors = getattr(tiny_adapters, layout)(SD1)
    change(tensors)
    before, drawn = {name: id(one) for name, one in SD1.named_parameters()}, torch.get_rng_state()
    with pytest.raises(ValueError, match=sentence) as error:
        read(tensors, dtype=torch.float16)
    said = str(error.value)
    assert said.startswith("style.safetensors ")
    assert said.endswith(".")
    assert ". " not in said
    assert {name: id(one) for name, one in SD1.named_parameters()} == before
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_file_that_was_cut_is_refused_and_one_that_changes_later_does_no_harm(read, tmp_path):
    tensors, drawn = tiny_adapters.plus(SD1), torch.get_rng_state()
    adapter = read(tensors)
    assert torch.equal(torch.get_rng_state(), drawn)
    embeds = noise(5, 1, 1, 17, WIDTH)
    kept, key = adapter.tokens(embeds), adapter.projections[names()[0]].to_k.clone()
    file = tmp_path / "style.safetensors"
    with file.open("r+b") as opened:
        opened.seek(-file.stat().st_size // 2, 2)
        opened.write(b"\xff" * (file.stat().st_size // 2))
    assert torch.equal(adapter.tokens(embeds), kept)
    assert torch.equal(adapter.projections[names()[0]].to_k, key)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"style\.safetensors cannot be read as safetensors"):
        read_style_adapter(file, SD1, CPU, torch.float32)


def test_the_image_encoder_must_be_the_adapters(read, encoder):
    pixels = noise(5, 1, 3, 32, 32)
    sentence = r"reads image_embeds of width 1024 \(CLIP ViT-H/14\), and this image encoder's are of width 32: use"
    adapter = read(tiny_adapters.base(SD1, embed=1024))
    for ask in (adapter.embed, adapter.blank):
        with pytest.raises(ValueError, match=sentence):
            ask(encoder, pixels)
    with pytest.raises(ValueError, match="reads hidden_states of width 40, and"):
        read(tiny_adapters.plus(SD1, embed=40)).embed(encoder, pixels)


def test_a_style_that_is_incomplete_is_refused(read):
    adapter, embeds = read(tiny_adapters.base(SD1)), noise(5, 2, 3, WIDTH)
    with pytest.raises(ValueError, match=r"a weight for every site of style\.safetensors; see unet\.mid_block"):
        StyleReference.of(adapter, embeds, embeds, blocks={name: 1.0 for name in names() if "mid_block" not in name})
    for uncond in (embeds[:1], embeds[:, :2]):
        with pytest.raises(ValueError, match="uncond must hold 1 or 3 pictures for each of 2 rows"):
            StyleReference.of(adapter, embeds, uncond, blocks=everywhere())


def test_what_the_encoder_sees_is_the_middle_of_the_picture(processor):
    stripes = np.zeros((60, 120, 3), np.uint8)
    stripes[:, :20], stripes[:, 100:] = (255, 0, 0), (0, 0, 255)
    looked = seen(processor, Image.fromarray(stripes))
    assert looked.image.size == (32, 32)
    assert looked.share == 0.5
    assert np.asarray(looked.image).max() < 40  # neither red nor blue
    square = seen(processor, Image.new("L", (50, 50), 77))
    assert square.share == 1.0
    assert np.asarray(square.image).tolist() == np.full((32, 32, 3), 77).tolist()
    random = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8))
    pixels = processor(random, return_tensors="np").pixel_values[0].transpose(1, 2, 0)
    back = pixels * processor.image_std + processor.image_mean
    assert np.abs(back * 255 - np.asarray(seen(processor, random).image)).max() < 1e-3


FORWARD = [*(f"down_blocks.{at}" for at in range(4)), "mid_block", *(f"up_blocks.{at}" for at in range(4))]
PRESETS = [
    ("sd1", "all", {at: 1 for at in range(16)}),
    ("sd1", "style", {7: 1, 8: 1, 9: 1}),
    ("sd2", "layout", {4: 1, 5: 1, 6: 1}),
    ("sd1", "style+layout", {at: 1 for at in range(4, 10)}),
    ("sd1", "style (comfyui)", {at: 1 for at in (*range(4), *range(9, 16))}),
    ("sd2", "layout (comfyui)", {4: 0.25, 5: 1}),
    ("sd1", "style+layout (comfyui)", {4: 0.25, 5: 1, **{at: 1 for at in (*range(4), *range(9, 16))}}),
    ("sdxl", "style", {6: 1}),
    ("sdxl", "layout", {3: 1}),
    ("sdxl", "style+layout", {3: 1, 6: 1}),
    ("sdxl", "style+layout (comfyui)", {3: 1, 6: 1}),
]


@pytest.mark.parametrize(("family", "preset", "expected"), PRESETS)
def test_presets_are_those_published(family, preset, expected):
    """By the index of the attention in the order of a forward pass, as the sources number them."""
    found = names(UNETS["sdxl" if family == "sdxl" else "sd1"])
    attentions = {name.partition(".transformer_blocks.")[0].removeprefix("unet.") for name in found}
    order = sorted(attentions, key=lambda name: (FORWARD.index(name.partition(".attentions")[0]), name))
    given = weights(preset, found, BLOCKS[family])
    assert list(given) == found
    for name, weight in given.items():
        at = order.index(name.partition(".transformer_blocks.")[0].removeprefix("unet."))
        assert weight == expected.get(at, 0), name


def test_presets_of_another_unet_follow_its_depth(small):
    found = names(small)
    active = {
        preset: {name.split(".attentions")[0] for name, weight in weights(preset, found, None).items() if weight}
        for preset in ("style", "layout", "style+layout")
    }
    assert active["style"] == {
        f"unet.{name}" for name in ("down_blocks.0", "down_blocks.1", "up_blocks.1", "up_blocks.2")
    }
    assert active["layout"] == {"unet.down_blocks.2", "unet.mid_block"}
    assert active["style+layout"] == active["style"] | active["layout"]
    with pytest.raises(ValueError, match=r"'style \(comfyui\)' is defined for Stable Diffusion only; .* say 'style'"):
        weights("style (comfyui)", found, None)
    with pytest.raises(ValueError, match="need cross-attention at two levels or more; name blocks"):
        weights("style", [name for name in found if "blocks.0.attentions" in name], None)


def test_the_most_specific_name_wins_and_the_others_are_zero():
    found = names(UNETS["sdxl"])
    given = weights({"up_blocks": 0.5, "up_blocks.0.attentions.1": 2, "mid_block": 0}, found, BLOCKS["sdxl"])
    for name, weight in given.items():
        special = name.startswith("unet.up_blocks.0.attentions.1.")
        assert weight == (2 if special else 0.5 if name.startswith("unet.up_blocks.") else 0)
    many = [f"unet.down_blocks.{at}.attentions.0.transformer_blocks.0.attn2" for at in (1, 10)]
    assert list(weights({"down_blocks.1": 1}, many, None).values()) == [1, 0]


@pytest.mark.parametrize(
    ("blocks", "error", "sentence"),
    [
        (
            {"down_blocks.3": 1},
            ValueError,
            r"names 'down_blocks\.3', where this U-Net has no .*; the nearest",
        ),
        ({"unet.mid_block": 1}, ValueError, "nearest name is 'mid_block'"),
        ({"mid_block": float("nan")}, ValueError, "'mid_block' the weight nan; a finite number is needed"),
        ({"mid_block": True}, ValueError, "the weight True"),
        ({}, ValueError, "blocks names no block"),
        ("stile", ValueError, "blocks must be one of all, style, layout.* got 'stile'"),
        (["mid_block"], TypeError, "blocks must be one of all"),
    ],
)
def test_blocks_that_are_none_are_refused(blocks, error, sentence):
    with pytest.raises(error, match=sentence):
        weights(blocks, names(), BLOCKS["sd1"])
