"""LoRA files as PEFT, kohya's scripts and LyCORIS write them, against what PEFT itself merges."""

import copy
import json
import shutil

import pytest
import tiny_formats as tiny
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file

import ctrl
from ctrl.model.loading.lora import merged
from ctrl.model.loading.lora_file import read_lora

TARGETS = ["to_q", "to_k", "to_out.0", "conv1"]
CONFIGS = {
    "plain": LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, target_modules=TARGETS),
    "patterns": LoraConfig(
        r=4,
        lora_alpha=6,
        init_lora_weights=False,
        target_modules=TARGETS,
        rank_pattern={"attn2.to_k": 2},
        alpha_pattern={"attn2.to_k": 5, "conv1": 1},
    ),
    "rank-stabilised": LoraConfig(
        r=4, lora_alpha=6, init_lora_weights=False, target_modules=TARGETS, use_rslora=True, rank_pattern={"to_q": 9}
    ),
    "dora": LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, target_modules=TARGETS, use_dora=True),
    "loha": LoHaConfig(r=4, alpha=6, init_weights=False, target_modules=TARGETS),
    "loha of kernels": LoHaConfig(r=4, alpha=6, init_weights=False, target_modules=TARGETS, use_effective_conv2d=True),
    "lokr": LoKrConfig(r=4, alpha=6, init_weights=False, target_modules=TARGETS),
    "lokr of kernels": LoKrConfig(r=2, alpha=6, init_weights=False, target_modules=TARGETS, use_effective_conv2d=True),
    "lokr in two": LoKrConfig(r=2, alpha=6, init_weights=False, target_modules=TARGETS, decompose_both=True),
    "whole lokr": LoKrConfig(r=999, alpha=6, init_weights=False, target_modules=["to_q"]),
}

offline = pytest.fixture(autouse=True)(tiny.offline)


@pytest.fixture(scope="module")
def unet():
    return tiny.sd1().unet.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def written(unet, tmp_path_factory):
    """For each configuration, the folder that PEFT wrote and the U-Net that PEFT merged."""
    place, found = tmp_path_factory.mktemp("peft"), {}
    for name, config in CONFIGS.items():
        torch.manual_seed(3)
        net = get_peft_model(copy.deepcopy(unet), config)
        if name == "dora":
            for key, parameter in net.named_parameters():
                if "magnitude" in key:
                    parameter.data *= 1.3
        net.save_pretrained(place / name)
        found[name] = (place / name, net.merge_and_unload().state_dict())
    return found


def assert_close(got, expected, base):
    ours = got.state_dict()
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(ours[name], tensor, atol=1e-5, rtol=1e-5), name
    assert max((ours[name] - base.state_dict()[name]).abs().max() for name in ours) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("given", ["folder", "its file"])
def test_what_peft_saves_is_merged_as_peft_merges_it(unet, written, name, given):
    folder, expected = written[name]
    lora = read_lora(folder if given == "folder" else folder / "adapter_model.safetensors")
    got, _ = merged(unet, [], [(lora, 1.0, 1.0)])
    assert_close(got, expected, unet)


def renamed(folder, config):
    """The tensors of a folder by kohya's names, as LyCORIS writes them."""
    held, alpha = {}, float(config.get("alpha", config.get("lora_alpha")))
    for key, tensor in load_file(folder / "adapter_model.safetensors").items():
        layer, _, part = key.removeprefix("base_model.model.").partition(".lora_" if ".lora_" in key else ".hada_")
        if ".lokr_" in key:
            layer, _, part = key.removeprefix("base_model.model.").partition(".lokr_")
        start = "lora_unet_" + layer.replace(".", "_")
        part = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}.get(part) or (
            f"hada_{part}" if ".hada_" in key else f"lokr_{part}")  # fmt: skip
        held |= {f"{start}.{part}": tensor, f"{start}.alpha": torch.tensor(alpha)}
    return held


@pytest.mark.parametrize("name", ["plain", "loha", "loha of kernels", "lokr", "lokr of kernels", "lokr in two"])
def test_the_same_by_kohyas_names_is_the_same(unet, written, tmp_path, name):
    folder, expected = written[name]
    held = renamed(folder, json.loads((folder / "adapter_config.json").read_text()))
    held["bundle_emb.word.emb_params"] = torch.ones(2, 4)
    file = tiny.save(held, tmp_path / "lycoris.safetensors")
    with pytest.warns(UserWarning, match="1 tensors that are no part of a LoRA, such as bundle_emb"):
        lora = read_lora(file)
    got, _ = merged(unet, [], [(lora, 1.0, 1.0)])
    if name.startswith("lokr"):  # of two whole factors LyCORIS does not scale the product, PEFT does
        whole = {key.rpartition(".")[0] for key in held if key.endswith(".lokr_w2")}
        names = {key: "lora_unet_" + key.removesuffix(".weight").replace(".", "_") for key in expected}
        expected = {key: tensor for key, tensor in expected.items() if names[key] not in whole}
        assert expected
        assert all(torch.allclose(got.state_dict()[key], one, atol=1e-5, rtol=1e-5) for key, one in expected.items())
    else:
        assert_close(got, expected, unet)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("layer", ["down_blocks.0.resnets.0.time_emb_proj", "down_blocks.1.resnets.0.conv1"])
def test_a_dora_of_lycoris_along_either_axis(unet, tmp_path, axis, layer):
    weight = unet.get_submodule(layer).weight
    torch.manual_seed(2)
    down = torch.randn(4, *weight.shape[1:]) / 9
    up = torch.randn(weight.shape[0], 4, *(1 for _ in weight.shape[2:])) / 9
    shape = [1] * weight.ndim
    shape[axis] = weight.shape[axis]
    length = torch.rand(shape) + 0.5
    start = "lora_unet_" + layer.replace(".", "_")
    held = {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up, f"{start}.dora_scale": length}
    lora = read_lora(tiny.save(held | {f"{start}.alpha": torch.tensor(2.0)}, tmp_path / "dora.safetensors"))
    changed = weight + 0.5 * (up.flatten(1) @ down.flatten(1)).view(weight.shape)
    norm = changed.pow(2).sum([at for at in range(weight.ndim) if at != axis], keepdim=True).sqrt()
    for strength in (1.0, 0.4):
        got, _ = merged(unet, [], [(lora, strength, 0.0)])
        expected = weight + strength * (length * changed / norm - weight)
        assert torch.allclose(got.get_submodule(layer).weight, expected, atol=1e-6)


@pytest.mark.slow
def test_a_locon_with_a_core(unet, tmp_path):
    layer = "down_blocks.0.resnets.0.conv1"
    weight = unet.get_submodule(layer).weight
    torch.manual_seed(2)
    out, into = weight.shape[:2]
    down, mid, up = torch.randn(4, into, 1, 1), torch.randn(4, 4, 3, 3), torch.randn(out, 4, 1, 1)
    start = "lora_unet_" + layer.replace(".", "_")
    held = {f"{start}.lora_down.weight": down, f"{start}.lora_mid.weight": mid, f"{start}.lora_up.weight": up}
    got, _ = merged(unet, [], [(read_lora(tiny.save(held, tmp_path / "locon.safetensors")), 1.0, 1.0)])
    pixels = torch.randn(1, weight.shape[1], 5, 5)
    conv = torch.nn.functional.conv2d
    expected = conv(pixels, weight, padding=1) + conv(conv(conv(pixels, down), mid, padding=1), up)
    assert torch.allclose(conv(pixels, got.get_submodule(layer).weight, padding=1), expected, atol=1e-3)


def test_a_whole_difference_is_added(unet, tmp_path):
    weight = unet.conv_in.weight
    held = {"lora_unet_conv_in.diff": torch.ones_like(weight)}
    got, _ = merged(unet, [], [(read_lora(tiny.save(held, tmp_path / "full.safetensors")), 0.25, 1.0)])
    assert torch.allclose(got.conv_in.weight, weight + 0.25)


@pytest.mark.parametrize("start", ["", "unet.", "diffusion_model.", "lycoris_", "lora_unet_"])
def test_every_way_of_beginning_a_name(unet, tmp_path, start):
    name = {"diffusion_model.": "input_blocks.0.0", "lycoris_": "conv_in", "lora_unet_": "input_blocks_0_0"}
    base = start + name.get(start, "conv_in")
    held = {f"{base}.lora_down.weight": torch.ones(2, 4, 3, 3), f"{base}.lora_up.weight": torch.ones(32, 2, 1, 1)}
    got, _ = merged(unet, [], [(read_lora(tiny.save(held, tmp_path / "one.safetensors")), 1.0, 1.0)])
    assert torch.allclose(got.conv_in.weight, unet.conv_in.weight + 2)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"peft_type": "OFT"}, "is a 'OFT' of PEFT's, which ctrl does not merge; it merges LORA, LOHA, LOKR"),
        ({"lora_bias": True}, "is a LoRA with lora_bias"),
        ({"bias": "all"}, "is a LoRA with bias"),
        ({"fan_in_fan_out": True}, "is a LoRA with fan_in_fan_out"),
        ({"alpha_pattern": {".*to_q": 3}}, "has an alpha_pattern that is no layers' names"),
        ({"lora_alpha": "six"}, "is a damaged LoRA: its lora_alpha is 'six'"),
        ({"r": True}, "is a damaged LoRA: its r is True"),
    ],
)
def test_settings_that_are_not_followed_are_refused(written, tmp_path, fields, sentence):
    folder = shutil.copytree(written["plain"][0], tmp_path / "odd")
    held = json.loads((folder / "adapter_config.json").read_text()) | fields
    (folder / "adapter_config.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match=sentence):
        read_lora(folder)


def test_unet_and_text_have_weights_of_their_own_and_a_folder_is_given_as_lora(tmp_path):
    model = tiny.sd1()
    folder = tiny.save_folder(model, tmp_path / "sd1")
    base = {"text_encoder.text_model.encoder.layers.0.mlp.fc1": model.texts[0].encoder.layers[0].mlp.fc1,
            "unet.conv_in": model.unet.conv_in}  # fmt: skip
    held = {}
    for name, layer in base.items():
        out, into, *kernel = layer.weight.shape
        held |= {f"{name}.lora_A.weight": torch.ones(1, into, *kernel),
                 f"{name}.lora_B.weight": torch.ones(out, 1, *(1 for _ in kernel))}  # fmt: skip
    tiny.save(held, tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    loaded = ctrl.load(folder, device="cpu", lora={"one": tmp_path / "lora"})
    for unet, text in ((1.0, 0.0), (0.0, 0.5), (0.3, -0.7)):
        view = loaded.with_loras([("one", unet, text)])
        assert torch.allclose(view.unet.conv_in.weight, model.unet.conv_in.weight + unet)
        got = view.parts.text_encoders[0].encoder.get_submodule("encoder.layers.0.mlp.fc1").weight
        assert torch.allclose(got, model.texts[0].encoder.layers[0].mlp.fc1.weight + text)
    assert loaded.with_loras([("one", 0.0, 0.0)]) is loaded
    assert loaded.with_loras([("one", 0.0, 0.5)]).unet is loaded.unet


def test_layers_that_a_text_encoder_does_not_have_are_said_and_left_out(tmp_path):
    model = tiny.sd1()
    held = {}
    for layer in (1, 2):
        base = f"lora_te_text_model_encoder_layers_{layer}_mlp_fc1"
        held |= {f"{base}.lora_down.weight": torch.ones(1, 64), f"{base}.lora_up.weight": torch.ones(96, 1)}
    lora = read_lora(tiny.save(held, tmp_path / "one.safetensors"))
    with pytest.warns(UserWarning, match="changes 1 layers, such as lora_te_text_model_encoder_layers_2_mlp_fc1"):
        _, (text,) = merged(model.unet, list(model.texts), [(lora, 1.0, 1.0)])
    assert torch.allclose(
        text.get_submodule("encoder.layers.1.mlp.fc1").weight,
        model.texts[0].get_submodule("encoder.layers.1.mlp.fc1").weight + 1,
    )
