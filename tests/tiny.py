"""A whole model folder with tiny random weights, in exactly the layout of the weights the package carries."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

WIDTH = 32  # of the text states and of the embeddings
LATENTS = 8  # channels
SIZE = 16  # of the latents; the codec is f4, so pictures are 64 × 64
TOKENS = 24


def build(folder: Path) -> Path:
    """Write the model to `folder`; the same weights every time."""
    torch.manual_seed(0)
    _tokenizer(folder / "tokenizer")
    _towers(folder)
    unet = _unet()
    unet.half().save_pretrained(folder / "unet")
    unet = unet.float()
    for kind in ("pose", "depth", "edges"):
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 16))
        for name, parameter in net.named_parameters():
            if "controlnet" in name:  # zero convolutions would hide what a control does
                torch.nn.init.normal_(parameter, std=0.2)
        net.half().save_pretrained(folder / f"controlnet_{kind}")
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        latent_channels=LATENTS,
        norm_num_groups=4,
        sample_size=4 * SIZE,
        scaling_factor=0.7,
    )
    vae.half().save_pretrained(folder / "vae")
    _scheduler().save_pretrained(folder / "scheduler")
    _adapters(folder, unet)
    _index(folder)
    return folder


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=LATENTS,
        out_channels=LATENTS,
        layers_per_block=1,
        block_out_channels=(8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def _towers(folder: Path) -> None:
    text = CLIPTextConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        projection_dim=WIDTH,
        bos_token_id=len(_vocabulary()) - 2,
        eos_token_id=len(_vocabulary()) - 1,
        pad_token_id=len(_vocabulary()) - 1,
    )
    CLIPTextModel(text).half().save_pretrained(folder / "text_encoder")
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=WIDTH,
    )
    CLIPVisionModelWithProjection(vision).half().save_pretrained(folder / "image_encoder")
    side = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder / "feature_extractor")


def _vocabulary() -> dict[str, int]:
    letters = "abcdefghijklmnopqrstuvwxyz,"
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {piece: number for number, piece in enumerate(pieces)}


def _tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    end = "<|endoftext|>"
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TOKENS,
        "bos_token": "<|startoftext|>",
        "eos_token": end,
        "unk_token": end,
        "pad_token": end,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _adapters(folder: Path, unet: UNet2DConditionModel) -> None:
    places = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    style = {
        "image_proj.proj.weight": torch.randn(4 * WIDTH, WIDTH) / 6,
        "image_proj.proj.bias": torch.randn(4 * WIDTH) / 6,
        "image_proj.norm.weight": 1 + torch.randn(WIDTH) / 6,
        "image_proj.norm.bias": torch.randn(WIDTH) / 6,
    }
    for place, module in enumerate(places):
        for letter in "kv":
            shape = module.to_k.weight.shape
            style[f"ip_adapter.{2 * place + 1}.to_{letter}_ip.weight"] = torch.randn(shape) / 6
    _save(style, folder / "ip_adapter" / "ip_adapter.safetensors")
    lora = {}
    for name, module in unet.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0", "conv1")):
            out, into, *kernel = module.weight.shape
            lora[f"unet.{name}.lora_A.weight"] = torch.randn(4, into, *kernel) / 6
            lora[f"unet.{name}.lora_B.weight"] = torch.randn(out, 4, *(1 for _ in kernel)) / 6
    _save(lora, folder / "lora" / "pytorch_lora_weights.safetensors")


def _save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    file.parent.mkdir(parents=True)
    save_file({key: tensor.half().contiguous() for key, tensor in tensors.items()}, file)


def _index(folder: Path) -> None:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
