"""A model on disk, as far as diffusers is not needed: folders, JSON, safetensors, adapters.

Everything here is untrusted until it was looked at: only safetensors and JSON are read, and a file that
does not fit the model is refused before anything is changed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ctrl.attention import Projections, sites

PARTS = (("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL"), ("text_encoder", "CLIPTextModel"))
STYLE_TOKENS = 4  # of an IP-Adapter with one linear projection


@dataclass(frozen=True, eq=False)
class StyleAdapter:
    """An IP-Adapter: one linear layer from image embedding to four tokens, and K/V weights at every site."""

    weight: Tensor
    bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    projections: Mapping[str, Projections]

    def tokens(self, embeds: Tensor) -> Tensor:
        """(R, E) image embeddings to (R, 4, D) tokens; zeros stand for no picture."""
        tokens = F.linear(embeds.to(self.weight.dtype), self.weight, self.bias)
        tokens = tokens.reshape(embeds.shape[0], STYLE_TOKENS, -1)
        return F.layer_norm(tokens, tokens.shape[-1:], self.norm_weight, self.norm_bias)


def device_named(name: str) -> torch.device:
    """The device; "auto" is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:0 or mps, got {name!r}.") from None


def find_folder(name: str, source: str | Path, revision: str | None) -> Path:
    """A local folder, or a hub repository's snapshot; what looks like a path is never asked of the hub."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    text = str(source)
    if (
        isinstance(source, Path)
        or text.startswith((".", "~", "/", "\\"))
        or text.count("/") != 1
        or path.exists()
    ):
        raise FileNotFoundError(
            f"{name} must be a folder or a hub id like 'owner/name'; {text!r} is no folder."
        )
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.safetensors"]
    unwanted = [
        "*fp16*",
        "*non_ema*",
        "*pruned*",
        "safety_checker/*",
    ]  # the same weights once more, or unused
    try:
        got = snapshot_download(text, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{name} {text!r} could not be fetched from the hub ({type(error).__name__}); "
            "check its name, the revision and the connection."
        ) from error
    return Path(got)


def find_file(name: str, given: str | Path | None, default: Path) -> Path | None:
    """The safetensors file given, or the default if it is there."""
    if given is None:
        return default if default.is_file() else None
    path = Path(given).expanduser()
    if not path.is_file() or path.suffix != ".safetensors":
        raise FileNotFoundError(f"{name} must be a .safetensors file, and {str(given)!r} is none.")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent.name!r} has no {path.name}: it is no model in diffusers' layout."
        )
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.parent.name}/{path.name} is not JSON: {error}.") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path.parent.name}/{path.name} must hold an object, got {type(read).__name__}.")
    return read


def check_index(folder: Path) -> None:
    """Refuse a folder whose parts are of classes that ctrl does not load."""
    index = read_json(folder / "model_index.json")
    if "text_encoder_2" in index:
        raise ValueError(
            f"{folder.name!r} is an SDXL model; ctrl steers Stable Diffusion 1.x and 2.x so far."
        )
    for part, kind in PARTS:
        pair = index.get(part)
        if not isinstance(pair, list) or len(pair) != 2 or pair[1] != kind:
            raise ValueError(f"{folder.name!r} has {pair!r} as its {part}; ctrl steers models with a {kind}.")


def _tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file.name} cannot be read as safetensors: {error}.") from error


def read_style_adapter(file: Path, unet: Any, device: torch.device, dtype: torch.dtype) -> StyleAdapter:
    """Layers are numbered 1, 3, 5… over the cross-attention modules, since diffusers counts attn1 too."""
    tensors, _ = _tensors(file)
    tensors = {key: tensor.to(device, dtype) for key, tensor in tensors.items()}
    places = sites(unet)
    wanted = [f"image_proj.{name}" for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias")]
    for number in range(1, 2 * len(places), 2):
        wanted += [f"ip_adapter.{number}.to_k_ip.weight", f"ip_adapter.{number}.to_v_ip.weight"]
    odd = sorted(set(wanted) ^ tensors.keys())
    if odd:
        raise ValueError(
            f"{file.name} is no IP-Adapter for this model's {len(places)} cross-attention layers: "
            f"{len(odd)} tensors are missing or too many, such as {odd[0]}."
        )
    width = unet.config.cross_attention_dim
    got = tensors["ip_adapter.1.to_k_ip.weight"].shape[1]
    if got != width or tensors["image_proj.norm.weight"].shape[0] != width:
        raise ValueError(f"{file.name} was made for a text width of {got}; this model has {width}.")
    projections = {
        place.name: Projections(*(tensors[f"ip_adapter.{2 * i + 1}.to_{x}_ip.weight"] for x in "kv"))
        for i, place in enumerate(places)
    }
    weight, bias, norm_weight, norm_bias = (tensors[key] for key in wanted[:4])
    return StyleAdapter(weight, bias, norm_weight, norm_bias, projections)


def with_lora(unet: Any, file: Path) -> Any:
    """A second U-Net that shares every tensor with the first but those the LoRA touches, merged."""
    shared = {id(tensor): tensor for tensor in [*unet.parameters(), *unet.buffers()]}
    view = copy.deepcopy(unet, memo=shared)
    modules = dict(view.named_modules())
    for name, delta in _lora_deltas(file, list(modules)).items():
        weight = modules[name].weight
        merged = weight.float() + delta.to(weight.device).view(weight.shape)
        modules[name].weight = nn.Parameter(merged.to(weight.dtype), requires_grad=False)
    return view


def _lora_deltas(file: Path, modules: Sequence[str]) -> dict[str, Tensor]:
    """Module name to α/r · B·A in float32 (LoRA, arXiv 2106.09685); diffusers', PEFT's or kohya's names."""
    tensors, metadata = _tensors(file)
    kohya = {"lora_unet_" + name.replace(".", "_"): name for name in modules}
    noted = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    for variant in ("use_rslora", "use_dora", "alpha_pattern"):
        if noted.get(f"unet.{variant}"):
            raise ValueError(f"{file.name} is a LoRA with {variant}, which ctrl does not merge.")
    deltas = {}
    for down, up in (("lora_A", "lora_B"), ("lora.down", "lora.up"), ("lora_down", "lora_up")):
        for key in [key for key in tensors if key.endswith(f".{down}.weight")]:
            base = key.removesuffix(f".{down}.weight")
            name = kohya.get(base, base.removeprefix("unet."))
            if name not in modules or f"{base}.{up}.weight" not in tensors:
                raise ValueError(f"{file.name} is no LoRA for this U-Net: it changes {base}.")
            a, b = tensors.pop(key).float(), tensors.pop(f"{base}.{up}.weight").float()
            alpha = tensors.pop(f"{base}.alpha", None)
            strength = (
                float(alpha) if alpha is not None else float(noted.get("unet.lora_alpha") or a.shape[0])
            )
            deltas[name] = strength / a.shape[0] * (b.flatten(1) @ a.flatten(1))
    if tensors or not deltas:
        raise ValueError(
            f"{file.name} is no LoRA that ctrl can read; it holds {next(iter(tensors), 'nothing')}."
        )
    return deltas
