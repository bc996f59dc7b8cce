"""The border: the only inference file that names diffusers and transformers.

It loads a folder in diffusers' layout part by part, refuses what is incomplete or unsafe, and answers in
plain tensors. The parts are loaded when first needed and never changed afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ctrl.attention import Edit, Observer, tap
from ctrl.model.adapter import StyleAdapter, read_style_adapter
from ctrl.model.lora import with_lora
from ctrl.model.pretrained import pretrained, scheduler_config, tokenizer
from ctrl.model.solver import Solver, scheduler_class

CONTROLS = ("pose", "depth", "edges")


@dataclass(frozen=True, eq=False)
class Text:
    """An encoded prompt: `states` (1, T, D), and the words that did not fit."""

    states: Tensor
    cut: str


@dataclass(frozen=True, eq=False)
class Residuals:
    """What a ControlNet adds: `down` to the skips, each (R, C_i, h_i, w_i), and `mid` to the middle."""

    down: tuple[Tensor, ...]
    mid: Tensor


class Model:
    """A latent diffusion model and what controls it; made by `load`.

    `size` is the (width, height) it was trained for in pixels and `factor` the pixels to a latent. `lock`
    is held while a part runs, so that threads take turns.
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
        self.tokenizer = tokenizer(folder)
        self.text_encoder = self._part("text_encoder")
        self.unet = self._part("unet")
        self.vae = self._part("vae")
        self._scheduler_config = scheduler_config(folder)
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
            read = self.tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            whole = self.tokenizer(prompt, verbose=False).input_ids
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
        return Solver(scheduler_class(sampler).from_config(self._scheduler_config), steps, self.device, generators)

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
        observers: Sequence[Observer] = (),
        lora: str | None = None,
    ) -> Tensor:
        """The U-Net's prediction (R, C, h, w), ε or v as the model was trained.

        `edits` and `observers` are those of `ctrl.attention.tap`, for this call.
        """
        with self.lock:
            unet = self.unet if lora is None else self.unet_with_lora
            added = {
                "down_block_additional_residuals": residuals.down if residuals else None,
                "mid_block_additional_residual": residuals.mid if residuals else None,
            }
            tapped = tap(unet, edits=edits, observers=observers) if edits or observers else nullcontext()
            with tapped:
                return unet(sample, t, encoder_hidden_states=text, return_dict=False, **added)[0]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of (N, C, h, w) latents, rounded as diffusers rounds them."""
        with self.lock:
            pixels = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        if not torch.isfinite(pixels).all():
            raise FloatingPointError("the decoded picture is not finite; load the model with dtype=torch.float32.")
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

                net = pretrained(ControlNetModel, self._controlnet_folders[kind], self.dtype, self.device)
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
        return pretrained(CLIPVisionModelWithProjection, folder, self.dtype, self.device)

    @cached_property
    def feature_extractor(self) -> Any:
        """What resizes and normalises a picture for the image tower.

        Always the PIL one, so that pictures do not depend on whether torchvision is installed.
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
        return read_style_adapter(self._adapter_file, self.unet, self.device, self.dtype)

    @cached_property
    def unet_with_lora(self) -> Any:
        """The U-Net under its LCM-LoRA: shares every tensor the LoRA leaves alone."""
        if self._lora_file is None:
            raise ValueError("this model has no LCM-LoRA, so there is no fast mode: load(..., lora=...).")
        return with_lora(self.unet, self._lora_file)

    def _part(self, name: str) -> Any:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from transformers.models.clip.modeling_clip import CLIPTextModel

        kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
        return pretrained(kinds[name], self.folder / name, self.dtype, self.device)
