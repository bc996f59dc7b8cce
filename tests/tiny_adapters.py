"""Tiny random IP-Adapters in the published layouts, and U-Nets with the blocks of SD 1.x and of SDXL to fit them."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

WIDTH = 32  # of the text, the U-Nets' cross-attention and the embeddings of tests/tiny.py


def sd1() -> UNet2DConditionModel:
    """16 cross-attention layers, placed as in Stable Diffusion 1.x."""
    return _unet(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    )


def sdxl() -> UNet2DConditionModel:
    """11 attentions of one to three transformer blocks each, placed as in SDXL."""
    return _unet(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
        up_block_types=(*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=WIDTH + 6 * 4,
    )


def _unet(**differing) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
        **differing,
    ).eval()


def base(unet: UNet2DConditionModel, *, seed: int = 1, embed: int = WIDTH, tokens: int = 4) -> dict[str, Tensor]:
    """One linear layer over the pooled embedding."""
    draw = _Draw(seed)
    return {
        "image_proj.proj.weight": draw(tokens * WIDTH, embed),
        "image_proj.proj.bias": draw(tokens * WIDTH),
        "image_proj.norm.weight": 1 + draw(WIDTH),
        "image_proj.norm.bias": draw(WIDTH),
        **_layers(unet, draw),
    }


def full(unet: UNet2DConditionModel, *, seed: int = 1, embed: int = WIDTH) -> dict[str, Tensor]:
    """A perceptron over the hidden states, as in the full-face adapter."""
    draw = _Draw(seed)
    return {
        "image_proj.proj.0.weight": draw(embed, embed),
        "image_proj.proj.0.bias": draw(embed),
        "image_proj.proj.2.weight": draw(WIDTH, embed),
        "image_proj.proj.2.bias": draw(WIDTH),
        "image_proj.proj.3.weight": 1 + draw(WIDTH),
        "image_proj.proj.3.bias": draw(WIDTH),
        **_layers(unet, draw),
    }


def plus(
    unet: UNet2DConditionModel, *, seed: int = 1, embed: int = WIDTH, hidden: int = 24, tokens: int = 3
) -> dict[str, Tensor]:
    """A perceiver resampler of two heads over the hidden states."""
    draw = _Draw(seed)
    found = {
        "latents": draw(1, tokens, hidden),
        "proj_in.weight": draw(hidden, embed),
        "proj_in.bias": draw(hidden),
        "proj_out.weight": draw(WIDTH, hidden),
        "proj_out.bias": draw(WIDTH),
        "norm_out.weight": 1 + draw(WIDTH),
        "norm_out.bias": draw(WIDTH),
    }
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            found[f"layers.{layer}.{norm}.weight"] = 1 + draw(hidden)
            found[f"layers.{layer}.{norm}.bias"] = draw(hidden)
        found[f"layers.{layer}.0.to_q.weight"] = draw(128, hidden)
        found[f"layers.{layer}.0.to_kv.weight"] = draw(256, hidden)
        found[f"layers.{layer}.0.to_out.weight"] = draw(hidden, 128)
        found[f"layers.{layer}.1.1.weight"] = draw(4 * hidden, hidden)
        found[f"layers.{layer}.1.3.weight"] = draw(hidden, 4 * hidden)
    return {**{f"image_proj.{name}": tensor for name, tensor in found.items()}, **_layers(unet, draw)}


def face(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """FaceID: a perceptron over a face recogniser's embedding, and a LoRA between the layers."""
    draw = _Draw(1)
    return {
        "image_proj.proj.0.weight": draw(2 * WIDTH, WIDTH),
        "image_proj.proj.0.bias": draw(2 * WIDTH),
        "image_proj.proj.2.weight": draw(4 * WIDTH, 2 * WIDTH),
        "image_proj.proj.2.bias": draw(4 * WIDTH),
        "image_proj.norm.weight": draw(WIDTH),
        "image_proj.norm.bias": draw(WIDTH),
        "ip_adapter.0.to_q_lora.down.weight": draw(4, 8),
        **_layers(unet, draw),
    }


def write(tensors: dict[str, Tensor], file: Path) -> Path:
    """Save as published: one flat safetensors file."""
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)
    return file


def nested(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The same as diffusers' `_load_ip_adapter_weights` takes it."""
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = tensor
    return parts


def _layers(unet: UNet2DConditionModel, draw) -> dict[str, Tensor]:
    places = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    return {
        f"ip_adapter.{2 * number + 1}.to_{letter}_ip.weight": draw(*place.to_k.weight.shape)
        for number, place in enumerate(places)
        for letter in "kv"
    }


class _Draw:
    """Normal numbers of a size that leaves attention neither flat nor frozen."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator) / 4
