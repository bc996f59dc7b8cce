"""The original names of tensors: what CompVis' and Stability's code calls the parts of the modules of diffusers.

Every tensor of diffusers' modules has one such name, so a file in that layout is read by asking for each. The layouts
are those of github.com/CompVis/latent-diffusion, github.com/lllyasviel/ControlNet and, for the text encoders of SD 2
and SDXL, github.com/mlfoundations/open_clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = (
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("encoder.layers.", "transformer.resblocks."),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("final_layer_norm", "ln_final"),
    ("text_projection.weight", "text_projection"),
)


def unet_name(path: str, config: Mapping[str, Any]) -> str:
    """The original name of a module, such as "input_blocks.1.0.in_layers.2", or of a parameter, of a U-Net.

    `path` is diffusers' name in a U-Net or ControlNet of this `config`; a path it knows nothing of comes back as it is.
    """
    layers = config["layers_per_block"]  # every level has as many
    match path.split("."):
        case ["conv_in", *rest]:
            name = ["input_blocks.0.0", *rest]
        case ["conv_norm_out", *rest]:
            name = ["out.0", *rest]
        case ["conv_out", *rest]:
            name = ["out.2", *rest]
        case ["time_embedding", linear, *rest]:
            name = ["time_embed", _second(linear), *rest]
        case ["add_embedding" | "class_embedding", linear, *rest]:
            name = ["label_emb.0", _second(linear), *rest]
        case ["down_blocks", i, "downsamplers", "0", "conv", *rest]:
            name = [f"input_blocks.{(int(i) + 1) * (layers + 1)}.0.op", *rest]
        case ["down_blocks", i, kind, j, *rest]:
            name = [f"input_blocks.{1 + int(i) * (layers + 1) + int(j)}", *_inner(kind, rest)]
        case ["mid_block", "resnets", j, *rest]:
            name = [f"middle_block.{2 * int(j)}", *_inner("resnets", rest)[1:]]
        case ["mid_block", "attentions", j, *rest]:
            name = [f"middle_block.{2 * int(j) + 1}", *rest]
        case ["up_blocks", i, "upsamplers", "0", "conv", *rest]:
            attends = config["up_block_types"][int(i)].startswith("CrossAttn")
            name = [f"output_blocks.{int(i) * (layers + 1) + layers}.{1 + attends}.conv", *rest]
        case ["up_blocks", i, kind, j, *rest]:
            name = [f"output_blocks.{int(i) * (layers + 1) + int(j)}", *_inner(kind, rest)]
        case _:
            name = [path]
    return ".".join(name)


def _second(linear: str) -> str:
    return {"linear_1": "0", "linear_2": "2"}.get(linear, linear)


def _inner(kind: str, rest: list[str]) -> list[str]:
    """Inside a block, a resnet comes first and an attention after it."""
    if kind == "attentions":
        return ["1", *rest]
    return ["0", RESNET.get(rest[0], rest[0]), *rest[1:]] if rest else ["0"]


def controlnet_name(path: str, config: Mapping[str, Any]) -> str:
    """The original name of a parameter of a ControlNet of this `config`."""
    hints = config["conditioning_embedding_out_channels"]
    match path.split("."):
        case ["controlnet_down_blocks", i, *rest]:
            name = [f"zero_convs.{i}.0", *rest]
        case ["controlnet_mid_block", *rest]:
            name = ["middle_block_out.0", *rest]
        case ["controlnet_cond_embedding", "conv_in", *rest]:
            name = ["input_hint_block.0", *rest]
        case ["controlnet_cond_embedding", "blocks", i, *rest]:
            name = [f"input_hint_block.{2 * int(i) + 2}", *rest]
        case ["controlnet_cond_embedding", "conv_out", *rest]:
            name = [f"input_hint_block.{4 * len(hints) - 2}", *rest]
        case _:
            return unet_name(path, config)
    return ".".join(name)


def vae_name(path: str, config: Mapping[str, Any]) -> str:
    """The original name of a parameter of a VAE of this `config`."""
    last = len(config["block_out_channels"]) - 1
    match path.split("."):
        case [side, "down_blocks", i, "downsamplers", "0", *rest]:
            name = [side, "down", i, "downsample", *rest]
        case [side, "up_blocks", i, "upsamplers", "0", *rest]:
            name = [side, "up", str(last - int(i)), "upsample", *rest]
        case [side, "down_blocks", i, "resnets", j, *rest]:
            name = [side, "down", i, "block", j, *_shortcut(rest)]
        case [side, "up_blocks", i, "resnets", j, *rest]:
            name = [side, "up", str(last - int(i)), "block", j, *_shortcut(rest)]
        case [side, "mid_block", "resnets", j, *rest]:
            name = [side, "mid", f"block_{int(j) + 1}", *_shortcut(rest)]
        case [side, "mid_block", "attentions", "0", *rest]:
            *names, last_name = rest
            name = [side, "mid.attn_1", ATTENTION.get(".".join(names), ".".join(names)), last_name]
        case [side, "conv_norm_out", *rest]:
            name = [side, "norm_out", *rest]
        case _:
            name = [path]
    return ".".join(name)


def _shortcut(rest: list[str]) -> list[str]:
    return ["nin_shortcut" if name == "conv_shortcut" else name for name in rest]


def vae_part(path: str, tensor: Tensor) -> Tensor:
    """The parameter that an original tensor is: what was a 1 × 1 convolution in the attention is linear now."""
    return tensor.flatten(1) if ".attentions." in path and tensor.ndim > 2 else tensor


def open_clip_name(path: str) -> str:
    """The original name of the tensor that holds a parameter of a text encoder of SD 2 or the second of SDXL."""
    path = path.removeprefix("text_model.")
    for letter in "qkv":
        for kind in ("weight", "bias"):
            path = path.replace(f"self_attn.{letter}_proj.{kind}", f"attn.in_proj_{kind}")
    for ours, theirs in OPEN_CLIP:
        path = path.replace(ours, theirs)
    return path


def open_clip_part(path: str, tensor: Tensor) -> Tensor:
    """The part of an original tensor that is this parameter: a third of the stacked q, k, v, or a transposed one."""
    if path.endswith("text_projection.weight"):
        return tensor.T
    for number, letter in enumerate("qkv"):
        if f".{letter}_proj." in path:
            return tensor.chunk(3)[number]
    return tensor


@dataclass
class TensorPicker:
    """The tensors of a file, and which of them were taken."""

    tensors: Mapping[str, Tensor]
    taken: set[str]

    def take(self, names: Iterable[str], original: Callable[[str], str]) -> dict[str, Tensor]:
        """The tensors of these names that the file has, under their `original` names."""
        picked = {}
        for name in names:
            if (key := original(name)) in self.tensors:
                self.taken.add(key)
                picked[name] = self.tensors[key]
        return picked

    def left(self) -> list[str]:
        """Those that were not taken."""
        return sorted(self.tensors.keys() - self.taken)
