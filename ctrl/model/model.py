"""The model: what diffusers' modules do, asked and answered in plain tensors.

R are the rows of the U-Net's batch, N the pictures made at once. The parts are never changed; what a recipe lays over
them is a view of its own.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ctrl.attention import Edit, Observer, Texts
from ctrl.images import Picture
from ctrl.model import calls, codec, text
from ctrl.model.calls import Residuals, Words
from ctrl.model.ip_adapter import blocks as named_blocks
from ctrl.model.ip_adapter.adopted import style_adapter
from ctrl.model.ip_adapter.encoder import Styling
from ctrl.model.ip_adapter.reference import StyleReference
from ctrl.model.loading.extras import Extras
from ctrl.model.loading.families import family_of
from ctrl.model.loading.lora import merged
from ctrl.model.parts import Parts
from ctrl.model.solver import Solver


class Model:
    """A latent diffusion model and what controls it; made by `load`.

    `size` is the (width, height) it was trained for in pixels and `factor` the pixels to a latent. `lock`
    is held while a part runs, so that threads take turns.
    """

    def __init__(self, parts: Parts, shelf: Extras, *, device: torch.device, dtype: torch.dtype) -> None:
        self.parts, self.shelf, self.device, self.dtype = parts, shelf, device, dtype
        self.lock = threading.RLock()
        self.unet, self.vae, self.towers = parts.unet, parts.vae, parts.towers
        self.family = family_of(parts.unet, len(parts.towers))
        self._nets: dict[str, Any] = {}
        self._adapters: dict[str | None, Styling] = {}
        self._laid: dict[tuple[tuple[str, float, float], ...], Model] = {}
        self._sizes: dict[tuple[int, ...], Tensor] = {}
        self._made_as = _lives(self.unet)
        if self.unet.config.time_cond_proj_dim is not None:
            raise ValueError("this U-Net takes its guidance as an input (a distilled LCM), which ctrl does not do.")

    def __repr__(self) -> str:
        width, height = self.size
        return f"Model({self.parts.name!r}, {width}×{height}, controls: {', '.join(self.controls) or 'none'})"

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
        return self.shelf.controls

    @property
    def has_style(self) -> bool:
        """Whether there is an IP-Adapter."""
        return bool(self.shelf.styles)

    @property
    def has_lora(self) -> bool:
        """Whether there is an LCM-LoRA."""
        return "lcm" in self.shelf.loras

    def under(self, loras: Sequence[tuple[str, float] | tuple[str, float, float]]) -> Model:
        """This model with LoRAs laid over it: a view that shares all they leave alone, itself without any.

        Each is its name, its weight, and the weight for the text encoders where that is another. The last view made is
        kept. What it is made from is never changed, so unloading is letting go.
        """
        wanted = tuple((name, weight, *(more or (weight,))) for name, weight, *more in loras)
        wanted = tuple(one for one in wanted if any(one[1:]))
        if not wanted:
            return self
        with self.lock:
            if wanted not in self._laid:
                read = [(self.shelf.lora(name), weight, text) for name, weight, text in wanted]
                view = copy.copy(self)
                view.unet, encoders = merged(self.unet, [tower.encoder for tower in self.towers], read)
                view.towers = tuple(
                    replace(tower, encoder=own) for tower, own in zip(self.towers, encoders, strict=True)
                )
                self._laid.clear()
                self._laid[wanted] = view
            return self._laid[wanted]

    @torch.no_grad()
    def encode_text(self, prompt: str) -> text.Text:
        """The prompt through the text towers, in as many chunks as it needs."""
        with self.lock:
            return text.encode(self.towers, prompt, self.device, self.dtype)

    def chunks(self, prompt: str) -> int:
        """How many chunks the prompt needs, without encoding it."""
        with self.lock:
            return text.chunks(self.towers, prompt)

    def negative(self, prompt: str, read: text.Text) -> text.Text:
        """A negative prompt as the model wants it: SDXL's empty one is zeros, and `clip_skip` is not for it."""
        with self.lock:
            zero = self.parts.zero_negative and not prompt
            return text.empty(read) if zero else text.unskipped(self.towers, prompt, read)

    def levelled(self, texts: Sequence[text.Text]) -> tuple[text.Text, ...]:
        """Texts of one length, as rows of one batch must be."""
        with self.lock:
            return text.levelled(self.towers, texts)

    def words(self, texts: Sequence[text.Text]) -> Words:
        """Texts of one length as rows."""
        return Words.of(texts)

    def noise(self, generators: Sequence[torch.Generator], width: int, height: int) -> Tensor:
        """(N, C, h, w) Gaussian latents, one from each CPU generator."""
        shape = (1, self.vae.config.latent_channels, height // self.factor, width // self.factor)
        drawn = [torch.randn(shape, generator=generator, dtype=self.dtype) for generator in generators]
        return torch.cat(drawn).to(self.device)

    def solver(
        self, sampler: str, spacing: str, steps: int, generators: list[torch.Generator], *, strength: float = 1.0
    ) -> Solver:
        """A fresh scheduler for `steps` steps by the recipe's name of it."""
        return Solver.of(sampler, spacing, self.parts.scheduler, steps, self.device, generators, strength=strength)

    def times(self, sampler: str, spacing: str, steps: int, *, strength: float = 1.0) -> list[float]:
        """The noise times of a run's evaluations, 1 for pure noise and 0 for none."""
        return self.solver(sampler, spacing, steps, [], strength=strength).times

    @torch.no_grad()
    def embed_hint(self, kind: str, hint: Tensor) -> Tensor:
        """What the ControlNet's first convolutions make of control pictures (R, 3, H, W) in [0, 1]."""
        with self.lock:
            found: Tensor = calls.hint_embedding(self.controlnet(kind))(hint)
            return found

    @torch.no_grad()
    def residuals(
        self,
        kind: str,
        sample: Tensor,
        t: Tensor,
        words: Words,
        embedded: Tensor,
        *,
        edits: Sequence[Edit] = (),
        texts: Texts | None = None,
    ) -> Residuals:
        """What the ControlNet of this kind adds; `embedded` is its control picture by `embed_hint`."""
        net = self.controlnet(kind)
        with self.lock, calls.tapped(net, kind, edits, (), texts):
            return calls.residuals(net, sample, t, words, self._added(words, sample), embedded)

    @torch.no_grad()
    def predict(
        self,
        sample: Tensor,
        t: Tensor,
        words: Words,
        *,
        residuals: Residuals | None = None,
        edits: Sequence[Edit] = (),
        observers: Sequence[Observer] = (),
        texts: Texts | None = None,
    ) -> Tensor:
        """The U-Net's prediction (R, C, h, w), of what the model was trained to predict.

        `edits` and `observers` are those of `ctrl.attention.tap`, for this call, and `texts` what the run keeps.
        A RuntimeError says so when the U-Net was moved or cast since the model was made.
        """
        if (now := _lives(self.unet)) != self._made_as:
            raise RuntimeError(
                f"the model was made with its U-Net in {self._made_as}, and now it is in {now}: "
                "make a model anew where it is wanted, by load(device=…, dtype=…)."
            )
        with self.lock, calls.tapped(self.unet, "unet", edits, observers, texts):
            return calls.prediction(self.unet, sample, t, words, self._added(words, sample), residuals)

    @torch.no_grad()
    def encode(self, pixels: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Latents (N, C, h, w) of pictures (N, 3, H, W) in [-1, 1], drawn from what the codec says of each."""
        with self.lock:
            return codec.encoded(self.vae, pixels, generators).to(self.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of (N, C, h, w) latents, rounded as diffusers rounds them."""
        with self.lock:
            pixels = codec.decoded(self.vae, latents)
        return codec.pictures(pixels)

    def controlnet(self, kind: str) -> Any:
        """The ControlNet of this kind, loaded on first use."""
        with self.lock:
            if kind not in self._nets:
                self._nets[kind] = self.shelf.controlnet(kind, self.unet)
            return self._nets[kind]

    def check_control(self, kind: str) -> None:
        """Refuse, by a ValueError, a kind of control that there is no ControlNet for, or one for other latents."""
        reads = 2 ** (len(calls.whole(self.controlnet(kind)).config.conditioning_embedding_out_channels) - 1)
        if reads != self.factor:
            raise ValueError(
                f"the {kind} ControlNet was made for another model: it reads {reads} pixels as one, and a latent "
                f"is {self.factor} here."
            )

    def residual_count(self, kind: str) -> int:
        """How many residuals the ControlNet of this kind adds, the middle's counted."""
        return len(calls.whole(self.controlnet(kind)).controlnet_down_blocks) + 1

    def embedded(self, pictures: tuple[Picture, ...], adapter: str | None) -> Tensor:
        """(n, *S): what an IP-Adapter reads of pictures that go through the image encoder together.

        Of no pictures, what stands for one that is not there, (1, *S).
        """
        styling = self._adapter(adapter)
        with self.lock:
            return styling.embedded(pictures)

    def style(
        self,
        cond: Tensor,
        uncond: Tensor,
        *,
        blocks: str | tuple[tuple[str, float], ...],
        combine: str,
        adapter: str | None,
        mask: Tensor | None,
    ) -> StyleReference:
        """One style for one run, of what is `embedded` of its pictures; see `StyleAdapter.reference`."""
        reader = self._adapter(adapter).adapter
        chosen = blocks if isinstance(blocks, str) else dict(blocks)
        weights = named_blocks.weights(chosen, reader.projections, self.family.key)
        return reader.reference(cond, uncond, blocks=weights, mask=mask, combine=combine)

    def what_style_sees(self, picture: Any, adapter: str | None = None) -> Image.Image:
        """The part of a reference picture that the image encoder is shown, as it is shown it."""
        return self._adapter(adapter).sees(Picture.of(picture))

    def style_notes(self, pictures: Sequence[Picture], adapter: str | None) -> list[str]:
        """What of these pictures the image encoder does not see."""
        return self._adapter(adapter).notes(pictures)

    def _adapter(self, name: str | None) -> Styling:
        """The IP-Adapter of this name, its image encoder and its processor, loaded on first use."""
        with self.lock:
            if name not in self._adapters:
                reader = style_adapter(self.shelf.adapter_file(name), self.unet, self.device, self.dtype)
                encoder, processor = self._own_encoder or self.shelf.image_encoder(name, self.device, self.dtype)
                reader.check(encoder)
                self._adapters[name] = Styling(reader, encoder, processor)
            return self._adapters[name]

    @property
    def _own_encoder(self) -> tuple[Any, Any] | None:
        """An adopted pipeline's own, if it has one."""
        own = self.parts.image_encoder, self.parts.feature_extractor
        return None if None in own else own

    def _added(self, words: Words, sample: Tensor) -> dict[str, Tensor] | None:
        """SDXL's further conditions: the pooled words, and sizes as if nothing was cropped."""
        if words.pooled is None:
            return None
        rows, _, *sides = sample.shape
        height, width = (side * self.factor for side in sides)
        if (rows, height, width) not in self._sizes:  # kept, since making it would wait for the device at every step
            ids = [[height, width, 0, 0, height, width]] * rows
            self._sizes[rows, height, width] = torch.tensor(ids, dtype=self.dtype, device=self.device)
        return {"text_embeds": words.pooled, "time_ids": self._sizes[rows, height, width]}


def _lives(unet: Any) -> str:
    """The type and the place of its numbers."""
    weight = unet.conv_in.weight
    return f"{weight.dtype} on {weight.device}"
