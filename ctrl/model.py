"""The border: the only inference file that names diffusers and transformers.

It loads a folder in diffusers' layout part by part, refuses what is incomplete or unsafe, and answers in plain
tensors. The parts are loaded when first needed and never changed afterwards.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from ctrl.attention import Edit, Projections, sites, tap

ATELIER = Path(__file__).parent / "atelier" / "weights"
CONTROLS = ("pose", "depth", "edges")
PARTS = (("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL"), ("text_encoder", "CLIPTextModel"))
STYLE_TOKENS = 4  # of an IP-Adapter with one linear projection


@dataclass(frozen=True)
class Text:
    """An encoded prompt: `states` (1, T, D), and the words that did not fit."""

    states: Tensor
    cut: str


@dataclass(frozen=True)
class Residuals:
    """What a ControlNet adds: `down` to the skip connections, each (R, C_i, h_i, w_i), `mid` to the middle."""

    down: tuple[Tensor, ...]
    mid: Tensor


@dataclass(frozen=True)
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


class Solver:
    """A fresh scheduler for one run of N pictures, with the generators that hold their randomness."""

    def __init__(self, scheduler: Any, steps: int, device: torch.device, generators: list[torch.Generator]):
        scheduler.set_timesteps(steps, device=device)
        self._scheduler = scheduler
        self._generators = generators
        self._random = not type(scheduler).__name__.startswith("UniPC")
        self.timesteps: Tensor = scheduler.timesteps
        self.init_sigma = scheduler.init_noise_sigma

    def scale(self, latents: Tensor, index: int) -> Tensor:
        """The latents as the U-Net wants them at step `index`."""
        return self._scheduler.scale_model_input(latents, self.timesteps[index])

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The next latents and the clean ones this step believes in, all (N, C, h, w)."""
        random = {"generator": self._generators} if self._random else {}
        out = self._scheduler.step(prediction, self.timesteps[index], latents, **random)
        for name in ("pred_original_sample", "denoised"):
            if getattr(out, name, None) is not None:
                return out.prev_sample, getattr(out, name)
        return out.prev_sample, self._scheduler.model_outputs[-1]  # multistep solvers keep it there


class Model:
    """A latent diffusion model and what controls it; made by `load`.

    `size` is the (width, height) it was trained for in pixels and `factor` the pixels to a latent. `lock` is held
    while a part runs, so that threads take turns.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: torch.device,
        dtype: torch.dtype,
        controlnets: Mapping[str, Path],
        ip_adapter: Path | None,
        lora: Path | None,
    ) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self.lock = threading.RLock()
        self._controlnet_folders = dict(controlnets)
        self._controlnets: dict[str, Any] = {}
        self._adapter_file, self._lora_file = ip_adapter, lora
        self.tokenizer = _tokenizer(folder)
        self.text_encoder = self._part("text_encoder")
        self.unet = self._part("unet")
        self.vae = self._part("vae")
        self._scheduler_config = _scheduler_config(folder)
        if self.unet.config.time_cond_proj_dim is not None:
            raise ValueError("this U-Net takes its guidance as an input (a distilled LCM), which ctrl does not do.")

    def __repr__(self) -> str:
        width, height = self.size
        return f"Model({self.folder.name!r}, {width}×{height}, controls: {', '.join(self.controls) or 'none'})"

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return width * self.factor, height * self.factor

    @property
    def factor(self) -> int:
        """Pixels along a latent's side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def controls(self) -> tuple[str, ...]:
        """The kinds of control there is a ControlNet for."""
        return tuple(self._controlnet_folders)

    @property
    def has_style(self) -> bool:
        """Whether there is an IP-Adapter."""
        return self._adapter_file is not None

    @property
    def has_lora(self) -> bool:
        """Whether there is an LCM-LoRA."""
        return self._lora_file is not None

    @torch.no_grad()
    def encode_text(self, prompt: str) -> Text:
        """The prompt through the text tower, padded to its full length."""
        length = self.tokenizer.model_max_length
        with self.lock:
            read = self.tokenizer(
                prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            )
            whole = self.tokenizer(prompt).input_ids
            masked = getattr(self.text_encoder.config, "use_attention_mask", False)
            mask = read.attention_mask.to(self.device) if masked else None
            states = self.text_encoder(read.input_ids.to(self.device), attention_mask=mask)[0]
        cut = self.tokenizer.decode(whole[length - 1 : -1]) if len(whole) > length else ""
        return Text(states.to(self.dtype), cut)

    @torch.no_grad()
    def encode_style(self, picture: Image.Image) -> Tensor:
        """(1, E): the picture's embedding by the image tower."""
        pixels = self.feature_extractor(picture.convert("RGB"), return_tensors="pt").pixel_values
        with self.lock:
            return self.image_encoder(pixels.to(self.device, self.dtype)).image_embeds

    def noise(self, generators: Sequence[torch.Generator], width: int, height: int) -> Tensor:
        """(N, C, h, w) Gaussian latents, one from each CPU generator."""
        shape = (1, self.unet.config.in_channels, height // self.factor, width // self.factor)
        drawn = [torch.randn(shape, generator=generator, dtype=self.dtype) for generator in generators]
        return torch.cat(drawn).to(self.device)

    def solver(self, sampler: str, steps: int, generators: list[torch.Generator]) -> Solver:
        """A fresh scheduler for `steps` steps by the recipe's name of it."""
        return Solver(_scheduler_class(sampler).from_config(self._scheduler_config), steps, self.device, generators)

    @torch.no_grad()
    def residuals(self, kind: str, sample: Tensor, t: Tensor, text: Tensor, hint: Tensor) -> Residuals:
        """What the ControlNet of this kind adds; `hint` is (R, 3, H, W) in [0, 1]."""
        with self.lock:
            down, mid = self.controlnet(kind)(
                sample, t, encoder_hidden_states=text, controlnet_cond=hint, return_dict=False
            )
        return Residuals(tuple(down), mid)

    @torch.no_grad()
    def predict(
        self,
        sample: Tensor,
        t: Tensor,
        text: Tensor,
        *,
        residuals: Residuals | None = None,
        edits: Sequence[Edit] = (),
        lora: str | None = None,
    ) -> Tensor:
        """The U-Net's prediction (R, C, h, w), ε or v as the model was trained."""
        with self.lock:
            unet = self.unet if lora is None else self.unet_with_lora
            added = {
                "down_block_additional_residuals": residuals.down if residuals else None,
                "mid_block_additional_residual": residuals.mid if residuals else None,
            }
            if not edits:
                return unet(sample, t, encoder_hidden_states=text, return_dict=False, **added)[0]
            with tap(unet, edits=edits):
                return unet(sample, t, encoder_hidden_states=text, return_dict=False, **added)[0]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of (N, C, h, w) latents, rounded as diffusers rounds them."""
        with self.lock:
            pixels = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        pixels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
        return [Image.fromarray(one) for one in (pixels * 255).round().astype(np.uint8)]

    def controlnet(self, kind: str) -> Any:
        """The ControlNet of this kind, loaded on first use."""
        if kind not in self._controlnet_folders:
            have = f"it has {', '.join(self.controls)}" if self.controls else "it has none"
            raise ValueError(f"this model has no ControlNet for {kind!r}; {have}: load(..., controlnets=...).")
        with self.lock:
            if kind not in self._controlnets:
                from diffusers.models.controlnets.controlnet import ControlNetModel

                net = _pretrained(ControlNetModel, self._controlnet_folders[kind], self.dtype, self.device)
                want, got = self.unet.config.cross_attention_dim, net.config.cross_attention_dim
                if want != got or net.config.block_out_channels != self.unet.config.block_out_channels:
                    raise ValueError(
                        f"the {kind} ControlNet was made for another model: text width {got}, "
                        f"channels {net.config.block_out_channels}; this U-Net has {want} "
                        f"and {self.unet.config.block_out_channels}."
                    )
                self._controlnets[kind] = net
            return self._controlnets[kind]

    @cached_property
    def image_encoder(self) -> Any:
        """The CLIP image tower that style references go through."""
        from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

        beside = (self._adapter_file or self.folder).parent / "image_encoder"
        folder = beside if beside.is_dir() else self.folder / "image_encoder"
        if not folder.is_dir():
            raise ValueError(f"a style needs an image encoder, and there is no folder {folder.name!r} in the model.")
        return _pretrained(CLIPVisionModelWithProjection, folder, self.dtype, self.device)

    @cached_property
    def feature_extractor(self) -> Any:
        """What resizes and normalises a picture for the image tower; always the PIL one, so that pictures do not
        depend on whether torchvision is installed.
        """
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        if (self.folder / "feature_extractor").is_dir():
            return CLIPImageProcessorPil.from_pretrained(self.folder / "feature_extractor")
        side = self.image_encoder.config.image_size
        return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    @cached_property
    def style(self) -> StyleAdapter:
        """The IP-Adapter in the published format, checked against this U-Net."""
        if self._adapter_file is None:
            raise ValueError("this model has no IP-Adapter, so it cannot follow a style: load(..., ip_adapter=...).")
        return _style_adapter(self._adapter_file, self.unet, self.device, self.dtype)

    @cached_property
    def unet_with_lora(self) -> Any:
        """The U-Net under its LCM-LoRA: shares every tensor the LoRA leaves alone."""
        if self._lora_file is None:
            raise ValueError("this model has no LCM-LoRA, so there is no fast mode: load(..., lora=...).")
        return _with_lora(self.unet, self._lora_file)

    def _part(self, name: str) -> Any:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from transformers.models.clip.modeling_clip import CLIPTextModel

        kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
        return _pretrained(kinds[name], self.folder / name, self.dtype, self.device)


def load(
    source: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    controlnets: Mapping[str, str | Path] | None = None,
    ip_adapter: str | Path | None = None,
    lora: str | Path | None = None,
) -> Model:
    """A model from a folder in diffusers' layout or a hub id; without `source`, the atelier model shipped here.

    Folders named controlnet_pose, controlnet_depth and controlnet_edges, ip_adapter/ip_adapter.safetensors and
    lora/pytorch_lora_weights.safetensors are found by themselves; for another model give `controlnets` (kind to
    folder or hub id), `ip_adapter` (a safetensors file, with its image_encoder folder beside it) and `lora` (a
    safetensors file). `device` "auto" is the GPU if there is one; `dtype` is float32 if not given, float16 for a
    given source on CUDA. Only safetensors are read and no code of the model's is run; an incomplete or foreign
    file raises a ValueError, a missing one a FileNotFoundError.
    """
    place = _device(device)
    if dtype is None:
        dtype = torch.float16 if place.type == "cuda" and source is not None else torch.float32
    folder = _folder("source", ATELIER if source is None else source, revision)
    _check_index(folder)
    nets = {kind: folder / f"controlnet_{kind}" for kind in CONTROLS}
    nets = {kind: path for kind, path in nets.items() if path.is_dir()}
    for kind, given in (controlnets or {}).items():
        if kind not in CONTROLS:
            raise ValueError(f"controlnets has the kind {kind!r}; there is {', '.join(CONTROLS)}.")
        nets[kind] = _folder(f"controlnets[{kind!r}]", given, None)
    return Model(
        folder,
        device=place,
        dtype=dtype,
        controlnets=nets,
        ip_adapter=_file("ip_adapter", ip_adapter, folder / "ip_adapter" / "ip_adapter.safetensors"),
        lora=_file("lora", lora, folder / "lora" / "pytorch_lora_weights.safetensors"),
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:0 or mps, got {name!r}.") from None


def _folder(name: str, source: str | Path, revision: str | None) -> Path:
    """A local folder, or the snapshot of a hub repository; what looks like a path is never asked of the hub."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    text = str(source)
    if isinstance(source, Path) or text.startswith((".", "~", "/", "\\")) or text.count("/") != 1 or path.exists():
        raise FileNotFoundError(f"{name} must be a folder or a hub id like 'owner/name'; {text!r} is no folder.")
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*/*.json", "*.txt", "*/*.txt", "*.safetensors", "*/*.safetensors"]
    unwanted = ["*fp16*", "*non_ema*", "*.safetensors.index.*.json", "safety_checker/*"]
    if not revision:
        unwanted.append("v1-*.safetensors")  # the whole checkpoint once more, in one file
    return Path(snapshot_download(text, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted))


def _file(name: str, given: str | Path | None, default: Path) -> Path | None:
    if given is None:
        return default if default.is_file() else None
    path = Path(given).expanduser()
    if not path.is_file() or path.suffix != ".safetensors":
        raise FileNotFoundError(f"{name} must be a .safetensors file, and {str(given)!r} is none.")
    return path


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent.name!r} has no {path.name}: it is no model in diffusers' layout.")
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.parent.name}/{path.name} is not JSON: {error}.") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path.parent.name}/{path.name} must hold an object, got {type(read).__name__}.")
    return read


def _check_index(folder: Path) -> None:
    index = _json(folder / "model_index.json")
    if "text_encoder_2" in index:
        raise ValueError(f"{folder.name!r} is an SDXL model; ctrl steers Stable Diffusion 1.x and 2.x so far.")
    for part, kind in PARTS:
        pair = index.get(part)
        if not isinstance(pair, list) or len(pair) != 2 or pair[1] != kind:
            raise ValueError(f"{folder.name!r} has {pair!r} as its {part}; ctrl steers models with a {kind}.")


def _pretrained(kind: Any, folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """A module from config.json and safetensors, complete and finite, in evaluation mode without gradients."""
    _json(folder / "config.json")
    for index in folder.glob("*.safetensors.index.json"):
        shards = _json(index).get("weight_map", {}).values()
        if any(Path(str(shard)).name != shard for shard in shards):
            raise ValueError(f"{folder.name}/{index.name} names shards outside its folder; it is not to be trusted.")
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder.name!r} has no .safetensors file; pickled weights are not read: convert.")
    word = "dtype" if kind.__module__.startswith("transformers") else "torch_dtype"
    try:
        module, found = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **{word: dtype}
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the weights in {folder.name!r} cannot be read: {error.__cause__ or error}") from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(f"{folder.name!r} lacks {len(missing)} tensors, such as {missing[0]}: it is incomplete.")
    for name, tensor in module.named_parameters():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{folder.name!r} has NaN or infinite numbers in {name}: the file is damaged.")
    return module.to(device).eval().requires_grad_(False)


def _tokenizer(folder: Path) -> Any:
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)


def _scheduler_config(folder: Path) -> dict[str, Any]:
    """The noise schedule, with the two repairs of old configurations that diffusers' pipelines make."""
    config = _json(folder / "scheduler" / "scheduler_config.json")
    if "steps_offset" in config:
        config["steps_offset"] = 1
    if config.get("clip_sample"):
        config["clip_sample"] = False
    return config


def _scheduler_class(sampler: str) -> Any:
    from diffusers.schedulers import scheduling_ddim as ddim
    from diffusers.schedulers import scheduling_dpmsolver_multistep as dpm
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral
    from diffusers.schedulers import scheduling_euler_discrete as euler
    from diffusers.schedulers import scheduling_lcm as lcm
    from diffusers.schedulers import scheduling_unipc_multistep as unipc

    match sampler:
        case "dpm++":
            return dpm.DPMSolverMultistepScheduler
        case "euler":
            return euler.EulerDiscreteScheduler
        case "euler a":
            return ancestral.EulerAncestralDiscreteScheduler
        case "ddim":
            return ddim.DDIMScheduler
        case "unipc":
            return unipc.UniPCMultistepScheduler
        case "lcm":
            return lcm.LCMScheduler
    raise ValueError(f"sampler {sampler!r} is unknown.")


def _tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, "pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except Exception as error:
        raise ValueError(f"{file.name} cannot be read as safetensors: {error}.") from error


def _style_adapter(file: Path, unet: Any, device: torch.device, dtype: torch.dtype) -> StyleAdapter:
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
    return StyleAdapter(*(tensors[key] for key in wanted[:4]), projections=projections)


def _with_lora(unet: Any, file: Path) -> Any:
    """A second U-Net that shares every tensor with the first, but for merged copies of those the LoRA touches."""
    shared = {id(tensor): tensor for tensor in [*unet.parameters(), *unet.buffers()]}
    view = copy.deepcopy(unet, memo=shared)
    modules = dict(view.named_modules())
    for name, delta in _lora_deltas(file, list(modules)).items():
        weight = modules[name].weight
        merged = weight.float() + delta.to(weight.device).view(weight.shape)
        modules[name].weight = nn.Parameter(merged.to(weight.dtype), requires_grad=False)
    return view


def _lora_deltas(file: Path, modules: Sequence[str]) -> dict[str, Tensor]:
    """Module name to α/r · B·A in float32 (LoRA, arXiv 2106.09685), from diffusers', PEFT's or kohya's names."""
    tensors, metadata = _tensors(file)
    kohya = {"lora_unet_" + name.replace(".", "_"): name for name in modules}
    noted = json.loads(metadata.get("lora_adapter_metadata", "{}")).get("unet.lora_alpha")
    deltas = {}
    for down, up in (("lora_A", "lora_B"), ("lora.down", "lora.up"), ("lora_down", "lora_up")):
        for key in [key for key in tensors if key.endswith(f".{down}.weight")]:
            base = key.removesuffix(f".{down}.weight")
            name = kohya.get(base, base.removeprefix("unet."))
            if name not in modules or f"{base}.{up}.weight" not in tensors:
                raise ValueError(f"{file.name} is no LoRA for this U-Net: it changes {base}.")
            a, b = tensors.pop(key).float(), tensors.pop(f"{base}.{up}.weight").float()
            alpha = tensors.pop(f"{base}.alpha", None)
            strength = float(alpha) if alpha is not None else float(noted or a.shape[0])
            deltas[name] = strength / a.shape[0] * (b.flatten(1) @ a.flatten(1))
    if tensors or not deltas:
        raise ValueError(f"{file.name} is no LoRA that ctrl can read; it holds {next(iter(tensors), 'nothing')}.")
    return deltas
