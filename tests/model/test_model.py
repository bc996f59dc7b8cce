import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import ctrl
from ctrl.attention import Hooks
from ctrl.memory import Memory


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def change(file, **tensors):
    held = load_file(file) | tensors
    save_file({key: value for key, value in held.items() if value is not None}, file, {"format": "pt"})


def laid(model):
    return model.with_loras([("lcm", 1.0)]).unet


def test_a_model_tells_what_it_is(model):
    assert model.size == (64, 64)
    assert model.vae_scale_factor == 4
    assert set(model.controls) == {"pose", "depth", "edges"}
    assert model.styles and model.loras == ("lcm",)
    assert repr(model) == f"Model('model', 64×64, controls: {', '.join(model.controls)})"
    for part in (model.unet, model.vae, *(tower.encoder for tower in model.parts.text_encoders)):
        assert {tensor.dtype for tensor in part.parameters()} == {torch.float32}
        assert not any(tensor.requires_grad for tensor in part.parameters())
        assert not part.training


def test_nothing_is_loaded_before_it_is_needed(folder):
    fresh = ctrl.load(folder, device="cpu")
    loaded = fresh._loaded
    assert not (loaded.controls or loaded.ip_adapters or fresh._adapted)
    fresh.controlnet("pose")
    assert list(loaded.controls) == ["pose"] and not (loaded.ip_adapters or fresh._adapted)
    assert fresh.controlnet("pose") is fresh.controlnet("pose")
    assert fresh.ip_adapter() is fresh.ip_adapter()
    assert list(loaded.ip_adapters) == [None] and not fresh._adapted
    assert fresh.with_loras([("lcm", 0.5)])._loaded is loaded  # what one of them loads serves both


def test_hooks_of_others_act_once_where_the_encoders_outputs_are_kept(folder):
    model, memory = ctrl.load(folder, device="cpu"), Memory()
    for part in (model.unet.conv_in, model.unet.down_blocks[0], model.unet.mid_block):
        part.register_forward_hook(
            lambda _, args, out: 1.5 * out if isinstance(out, torch.Tensor) else (1.5 * out[0], *out[1:])
        )
    prompt = model.text.rows([model.text.encode("a red ball")])
    given = torch.ones(1, 8, 16, 16), torch.tensor(500), prompt, None, Hooks()
    plain = model.denoiser.predict(*given)
    for _ in range(2):
        assert torch.equal(model.denoiser.predict(*given, keep=memory), plain)
    assert (memory.hits, memory.misses) == (1, 1)


def test_half_precision_if_asked(folder):
    half = ctrl.load(folder, device="cpu", dtype=torch.bfloat16)
    assert ctrl.sample(half, ctrl.Recipe("a", steps=2)).image.size == (64, 64)


def test_text_that_does_not_fit_is_named(model):
    assert model.text.encode("a red ball").cut == ""
    longer = model.text.encode("a" * 22 + "xyz")
    assert longer.states.shape == (1, 48, 32) and longer.cut == ""
    whole = "ab " * 100
    longest = model.text.encode(whole)
    assert longest.states.shape == (1, 8 * 24, 32)
    assert longest.cut and whole.rstrip().endswith(longest.cut)
    shot = ctrl.sample(model, ctrl.Recipe(whole, steps=1))
    assert any(longest.cut in note for note in shot.notes)


@pytest.mark.parametrize(
    ("part", "file", "tensor"),
    [
        ("unet", "diffusion_pytorch_model.safetensors", "conv_in.weight"),
        ("vae", "diffusion_pytorch_model.safetensors", "decoder.conv_in.weight"),
        ("text_encoder", "model.safetensors", None),
        ("controlnet_pose", "diffusion_pytorch_model.safetensors", "controlnet_mid_block.weight"),
        ("image_encoder", "model.safetensors", "visual_projection.weight"),
    ],
)
def test_a_missing_or_broken_tensor_is_an_error_and_not_noise(copy, part, file, tensor):
    path = copy / part / file
    whole = load_file(path)
    tensor = tensor or next(name for name in whole if "mlp.fc1.weight" in name)
    recipe = ctrl.Recipe(
        "a",
        steps=1,
        controls=[ctrl.Pose(ctrl.Skeleton.named("waving"))],
        styles=[ctrl.Style(torch.zeros(3, 8, 8))],
    )
    change(path, **{tensor: torch.full_like(whole[tensor], float("nan"))})
    with pytest.raises(ValueError, match=f"'{part}' has NaN or infinite numbers in "):
        ctrl.sample(ctrl.load(copy, device="cpu"), recipe)
    change(path, **{tensor: None})
    with pytest.raises(ValueError, match=f"'{part}' lacks 1 tensors, such as .*incomplete"):
        ctrl.sample(ctrl.load(copy, device="cpu"), recipe)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"the weights in '{part}' cannot be read"):
        ctrl.sample(ctrl.load(copy, device="cpu"), recipe)
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(FileNotFoundError, match="pickled weights are not read"):
        ctrl.sample(ctrl.load(copy, device="cpu"), recipe)


def test_folders_that_are_none(tmp_path, copy):
    for source in (tmp_path / "none", "./none", "/none/there", "none", "~/none"):
        with pytest.raises(FileNotFoundError, match="must be a folder or a hub id"):
            ctrl.load(source)
    with pytest.raises(FileNotFoundError, match=r"no model_index\.json"):
        ctrl.load(tmp_path)
    index = json.loads((copy / "model_index.json").read_text())
    for wrong, sentence in (
        ([], "must hold an object"),
        (index | {"unet": ["os", "system"]}, "as its unet"),
        (index | {"vae": "x"}, "as its vae"),
        (index | {"text_encoder_2": ["os", "system"]}, "text_encoder_2"),
    ):
        (copy / "model_index.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=sentence):
            ctrl.load(copy)
    with pytest.raises(ValueError, match="device must be auto, cpu"):
        ctrl.load(copy, device="gpu7")


def test_shards_outside_the_folder_are_refused(copy):
    index = {"weight_map": {"conv_in.weight": "../../elsewhere.safetensors"}}
    (copy / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="names shards outside its folder"):
        ctrl.load(copy, device="cpu")


def test_what_is_not_there_is_refused_before_the_run(copy):
    for part in ("controlnet_pose", "ip_adapter", "lora"):
        shutil.rmtree(copy / part)
    bare = ctrl.load(copy, device="cpu")
    assert set(bare.controls) == {"depth", "edges"}
    assert not bare.styles and not bare.loras
    pose, style = ctrl.Pose(ctrl.Skeleton.named("waving")), ctrl.Style(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="no ControlNet for 'pose'; it has "):
        ctrl.steps(bare, ctrl.Recipe("a", controls=[pose]))
    with pytest.raises(ValueError, match="no IP-Adapter"):
        ctrl.steps(bare, ctrl.Recipe("a", styles=[style]))
    with pytest.raises(ValueError, match="no LoRA 'lcm'"):
        ctrl.steps(bare, ctrl.Recipe("a").fast())


def test_parts_may_come_from_elsewhere(folder, copy, model):
    for part in ("controlnet_pose", "ip_adapter", "lora", "image_encoder", "feature_extractor"):
        shutil.rmtree(copy / part)
    shutil.copytree(folder / "image_encoder", copy.parent / "image_encoder")
    shutil.copy(folder / "ip_adapter" / "ip_adapter.safetensors", copy.parent / "style.safetensors")
    pieced = ctrl.load(
        copy,
        device="cpu",
        controlnets={"pose": folder / "controlnet_pose"},
        ip_adapter=copy.parent / "style.safetensors",
        lora=folder / "lora" / "pytorch_lora_weights.safetensors",
    )
    recipe = ctrl.Recipe(
        "a",
        controls=[ctrl.Pose(ctrl.Skeleton.named("waving"))],
        styles=[ctrl.Style(torch.rand(3, 40, 50))],
    ).fast()
    assert ctrl.sample(pieced, recipe).image == ctrl.sample(model, recipe).image
    with pytest.raises(ValueError, match="kind 'canny'"):
        ctrl.load(copy, controlnets={"canny": folder / "controlnet_pose"})
    with pytest.raises(FileNotFoundError, match=r"ip_adapter must be a \.safetensors file"):
        ctrl.load(copy, ip_adapter=copy / "model_index.json")


@pytest.mark.slow
def test_a_lora_by_kohyas_names_and_with_a_strength_of_its_own(copy, model):
    file = copy / "lora" / "pytorch_lora_weights.safetensors"
    renamed = {}
    for key, tensor in load_file(file).items():
        base, way = key.removeprefix("unet.").rsplit(".lora_", 1)
        base = "lora_unet_" + base.replace(".", "_")
        renamed[f"{base}.lora_{'down' if way.startswith('A') else 'up'}.weight"] = tensor
        renamed[f"{base}.alpha"] = torch.tensor(8.0)  # twice the rank
    save_file(renamed, file)
    theirs = laid(ctrl.load(copy, device="cpu")).state_dict()
    changed = 0
    for name, base in model.unet.state_dict().items():
        single = laid(model).state_dict()[name] - base
        assert torch.allclose(theirs[name] - base, 2 * single, atol=1e-6)
        changed += bool(single.any())
    assert changed == len(renamed) // 3


def test_an_adapter_for_another_model_is_refused(copy):
    style = copy / "ip_adapter" / "ip_adapter.safetensors"
    lora = copy / "lora" / "pytorch_lora_weights.safetensors"
    change(style, **{"ip_adapter.99.to_k_ip.weight": torch.zeros(1)})
    change(lora, **{"unet.nowhere.to_q.lora_A.weight": torch.zeros(4, 8)})
    changed = ctrl.load(copy, device="cpu")
    with pytest.raises(ValueError, match=r"such as ip_adapter\.99\.to_k_ip\.weight"):
        changed.ip_adapter().style_crop(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"it changes unet\.nowhere\.to_q"):
        laid(changed)
    style.write_bytes(b"\x80\x04not safetensors")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        ctrl.load(copy, device="cpu").ip_adapter().style_crop(torch.zeros(3, 8, 8))
