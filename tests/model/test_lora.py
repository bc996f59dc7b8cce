"""LoRAs by every name in use, laid over models and taken off again to the bit."""

import pytest
import tiny_formats as tiny
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

import ctrl
from ctrl.model.loading.lora import merged
from ctrl.model.loading.lora_file import read_lora

FAMILIES = list(tiny.ALL)
offline = pytest.fixture(autouse=True)(tiny.offline)


@pytest.fixture(scope="module")
def written():
    """The modules the files were written from; no test may change them."""
    return {family: make() for family, make in tiny.ALL.items()}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, written):
    """A folder with every model in diffusers' layout."""
    folder = tmp_path_factory.mktemp("loras")
    for family, model in written.items():
        tiny.save_folder(model, folder / family)
    return folder


def parts(model):
    return [model.unet, model.vae, *(tower.encoder for tower in model.parts.text_encoders)]


def assert_same(got, expected):
    ours = got.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.state_dict().items())


def layers(module, *endings):
    return [name for name, _ in module.named_modules() if name.endswith(endings)]


@pytest.fixture(scope="module")
def changes(written):
    """For every family, (component, layer) to (down, up), on linear layers and on convolutions."""
    found = {}
    for family, model in written.items():
        torch.manual_seed(8)
        modules = {"unet": model.unet, **{f"text_encoder{n}": t for n, t in zip(("", "_2"), model.texts, strict=False)}}
        found[family] = {}
        for component, module in modules.items():
            text = component.startswith("text")
            endings = ("q_proj", "out_proj", "mlp.fc1") if text else ("to_q", "to_out.0", "proj_in", "conv1")
            for name in layers(
                module, *endings, "time_emb_proj", "conv_in", "linear_1", "upsamplers.0.conv", "downsamplers.0.conv"
            ):
                weight = module.get_submodule(name).weight
                down = torch.randn(4, *weight.shape[1:]) / 8
                up = torch.randn(weight.shape[0], 4, *(1 for _ in weight.shape[2:])) / 8
                found[family][component, name] = (down, up)
    return found


def lora(changes, names, alpha=6.0):
    """The tensors of a LoRA, called as `names` calls a component's layer: base, down, up."""
    held = {}
    for (component, layer), (down, up) in changes.items():
        base, lower, upper = names(component, layer)
        held |= {f"{base}{lower}": down, f"{base}{upper}": up}
        if alpha is not None:
            held[f"{base}.alpha"] = torch.tensor(alpha)
    return held


def whole(component, layer):
    return layer if component == "unet" or layer.startswith("text_model.") else f"text_model.{layer}"


def peft(component, layer):
    return f"{component}.{whole(component, layer)}", ".lora_A.weight", ".lora_B.weight"


def diffusers(component, layer):
    return f"{component}.{whole(component, layer)}", ".lora.down.weight", ".lora.up.weight"


def kohya(component, layer):
    start = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}[component]
    return start + whole(component, layer).replace(".", "_"), ".lora_down.weight", ".lora_up.weight"


def kohya_xl(model):
    """kohya's names for SDXL, where the U-Net's are the original ones."""
    held = model.unet.state_dict()
    pointers = {tensor.data_ptr(): name for name, tensor in tiny.unet(model.unet).items()}
    assert len(pointers) == len(held)

    def names(component, layer):
        if component != "unet":
            start = "lora_te1_" if component == "text_encoder" else "lora_te2_"
            return start + whole(component, layer).replace(".", "_"), ".lora_down.weight", ".lora_up.weight"
        name = pointers[held[f"{layer}.weight"].data_ptr()].removesuffix(".weight")
        return "lora_unet_" + name.replace(".", "_"), ".lora_down.weight", ".lora_up.weight"

    return names


def under(shelf, family, file, weight=1.0):
    model = ctrl.load(shelf / family, device="cpu", lora={"one": file})
    return model, model.with_loras([("one", weight)])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_is_the_same_by_every_name_and_unloads_to_the_bit(shelf, written, changes, tmp_path, family):
    model = ctrl.load(shelf / family, device="cpu")
    base = {"unet": model.unet} | dict(zip(("text_encoder", "text_encoder_2"), parts(model)[2:], strict=False))
    views = []
    for number, names in enumerate([peft, diffusers, kohya, kohya_xl(written[family])]):
        file = tiny.save(lora(changes[family], names), tmp_path / f"{number}.safetensors")
        unet, texts = merged(model.unet, parts(model)[2:], [(read_lora(file), 0.7, 0.7)])
        views.append([unet, *texts])
        for part, expected in zip(parts(model), written[family].parts, strict=True):
            assert_same(part, expected)  # nothing was done to it
    first = tensors(views[0])
    assert all(torch.equal(*pair) for view in views for pair in zip(first, tensors(view), strict=True))
    view = dict(zip(base, views[0], strict=True))
    for (component, layer), (down, up) in changes[family].items():
        weight = base[component].get_submodule(layer).weight
        expected = weight + 0.7 * ((6.0 / 4) * (up.flatten(1) @ down.flatten(1))).view(weight.shape)
        assert torch.equal(view[component].get_submodule(layer).weight, expected)
    shared = {tensor.data_ptr() for tensor in tensors(base.values())}
    own = [tensor for tensor in first if tensor.data_ptr() not in shared]
    assert len(own) == len(changes[family])


def tensors(modules):
    return [tensor for module in modules for tensor in module.state_dict().values()]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_diffusers_merges_the_same_lora_to_the_same_weights(shelf, written, changes, tmp_path, family):
    names = kohya_xl(written[family]) if family == "sdxl" else kohya
    file = tiny.save(lora(changes[family], names), tmp_path / "lora.safetensors")
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    pipe = kind.from_pretrained(shelf / family, dtype=torch.float32)
    pipe.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    pipe.fuse_lora(lora_scale=0.7)
    pipe.unload_lora_weights()
    _, view = under(shelf, family, file, 0.7)
    theirs = [pipe.unet, pipe.vae, pipe.text_encoder, *([pipe.text_encoder_2] if family == "sdxl" else [])]
    for got, expected in zip(parts(view), theirs, strict=True):
        held = expected.state_dict()
        assert all(torch.allclose(tensor, held[name], atol=1e-6) for name, tensor in got.state_dict().items())


def test_former_names_of_attention_are_read_too(shelf, changes, tmp_path):
    only = {key: pair for key, pair in changes["sd1"].items() if ".attn" in key[1] or "self_attn" in key[1]}

    def former(component, layer):
        if component == "unet":
            layer = layer.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
        else:
            layer = whole(component, layer).replace("self_attn.", "self_attn.to_").removesuffix("_proj")
        return f"{component}.{layer}_lora", ".down.weight", ".up.weight"

    _, now = under(shelf, "sd1", tiny.save(lora(only, peft, None), tmp_path / "now.safetensors"))
    _, then = under(shelf, "sd1", tiny.save(lora(only, former, None), tmp_path / "then.safetensors"))
    assert all(torch.equal(*pair) for pair in zip(tensors(parts(now)), tensors(parts(then)), strict=True))


def test_several_loras_add_up_whatever_their_order_and_weight_zero_is_none(shelf, changes, tmp_path):
    halves = [dict(list(changes["sd1"].items())[start::2]) for start in (0, 1)]
    more = {key: (down + 1, up) for key, (down, up) in halves[0].items()}
    files = [tiny.save(lora(one, peft), tmp_path / f"{at}.safetensors") for at, one in enumerate((*halves, more))]
    model = ctrl.load(shelf / "sd1", device="cpu", lora={str(at): file for at, file in enumerate(files)})
    given = [("0", 0.3), ("1", -1.5), ("2", 0.9)]
    one, other = model.with_loras(given), model.with_loras(given[::-1])
    assert all(torch.equal(*pair) for pair in zip(tensors(parts(one)), tensors(parts(other)), strict=True))
    assert model.with_loras([("0", 0.0)]) is model
    unet, texts = merged(model.unet, parts(model)[2:], [(read_lora(files[0]), 0.0, 0.0)])
    encoders = [tower.encoder for tower in model.parts.text_encoders]
    assert unet is model.unet and all(one is other for one, other in zip(texts, encoders, strict=True))
    alone, with_zero = model.with_loras([("1", 1.0)]), model.with_loras([("1", 1.0), ("2", 0.0)])
    assert all(torch.equal(*pair) for pair in zip(tensors(parts(alone)), tensors(parts(with_zero)), strict=True))
    assert model.with_loras([("1", 1.0)]).vae is model.vae


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"lora_unet_conv_in.dora_scale": torch.ones(1)}, "is no LoRA that ctrl can read"),
        ({"lora_unet_conv_in.hada_w1_a": torch.ones(1)}, "is a damaged LoRA: .* lacks lora_unet_conv_in.hada_w1_b"),
        ({"lora_unet_conv_in.lokr_w1": torch.ones(1)}, "is a damaged LoRA: .* lacks lora_unet_conv_in.lokr_w2_a"),
        ({"lora_unet_conv_in.lora_mid.weight": torch.ones(1)}, "is a damaged LoRA: .* lacks lora_unet_conv_in"),
        ({"lora_unet_conv_in.oft_blocks": torch.ones(1)}, "is an OFT, which ctrl does not merge"),
        ({"unet.conv_in.lora_B.bias": torch.ones(1)}, "is a LoRA with biases"),
        ({"lora_unet_conv_in.diff": torch.ones(7)}, r"is \(7,\), and the weight is .*: it was made for another model"),
        ({"unet.conv_in.lora_A.weight": torch.ones(4, 4)}, "changes unet.conv_in and lacks unet.conv_in.lora"),
        ({"strange": torch.ones(1)}, "is no LoRA that ctrl can read: it holds 1 tensors .* such as 'strange'"),
        ({}, "it holds nothing"),
        (
            {"unet.none.lora_A.weight": torch.ones(4, 8), "unet.none.lora_B.weight": torch.ones(8, 4)},
            "it changes unet.none, which the model does not have",
        ),
        (
            {"unet.conv_in.lora_A.weight": torch.ones(4, 8), "unet.conv_in.lora_B.weight": torch.ones(8, 4)},
            r"the weight is \(32, 4, 3, 3\): it was made for another model",
        ),
        (
            {"unet.conv_in.lora_A.weight": torch.ones(3, 8), "unet.conv_in.lora_B.weight": torch.ones(8, 4)},
            "is a damaged LoRA",
        ),
        (
            {"unet.conv_in.lora_A.weight": torch.ones(4, 9) / 0, "unet.conv_in.lora_B.weight": torch.ones(32, 4)},
            "has NaN or infinite numbers in its change of unet.conv_in",
        ),
    ],
)
def test_what_is_no_plain_lora_for_this_model_is_refused(shelf, tmp_path, tensors, sentence):
    file = tiny.save(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=sentence):
        under(shelf, "sd1", file)
