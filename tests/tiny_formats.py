"""Tiny random models of SD 1, SD 2 and SDXL, written in every layout in which models are published.

The original layouts are written by walking through the modules and counting blocks, as their own code builds them.
"""

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

TOKENS = 20
SIDE = 64  # width of a text tower: one head of CLIP's
END = "<|endoftext|>"


@dataclass(frozen=True)
class Written:
    """The modules a model was written from, and their schedule."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    texts: tuple[CLIPTextModel, ...]
    schedule: dict

    @property
    def parts(self) -> list[nn.Module]:
        return [self.unet, self.vae, *self.texts]


def sd1() -> Written:
    """Eight heads, transformers entered by convolutions, ε."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=256,
        block_out_channels=(32, 64),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=SIDE,
        attention_head_dim=8,
    )
    return Written(unet, _vae(0.18215), (CLIPTextModel(_text("quick_gelu")),), _schedule("epsilon"))


def sd2() -> Written:
    """64 channels a head, linear projections, v, and the tower of open_clip, which has a layer more in its file."""
    torch.manual_seed(2)
    unet = UNet2DConditionModel(
        sample_size=384,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=SIDE,
        attention_head_dim=[1, 2],
        use_linear_projection=True,
    )
    return Written(unet, _vae(0.18215), (CLIPTextModel(_text("gelu")),), _schedule("v_prediction"))


def sdxl() -> Written:
    """Two towers, added conditioning, and transformers of several blocks."""
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        sample_size=512,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2],
        cross_attention_dim=2 * SIDE,
        attention_head_dim=[1, 2],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=SIDE + 6 * 256,
    )
    texts = (
        CLIPTextModel(_text("quick_gelu")),
        CLIPTextModelWithProjection(_text("gelu", projection_dim=SIDE)),
    )
    return Written(unet, _vae(0.13025), texts, _schedule("epsilon", timestep_spacing="leading"))


ALL = {"sd1": sd1, "sd2": sd2, "sdxl": sdxl}


def _vae(scaling_factor: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        scaling_factor=scaling_factor,
    )


def _text(act: str, projection_dim: int = SIDE) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(vocabulary()),
        hidden_size=SIDE,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=TOKENS,
        hidden_act=act,
        projection_dim=projection_dim,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )


def _schedule(prediction: str, **more) -> dict:
    return {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "prediction_type": prediction,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        **more,
    }


def vocabulary() -> dict[str, int]:
    """CLIP's order: characters, characters that end a word, the two marks."""
    letters = "!,abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(letter + "</w>" for letter in letters), "ab</w>", "<|startoftext|>", END]
    return {piece: number for number, piece in enumerate(pieces)}


def tokenizer(folder: Path, pad: str = END) -> Path:
    """Write a tokenizer to `folder`."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "unk_token": END, "pad_token": pad}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def save_folder(model: Written, folder: Path) -> Path:
    """Diffusers' layout."""
    model.unet.save_pretrained(folder / "unet")
    model.vae.save_pretrained(folder / "vae")
    wide = len(model.texts) > 1
    index = {
        "_class_name": "StableDiffusionXLPipeline" if wide else "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    pads = [END if text.config.hidden_act == "quick_gelu" else "!" for text in model.texts]
    for number, text, pad in zip(("", "_2"), model.texts, pads, strict=False):
        text.save_pretrained(folder / f"text_encoder{number}")
        tokenizer(folder / f"tokenizer{number}", pad)
        index[f"text_encoder{number}"] = ["transformers", type(text).__name__]
        index[f"tokenizer{number}"] = ["transformers", "CLIPTokenizer"]
    if wide:
        index["force_zeros_for_empty_prompt"] = True
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(model.schedule))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def saved_again(folder: Path, place: Path, scheduler: Any = None) -> Path:
    """A model's folder as the installed diffusers and transformers write it, perhaps with another scheduler."""
    kind = StableDiffusionXLPipeline if (folder / "text_encoder_2").is_dir() else StableDiffusionPipeline
    pipe = kind.from_pretrained(folder, dtype=torch.float32)
    if scheduler is not None:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(place)
    return place


def save_all(models: dict[str, Written], folder: Path) -> Path:
    """Every model in both layouts, and a tokenizer."""
    for family, model in models.items():
        save_folder(model, folder / family)
        save_single(model, folder / f"{family}.safetensors")
    tokenizer(folder / "clip")
    return folder


def offline(monkeypatch) -> None:
    """A fixture's body: nothing may open a connection."""

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def save_single(model: Written, file: Path, notes: dict[str, str] | None = None, **more: Tensor) -> Path:
    """The original layout, in one file."""
    return save(single(model) | more, file, notes)


def save(tensors: dict[str, Tensor], file: Path, notes: dict[str, str] | None = None) -> Path:
    """A safetensors file, in a folder that need not be there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, file, notes)
    return file


def single(model: Written) -> dict[str, Tensor]:
    """The tensors of a model by their original names, with what a training leaves beside them."""
    texts = [text.state_dict() for text in model.texts]
    if len(texts) == 2:
        towers = prefixed("conditioner.embedders.0.transformer.text_model.", texts[0])
        towers |= prefixed("conditioner.embedders.1.model.", open_clip(texts[1]))
        towers["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6)
    elif model.texts[0].config.hidden_act == "gelu":
        towers = prefixed("cond_stage_model.model.", open_clip(texts[0]))
        last = {key: tensor for key, tensor in towers.items() if ".resblocks.1." in key}
        towers |= {key.replace(".resblocks.1.", ".resblocks.2."): 2 * tensor for key, tensor in last.items()}
        towers["cond_stage_model.model.text_projection"] = torch.ones(SIDE, SIDE)
    else:
        towers = prefixed("cond_stage_model.transformer.text_model.", texts[0])
        towers["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(TOKENS)[None]
    return {
        **prefixed("model.diffusion_model.", unet(model.unet)),
        **prefixed("first_stage_model.", vae(model.vae)),
        **towers,
        "betas": torch.ones(4),
        "model_ema.decay": torch.ones(()),
    }


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under names that begin so."""
    return {prefix + key: tensor for key, tensor in tensors.items()}


def unet(net: nn.Module) -> dict[str, Tensor]:
    """A U-Net's encoder, middle and, if it has one, decoder, numbered as openaimodel.py numbers them."""
    held = prefixed("time_embed.0.", net.time_embedding.linear_1.state_dict())
    held |= prefixed("time_embed.2.", net.time_embedding.linear_2.state_dict())
    if net.config.addition_embed_type:
        held |= prefixed("label_emb.0.0.", net.add_embedding.linear_1.state_dict())
        held |= prefixed("label_emb.0.2.", net.add_embedding.linear_2.state_dict())
    held |= prefixed("input_blocks.0.0.", net.conv_in.state_dict())
    at = 1
    for block in net.down_blocks:
        for number, resnet in enumerate(block.resnets):
            held |= prefixed(f"input_blocks.{at}.0.", _resnet(resnet))
            if hasattr(block, "attentions"):
                held |= prefixed(f"input_blocks.{at}.1.", block.attentions[number].state_dict())
            at += 1
        for sampler in block.downsamplers or ():
            held |= prefixed(f"input_blocks.{at}.0.op.", sampler.conv.state_dict())
            at += 1
    held |= prefixed("middle_block.0.", _resnet(net.mid_block.resnets[0]))
    held |= prefixed("middle_block.1.", net.mid_block.attentions[0].state_dict())
    held |= prefixed("middle_block.2.", _resnet(net.mid_block.resnets[1]))
    at = 0
    for block in getattr(net, "up_blocks", ()):
        for number, resnet in enumerate(block.resnets):
            inside = [_resnet(resnet)]
            if hasattr(block, "attentions"):
                inside.append(block.attentions[number].state_dict())
            if number == len(block.resnets) - 1 and block.upsamplers:
                inside.append(prefixed("conv.", block.upsamplers[0].conv.state_dict()))
            for place, tensors in enumerate(inside):
                held |= prefixed(f"output_blocks.{at}.{place}.", tensors)
            at += 1
    if hasattr(net, "conv_out"):
        held |= prefixed("out.0.", net.conv_norm_out.state_dict()) | prefixed("out.2.", net.conv_out.state_dict())
    return held


def _resnet(resnet: nn.Module) -> dict[str, Tensor]:
    held = prefixed("in_layers.0.", resnet.norm1.state_dict()) | prefixed("in_layers.2.", resnet.conv1.state_dict())
    held |= prefixed("emb_layers.1.", resnet.time_emb_proj.state_dict())
    held |= prefixed("out_layers.0.", resnet.norm2.state_dict()) | prefixed("out_layers.3.", resnet.conv2.state_dict())
    if resnet.conv_shortcut is not None:
        held |= prefixed("skip_connection.", resnet.conv_shortcut.state_dict())
    return held


def vae(net: AutoencoderKL) -> dict[str, Tensor]:
    """A codec; its attention is of 1 × 1 convolutions there, and its decoder's levels are counted from the last."""
    held = prefixed("quant_conv.", net.quant_conv.state_dict())
    held |= prefixed("post_quant_conv.", net.post_quant_conv.state_dict())
    for side, part in (("encoder.", net.encoder), ("decoder.", net.decoder)):
        inside = prefixed("conv_in.", part.conv_in.state_dict()) | prefixed("conv_out.", part.conv_out.state_dict())
        inside |= prefixed("norm_out.", part.conv_norm_out.state_dict())
        for number, resnet in enumerate(part.mid_block.resnets):
            inside |= prefixed(f"mid.block_{number + 1}.", _shortcut(resnet))
        attention = part.mid_block.attentions[0]
        inside |= prefixed("mid.attn_1.norm.", attention.group_norm.state_dict())
        layers = (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0])
        for name, layer in zip(("q", "k", "v", "proj_out"), layers, strict=True):
            inside[f"mid.attn_1.{name}.weight"] = layer.weight[:, :, None, None]
            inside[f"mid.attn_1.{name}.bias"] = layer.bias
        held |= prefixed(side, inside)
    for at, block in enumerate(net.encoder.down_blocks):
        held |= _level(f"encoder.down.{at}", block.resnets, block.downsamplers, "downsample")
    for at, block in enumerate(reversed(net.decoder.up_blocks)):
        held |= _level(f"decoder.up.{at}", block.resnets, block.upsamplers, "upsample")
    return {key: tensor.detach() for key, tensor in held.items()}


def _level(name: str, resnets: nn.ModuleList, samplers: nn.ModuleList | None, way: str) -> dict[str, Tensor]:
    held = {}
    for number, resnet in enumerate(resnets):
        held |= prefixed(f"{name}.block.{number}.", _shortcut(resnet))
    for sampler in samplers or ():
        held |= prefixed(f"{name}.{way}.conv.", sampler.conv.state_dict())
    return held


def _shortcut(resnet: nn.Module) -> dict[str, Tensor]:
    return {key.replace("conv_shortcut", "nin_shortcut"): tensor for key, tensor in resnet.state_dict().items()}


def open_clip(held: dict[str, Tensor]) -> dict[str, Tensor]:
    """A text tower by the names of open_clip, where q, k and v are one."""
    held = {key.removeprefix("text_model."): tensor for key, tensor in held.items()}
    found = {
        "positional_embedding": held.pop("embeddings.position_embedding.weight"),
        "token_embedding.weight": held.pop("embeddings.token_embedding.weight"),
        "ln_final.weight": held.pop("final_layer_norm.weight"),
        "ln_final.bias": held.pop("final_layer_norm.bias"),
    }
    if "text_projection.weight" in held:
        found["text_projection"] = held.pop("text_projection.weight").T
    for number in range(1 + max(int(key.split(".")[2]) for key in held)):
        ours, theirs = f"encoder.layers.{number}.", f"transformer.resblocks.{number}."
        for kind in ("weight", "bias"):
            stacked = [held[f"{ours}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            found[f"{theirs}attn.in_proj_{kind}"] = torch.cat(stacked)
            for one, other in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                found[f"{theirs}{other}.{kind}"] = held[f"{ours}{one}.{kind}"]
    return found


def controlnet(unet: UNet2DConditionModel, hints: tuple[int, ...] = (8, 16, 24, 32)) -> ControlNetModel:
    """A ControlNet for this U-Net, whose zero convolutions are not zero."""
    torch.manual_seed(4)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=hints)
    for name, parameter in net.named_parameters():
        if "controlnet" in name:
            nn.init.normal_(parameter, std=0.2)
    return net


def original_controlnet(net: ControlNetModel) -> dict[str, Tensor]:
    """A ControlNet by the names of lllyasviel's cldm.py."""
    held = unet(net)
    for number, conv in enumerate(net.controlnet_down_blocks):
        held |= prefixed(f"zero_convs.{number}.0.", conv.state_dict())
    held |= prefixed("middle_block_out.0.", net.controlnet_mid_block.state_dict())
    hint = net.controlnet_cond_embedding
    for number, conv in enumerate([hint.conv_in, *hint.blocks, hint.conv_out]):
        held |= prefixed(f"input_hint_block.{2 * number}.", conv.state_dict())
    return held
