"""Model files as an enemy or an accident would write them: refused in one sentence, before anything is built."""

import json
import os
import pickle
import shutil
import struct

import pytest
import tiny_formats as tiny
import torch
from safetensors.torch import load_file, save_file

import ctrl
from ctrl.model.loading import pretrained
from ctrl.model.loading.files import read_tensors

pytestmark = pytest.mark.slow

offline = pytest.fixture(autouse=True)(tiny.offline)
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny.save_folder(tiny.sd1(), tmp_path_factory.mktemp("whole") / "sd1")


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def change(file, **fields):
    held = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({key: value for key, value in held.items() if value is not ...}))


def load(folder):
    return ctrl.load(folder, device="cpu", local_files_only=True)


def broken(whole):
    """Files that are no safetensors, by what is wrong with them."""
    good = (whole / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    length = struct.unpack("<Q", good[:8])[0]
    header = json.loads(good[8 : 8 + length])

    def rewritten(edit):
        edit(changed := json.loads(json.dumps(header)))
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + good[8 + length :]

    first, second = [name for name in header if name != "__metadata__"][:2]
    yield "empty", b""
    yield "cut in the header", good[: length // 2]
    yield "cut in the last tensor", good[:-1]
    yield "a header of 2**40 bytes", struct.pack("<Q", 2**40) + good[8:]
    yield "no JSON", good[:8] + b"\xff" * length + good[8 + length :]
    yield "tensors that overlap", rewritten(lambda one: one[second].update(data_offsets=one[first]["data_offsets"]))
    yield "a tensor past the end", rewritten(lambda one: one[first].update(data_offsets=[0, 2**50]))
    yield "an unknown type", rewritten(lambda one: one[first].update(dtype="X9"))
    yield "a pickle", pickle.dumps({"weight": [1, 2, 3]})
    yield "a zip", b"PK\x03\x04" + good[4:]


def test_a_file_that_is_no_safetensors_is_refused_wherever_it_is_given(whole, copy, tmp_path):
    model = load(whole)
    for wrong, content in broken(whole):
        file = tmp_path / "bad.safetensors"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad.safetensors cannot be read as safetensors: "):
            read_tensors(file)
        with pytest.raises(ValueError, match="cannot be read as safetensors"):
            ctrl.load(file, device="cpu", tokenizer=whole / "tokenizer")
        target = copy / "vae" / "diffusion_pytorch_model.safetensors"
        target.write_bytes(content)
        with pytest.raises(ValueError, match="the weights in 'vae' cannot be read: "):
            load(copy)
        extras = ctrl.load(whole, device="cpu", controlnets={"pose": file}, lora=file)
        with pytest.raises(ValueError, match="cannot be read as safetensors"):
            extras.controlnet("pose")
        with pytest.raises(ValueError, match="cannot be read as safetensors"):
            extras.with_loras([("lcm", 1.0)])
        pickled = "by another name" if wrong in ("a pickle", "a zip") else ": "
        with pytest.raises(ValueError, match=pickled):
            read_tensors(file)
    assert model.unet.conv_in.weight.isfinite().all()


BOMBS = [
    ("unet", "layers_per_block", 20_000),
    ("unet", "layers_per_block", True),
    ("unet", "layers_per_block", "2"),
    ("unet", "layers_per_block", None),
    ("unet", "transformer_layers_per_block", [1, 10**9]),
    ("unet", "transformer_layers_per_block", [[1] * 500] * 500),
    ("unet", "block_out_channels", [32] * 1000),
    ("unet", "block_out_channels", [32] * 12),
    ("unet", "block_out_channels", [32, 10**12]),
    ("unet", "block_out_channels", [32, -64]),
    ("unet", "block_out_channels", {"0": 32}),
    ("unet", "cross_attention_dim", 10**30),
    ("unet", "down_block_types", ["os.system", "DownBlock2D"]),
    ("unet", "down_block_types", ["x" * 10**6, "DownBlock2D"]),
    ("unet", "attention_head_dim", 0),
    ("unet", "norm_num_groups", 7),
    ("unet", "sample_size", -1),
    ("unet", "_class_name", "UNet3DConditionModel"),
    ("unet", "_class_name", ["torch", "load"]),
    ("vae", "layers_per_block", 10**6),
    ("vae", "latent_channels", 10**6),
    ("text_encoder", "num_hidden_layers", 10**6),
    ("text_encoder", "hidden_size", "64"),
    ("text_encoder", "num_attention_heads", 7),
    ("text_encoder", "hidden_act", "os.system"),
    ("text_encoder", "max_position_embeddings", 10**9),
    ("scheduler", "num_train_timesteps", 10**12),
    ("scheduler", "beta_start", 5.0),
    ("scheduler", "beta_end", "0.1"),
    ("scheduler", "trained_betas", [0.1] * 10**6),
]


@pytest.mark.parametrize(("part", "field", "value"), BOMBS)
def test_a_configuration_out_of_bounds_is_refused(copy, part, field, value):
    file = copy / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    change(file, **{field: value})
    with pytest.raises(ValueError) as caught:
        load(copy)
    assert len(str(caught.value)) < 600


def test_what_is_out_of_bounds_is_never_built(copy, monkeypatch):
    kinds = []
    monkeypatch.setattr(pretrained, "on_meta", lambda kind, config, name: kinds.append(kind.__name__))
    change(copy / "text_encoder" / "config.json", num_hidden_layers=20_000)
    with pytest.raises(ValueError, match=r"num_hidden_layers in text_encoder/config.json must be between 1 and 96"):
        load(copy)
    assert kinds == []


def test_a_field_that_is_not_known_is_said_and_one_of_training_is_not(copy, recwarn):
    change(copy / "unet" / "config.json", decay=0.9999, _note="x", _attn_implementation_internal="owner/kernel")
    change(copy / "text_encoder" / "config.json", auto_map={"AutoModel": "run.Model"}, trust_remote_code=True)
    (copy / "text_encoder" / "run.py").write_text("raise SystemExit")
    load(copy)
    assert not [one for one in recwarn if one.category is UserWarning]
    change(copy / "unet" / "config.json", future=1)
    with pytest.warns(UserWarning, match=r"unet/config.json has fields unknown to diffusers: future"):
        load(copy)


@pytest.mark.parametrize(
    "text", ["[]", "3", "", "{", '{"a": NaN}', '{"a": Infinity}', '{"a": 1, "a": 2}', "[" * 100_000]
)
def test_what_is_no_json_object_is_refused(copy, text):
    for name in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"):
        kept = (copy / name).read_bytes()
        (copy / name).write_text(text)
        refused = "is not JSON|must hold an object|must be finite"
        with pytest.raises(ValueError, match=f"{name.rpartition('/')[2]} ({refused})"):
            load(copy)
        (copy / name).write_bytes(kept)


PAIRS = [
    ["os", "system"], ["posix", "system"], ["subprocess", "Popen"], ["builtins", "eval"], ["builtins", "exec"],
    ["torch", "load"], ["pickle", "Unpickler"], ["importlib", "import_module"], ["run", "Model"], ["diffusers", "eval"],
    ["diffusers", "UNet2DConditionModel", "x"], ["UNet2DConditionModel"], [], "UNet2DConditionModel", None, 7, {}, True,
    [None, None], [None, "UNet2DConditionModel "], ["diffusers", None], ["diffusers", 7], [["diffusers"], "x"],
    ["diffusers", "UNet2DModel"], ["diffusers", "AutoencoderKL"],
]  # fmt: skip


def test_classes_are_never_taken_from_the_index(copy):
    index = json.loads((copy / "model_index.json").read_text())
    for part in ("unet", "vae", "text_encoder"):
        for pair in PAIRS:
            if pair == index[part]:
                continue
            (copy / "model_index.json").write_text(json.dumps(index | {part: pair}))
            with pytest.raises(ValueError, match=f"as its {part}; ctrl steers models with a "):
                load(copy)
    (copy / "model_index.json").write_text(json.dumps(index | {"unet": ["run", "UNet2DConditionModel"]}))
    load(copy)  # the name is of no consequence: it is ours that is built


@pytest.mark.parametrize("part", list(WEIGHTS))
def test_shards_are_read_and_must_lie_in_their_folder(whole, copy, part):
    stem = WEIGHTS[part]
    file = copy / part / f"{stem}.safetensors"
    held = load_file(file)
    file.unlink()
    names = [f"{stem}-0000{at}-of-00002.safetensors" for at in (1, 2)]
    for at, name in enumerate(names):
        save_file(dict(list(held.items())[at::2]), copy / part / name)
    index = copy / part / f"{stem}.safetensors.index.json"
    places = {key: names[at % 2] for at, key in enumerate(held)}
    index.write_text(json.dumps({"weight_map": places}))
    assert all(torch.equal(*pair) for pair in zip(_state(load(copy)), _state(load(whole)), strict=True))
    for shard in ("../../elsewhere.safetensors", "/etc/passwd", "a/b.safetensors", "..", 7, None):
        index.write_text(json.dumps({"weight_map": places | {"x": shard}}))
        with pytest.raises(ValueError, match="names shards outside its folder; it is not to be trusted"):
            load(copy)
    for wrong in ({}, {"weight_map": []}):
        index.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="it is not to be trusted"):
            load(copy)
    index.write_text(json.dumps({"weight_map": places}))
    (copy / part / names[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no file '{names[1]}' in '{part}'"):
        load(copy)


def _state(model):
    modules = [model.unet, model.vae, *(tower.encoder for tower in model.parts.text_encoders)]
    return [tensor for module in modules for tensor in module.state_dict().values()]


def test_a_pipe_or_a_folder_by_a_files_name_is_no_file(copy):
    for name in ("unet/config.json", "vae/diffusion_pytorch_model.safetensors"):
        kept = (copy / name).read_bytes()
        for make in (os.mkfifo, os.mkdir):
            (copy / name).unlink()
            make(copy / name)
            with pytest.raises(FileNotFoundError):
                load(copy)
            shutil.rmtree(copy / name) if make is os.mkdir else (copy / name).unlink()
            (copy / name).write_bytes(kept)


@pytest.mark.parametrize("part", list(WEIGHTS))
def test_a_tensor_that_lacks_or_is_damaged_is_an_error_and_one_too_many_is_said(copy, part):
    file = copy / part / f"{WEIGHTS[part]}.safetensors"
    held = load_file(file)
    name = sorted(held)[0]
    for changed, sentence in (
        ({name: None}, f"'{part}' lacks 1 tensors, such as {name}: it is incomplete"),
        ({name: torch.full_like(held[name], torch.inf)}, f"'{part}' has NaN or infinite numbers in {name}"),
        ({name: held[name][None]}, f"'{part}' has {name} of shape .*, and its configuration asks for"),
        ({name: held[name].to(torch.int8)}, f"'{part}' has {name} as torch.int8: ctrl reads no quantised weights"),
    ):
        save_file({key: one for key, one in (held | changed).items() if one is not None}, file)
        with pytest.raises(ValueError, match=sentence):
            load(copy)
    inside = next(key for key in sorted(held) if ".0." in key).replace(".0.", ".9.", 1)
    save_file(held | {inside: torch.ones(1)}, file)
    with pytest.raises(ValueError, match=f"'{part}' has 1 tensors that its configuration has no place for, such as"):
        load(copy)
    save_file(held | {"more": torch.ones(1)}, file)
    with pytest.warns(UserWarning, match=f"'{part}' has 1 tensors, such as more, that no .* has; they are left out"):
        load(copy)
    big = {key: one * 1e6 if key == name else one for key, one in held.items()}
    save_file({key: one + 1e6 * (key == name) for key, one in big.items()}, file)
    with pytest.raises(ValueError, match=r"infinite numbers in .* \(read as torch.float16\)"):
        ctrl.load(copy, device="cpu", dtype=torch.float16)


def test_loading_draws_nothing_and_changes_no_default(whole):
    before = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled(), dict(os.environ)
    load(whole)
    after = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled(), dict(os.environ)
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_a_file_that_changes_later_does_not_change_the_model(copy):
    model = load(copy)
    before = [tensor.clone() for tensor in _state(model)]
    for part, stem in WEIGHTS.items():
        with (copy / part / f"{stem}.safetensors").open("r+b") as file:
            file.seek(-4000, os.SEEK_END)
            file.write(b"\x00" * 4000)
    assert all(torch.equal(*pair) for pair in zip(_state(model), before, strict=True))


def test_parts_of_different_models_are_refused(whole, copy, tmp_path):
    other = tiny.save_folder(tiny.sdxl(), tmp_path / "sdxl")
    shutil.copytree(other / "unet", copy / "unet", dirs_exist_ok=True)
    with pytest.raises(ValueError, match="'copy' has text encoders of width 64, and its U-Net reads 128"):
        load(copy)
    change(other / "model_index.json", text_encoder=[None, None])
    with pytest.raises(ValueError, match="is an SDXL refiner"):
        load(other)
    inpaints = tiny.sd1()
    unet = type(inpaints.unet)(**{**inpaints.unet.config, "in_channels": 8})
    unet.save_pretrained(copy / "unet")
    with pytest.raises(ValueError, match="reads 8 channels, and its VAE's latents have 4: it edits by"):
        load(copy)


def test_a_tokenizer_of_another_model_is_refused(copy):
    vocabulary = {f"x{number}": number for number in range(500)} | {"<|startoftext|>": 500, "<|endoftext|>": 501}
    (copy / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    (copy / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match="the tokenizer in 'tokenizer' has 502 tokens, and the text encoder knows 59"):
        load(copy)
    (copy / "tokenizer" / "merges.txt").write_text("#version: 0.2\nno such\n")
    with pytest.raises(ValueError, match="the tokenizer in 'tokenizer' cannot be read: "):
        load(copy)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["lora_unet_x.lora_down.weight"], "it looks like a LoRA, to be given as lora="),
        (["control_model.input_hint_block.0.weight"], "it looks like a ControlNet, to be given in controlnets="),
        (["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"], "it looks like an IP-Adapter, to be given as ip_"),
        (["down_blocks.0.x"], "it looks like a U-Net alone"),
        (["model.diffusion_model.double_blocks.0.x"], "it looks like a diffusion transformer"),
        (["model.diffusion_model.x", "conditioner.embedders.0.model.x"], "is an SDXL refiner"),
        (["model.diffusion_model.x", "edm_mean"], "is an EDM model"),
        (["model.diffusion_model.x"], r"it has no VAE \(first_stage_model.…\) and no text encoder"),
        (["model.diffusion_model.x", "first_stage_model.x", "cond_stage_model.y.x"], "text encoder is of no layout"),
        (["emb_params"], r"it looks like a textual inversion"),
        (["other"], r"it has no U-Net \(model.diffusion_model.…\) and no VAE"),
    ],
)
def test_a_single_file_that_is_no_model_says_what_it_is(tmp_path, whole, names, sentence):
    file = tiny.save({name: torch.ones(2, 2) for name in names}, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match=sentence):
        ctrl.load(file, device="cpu", tokenizer=whole)


def test_a_single_file_must_be_whole_and_have_nothing_over(tmp_path, whole):
    held = tiny.single(tiny.sd1())

    def refused(changed, sentence):
        kept = {key: one for key, one in (held | changed).items() if one is not None}
        file = tiny.save(kept, tmp_path / "one.safetensors")
        with pytest.raises(ValueError, match=sentence):
            ctrl.load(file, device="cpu", tokenizer=whole)

    unet, vae, text = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
    refused({unet + "out.0.bias": None}, "the U-Net in one.safetensors lacks 1 tensors, such as conv_norm_out.bias")
    refused({unet + "out.2.weight": None}, "one.safetensors lacks out.2.weight: it is incomplete")
    refused({unet + "middle_block.1.norm.bias": torch.ones(3)}, "of shape")
    refused({unet + "more": torch.ones(1)}, "the U-Net in one.safetensors has 1 tensors that it has no place for")
    refused({vae + "decoder.mid.attn_1.q.bias": None}, "the VAE in one.safetensors lacks 1 tensors")
    refused({vae + "more": torch.ones(1)}, "the VAE in one.safetensors has 1 tensors that it has no place for")
    refused({text + "final_layer_norm.bias": None}, "the text encoder at cond_stage_model.transformer.… in one.safe")
    refused({text + "more": torch.ones(1)}, "has 1 tensors that it has no place for, such as text_model.more")
    refused({vae + "loss.logvar": torch.ones(1), unet + "input_blocks.0.0.bias": None}, "lacks 1 tensors")
    file = tiny.save(held | {"stranger": torch.ones(1)}, tmp_path / "more.safetensors")
    with pytest.warns(UserWarning, match="such as stranger, that no Stable Diffusion 1 model has; they are left out"):
        ctrl.load(file, device="cpu", tokenizer=whole)


def test_pickles_are_refused_by_name(copy, tmp_path):
    for name in ("model.ckpt", "model.pt", "model.bin"):
        (tmp_path / name).write_bytes(pickle.dumps({}))
        with pytest.raises(
            FileNotFoundError,
            match=r"source must be a .safetensors file, and .* is a pickle, which can run code",
        ):
            ctrl.load(tmp_path / name)
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(FileNotFoundError, match=r"'unet' has no .safetensors file; pickled weights are not read"):
        load(copy)
