"""Tiny models in every layout in which models are published, read through the real code, bit for bit."""

import copy
import inspect
import json
import re
import shutil
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import tiny_formats as tiny
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
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
from transformers import CLIPTextConfig, CLIPTextModel

import ctrl
from ctrl.model.loading import files, original_names
from ctrl.model.loading.control_modules import OneKind, Pooled
from ctrl.model.loading.controlnets import controlnet
from ctrl.model.loading.pretrained import read_schedule
from ctrl.model.loading.shapes import unet_config, vae_config
from ctrl.model.samplers import scheduled

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
    return [model.unet, model.vae, *(tower.encoder for tower in model.parts.text_encoders)]


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
    assert model.parts.scheduler.items() >= written[family].schedule.items() - {("_class_name", "DDIMScheduler")}
    assert model.parts.zero_negative == (family == "sdxl")
    pads = {"sd1": [tiny.END], "sd2": ["!"], "sdxl": [tiny.END, "!"]}[family]
    assert [tower.tokenizer.pad_token for tower in model.parts.text_encoders] == pads
    assert all(tower.tokenizer.model_max_length == tiny.TOKENS for tower in model.parts.text_encoders)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_file_draws_the_picture_its_folder_draws(shelf, family):
    recipe = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=64, height=64)
    shots = [ctrl.sample(load(shelf, family, layout), recipe).image for layout in ("folder", "single file")]
    assert np.array_equal(*(np.asarray(image) for image in shots))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_what_save_pretrained_writes_today_is_read_and_draws_the_same_picture(shelf, tmp_path, family):
    again = tiny.saved_again(shelf / family, tmp_path / "again")
    for folder in sorted(again.glob("tokenizer*")):
        assert {path.name for path in folder.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    recipe = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=64, height=64, sampler="ddim")
    models = [ctrl.load(place, device="cpu") for place in (shelf / family, again)]
    assert np.array_equal(*(np.asarray(ctrl.sample(model, recipe).image) for model in models))
    pads = [[tower.tokenizer.pad_token for tower in model.parts.text_encoders] for model in models]
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert_same(model.parts.text_encoders[0].encoder, written["sd1"].texts[0])


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


@pytest.mark.slow
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


MARKS = [  # the family, the header, tensors, and what is predicted
    ("sd1", {}, {}, None),
    ("sd2", {}, {}, None),
    ("sdxl", {}, {}, None),
    ("sd2", {"modelspec.prediction_type": "epsilon"}, {}, "epsilon"),
    ("sd2", {"modelspec.prediction_type": "v"}, {}, "v_prediction"),
    ("sd1", {"modelspec.prediction_type": "v-prediction"}, {}, "v_prediction"),
    ("sdxl", {"modelspec.prediction_type": "V_Prediction"}, {}, "v_prediction"),
    ("sdxl", {}, {"v_pred": torch.zeros(0)}, "v_prediction"),
    ("sdxl", {"modelspec.prediction_type": "epsilon"}, {"v_pred": torch.ones(1)}, "v_prediction"),
    ("sdxl", {"ss_v_parameterization": "True"}, {}, "v_prediction"),
    ("sd2", {"ss_v_parameterization": "False"}, {}, "epsilon"),
    ("sd2", {"modelspec.architecture": "stable-diffusion-v2-512"}, {}, "epsilon"),
    ("sd2", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, {}, "v_prediction"),
    ("sd2", {"modelspec.architecture": "stable-diffusion-v2-512", "ss_v_parameterization": "1"}, {}, "v_prediction"),
    ("sd2", {}, {"global_step": torch.tensor(220_000)}, "epsilon"),
    ("sd2", {}, {"global_step": torch.tensor([875_000])}, "epsilon"),
    ("sd2", {}, {"global_step": torch.tensor(110_000)}, "v_prediction"),
    ("sd1", {}, {"global_step": torch.tensor(110_000)}, None),
    ("sdxl", {"modelspec.prediction_type": "x0"}, {}, None),
]


@pytest.mark.parametrize(("family", "notes", "tensors", "predicts"), MARKS)
def test_a_files_prediction_is_read_from_every_mark_and_a_warning_says_where_it_may_be_another(
    shelf, written, tmp_path, recwarn, family, notes, tensors, predicts
):
    file = tiny.save_single(written[family], tmp_path / "one.safetensors", notes or None, **tensors)
    model = ctrl.load(file, device="cpu", tokenizer=shelf / "clip")
    said = [str(one.message) for one in recwarn if "is taken for" in str(one.message)]
    own = "v_prediction" if family == "sd2" else "epsilon"
    assert model.parts.scheduler["prediction_type"] == (predicts or own)
    assert bool(said) == (predicts is None and (family == "sd2" or bool(notes)))
    assert all(f"prediction={'epsilon' if family == 'sd2' else 'v'!r}" in one for one in said)


@pytest.mark.parametrize("way", ["tensor", "kohya"])
def test_what_says_that_the_last_step_is_noise_is_followed_with_v_only(shelf, written, tmp_path, way):
    zero = ({}, {"ztsnr": torch.ones(1)}) if way == "tensor" else ({"ss_zero_terminal_snr": "True"}, {})
    for prediction in ("v", "epsilon"):
        notes = zero[0] | {"modelspec.prediction_type": prediction}
        file = tiny.save_single(written["sdxl"], tmp_path / f"{prediction}.safetensors", notes, **zero[1])
        schedule = ctrl.load(file, device="cpu", tokenizer=shelf / "clip").parts.scheduler
        assert schedule.get("rescale_betas_zero_snr", False) == (prediction == "v")


def test_what_the_user_says_of_the_prediction_comes_first_and_without_a_warning(shelf, written, tmp_path, recwarn):
    file = tiny.save_single(written["sdxl"], tmp_path / "one.safetensors", v_pred=torch.ones(1))
    model = ctrl.load(file, device="cpu", tokenizer=shelf / "clip", prediction="epsilon")
    assert model.parts.scheduler["prediction_type"] == "epsilon" and not recwarn.list
    with pytest.raises(ValueError, match="prediction must be 'epsilon', 'v' or None, got 'eps'"):
        ctrl.load(file, device="cpu", tokenizer=shelf / "clip", prediction="eps")
    with pytest.raises(ValueError, match="tokenizer and prediction are for a single file"):
        ctrl.load(shelf / "sd2", prediction="v")


@pytest.mark.parametrize("differing", [{"in_channels": 9}, {"time_cond_proj_dim": 8}], ids=str)
def test_a_file_of_an_inpainting_model_or_of_an_lcm_is_one_by_its_tensors(shelf, written, tmp_path, differing):
    own = {key: value for key, value in written["sd1"].unet.config.items() if not key.startswith("_")}
    unet = UNet2DConditionModel(**own | differing).eval()
    projection = getattr(unet.time_embedding, "cond_proj", None)
    more = {} if projection is None else {"model.diffusion_model.time_embed.cond_proj.weight": projection.weight}
    file = tiny.save_single(replace(written["sd1"], unet=unet), tmp_path / "one.safetensors", **more)
    model = ctrl.load(file, device="cpu", tokenizer=shelf / "clip")
    assert (model.denoiser.inpaints, model.denoiser.reads_guidance) == (not more, bool(more))
    held = unet.state_dict()
    assert all(torch.equal(tensor, held[name]) for name, tensor in model.unet.state_dict().items())
    *_, last = ctrl.steps(model, ctrl.Recipe("ab", steps=2, width=32, height=32))
    assert torch.isfinite(last.latents).all()


def test_an_sd2_file_that_was_converted_from_a_folder_has_no_last_layer(shelf, written, tmp_path):
    held = tiny.single(written["sd2"])
    held = {key: one for key, one in held.items() if ".resblocks.2." not in key and "text_projection" not in key}
    held["cond_stage_model.model.transformer.embeddings.position_ids"] = torch.arange(tiny.TOKENS)[None]
    file = tiny.save(held, tmp_path / "converted.safetensors", {"modelspec.prediction_type": "v"})
    model = ctrl.load(file, device="cpu", tokenizer=shelf / "clip")
    assert_same(model.parts.text_encoders[0].encoder, written["sd2"].texts[0])


@pytest.mark.slow
@pytest.mark.parametrize(("blocks", "layers"), [(24, 23), (23, 23)])
def test_of_clip_h_the_last_layer_is_left_out_if_it_is_there(shelf, written, tmp_path, blocks, layers):
    written = copy.deepcopy(written["sd2"])
    config = dict(vocab_size=len(tiny.vocabulary()), hidden_size=1024, intermediate_size=8, num_hidden_layers=blocks)
    more = dict(num_attention_heads=16, max_position_embeddings=tiny.TOKENS, hidden_act="gelu")
    encoder = CLIPTextModel(CLIPTextConfig(**config, **more, bos_token_id=0, eos_token_id=2, pad_token_id=1))
    unet = UNet2DConditionModel(**{**written.unet.config, "cross_attention_dim": 1024})
    held = tiny.prefixed("model.diffusion_model.", tiny.unet(unet))
    held |= tiny.prefixed("first_stage_model.", tiny.vae(written.vae))
    held |= tiny.prefixed("cond_stage_model.model.", tiny.open_clip(encoder.state_dict()))
    held["cond_stage_model.model.text_projection"] = torch.ones(1024, 1024)  # kohya's scripts write it in any case
    file = tiny.save(held, tmp_path / "h.safetensors", {"modelspec.prediction_type": "v"})
    model = ctrl.load(file, device="cpu", tokenizer=shelf / "clip")
    assert model.parts.text_encoders[0].encoder.config.num_hidden_layers == layers


SAID = [  # what schedules of folders say and do not say
    {},
    {"steps_offset": 0},
    {"steps_offset": 1},
    {"clip_sample": True},
    {"steps_offset": 0, "clip_sample": True, "timestep_spacing": "trailing"},
    {"timestep_spacing": "linspace", "set_alpha_to_one": True},
    {"trained_betas": [0.001 * (at + 1) / 300 for at in range(1000)]},
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    {"thresholding": True},
    {"num_train_timesteps": 500, "beta_schedule": "linear"},
]
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize("said", range(len(SAID)))
@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "DDPMScheduler"])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_schedule_that_does_not_say_all_is_read_as_the_pipeline_reads_it(shelf, tmp_path, family, name, said):
    config = NOISE | SAID[said] | {"_class_name": name}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    ours = read_schedule(tmp_path, repair=family == "sd1")
    scheduler = getattr(diffusers, name).from_pretrained(tmp_path)
    pipe = {"sd1": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}[family]
    pipe = pipe(**dict.fromkeys(inspect.signature(pipe.__init__).parameters.keys() & EMPTY), scheduler=scheduler,
                **({"requires_safety_checker": False} if family == "sd1" else {"add_watermarker": False}))  # fmt: skip
    theirs = dict(pipe.scheduler.config)
    for sampler in ("ddim", "pndm", "euler", "dpm++ 2m", "lcm"):
        for spacing in ("default", "trailing"):
            try:
                expected, _ = scheduled(sampler, spacing, theirs, 10, "cpu", 1.0)
            except ValueError as error:
                with pytest.raises(ValueError, match=re.escape(str(error))):
                    scheduled(sampler, spacing, ours, 10, "cpu", 1.0)
                continue
            got, _ = scheduled(sampler, spacing, ours, 10, "cpu", 1.0)
            versions = ({**one.config, "_diffusers_version": None} for one in (got, expected))
            assert next(versions) == next(versions)
            assert torch.equal(got.timesteps, expected.timesteps)


EMPTY = {"vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "safety_checker",
         "feature_extractor"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("release", "size"), [("0.6.0", 512), ("0.8.1", 512), ("0.9.0", 256), ("0.42.1", 256)])
def test_a_folder_of_an_old_release_that_says_32_means_512_pixels(shelf, tmp_path, release, size):
    folder = shutil.copytree(shelf / "sd1", tmp_path / "old")
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": 32, "_diffusers_version": release}))
    vae = folder / "vae" / "config.json"
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    factor = 2 ** (len(json.loads(vae.read_text())["block_out_channels"]) - 1)
    want = pipe.unet.config.sample_size * factor
    assert want == size // 8 * factor
    assert ctrl.load(folder, device="cpu").size == ctrl.load(pipe).size == (want, want)


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
    got = model.extras.controlnet("line art", model.unet)
    assert_same(got, net)
    ours, theirs = configuration(got), configuration(net)
    assert ours == theirs
    assert not got.training
    with pytest.raises(ValueError, match="it reads 8 pixels as one, and a latent of this model is 2"):
        model.controlnet("line art")


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
    more = tiny.save(whole | {"stranger": torch.ones(1)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match="1 of its tensors, such as stranger"):
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
    for kind, mode, says in (("pose", 6, "the number of its kind is 6"), ("tile", None, "'tile' is none")):
        with pytest.raises(ValueError, match=f"the {kind} ControlNet serves 6 kinds, and {says}.*: pose, depth, "):
            controlnet(kind, tmp_path / "union", unet, mode)
    assert [controlnet(kind, union, unet).mode for kind in ("pose", "depth", "line art")] == [0, 1, 3]
    file = tiny.save(union.state_dict(), tmp_path / "union.safetensors")
    alone = controlnet("normal", file, unet)
    assert alone.mode == 4
    assert_same(alone.net, union)


def asked(net, hint, rows=2):
    """What a ControlNet of SD 1 answers to one question."""
    draw = torch.Generator().manual_seed(4)
    sample, states = (torch.randn(*size, generator=draw) for size in ((rows, 4, 8, 8), (rows, 20, 64)))
    down, mid = net(sample, torch.tensor(5), encoder_hidden_states=states, controlnet_cond=hint, return_dict=False)
    return [*down, mid]


def test_a_controlnet_whose_residuals_are_pooled_leaves_the_pooling_to_the_run(shelf, nets):
    unet = ctrl.load(shelf / "sd1", device="cpu").unet
    net = copy.deepcopy(nets["sd1"])
    hint = torch.rand(2, 3, 64, 64)
    plain = asked(net, hint)
    net.register_to_config(global_pool_conditions=True)
    got = controlnet("shuffle", net, unet)
    assert isinstance(got, Pooled)
    for ours, theirs, before in zip(asked(got, hint), asked(net, hint), plain, strict=True):
        assert torch.equal(ours, before) and theirs.shape[2:] == (1, 1)
    assert net.config.global_pool_conditions


def test_a_controlnet_that_reads_blue_green_red_is_shown_red_green_blue(shelf, nets):
    unet = ctrl.load(shelf / "sd1", device="cpu").unet
    net = copy.deepcopy(nets["sd1"])
    net.register_to_config(controlnet_conditioning_channel_order="bgr")
    got, hint = controlnet("pose", net, unet), torch.rand(2, 3, 64, 64)
    assert all(torch.equal(*pair) for pair in zip(asked(got, hint), asked(net, hint), strict=True))
    expected = net.controlnet_cond_embedding(hint.flip(1))
    assert torch.equal(got.controlnet_cond_embedding(hint), expected)


def test_a_controlnet_of_other_maps_is_refused_when_it_is_loaded(shelf, tmp_path):
    unet = ctrl.load(shelf / "sd1", device="cpu").unet
    net = ControlNetModel.from_unet(unet, conditioning_channels=4)
    net.save_pretrained(tmp_path / "net")
    for given in (net, tmp_path / "net", tiny.save(tiny.original_controlnet(net), tmp_path / "net.safetensors")):
        with pytest.raises(ValueError, match="the pose ControlNet reads maps of 4 channels, and ctrl shows it 3"):
            controlnet("pose", given, unet)
    file = tiny.save({"lllite_unet_x.depth_emb.weight": torch.ones(1)}, tmp_path / "lllite.safetensors")
    with pytest.raises(ValueError, match="it looks like a ControlNet-LLLite, which ctrl does not run"):
        controlnet("pose", file, unet)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("form", ["control-lora", "difference"])
def test_a_controlnet_that_is_written_as_what_it_adds_to_the_unet(shelf, nets, tmp_path, family, form):
    unet = ctrl.load(shelf / family, device="cpu").unet
    net = copy.deepcopy(nets[family])
    held, own = {}, unet.state_dict()
    torch.manual_seed(7)
    with torch.no_grad():
        for key, tensor in tiny.original_controlnet(net).items():
            held[key] = tensor.clone()
        pointers = {tensor.data_ptr(): name for name, tensor in net.state_dict().items()}
        for key, tensor in tiny.original_controlnet(net).items():
            name = pointers[tensor.data_ptr()]
            if name not in own:
                continue
            base = own[name]
            if form == "difference":
                held[key] = tensor - base
            elif key.endswith(".weight") and base.ndim > 1:
                up, down = torch.randn(base.shape[0], 2, *(1 for _ in base.shape[2:])), torch.randn(2, *base.shape[1:])
                del held[key]
                if not key.startswith("middle"):  # these are the U-Net's own
                    held[key.replace(".weight", ".up")], held[key.replace(".weight", ".down")] = up / 9, down / 9
                    base = base + (up.flatten(1) @ down.flatten(1)).view(base.shape) / 81
                net.get_parameter(name).copy_(base)
    mark = {"lora_controlnet" if form == "control-lora" else "difference": torch.ones(())}
    got = controlnet("pose", tiny.save(held | mark, tmp_path / "one.safetensors"), unet)
    for name, tensor in net.state_dict().items():
        assert torch.allclose(got.state_dict()[name], tensor, atol=1e-5), name


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert model.extras.controlnet("pose", model.unet) is nets["sd1"]
    pipe.unet.set_attn_processor(type("Mine", (AttnProcessor2_0,), {})())
    with pytest.raises(ValueError, match=r"attends by Mine, which.*set_attn_processor\(AttnProcessor2_0\(\)\)"):
        ctrl.load(pipe)
    pipe.unet.set_attn_processor(AttnProcessor2_0())
    for name, value in {"device": "cpu", "dtype": torch.float32, "tokenizer": "x/y", "prediction": "v"}.items():
        with pytest.raises(ValueError, match=f"{name} is not for a pipeline"):
            ctrl.load(pipe, **{name: value})
    pipe.vae.to("meta")
    with pytest.raises(ValueError, match="parts are on cpu, meta or are moved about by hooks"):
        ctrl.load(pipe)
    for other in (object(), pipe.unet, 7):
        with pytest.raises(TypeError, match=r"source must be a path, a hub id .* or a pipeline, got "):
            ctrl.load(other)
    with pytest.raises(ValueError, match="as its unet; ctrl supports pipelines with a UNet2DConditionModel"):
        ctrl.load(DDIMPipeline(UNet2DModel(sample_size=8, block_out_channels=(32, 64, 64, 64)), DDIMScheduler()))
