"""Tiny models in every layout in which models are published, read through the real code, bit for bit."""

import json
import shutil

import numpy as np
import pytest
import tiny_formats as tiny
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetUnionModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors.torch import load_file

import ctrl
from ctrl.model.loading import original_names
from ctrl.model.loading.controlnets import OneKind, controlnet
from ctrl.model.loading.shapes import unet_config, vae_config

FAMILIES = list(tiny.ALL)
PUBLISHED = {  # the U-Nets' configurations on the hub, where they differ from diffusers' defaults
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64},
    "sd2": {
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
        "sample_size": 96,
    },
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


@pytest.fixture(scope="module")
def written():
    """The modules the files were written from; no test may change them."""
    return {family: make() for family, make in tiny.ALL.items()}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, written):
    """A folder with every model in both layouts, and a tokenizer."""
    return tiny.save_all(written, tmp_path_factory.mktemp("formats"))


offline = pytest.fixture(autouse=True)(tiny.offline)


def load(shelf, family, layout):
    if layout == "folder":
        return ctrl.load(shelf / family, device="cpu", local_files_only=True)
    return ctrl.load(shelf / f"{family}.safetensors", device="cpu", tokenizer=shelf / "clip", local_files_only=True)


def parts(model):
    return [model.unet, model.vae, *(tower.encoder for tower in model.parts.towers)]


def assert_same(got, expected):
    theirs, ours = expected.state_dict(), got.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
        assert ours[name].is_contiguous(), name  # other strides may round otherwise


def configuration(module):
    config = module.config if isinstance(module.config, dict) else module.config.to_dict()
    unread = ("_use_default_values", "_class_name", "_diffusers_version", "architectures", "dtype")
    return {key: _plain(value) for key, value in dict(config).items() if key not in unread}


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("layout", ["folder", "single file"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_in_bit_for_bit_in_both_layouts(shelf, written, family, layout):
    model = load(shelf, family, layout)
    for got, expected in zip(parts(model), written[family].parts, strict=True):
        assert_same(got, expected)
        assert not got.training and not any(one.requires_grad for one in got.parameters())
        ours, theirs = configuration(got), configuration(expected)
        if layout == "single file" and isinstance(got, AutoencoderKL):
            ours.pop("sample_size"), theirs.pop("sample_size")  # the pictures' size, which no tensor tells
        assert ours == theirs
    schedule = {key: value for key, value in model.parts.scheduler.items() if not key.startswith("_")}
    assert schedule == {key: value for key, value in written[family].schedule.items() if not key.startswith("_")}
    assert model.parts.zero_negative == (family == "sdxl")
    pads = {"sd1": [tiny.END], "sd2": ["!"], "sdxl": [tiny.END, "!"]}[family]
    assert [tower.tokenizer.pad_token for tower in model.parts.towers] == pads
    assert all(tower.tokenizer.model_max_length == tiny.TOKENS for tower in model.parts.towers)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_file_draws_the_picture_its_folder_draws(shelf, family):
    recipe = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=64, height=64)
    shots = [ctrl.sample(load(shelf, family, layout), recipe).image for layout in ("folder", "single file")]
    assert np.array_equal(*(np.asarray(image) for image in shots))


def test_a_text_encoder_by_its_names_of_today_is_read_too(shelf, written, tmp_path):
    held = {key.replace(".text_model.", "."): one for key, one in tiny.single(written["sd1"]).items()}
    file = tiny.save(held, tmp_path / "today.safetensors")
    model = ctrl.load(file, device="cpu", tokenizer=shelf / "clip")
    assert_same(model.parts.towers[0].encoder, written["sd1"].texts[0])


def test_a_codec_by_its_former_names_is_read_too(shelf, written, tmp_path):
    former = shutil.copytree(shelf / "sd1", tmp_path / "former")
    file = former / "vae" / "diffusion_pytorch_model.safetensors"
    held = load_file(file)
    for now, then in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        held = {key.replace(f".{now}.", f".{then}."): one for key, one in held.items()}
    tiny.save(held, file)
    assert_same(ctrl.load(former, device="cpu").vae, written["sd1"].vae)


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_own_converters_read_the_same_from_these_files(shelf, written, family):
    held = load_file(shelf / f"{family}.safetensors")
    model = written[family]
    theirs = convert_ldm_unet_checkpoint(dict(held), dict(model.unet.config))
    assert_same_tensors(theirs, model.unet.state_dict())
    theirs = convert_ldm_vae_checkpoint(dict(held), dict(model.vae.config))
    assert_same_tensors(theirs, model.vae.state_dict())
    if family == "sdxl":
        theirs = convert_open_clip_checkpoint(model.texts[1], held, "conditioner.embedders.1.model.")
        assert_same_tensors(theirs, model.texts[1].state_dict())


def assert_same_tensors(theirs, ours):
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_published_architectures_are_read_from_their_shapes(family):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**PUBLISHED[family])
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=512,
        )
    original = tiny.unet(unet)
    config = unet_config(original, "it", size=PUBLISHED[family]["sample_size"])
    assert {key: _plain(unet.config[key]) for key in config} == {key: _plain(value) for key, value in config.items()}
    codec = vae_config(tiny.vae(vae), "it", size=512, scaling_factor=0.18215)
    assert {key: _plain(vae.config[key]) for key in codec} == {key: _plain(value) for key, value in codec.items()}
    assert {original_names.unet_name(name, config) for name in unet.state_dict()} == original.keys()
    prefixed = tiny.prefixed("model.diffusion_model.", original)
    theirs = convert_ldm_unet_checkpoint(prefixed, dict(unet.config))
    for name in unet.state_dict():
        assert theirs[name] is original[original_names.unet_name(name, config)], name


def test_the_prediction_is_what_is_said_then_what_is_noted_then_the_familys(shelf, written, tmp_path):
    def predicts(file, **said):
        model = ctrl.load(file, device="cpu", tokenizer=shelf / "clip", **said)
        return model.parts.scheduler["prediction_type"]

    assert predicts(shelf / "sd2.safetensors") == "v_prediction"
    assert predicts(shelf / "sd2.safetensors", prediction="epsilon") == "epsilon"
    noted = tiny.save_single(written["sd2"], tmp_path / "noted.safetensors", {"modelspec.prediction_type": "epsilon"})
    assert predicts(noted) == "epsilon"
    assert predicts(noted, prediction="v") == "v_prediction"
    marks = {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}
    marked = tiny.save_single(written["sd1"], tmp_path / "marked.safetensors", **marks)
    assert predicts(marked) == "v_prediction"
    schedule = ctrl.load(marked, device="cpu", tokenizer=shelf / "clip").parts.scheduler
    assert schedule["rescale_betas_zero_snr"] is True
    with pytest.raises(ValueError, match="prediction must be 'epsilon', 'v' or None, got 'eps'"):
        predicts(shelf / "sd2.safetensors", prediction="eps")
    with pytest.raises(ValueError, match="tokenizer and prediction are for a single file"):
        ctrl.load(shelf / "sd2", prediction="v")


@pytest.fixture(scope="module")
def nets(written):
    return {family: tiny.controlnet(model.unet) for family, model in written.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["folder", "control_model.", "bare", "diffusers' names", "lone file in a folder"])
def test_a_controlnet_comes_in_bit_for_bit_in_every_layout(shelf, nets, tmp_path, family, layout):
    net = nets[family]
    place = tmp_path / "net.safetensors"
    if layout == "folder":
        net.save_pretrained(place := tmp_path / "net")
    elif layout == "control_model.":
        held = tiny.prefixed("control_model.", tiny.original_controlnet(net))
        tiny.save(held | {"model.diffusion_model.out.2.bias": torch.ones(4)}, place)  # with what it was trained on
    elif layout == "bare":
        tiny.save(tiny.original_controlnet(net), place)
    elif layout == "diffusers' names":
        tiny.save(net.state_dict(), place)
    else:
        tiny.save(tiny.original_controlnet(net), (place := tmp_path / "net") / "any.safetensors")
    model = ctrl.load(shelf / family, device="cpu", controlnets={"line art": place})
    assert "line art" in model.controls
    got = model.controlnet("line art").module
    assert_same(got, net)
    ours, theirs = configuration(got), configuration(net)
    assert ours == theirs
    assert not got.training


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_own_converter_reads_the_same_from_a_controlnets_file(nets, family):
    net = nets[family]
    theirs = convert_controlnet_checkpoint(tiny.original_controlnet(net), dict(net.config))
    ours = net.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items() if "add_embedding" not in name)


def test_a_controlnet_of_another_model_or_in_pieces_is_refused(shelf, nets, tmp_path):
    model = ctrl.load(shelf / "sd1", device="cpu")
    other = tiny.save(tiny.original_controlnet(nets["sd2"]), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"the pose ControlNet in other.safetensors was made for another model"):
        controlnet("pose", other, model.unet)
    nets["sd2"].save_pretrained(tmp_path / "folder")
    with pytest.raises(ValueError, match="the pose ControlNet was made for another model: its block_out_channels is"):
        controlnet("pose", tmp_path / "folder", model.unet)
    with pytest.raises(ValueError, match="was made for another model"):
        controlnet("pose", nets["sdxl"], model.unet)
    whole = tiny.original_controlnet(nets["sd1"])
    held = {key: one for key, one in whole.items() if "zero_convs.0" not in key}
    part = tiny.save(held, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"or is not whole: 2 of its tensors, such as controlnet_down_blocks.0"):
        controlnet("pose", part, model.unet)
    more = tiny.save(whole | {"lora_controlnet": torch.ones(1)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match="1 of its tensors, such as lora_controlnet"):
        controlnet("pose", more, model.unet)
    with pytest.raises(ValueError, match="it looks like a whole model"):
        controlnet("pose", shelf / "sd1.safetensors", model.unet)
    with pytest.raises(FileNotFoundError, match=r"'sd1' has no config.json and 0 .safetensors files"):
        controlnet("pose", shelf / "sd1", model.unet)


def test_a_union_controlnet_serves_each_of_its_kinds(shelf, tmp_path):
    unet = ctrl.load(shelf / "sdxl", device="cpu").unet
    torch.manual_seed(6)
    shared = ("down_block_types", "block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim")
    shared += ("transformer_layers_per_block", "use_linear_projection", "addition_embed_type")
    shared += ("addition_time_embed_dim", "projection_class_embeddings_input_dim")
    own = {"conditioning_embedding_out_channels": (8, 16), "num_trans_channel": 64, "num_proj_channel": 64}
    union = ControlNetUnionModel(**{field: unet.config[field] for field in shared}, **own)
    for parameter in union.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    union.save_pretrained(tmp_path / "union")
    config = json.loads((tmp_path / "union" / "config.json").read_text())
    (tmp_path / "union" / "config.json").write_text(json.dumps(config | {"_class_name": "ControlNetModel_Union"}))
    given = {
        "sample": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor(5),
        "encoder_hidden_states": torch.randn(2, 20, 128),
        "added_cond_kwargs": {"text_embeds": torch.randn(2, 64), "time_ids": torch.ones(2, 6)},
        "return_dict": False,
    }
    hint = torch.rand(2, 3, 16, 16)
    answers = []
    for mode in (0, 3):
        net = controlnet("pose", tmp_path / "union", unet, mode)
        assert isinstance(net, OneKind)
        down, mid = net(controlnet_cond=hint, **given)
        one_hot = torch.nn.functional.one_hot(torch.tensor([mode, mode]), 6).float()
        expected = union(controlnet_cond=[hint], control_type=one_hot, control_type_idx=[mode], **given)
        assert torch.equal(mid, expected[1])
        assert all(torch.equal(*pair) for pair in zip(down, expected[0], strict=True))
        answers.append(mid)
    assert not torch.equal(*answers)
    for mode in (None, 6):
        with pytest.raises(ValueError, match="the pose ControlNet serves 6 kinds"):
            controlnet("pose", tmp_path / "union", unet, mode)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_an_adopted_pipeline_is_left_as_it_was_and_draws_its_own_picture(shelf, family):
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    pipe = kind.from_pretrained(shelf / family, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    before = looks(pipe)
    model = ctrl.Model.from_pipeline(pipe)
    assert model.unet is pipe.unet and model.vae is pipe.vae
    recipe = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=64, height=64, guidance=5.0, sampler="ddim")
    ours = np.asarray(ctrl.sample(model, recipe).image)
    assert looks(pipe) == before
    theirs = pipe(
        "ab, c",
        negative_prompt="d",
        num_inference_steps=2,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
        width=64,
        height=64,
    ).images[0]
    assert np.array_equal(ours, np.asarray(theirs))
    assert np.array_equal(ours, np.asarray(ctrl.sample(ctrl.load(shelf / family, device="cpu"), recipe).image))


def looks(pipe):
    """Everything about a pipeline that adopting it might change."""
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    ours = [one for part in (pipe.unet, pipe.vae) for one in part.modules()]  # transformers hooks its own when asked
    held = {
        (name, key): (tensor.data_ptr(), tensor.dtype, tensor.device, tensor._version, tensor.requires_grad)
        for name, part in modules.items()
        for key, tensor in part.named_parameters()
    }
    processors = {name: id(one) for name, one in pipe.unet.attn_processors.items()}
    hooks = [len(one._forward_hooks) + len(one._forward_pre_hooks) for one in ours]
    flags = [one.training for part in modules.values() for one in part.modules()]
    configs = {name: dict(part.config) for name, part in pipe.components.items() if hasattr(part, "config_name")}
    own = {name: id(part) for name, part in pipe.components.items()}
    return held, processors, hooks, flags, configs, own, dict(pipe.config)


def test_what_a_pipeline_has_that_cannot_be_followed_is_refused(shelf, nets):
    pipe = StableDiffusionPipeline.from_pretrained(shelf / "sd1", dtype=torch.float32)
    model = ctrl.Model.from_pipeline(pipe, controlnets={"pose": nets["sd1"]})
    assert model.controlnet("pose").module is nets["sd1"]
    pipe.enable_attention_slicing()
    with pytest.raises(ValueError, match=r"attends by SlicedAttnProcessor.*set_attn_processor\(AttnProcessor2_0\(\)\)"):
        ctrl.Model.from_pipeline(pipe)
    pipe.unet.set_attn_processor(AttnProcessor2_0())
    pipe.unet.encoder_hid_proj = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"has an IP-Adapter loaded; call pipe.unload_ip_adapter\(\)"):
        ctrl.Model.from_pipeline(pipe)
    pipe.unet.encoder_hid_proj = None
    pipe.vae.to("meta")
    with pytest.raises(ValueError, match="parts lie on cpu, meta or are moved about by hooks"):
        ctrl.Model.from_pipeline(pipe)
    for other in (object(), pipe.unet):
        with pytest.raises(ValueError, match="as its unet; ctrl adopts pipelines with a UNet2DConditionModel"):
            ctrl.Model.from_pipeline(other)
