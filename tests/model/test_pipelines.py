"""Pipelines of diffusers' as their owners bring them: with ControlNets, IP-Adapters, LoRAs and odd attention."""

import warnings

import numpy as np
import pytest
import tiny_adapters
import tiny_formats as tiny
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    DPMSolverMultistepScheduler,
    MultiControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    StableDiffusionXLPipeline,
)
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import ctrl

MAP = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
RECIPE = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=64, height=64, guidance=5.0, sampler="ddim")
KINDS = {"sd1": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}

offline = pytest.fixture(autouse=True)(tiny.offline)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with the models in diffusers' layout."""
    folder = tmp_path_factory.mktemp("pipelines")
    for family in KINDS:
        tiny.save_folder(tiny.ALL[family](), folder / family)
    return folder


@pytest.fixture
def pipe(shelf):
    return read(shelf, "sd1")


def read(shelf, family):
    found = KINDS[family].from_pretrained(shelf / family, dtype=torch.float32)
    found.set_progress_bar_config(disable=True)
    return found


def theirs(pipe, **more):
    """What the pipeline draws of RECIPE."""
    given = {"negative_prompt": "d", "num_inference_steps": 2, "guidance_scale": 5.0, "width": 64, "height": 64}
    return np.asarray(pipe("ab, c", generator=torch.Generator().manual_seed(3), **(given | more)).images[0])


def ours(model, **more):
    return np.asarray(ctrl.sample(model, RECIPE.replace(**more)).image)


def nets(unet, *names):
    found = []
    for at, name in enumerate(names):
        torch.manual_seed(at)
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16))
        for name_of, parameter in net.named_parameters():
            if "controlnet" in name_of:  # zero convolutions would hide what it does
                torch.nn.init.normal_(parameter, std=0.1)
        net.register_to_config(_name_or_path=name)
        found.append(net)
    return found


def test_a_pipelines_controlnets_come_with_it_by_the_kinds_their_names_tell(pipe):
    names = ("lllyasviel/control_v11p_sd15_openpose", "/models/controlnet-canny-sdxl-1.0")
    pose, edges = nets(pipe.unet, *names)
    several = StableDiffusionControlNetPipeline(
        **pipe.components, controlnet=MultiControlNetModel([pose, edges]), requires_safety_checker=False
    )
    several.set_progress_bar_config(disable=True)
    model = ctrl.load(several)
    assert model.controlnet("pose").module is pose and model.controlnet("edges").module is edges
    expected = theirs(several, image=[MAP, MAP], controlnet_conditioning_scale=[0.7, 0.4])
    assert np.array_equal(ours(model, controls=[ctrl.Edges(MAP, 0.4), ctrl.Pose(MAP, 0.7)]), expected)


@pytest.mark.slow
def test_a_controlnet_that_pools_acts_on_the_prompted_rows_as_in_diffusers(pipe):
    (net,) = nets(pipe.unet, "lllyasviel/control_v11e_sd15_shuffle")
    net.register_to_config(global_pool_conditions=True)
    one = StableDiffusionControlNetPipeline(**pipe.components, controlnet=net, requires_safety_checker=False)
    one.set_progress_bar_config(disable=True)
    model = ctrl.load(one)
    for weight in (0.3, 0.7, 1.1, 0.8):  # their means depend on whether the weight comes before or after
        expected = theirs(one, image=MAP, controlnet_conditioning_scale=weight)
        assert np.array_equal(ours(model, controls=[ctrl.Control("shuffle", MAP, weight)]), expected), weight
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 32, 64))
    masked = ours(model, controls=[ctrl.Control("shuffle", MAP, 0.8, mask=half)])
    assert not np.array_equal(masked, expected) and not np.array_equal(masked, ours(model))


def test_a_controlnet_without_a_name_is_said_and_can_be_named(pipe):
    (net,) = nets(pipe.unet, "")
    one = StableDiffusionControlNetPipeline(**pipe.components, controlnet=net, requires_safety_checker=False)
    with pytest.warns(UserWarning, match="does not say its kind; ctrl calls it 'control'"):
        model = ctrl.load(one)
    assert model.controlnet("control").module is net
    model = ctrl.load(one, controlnets={"depth": one.controlnet})
    assert model.controlnet("depth").module is net and "control" not in model.controls


@pytest.mark.slow
def test_a_union_controlnet_of_a_pipeline_serves_all_its_kinds(shelf):
    pipe = read(shelf, "sdxl")
    shared = ("down_block_types", "block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim")
    shared += ("transformer_layers_per_block", "use_linear_projection", "addition_embed_type")
    shared += ("addition_time_embed_dim", "projection_class_embeddings_input_dim")
    torch.manual_seed(6)
    union = ControlNetUnionModel(
        **{field: pipe.unet.config[field] for field in shared},
        conditioning_embedding_out_channels=(8, 16),
        num_trans_channel=64,
        num_proj_channel=64,
    )
    for parameter in union.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    with_union = StableDiffusionXLControlNetUnionPipeline(**pipe.components, controlnet=union)
    with_union.set_progress_bar_config(disable=True)
    model = ctrl.load(with_union)
    assert {"pose", "depth", "soft edge", "scribble", "edges", "normal", "segmentation"} <= {*model.controls}
    expected = theirs(with_union, control_image=[MAP], control_mode=[1], controlnet_conditioning_scale=0.7)
    assert np.array_equal(ours(model, controls=[ctrl.Depth(MAP, 0.7)]), expected)


def with_adapter(pipe, file):
    """The pipeline with an image encoder and the IP-Adapter in a file."""
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8,
        projection_dim=32,
    )  # fmt: skip
    torch.manual_seed(5)
    side = {"height": 32, "width": 32}
    pipe.register_modules(
        image_encoder=CLIPVisionModelWithProjection(config).eval(),
        feature_extractor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side),
    )
    pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name)
    return pipe


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["base", "full", "plus"])
def test_an_ip_adapter_that_was_loaded_comes_with_the_pipeline_and_is_left_in_it(shelf, tmp_path, layout):
    pipe = read(shelf, "sd1")
    tensors = getattr(tiny_adapters, layout)(pipe.unet, embed=32, **({"tokens": 4} if layout == "base" else {}))
    width = pipe.unet.config.cross_attention_dim
    tensors = fitted(tensors, width, layout)
    pipe = with_adapter(pipe, tiny_adapters.write(tensors, tmp_path / "one.safetensors"))
    pipe.set_ip_adapter_scale(0.6)
    before = theirs(pipe, ip_adapter_image=MAP)
    model = ctrl.load(pipe)
    assert model.styles
    got = ours(model, styles=[ctrl.Style(MAP, 0.6)])
    assert np.array_equal(got, before)
    assert not np.array_equal(ours(model), before)
    assert np.array_equal(theirs(pipe, ip_adapter_image=MAP), before)


def fitted(tensors, width, layout):
    """The image projection drawn again for another text width than tiny_adapters': 64."""
    draw = torch.Generator().manual_seed(2)
    last = {"base": ("proj.weight", "proj.bias", "norm.weight", "norm.bias"),
            "full": ("proj.2.weight", "proj.2.bias", "proj.3.weight", "proj.3.bias"),
            "plus": ("proj_out.weight", "proj_out.bias", "norm_out.weight", "norm_out.bias")}[layout]  # fmt: skip
    for name in last:
        shape = list(tensors[f"image_proj.{name}"].shape)
        shape[0] = shape[0] // 32 * width
        tensors[f"image_proj.{name}"] = torch.randn(shape, generator=draw) / 4
    if layout == "base":
        for name in last[2:]:
            tensors[f"image_proj.{name}"] = torch.randn(width, generator=draw) / 4
    return tensors


LORA = {"r": 4, "lora_alpha": 6, "init_lora_weights": False}


@pytest.mark.slow
@pytest.mark.parametrize("family", KINDS)
def test_a_lora_that_is_active_in_the_pipeline_acts_and_ours_stand_beside_it(shelf, tmp_path, family):
    pipe = read(shelf, family)
    torch.manual_seed(1)
    pipe.unet.add_adapter(LoraConfig(target_modules=["to_q", "to_k", "to_out.0"], **LORA))
    inject_adapter_in_model(LoraConfig(target_modules=["q_proj", "fc1"], **LORA), pipe.text_encoder)
    model = ctrl.load(pipe)
    assert np.array_equal(ours(model), theirs(pipe))
    assert not np.array_equal(ours(model), ours(ctrl.load(shelf / family, device="cpu")))
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v" if family == "sd1" else (
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")  # fmt: skip
    weight = pipe.unet.get_submodule(layer).weight
    held = {f"unet.{layer}.lora_A.weight": torch.randn(4, weight.shape[1]),
            f"unet.{layer}.lora_B.weight": torch.randn(weight.shape[0], 4)}  # fmt: skip
    tiny.save(held, tmp_path / "own.safetensors")
    model = ctrl.load(pipe, lora={"own": tmp_path / "own.safetensors"})
    names = ["default", "own"]
    pipe.load_lora_weights(str(tmp_path), weight_name="own.safetensors", adapter_name="own")
    pipe.set_adapters(names, [1.0, 0.7])
    view = model.with_loras([("own", 0.7)])
    path = layer + (".base_layer" if layer.endswith("to_q") else "")
    expected = weight + 0.7 * (held[f"unet.{layer}.lora_B.weight"] @ held[f"unet.{layer}.lora_A.weight"])
    assert torch.equal(view.unet.get_submodule(path).weight, expected)
    assert np.abs(ours(view).astype(int) - theirs(pipe)).max() <= 1  # merged into the weight, not added to its product


@pytest.mark.slow
def test_what_the_owner_loads_later_is_not_in_the_model(pipe, shelf, tmp_path):
    model = ctrl.load(pipe)
    before = ours(model)
    tensors = fitted(tiny_adapters.base(pipe.unet, embed=32), 64, "base")
    with_adapter(pipe, tiny_adapters.write(tensors, tmp_path / "one.safetensors"))
    assert np.array_equal(ours(model), before)
    pipe.unload_ip_adapter()
    pipe.unet.add_adapter(LoraConfig(target_modules=["to_q"], **LORA))
    assert np.array_equal(ours(model), before)
    pipe.enable_attention_slicing()
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    assert np.array_equal(ours(model), before)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["enable_attention_slicing", "fuse_qkv_projections", "enable_freeu"])
def test_attention_that_computes_the_same_otherwise_is_followed(pipe, change):
    plain = theirs(pipe)
    getattr(pipe, change)(*({"enable_freeu": (0.9, 0.2, 1.2, 1.4)}.get(change, ())))
    before = plain if change == "enable_attention_slicing" else theirs(pipe)  # slices are rounded otherwise
    changed = {name: type(one).__name__ for name, one in pipe.unet.attn_processors.items()}
    assert np.array_equal(ours(ctrl.load(pipe)), before)
    assert {name: type(one).__name__ for name, one in pipe.unet.attn_processors.items()} == changed


def test_what_is_left_out_is_said(pipe):
    pipe.safety_checker = torch.nn.Identity()
    pipe.image_processor.register_to_config(do_normalize=False)
    with pytest.warns(UserWarning, match="pipe has a safety checker, which .*, and an image processor of its own"):
        ctrl.load(pipe)


def test_no_warning_of_a_pipeline_that_has_nothing_to_leave_out(pipe, recwarn):
    ctrl.load(pipe)
    assert not [one for one in recwarn if one.category is UserWarning]


@pytest.mark.slow
def test_sdxl_with_a_controlnet_is_taken_with_it(shelf):
    pipe = read(shelf, "sdxl")
    (net,) = nets(pipe.unet, "xinsir/controlnet-depth-sdxl-1.0")
    one = StableDiffusionXLControlNetPipeline(**pipe.components, controlnet=net)
    one.set_progress_bar_config(disable=True)
    expected = theirs(one, image=MAP, controlnet_conditioning_scale=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = ctrl.load(one)
    assert np.array_equal(ours(model, controls=[ctrl.Depth(MAP, 0.5)]), expected)
