"""Every field of every component's configuration: honoured, refused or irrelevant; none is kept and ignored."""

import copy
import dataclasses
import inspect
import json

import diffusers
import numpy as np
import pytest
import tiny_formats as tiny
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ControlNetUnionModel,
    StableDiffusionXLPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import ctrl
from ctrl.model.loading.configs import CLIP, PROCESSOR, checked
from ctrl.model.loading.folder import checked_parts
from ctrl.model.loading.pretrained import SCHEDULERS, read_schedule
from ctrl.model.samplers import TABLE, scheduled

offline = pytest.fixture(autouse=True)(tiny.offline)

# The module is built of these, so that its own code follows them.
BUILT = {
    UNet2DConditionModel: """center_input_sample flip_sin_to_cos freq_shift down_block_types mid_block_type
        up_block_types only_cross_attention block_out_channels layers_per_block
        downsample_padding mid_block_scale_factor dropout act_fn norm_num_groups
        norm_eps transformer_layers_per_block reverse_transformer_layers_per_block
        attention_head_dim num_attention_heads dual_cross_attention
        use_linear_projection addition_time_embed_dim upcast_attention
        resnet_time_scale_shift resnet_skip_time_act resnet_out_scale_factor
        time_embedding_type time_embedding_dim time_embedding_act_fn timestep_post_act
        conv_in_kernel conv_out_kernel mid_block_only_cross_attention
        cross_attention_norm""",
    AutoencoderKL: """in_channels out_channels down_block_types up_block_types block_out_channels layers_per_block
        act_fn latent_channels norm_num_groups use_quant_conv use_post_quant_conv mid_block_add_attention""",
    ControlNetModel: """flip_sin_to_cos freq_shift down_block_types mid_block_type only_cross_attention layers_per_block
        downsample_padding mid_block_scale_factor act_fn norm_num_groups norm_eps transformer_layers_per_block
        attention_head_dim num_attention_heads use_linear_projection addition_time_embed_dim upcast_attention
        resnet_time_scale_shift conditioning_embedding_out_channels""",
    ControlNetUnionModel: """flip_sin_to_cos freq_shift down_block_types only_cross_attention layers_per_block
        downsample_padding mid_block_scale_factor act_fn norm_num_groups norm_eps transformer_layers_per_block
        attention_head_dim num_attention_heads use_linear_projection addition_time_embed_dim upcast_attention
        resnet_time_scale_shift conditioning_embedding_out_channels num_trans_channel num_trans_head num_trans_layer
        num_proj_channel""",
    T2IAdapter: "num_res_blocks",
}
# Read by ctrl, where diffusers' pipelines read them.
READ = {
    UNet2DConditionModel: "sample_size in_channels out_channels cross_attention_dim addition_embed_type "
    "time_cond_proj_dim projection_class_embeddings_input_dim",
    AutoencoderKL: "scaling_factor latents_mean latents_std force_upcast",
    ControlNetModel: "in_channels block_out_channels cross_attention_dim addition_embed_type global_pool_conditions "
    "projection_class_embeddings_input_dim controlnet_conditioning_channel_order",
    ControlNetUnionModel: "in_channels block_out_channels cross_attention_dim addition_embed_type num_control_type "
    "projection_class_embeddings_input_dim controlnet_conditioning_channel_order",
    T2IAdapter: "in_channels channels downscale_factor adapter_type",
}
# A value other than the default is refused when the model is loaded.
REFUSED = {
    UNet2DConditionModel: {
        "class_embed_type": "timestep",
        "num_class_embeds": 7,
        "encoder_hid_dim_type": "text_proj",
    },
    AutoencoderKL: {},
    ControlNetModel: {"conditioning_channels": 4},
    ControlNetUnionModel: {"conditioning_channels": 4, "global_pool_conditions": True},
    T2IAdapter: {},
}
# Without effect on such a model, in diffusers too, and why.
IRRELEVANT = {
    UNet2DConditionModel: {
        "encoder_hid_dim": "of the refused encoder_hid_dim_type",
        "class_embeddings_concat": "of the refused class embeddings",
        "addition_embed_type_num_heads": "of refused kinds of addition_embed_type",
        "attention_type": "GLIGEN's layers act on boxes alone, which are given in no run",
    },
    AutoencoderKL: {
        "sample_size": "of tiling, which the owner switches on",
        "shift_factor": "read by no pipeline of these families",
    },
    ControlNetModel: {
        "encoder_hid_dim": "ControlNets are shown text states",
        "encoder_hid_dim_type": "ControlNets are shown text states",
        "class_embed_type": "the U-Net's, which are refused",
        "num_class_embeds": "the U-Net's, which are refused",
        "addition_embed_type_num_heads": "of refused kinds of addition_embed_type",
    },
    T2IAdapter: {},
}
IRRELEVANT[ControlNetUnionModel] = IRRELEVANT[ControlNetModel]


@pytest.mark.parametrize("kind", BUILT)
def test_every_field_stands_in_the_table_once(kind):
    listed = [*BUILT[kind].split(), *READ[kind].split(), *REFUSED[kind], *IRRELEVANT[kind]]
    assert len(listed) == len(set(listed))
    assert {*listed} == {*inspect.signature(kind.__init__).parameters} - {"self"}


@pytest.mark.parametrize("kind", BUILT)
def test_what_the_module_is_built_of_reaches_it(kind):
    defaults = {name: one.default for name, one in inspect.signature(kind.__init__).parameters.items()}
    for field in BUILT[kind].split():
        value = defaults[field]
        kept = checked(kind, {field: list(value) if isinstance(value, tuple) else value}, "it")
        assert field in kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_folder(tiny.sd1(), tmp_path_factory.mktemp("fields") / "sd1")


@pytest.mark.parametrize("field", REFUSED[UNet2DConditionModel])
def test_a_unet_that_needs_what_it_is_not_given_is_refused(folder, field):
    parts = ctrl.load(folder, device="cpu").parts
    own = {**parts.unet.config, field: REFUSED[UNet2DConditionModel][field]}
    if field == "encoder_hid_dim_type":
        own["encoder_hid_dim"] = 64
    with torch.device("meta"):
        unet = UNet2DConditionModel(**{key: value for key, value in own.items() if not key.startswith("_")})
    with pytest.raises(ValueError, match="conditioned by"):
        odd = copy.copy(parts)
        object.__setattr__(odd, "unet", unet)
        ctrl.Model(checked_parts(odd), ctrl.load(folder, device="cpu").extras, device=None, dtype=None)


SCHEDULE = {  # a value other than the default for each field of the schedulers, or why it is not followed
    "algorithm_type": "the sampler's own, by its name",
    "solver_order": "the sampler's own, by its name",
    "lower_order_final": False,
    "beta_end": 0.013,
    "beta_schedule": "linear",
    "beta_start": 0.0009,
    "clip_sample": True,
    "clip_sample_range": 2.0,
    "corrector_order": "of a sampler that is not offered",
    "disable_corrector": [0],
    "dynamic_thresholding_ratio": 0.9,
    "euler_at_final": True,
    "final_sigmas_type": "sigma_min",
    "flow_shift": 2.0,
    "interpolation_type": "log_linear",
    "invert_sigmas": "refused",
    "lambda_min_clipped": -5.1,
    "num_train_timesteps": 900,
    "original_inference_steps": 40,
    "predict_x0": False,
    "prediction_type": "v_prediction",
    "predictor_order": "of a sampler that is not offered",
    "rescale_betas_zero_snr": True,
    "sample_max_value": 1.5,
    "set_alpha_to_one": False,
    "sigma_max": 10.0,
    "sigma_min": 0.1,
    "skip_prk_steps": True,
    "solver_p": "a scheduler within a scheduler, which no file holds",
    "solver_type": "heun",
    "steps_offset": 1,
    "tau_func": "a function, which no file holds",
    "thresholding": True,
    "timestep_scaling": 9.0,
    "timestep_spacing": "trailing",
    "timestep_type": "refused",
    "trained_betas": [0.001 + at * 1e-5 for at in range(1000)],
    "use_beta_sigmas": "needs scipy",
    "use_dynamic_shifting": "refused",
    "use_exponential_sigmas": True,
    "use_flow_sigmas": "of flow matching, by prediction_type",
    "use_karras_sigmas": True,
    "use_lu_lambdas": True,
    "variance_type": "refused if it is learnt",
    **dict.fromkeys(
        ("base_image_seq_len", "base_shift", "max_image_seq_len", "max_shift", "shift", "shift_terminal",
         "stochastic_sampling", "time_shift_type"),
        "of flow matching",
    ),
}  # fmt: skip


WORDS = ("beta_schedule", "prediction_type", "timestep_spacing", "final_sigmas_type", "interpolation_type",
         "solver_type")  # fmt: skip


def test_every_field_of_every_scheduler_stands_in_the_table():
    fields = {
        name
        for scheduler in SCHEDULERS
        for name in inspect.signature(getattr(diffusers, scheduler).__init__).parameters
        if name not in ("self", "args", "kwargs")
    }
    assert fields == {*SCHEDULE}


@pytest.mark.parametrize("row", [row for row in TABLE if row.kinds != ("flow",)], ids=lambda row: row.name)
def test_a_field_of_a_scheduler_reaches_the_sampler_of_its_class(row, tmp_path):
    known = inspect.signature(getattr(diffusers, row.scheduler).__init__).parameters
    base = {"_class_name": row.scheduler, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    for field, value in SCHEDULE.items():
        if field == "solver_type" and row.name == "unipc":
            value = "bh1"
        if (isinstance(value, str) and field not in WORDS) or field not in known or field in row.options:
            continue
        (tmp_path / "scheduler_config.json").write_text(json.dumps(base | {field: value}))
        try:
            scheduler, _ = scheduled(row.name, "default", read_schedule(tmp_path, repair=False), 20, "cpu", 1.0)
        except ValueError as error:
            assert "cannot" in str(error) or "describes no" in str(error) or "takes" in str(error), field
            continue
        got = scheduler.config[field]
        assert (list(got) if isinstance(value, list) else got) == value, field


@pytest.mark.parametrize("field", ["invert_sigmas", "use_dynamic_shifting"])
def test_a_schedule_that_no_sampler_follows_is_refused(field):
    with pytest.raises(ValueError, match=field):
        scheduled("euler", "default", {field: True}, 20, "cpu", 1.0)


def test_a_learnt_variance_is_refused(folder, tmp_path):
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"variance_type": "learned_range"}))
    with pytest.raises(ValueError, match="a model that predicts its variance"):
        read_schedule(tmp_path, repair=False)


CLIP_IRRELEVANT = {
    "attention_dropout": "of training",
    "initializer_range": "of training",
    "initializer_factor": "of training",
    "transformers_version": "a note",
    "architectures": "the class is the model_index.json's",
    "dtype": "load's own argument",
    "output_hidden_states": "asked for by each call",
    "return_dict": "asked for by each call",
    "chunk_size_feed_forward": "the same numbers in parts",
    "is_encoder_decoder": "no CLIP is",
    **dict.fromkeys(("id2label", "label2id", "problem_type"), "of classifiers"),
}


@pytest.mark.parametrize("kind", [CLIPTextConfig, CLIPVisionConfig])
def test_every_field_of_the_encoders_is_kept_or_irrelevant(kind):
    fields = {field.name for field in dataclasses.fields(kind)}
    assert fields - {*CLIP} == fields & {*CLIP_IRRELEVANT}
    given = {"hidden_size": 64, "intermediate_size": 96, "projection_dim": 48, "num_hidden_layers": 3}
    given |= {"num_attention_heads": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-6}
    kept = checked(CLIPTextModel if kind is CLIPTextConfig else CLIPVisionModelWithProjection, given, "it")
    assert kept == given


def test_every_field_of_what_prepares_pictures_is_kept():
    written = CLIPImageProcessorPil().to_dict()
    known = {field for form in PROCESSOR for field in form.fields}
    assert {*written} - known == {"image_processor_type"}  # the class, which is CLIP's whatever is written


INDEX = {  # of a model_index.json, beside its modules
    "force_zeros_for_empty_prompt": "read",
    "requires_safety_checker": "no safety checker is asked",
    "add_watermarker": "no watermark is drawn",
    "requires_aesthetics_score": "of the refiner, which is refused",
}


@pytest.mark.parametrize("task", ["", "Img2Img", "Inpaint", "ControlNet", "Adapter"])
@pytest.mark.parametrize("family", ["StableDiffusion", "StableDiffusionXL"])
def test_every_field_of_an_index_is_known(family, task):
    modules = {"vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler", "controlnet"}
    modules |= {"safety_checker", "feature_extractor", "image_encoder", "adapter"}
    fields = {*inspect.signature(getattr(diffusers, f"{family}{task}Pipeline").__init__).parameters} - {"self"}
    assert fields - modules <= {*INDEX}


@pytest.mark.slow
def test_latents_that_are_normalised_by_channel_are_as_in_diffusers_pipelines(tmp_path):
    written = tiny.sdxl()
    written.vae.register_to_config(latents_mean=[0.5, -0.2, 0.1, 0.3], latents_std=[1.5, 0.8, 2.0, 1.1])
    folder = tiny.save_folder(written, tmp_path / "sdxl")
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": 2, "guidance_scale": 5.0, "width": 32, "height": 32}
    theirs = np.asarray(pipe("ab, c", generator=torch.Generator().manual_seed(3), **given).images[0])
    recipe = ctrl.Recipe("ab, c", steps=2, seed=3, width=32, height=32, guidance=5.0, sampler="ddim")
    model = ctrl.load(folder, device="cpu")
    assert np.array_equal(np.asarray(ctrl.sample(model, recipe).image), theirs)
    again = diffusers.StableDiffusionXLImg2ImgPipeline(**pipe.components)
    again.set_progress_bar_config(disable=True)
    photo = Image.fromarray(theirs)
    given = {"num_inference_steps": 2, "guidance_scale": 5.0, "strength": 0.5, "image": photo}
    theirs = again("ab, c", generator=torch.Generator().manual_seed(3), **given).images[0]
    ours = ctrl.sample(model, recipe.replace(image=photo, strength=0.5)).image
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    first = tiny.sd1()
    first.vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    with pytest.raises(ValueError, match="a VAE with latents_mean or latents_std, which another family does not know"):
        ctrl.load(tiny.save_folder(first, tmp_path / "sd1"), device="cpu")
