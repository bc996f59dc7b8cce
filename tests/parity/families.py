"""The matrix's families: for each, one set of tiny random modules, in memory, as its published models are built.

Pictures are 64 × 48 and latents 16 × 12, so that a width taken for a height is an error.
"""

from dataclasses import dataclass
from pathlib import Path

import diffusers
import tiny_adapters
import tiny_formats
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

TEXT = tiny_adapters.WIDTH  # channels of what the U-Nets read
LEVELS = (8, 16, 16)  # channels; of the codec too, so it is f4
SIZE = WIDTH, HEIGHT = 64, 48
KINDS = ("pose", "depth", "edges")
ADAPTERS = ("base", "plus")


@dataclass(frozen=True)
class Pipelines:
    """A family's classes of pipelines, by what they start from and whether a ControlNet takes part."""

    text: type
    image: type
    inpaint: type
    control_text: type
    control_image: type
    control_inpaint: type


def _pipelines(family: str) -> Pipelines:
    starts = [f"{control}{start}" for control in ("", "ControlNet") for start in ("", "Img2Img", "Inpaint")]
    return Pipelines(*(getattr(diffusers, f"{family}{start}Pipeline") for start in starts))


SD, XL = _pipelines("StableDiffusion"), _pipelines("StableDiffusionXL")


@dataclass(frozen=True)
class Family:
    """One set of modules: `components` of the plain pipeline, ControlNets by kind, IP-Adapters' files by name."""

    pipelines: Pipelines
    components: dict
    nets: dict[str, ControlNetModel]
    adapters: dict[str, Path]


def sd(folder: Path) -> Family:
    """Stable Diffusion 1: ε, transformers entered by convolutions, cross-attention in all blocks but the deepest."""
    torch.manual_seed(1)
    unet = _unet(
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
    )
    return _family(SD, unet, _one_tower(folder, "quick_gelu"), _schedule("epsilon"), folder, scaling=0.18215)


def sd_v(folder: Path) -> Family:
    """Stable Diffusion 2: v, linear projections, heads of one width, the text tower of open_clip."""
    torch.manual_seed(2)
    unet = _unet(
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=[2, 4, 4],
        use_linear_projection=True,
    )
    return _family(SD, unet, _one_tower(folder, "gelu"), _schedule("v_prediction"), folder, scaling=0.18215)


def sdxl(folder: Path) -> Family:
    """Stable Diffusion XL: ε, two towers, sizes and pooled text, deeper transformers, none in the first block."""
    torch.manual_seed(3)
    unet = _unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=[2, 4, 4],
        transformer_layers_per_block=[1, 1, 2],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT // 2 + 6 * 8,
    )
    texts = {
        "text_encoder": CLIPTextModel(_text("quick_gelu", TEXT // 2)),
        "text_encoder_2": CLIPTextModelWithProjection(_text("gelu", TEXT // 2)),
        "tokenizer": _tokenizer(folder / "tokenizer", tiny_formats.END),
        "tokenizer_2": _tokenizer(folder / "tokenizer_2", "!"),
        "force_zeros_for_empty_prompt": True,
        "add_watermarker": False,
    }
    return _family(XL, unet, texts, _schedule("epsilon"), folder, scaling=0.13025)


ALL = {"SD": sd, "SD v-pred": sd_v, "SDXL": sdxl}


def _family(
    pipelines: Pipelines, unet: UNet2DConditionModel, texts: dict, schedule: DDIMScheduler, folder: Path, scaling: float
) -> Family:
    components = {
        **texts,
        "unet": unet,
        "vae": _vae(scaling),
        "scheduler": schedule,
        "image_encoder": _vision(),
        "feature_extractor": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    }
    nets = {kind: _controlnet(unet) for kind in KINDS}
    for module in (*components.values(), *nets.values()):
        if isinstance(module, nn.Module):
            module.eval().requires_grad_(False)
    files = {}
    for seed, name in enumerate(ADAPTERS, 5):
        tensors = getattr(tiny_adapters, name)(unet, seed=seed)
        files[name] = tiny_adapters.write(tensors, folder / f"{name}.safetensors")
    return Family(pipelines, components, nets, files)


def _unet(**differing) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=LEVELS,
        layers_per_block=1,
        cross_attention_dim=TEXT,
        norm_num_groups=4,
        **differing,
    )


def _controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """Its weights are its own, the zero convolutions' too: as they begin they would let nothing through."""
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 16), load_weights_from_unet=False)
    for name, parameter in net.named_parameters():
        if name.startswith(("controlnet_down_blocks", "controlnet_mid_block", "controlnet_cond_embedding.conv_out")):
            nn.init.normal_(parameter, std=0.2)
    return net


def _vae(scaling: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=LEVELS,
        norm_num_groups=4,
        sample_size=WIDTH,
        scaling_factor=scaling,
    )


def _one_tower(folder: Path, act: str) -> dict:
    pad = tiny_formats.END if act == "quick_gelu" else "!"
    return {
        "text_encoder": CLIPTextModel(_text(act, TEXT)),
        "tokenizer": _tokenizer(folder / "tokenizer", pad),
        "safety_checker": None,
        "requires_safety_checker": False,
    }


def _text(act: str, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tiny_formats.vocabulary()),
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tiny_formats.TOKENS,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )


def _tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(tiny_formats.tokenizer(folder, pad))


def _vision() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=TEXT,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=TEXT,
    )
    return CLIPVisionModelWithProjection(config)


def _schedule(prediction: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
