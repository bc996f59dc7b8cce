"""Tiny models in every layout in which models are published, read through the real code, bit for bit."""

import copy
import json
import shutil

import diffusers
import numpy as np
import pytest
import tiny_formats as tiny
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetUnionModel,
    DDIMPipeline,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from safetensors.torch import load_file

import ctrl
from ctrl.model.loading import files, original_names
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


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_what_save_pretrained_writes_today_is_read_and_draws_the_same_picture(shelf, tmp_path, family):
    again = tiny.saved_again(shelf / family, tmp_path / "again")
    for folder in sorted(again.glob("tokenizer*")):
        assert {path.name for path in folder.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    recipe = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=64, height=64, sampler="ddim")
    models = [ctrl.load(place, device="cpu") for place in (shelf / family, again)]
    assert np.array_equal(*(np.asarray(ctrl.sample(model, recipe).image) for model in models))
    pads = [[tower.tokenizer.pad_token for tower in model.towers] for model in models]
    assert pads[0] == pads[1]


SCHEDULERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
]


@pytest.mark.parametrize(
    ("family", "name"), [*(("sd1", name) for name in SCHEDULERS), ("sdxl", "DPMSolverMultistepScheduler")]
)
def test_a_folder_with_any_scheduler_that_diffusers_saves_runs_as_the_pipeline_itself(shelf, tmp_path, family, name):
    again = tiny.saved_again(shelf / family, tmp_path / "again", getattr(diffusers, name))
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    loaded = ctrl.load(again, device="cpu")
    adopted = ctrl.load(kind.from_pretrained(again, dtype=torch.float32))
    recipe = ctrl.Recipe("ab, c", steps=3, seed=3, width=32, height=32)
    ours, theirs = (np.asarray(ctrl.sample(model, recipe).image) for model in (loaded, adopted))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("field", "value"),
    [("lambda_min_clipped", "inf"), ("lambda_min_clipped", "nan"), ("beta_end", "nan"), ("flow_shift", "-inf")],
)
def test_a_schedule_with_any_other_number_that_is_not_finite_is_refused(shelf, tmp_path, field, value):
    folder = shutil.copytree(shelf / "sd1", tmp_path / "odd")
    file = folder / "scheduler" / "scheduler_config.json"
    held = json.loads(file.read_text()) | {field: float(value)}
    file.write_text(json.dumps(held))
    with pytest.raises(ValueError, match=f"{field} in scheduler_config.json must"):
        ctrl.load(folder, device="cpu")


@pytest.mark.parametrize("small", ["scheduler/scheduler_config.json", "tokenizer/vocab.json", "vae/config.json"])
def test_small_files_are_checked_before_any_weight_is_read(shelf, tmp_path, monkeypatch, small):
    folder = shutil.copytree(shelf / "sd1", tmp_path / "odd")
    (folder / small).write_text("{")
    monkeypatch.setattr(files, "safe_open", lambda *_: pytest.fail("weights were opened"))
    with pytest.raises(ValueError, match="is not JSON"):
        ctrl.load(folder, device="cpu")


def test_all_files_of_weights_are_looked_for_before_any_is_read(shelf, tmp_path, monkeypatch):
    folder = shutil.copytree(shelf / "sd1", tmp_path / "odd")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    monkeypatch.setattr(files, "safe_open", lambda *_: pytest.fail("weights were opened"))
    with pytest.raises(FileNotFoundError, match=r"'vae' has no \.safetensors file"):
        ctrl.load(folder, device="cpu")


@pytest.mark.parametrize("inside", ["tokenizer", "."])
def test_a_single_file_takes_the_tokenizer_that_is_written_today(shelf, tmp_path, inside):
    again = tiny.saved_again(shelf / "sdxl", tmp_path / "again")
    models = [
        ctrl.load(shelf / "sdxl.safetensors", device="cpu", tokenizer=place)
        for place in (shelf / "clip", again / inside)
    ]
    recipe = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=64, height=64)
    assert np.array_equal(*(np.asarray(ctrl.sample(model, recipe).image) for model in models))


@pytest.mark.parametrize("model", [None, 7, {"type": "Unigram", "vocab": {"a": 1}}, {"type": "BPE", "vocab": [["a"]]}])
def test_a_tokenizer_json_of_another_kind_is_refused(shelf, tmp_path, model):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    with pytest.raises(ValueError, match=r"tokenizer.json is no CLIP tokenizer"):
        ctrl.load(shelf / "sd1.safetensors", device="cpu", tokenizer=tmp_path)


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
    model = ctrl.load(pipe)
    assert model.vae is pipe.vae
    ours, theirs = ({one.data_ptr() for one in net.parameters()} for net in (model.unet, pipe.unet))
    assert ours == theirs
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


def overflowing(written):
    """SDXL in halves of numbers, with a codec whose activations no float16 holds."""
    model = written["sdxl"]
    vae = copy.deepcopy(model.vae)
    with torch.no_grad():
        vae.decoder.conv_in.weight *= 2e4
        vae.encoder.conv_in.weight *= 2e5
    parts = [part.half().float() for part in copy.deepcopy([model.unet, vae, *model.texts])]
    return tiny.Written(*parts[:2], tuple(parts[2:]), model.schedule)


@pytest.mark.parametrize("road", ["folder", "single file", "pipeline"])
def test_sdxl_in_float16_has_its_codec_in_float32_and_draws_what_diffusers_draws(written, tmp_path, road):
    model = overflowing(written)
    folder = tiny.save_folder(model, tmp_path / "sdxl")
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float16)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.requires_grad_(requires_grad=False)  # else torch takes another kernel for float16 on the CPU
    if road == "pipeline":
        got = ctrl.load(pipe)
    else:
        file = tiny.save_single(model, tmp_path / "sdxl.safetensors")
        place, more = (folder, {}) if road == "folder" else (file, {"tokenizer": folder})
        got = ctrl.load(place, device="cpu", dtype=torch.float16, **more)
    assert (got.unet.dtype, got.vae.dtype) == (torch.float16, torch.float32)
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8))
    recipe = ctrl.Recipe("ab, c", steps=2, seed=3, width=32, height=32, guidance=5.0, sampler="ddim")
    again = StableDiffusionXLImg2ImgPipeline(**pipe.components)
    again.set_progress_bar_config(disable=True)
    shared = {"guidance_scale": 5.0, "num_inference_steps": 2}
    given = shared | {"generator": torch.Generator().manual_seed(3)}
    theirs = pipe("ab, c", width=32, height=32, **given).images[0]
    assert np.array_equal(np.asarray(ctrl.sample(got, recipe).image), np.asarray(theirs))
    given = shared | {"generator": torch.Generator().manual_seed(3)}
    theirs = again("ab, c", image=photo, strength=0.5, **given).images[0]
    assert np.array_equal(np.asarray(ctrl.sample(got, recipe.replace(image=photo, strength=0.5)).image), theirs)
    assert pipe.vae.dtype == torch.float16


def test_a_codec_that_says_it_does_not_overflow_stays_in_float16(written, tmp_path):
    written = copy.deepcopy(written["sdxl"])
    written.vae.register_to_config(force_upcast=False)
    folder = tiny.save_folder(written, tmp_path / "sdxl")
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float16)
    assert ctrl.load(folder, device="cpu", dtype=torch.float16).vae.dtype == torch.float16
    assert ctrl.load(pipe).vae is pipe.vae


def test_what_a_pipeline_has_that_cannot_be_followed_is_refused(shelf, nets):
    pipe = StableDiffusionPipeline.from_pretrained(shelf / "sd1", dtype=torch.float32)
    model = ctrl.load(pipe, controlnets={"pose": nets["sd1"]})
    assert model.controlnet("pose").module is nets["sd1"]
    pipe.unet.set_attn_processor(type("Mine", (AttnProcessor2_0,), {})())
    with pytest.raises(ValueError, match=r"attends by Mine, which.*set_attn_processor\(AttnProcessor2_0\(\)\)"):
        ctrl.load(pipe)
    pipe.unet.set_attn_processor(AttnProcessor2_0())
    for name, value in {"device": "cpu", "dtype": torch.float32, "tokenizer": "x/y", "prediction": "v"}.items():
        with pytest.raises(ValueError, match=f"{name} is not for a pipeline"):
            ctrl.load(pipe, **{name: value})
    pipe.vae.to("meta")
    with pytest.raises(ValueError, match="parts lie on cpu, meta or are moved about by hooks"):
        ctrl.load(pipe)
    for other in (object(), pipe.unet, 7):
        with pytest.raises(TypeError, match=r"source must be a path, a hub id .* or a pipeline, got "):
            ctrl.load(other)
    with pytest.raises(ValueError, match="as its unet; ctrl supports pipelines with a UNet2DConditionModel"):
        ctrl.load(DDIMPipeline(UNet2DModel(sample_size=8, block_out_channels=(32, 64, 64, 64)), DDIMScheduler()))
