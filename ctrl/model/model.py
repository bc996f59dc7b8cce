"""The model: text encoders, ControlNets, T2I-Adapters, IP-Adapters, a denoiser and a VAE, called in plain tensors.

N are the pictures made at once. Modules are never modified: LoRAs make a second model that shares every unchanged
tensor.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ctrl.model import vae
from ctrl.model.controlnet import ControlNet
from ctrl.model.ip_adapter.adopted import style_adapter
from ctrl.model.ip_adapter.encoder import IPAdapter
from ctrl.model.loading.extras import Extras
from ctrl.model.loading.families import family_of
from ctrl.model.loading.lora import merged
from ctrl.model.parts import Parts
from ctrl.model.revision import changes, fingerprint, new_number, weights_of
from ctrl.model.solver import Solver
from ctrl.model.t2i_adapter import T2IAdapter
from ctrl.model.text_encoders import TextEncoders
from ctrl.model.unet import UNet


class Model:
    """A latent diffusion model and the networks that control it; made by `ctrl.load`.

    `text` encodes prompts, `denoiser` predicts noise, `control(kind)` and `ip_adapter(name)` steer it. `lock` is held
    while a network runs, so that threads take turns.
    """

    def __init__(
        self,
        parts: Parts,
        extras: Extras,
        *,
        device: torch.device,
        dtype: torch.dtype,
        loaded: Loaded | None = None,
        identity: Hashable = None,
    ) -> None:
        self.parts, self.extras, self.device, self.dtype = parts, extras, device, dtype
        self._loaded = Loaded() if loaded is None else loaded
        self._adapted: dict[Hashable, Model] = {}
        self.lock = self._loaded.lock
        self.family = family_of(parts.unet, len(parts.text_encoders))
        self.vae_scale_factor = 2 ** (len(parts.vae.config.block_out_channels) - 1)
        identity = new_number() if identity is None else identity
        self.denoiser = UNet(parts.unet, self.vae_scale_factor, identity, self.lock)
        self.text = TextEncoders(parts.text_encoders, identity, device, dtype, parts.zero_negative, self.lock)

    def __repr__(self) -> str:
        width, height = self.size
        return f"Model({self.parts.name!r}, {width}×{height}, controls: {', '.join(self.controls) or 'none'})"

    @property
    def unet(self) -> Any:
        """diffusers' U-Net."""
        return self.parts.unet

    @property
    def vae(self) -> Any:
        """diffusers' autoencoder."""
        return self.parts.vae

    @property
    def revision(self) -> Hashable:
        """Which weights its pictures depend on, for the keys of a memory.

        A ControlNet, T2I-Adapter or IP-Adapter is in it only after its weights were changed in place, so that loading
        another one keeps earlier results valid.
        """
        parts = (*self._loaded.controls.values(), *self._loaded.ip_adapters.values())
        changed = [now for part in parts if (now := part.revision) not in self._loaded.as_loaded]
        return (self.denoiser.revision, self.text.revision, changes(self._vae_weights), *changed)

    def fingerprints(
        self, kinds: Iterable[str] = (), adapters: Iterable[str | None] = (), loras: Iterable[str] = ()
    ) -> dict[str, str]:
        """Hashes of the weights that pictures under these controls, IP-Adapters and LoRAs depend on, by their names.

        They are the same in every process. A network that is not loaded yet is loaded.
        """
        weights = {"unet": self.denoiser.weights, "text encoders": self.text.weights, "vae": self._vae_weights}
        weights |= {f"control {kind}": self.control(kind).weights for kind in kinds}
        weights |= {
            f"IP-Adapter {name!r}" if name else "the first IP-Adapter": self.ip_adapter(name).weights
            for name in adapters
        }
        files = {f"lora {name}": self.extras.lora(name).sha256[:16] for name in loras}
        return {name: fingerprint(tensors) for name, tensors in weights.items()} | files

    @cached_property
    def _vae_weights(self) -> tuple[Tensor, ...]:
        return weights_of(self.vae)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels that it was trained for."""
        return self.denoiser.size

    @property
    def controls(self) -> tuple[str, ...]:
        """The kinds of control there is a ControlNet or a T2I-Adapter for."""
        return self.extras.controls

    @property
    def styles(self) -> tuple[str, ...]:
        """The names of the IP-Adapters, the default one first."""
        return self.extras.styles

    @property
    def loras(self) -> tuple[str, ...]:
        """The names of the LoRAs."""
        return self.extras.loras

    def with_loras(self, loras: Sequence[tuple[str, float] | tuple[str, float, float]]) -> Model:
        """A model with LoRAs merged that shares all unchanged tensors; with no LoRA, the model itself.

        Each is its name, its weight, and the weight for the text encoders where that is another. The last model made is
        kept. To unload, use this model again, which is never changed.
        """
        wanted = tuple((name, weight, *(more or (weight,))) for name, weight, *more in loras)
        wanted = tuple(lora for lora in wanted if any(lora[1:]))
        if not wanted:
            return self
        with self.lock:
            key = (wanted, self.denoiser.revision, self.text.revision)
            if key not in self._adapted:
                self._adapted.clear()
                self._adapted[key] = self._merged(wanted)
            return self._adapted[key]

    def _merged(self, wanted: Sequence[tuple[str, float, float]]) -> Model:
        files = [(self.extras.lora(name), weight, text) for name, weight, text in wanted]
        old = [text_encoder.encoder for text_encoder in self.parts.text_encoders]
        unet, new = merged(self.unet, old, files)
        pairs = zip(self.parts.text_encoders, new, strict=True)
        parts = replace(self.parts, unet=unet, text_encoders=tuple(replace(one, encoder=own) for one, own in pairs))
        # By content, so that what a memory keeps of these LoRAs is found again after others were merged.
        content = tuple(sorted((*one, lora.sha256) for one, (lora, *_) in zip(wanted, files, strict=True)))
        identity = (content, self.denoiser.revision, self.text.revision)
        made = Model(parts, self.extras, device=self.device, dtype=self.dtype, loaded=self._loaded, identity=identity)
        if all(map(operator.is_, old, new)):
            made.text = self.text  # its prompts need not be encoded again
        return made

    def control(self, kind: str) -> ControlNet | T2IAdapter:
        """The network that draws this kind of control, loaded on first use; a ValueError if there is none that fits."""
        with self.lock:
            nets = self._loaded.controls
            if kind not in nets:
                adapter = self.extras.t2i_adapter(kind, self.unet, self.vae_scale_factor)
                if adapter is None:
                    return self._controlnet(kind)
                adapter = replace(adapter, lock=self.lock)
                self._loaded.as_loaded.add(adapter.revision)
                nets[kind] = adapter
            return nets[kind]

    def controlnet(self, kind: str) -> ControlNet:
        """The ControlNet of this kind; a ValueError if there is none that fits, or a T2I-Adapter."""
        with self.lock:
            net = self._loaded.controls.get(kind)
            return net if isinstance(net, ControlNet) else self._controlnet(kind)

    def _controlnet(self, kind: str) -> ControlNet:
        module = self.extras.controlnet(kind, self.unet)
        net = ControlNet(kind, module, new_number(), self.denoiser.added, self.lock)
        if net.vae_scale_factor != self.vae_scale_factor:
            raise ValueError(
                f"the {kind} ControlNet was made for another model: it reads {net.vae_scale_factor} pixels as one, and "
                f"a latent of this model is {self.vae_scale_factor}."
            )
        self._loaded.as_loaded.add(net.revision)  # first: `revision` may be read meanwhile
        self._loaded.controls[kind] = net
        return net

    def ip_adapter(self, name: str | None = None) -> IPAdapter:
        """The IP-Adapter of this name, or the first, loaded on first use with its image encoder."""
        with self.lock:
            adapters = self._loaded.ip_adapters
            if name not in adapters:
                adapter = style_adapter(self.extras.adapter_file(name), self.unet, self.device, self.dtype)
                encoder, processor = self._own_encoder or self.extras.image_encoder(name, self.device, self.dtype)
                adapter.check(encoder)
                made = IPAdapter(adapter, encoder, processor, self.family.style_blocks, new_number(), self.lock)
                self._loaded.as_loaded.add(made.revision)
                adapters[name] = made
            return adapters[name]

    @property
    def _own_encoder(self) -> tuple[Any, Any] | None:
        """The image encoder and processor of a loaded pipeline, if it has them."""
        pair = self.parts.image_encoder, self.parts.feature_extractor
        return None if None in pair else pair

    def noise(
        self, generators: Sequence[torch.Generator], width: int, height: int, dtype: torch.dtype | None = None
    ) -> Tensor:
        """(N, C, h, w) Gaussian latents, one from each CPU generator, drawn in the model's type or in another."""
        sides = height // self.vae_scale_factor, width // self.vae_scale_factor
        shape = (1, self.vae.config.latent_channels, *sides)
        drawn = [torch.randn(shape, generator=generator, dtype=dtype or self.dtype) for generator in generators]
        return torch.cat(drawn).to(self.device)

    def solver(
        self, sampler: str, spacing: str, steps: int, generators: list[torch.Generator], *, strength: float = 1.0
    ) -> Solver:
        """A fresh scheduler for `steps` steps by the recipe's name of it."""
        return Solver.of(sampler, spacing, self.parts.scheduler, steps, self.device, generators, strength=strength)

    def times(self, sampler: str, spacing: str, steps: int, *, strength: float = 1.0) -> list[float]:
        """The noise times of a run's evaluations, 1 for pure noise and 0 for none."""
        return self.solver(sampler, spacing, steps, [], strength=strength).times

    @property
    def encodes_in(self) -> torch.dtype:
        """The type that pictures are encoded in: float32 for SDXL's VAE, unless its `force_upcast` says otherwise."""
        upcast = self.family.upcast_vae and self.vae.config.get("force_upcast", True)
        return torch.float32 if upcast else self.vae.dtype

    @torch.no_grad()
    def encode(self, pixels: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Latents (N, C, h, w) of pictures (N, 3, H, W) in [-1, 1], drawn from the VAE's distribution of each."""
        with self.lock:
            own = self.vae if self.encodes_in == self.vae.dtype else vae.in_float32(self.vae)
            return vae.encode(own, pixels, generators).to(self.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of (N, C, h, w) latents, rounded as diffusers rounds them."""
        with self.lock:
            pixels = vae.decode(self.vae, latents)
        return vae.pictures(pixels)


@dataclass(frozen=True, eq=False)
class Loaded:
    """The networks a model has loaded so far, shared with its copies under LoRAs, and the lock they are used under.

    `as_loaded` holds the revisions that they had then.
    """

    controls: dict[str, ControlNet | T2IAdapter] = field(default_factory=dict)
    ip_adapters: dict[str | None, IPAdapter] = field(default_factory=dict)
    as_loaded: set[Hashable] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)
