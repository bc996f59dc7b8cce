"""diffusers' configurations of modules in the original layout, by the shapes of their tensors.

Channels, levels, layers, depths and widths are read. What no shape shows is as in Stable Diffusion: 8 heads where
the transformers are entered by a convolution (SD 1), else 64 channels a head, as in every CLIP; 32 groups; SiLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

HEAD = 64  # channels
HEADS = 8
SIZES = 256  # channels for each number of SDXL's size conditioning
LAYERS = 8  # of a level, more than any has
SIZE_TENSORS = (  # the tensors that show a text encoder's sizes, by transformers' names; the last only if it projects
    "embeddings.token_embedding.weight",
    "embeddings.position_embedding.weight",
    "encoder.layers.0.mlp.fc1.weight",
    "text_projection.weight",
)


def unet_config(tensors: Mapping[str, Tensor], where: str, size: int) -> dict[str, Any]:
    """The configuration of a UNet2DConditionModel whose latents are `size` wide; `where` is the file's name."""
    levels = _levels(tensors)
    middle = _depth(tensors, "middle_block.1")
    reads = [tensor.shape[1] for key, tensor in tensors.items() if key.endswith(".attn2.to_k.weight")]
    if not reads or not middle or not levels[0] or len({len(level) for level in levels}) > 1:
        raise ValueError(f"{where} has a U-Net of a form that Stable Diffusion's do not have.")
    channels, depths = ([level[-1][at] for level in levels] for at in (0, 1))
    blocks = [*(depth or 1 for depth in depths[:-1]), depths[-1] or middle]
    linear = tensor_of(tensors, "middle_block.1.proj_in.weight", where).ndim == 2
    config = {
        "sample_size": size,
        "in_channels": tensor_of(tensors, "input_blocks.0.0.weight", where).shape[1],
        "out_channels": tensor_of(tensors, "out.2.weight", where).shape[0],
        "block_out_channels": channels,
        "layers_per_block": len(levels[0]),
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "transformer_layers_per_block": blocks[0] if len(set(blocks)) == 1 else blocks,
        "cross_attention_dim": reads[0],
        "use_linear_projection": linear,
        "attention_head_dim": [side // HEAD for side in channels] if linear else HEADS,  # heads, in spite of its name
    }
    if (guided := tensors.get("time_embed.cond_proj.weight")) is not None:  # a distilled LCM
        config["time_cond_proj_dim"] = guided.shape[-1]
    if (label := tensors.get("label_emb.0.0.weight")) is not None:
        config["addition_embed_type"], config["addition_time_embed_dim"] = "text_time", SIZES
        config["projection_class_embeddings_input_dim"] = label.shape[1]
    return config


def _levels(tensors: Mapping[str, Tensor]) -> list[list[tuple[int, int]]]:
    """The encoder's levels, each a list of its layers' (channels, transformer blocks)."""
    levels: list[list[tuple[int, int]]] = [[]]
    number = 1
    while True:
        layer = tensors.get(f"input_blocks.{number}.0.in_layers.2.weight")
        if layer is not None:
            levels[-1].append((layer.shape[0], _depth(tensors, f"input_blocks.{number}.1")))
        elif f"input_blocks.{number}.0.op.weight" in tensors:  # halves the size: the next is of the next level
            levels.append([])
        else:
            return levels
        number += 1


def _depth(tensors: Mapping[str, Tensor], place: str) -> int:
    """How many transformer blocks there are at a place."""
    depth = 0
    while f"{place}.transformer_blocks.{depth}.norm1.weight" in tensors:
        depth += 1
    return depth


def vae_config(tensors: Mapping[str, Tensor], where: str, *, size: int, scaling_factor: float) -> dict[str, Any]:
    """The configuration of an AutoencoderKL for pictures `size` wide."""
    channels: list[int] = []
    while (layer := tensors.get(f"encoder.down.{len(channels)}.block.0.conv1.weight")) is not None:
        channels.append(layer.shape[0])
    return {
        "in_channels": tensor_of(tensors, "encoder.conv_in.weight", where).shape[1],
        "out_channels": tensor_of(tensors, "decoder.conv_out.weight", where).shape[0],
        "latent_channels": tensor_of(tensors, "decoder.conv_in.weight", where).shape[1],
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "block_out_channels": channels,
        "layers_per_block": sum(f"encoder.down.0.block.{number}.conv1.weight" in tensors for number in range(LAYERS)),
        "scaling_factor": scaling_factor,
        "sample_size": size,
    }


def text_config(tensors: Mapping[str, Tensor], where: str, *, layers: int, act: str) -> dict[str, Any]:
    """The configuration of a CLIP text encoder of so many layers, by those of SIZE_TENSORS."""
    words, places, hidden = (tensor_of(tensors, key, where) for key in SIZE_TENSORS[:3])
    projection = tensors.get(SIZE_TENSORS[3])
    return {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "intermediate_size": hidden.shape[0],
        "projection_dim": words.shape[1] if projection is None else projection.shape[0],
        "max_position_embeddings": places.shape[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, words.shape[1] // HEAD),
        "hidden_act": act,
        "bos_token_id": 0,
        "eos_token_id": 2,  # as published: it makes a text end at its greatest id, which is CLIP's end of text
        "pad_token_id": 1,
    }


def tensor_of(tensors: Mapping[str, Tensor], key: str, where: str) -> Tensor:
    """A tensor that must be there, with two axes or more."""
    if key not in tensors or tensors[key].ndim < 2:
        raise ValueError(f"{where} lacks {key}: it is incomplete.")
    return tensors[key]
