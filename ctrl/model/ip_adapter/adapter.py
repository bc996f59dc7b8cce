"""IP-Adapters in the published format (arXiv 2308.06721): reference pictures to terms of attention.

Three layouts are read, for any U-Net whose cross-attention they fit, SD 1.x, 2.x or SDXL: base (one linear
layer over the pooled embedding), plus (a perceiver resampler over hidden states) and full (a perceptron over
the same). The projections are diffusers' own modules; the U-Net is looked at and never touched.

In shapes, R are rows of the U-Net's batch, N pictures being made, n reference pictures of one style, t tokens
of one reference, D the text width; *S is the shape of the image encoder's embedding of one picture: (E,) for base,
(T, E) for plus and full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ctrl.attention import Projections, sites
from ctrl.model.loading.files import guess_file_kind, read_tensors

HEAD = 64  # channels of a head of every published resampler; no tensor's shape shows it


@dataclass(frozen=True)
class AdapterFormat:
    """A published form of `image_proj`: its input, and the file's names for diffusers' names.

    `mark` is the tensor that only this layout has, `entry` the one whose second axis is E, `reads` the field
    of the image encoder's output and `encoders` the CLIP encoders by their E.
    """

    name: str
    mark: str
    entry: str
    reads: str
    encoders: tuple[tuple[int, str], ...]
    renamed: tuple[tuple[str, str], ...]

    def published(self, name: str) -> str:
        """The file's name of a parameter of diffusers' module."""
        for ours, theirs in self.renamed:
            name = name.replace(ours, theirs)
        return f"image_proj.{name}"


_POOLED = ((768, "ViT-L/14"), (1024, "ViT-H/14"), (1280, "ViT-bigG/14"))
_HIDDEN = ((1024, "ViT-L/14"), (1280, "ViT-H/14"), (1664, "ViT-bigG/14"))
_RESAMPLER = (
    (".ln0.", ".0.norm1."),
    (".ln1.", ".0.norm2."),
    (".attn.to_q.", ".0.to_q."),
    (".attn.to_k.", ".0.to_kv."),  # the upper half
    (".attn.to_v.", ".0.to_kv."),  # the lower half
    (".attn.to_out.0.", ".0.to_out."),
    (".ff.0.", ".1.0."),
    (".ff.1.net.0.proj.", ".1.1."),
    (".ff.1.net.2.", ".1.3."),
)
_PERCEPTRON = (("ff.net.0.proj.", "proj.0."), ("ff.net.2.", "proj.2."), ("norm.", "proj.3."))
BASE = AdapterFormat("base", "proj.weight", "proj.weight", "image_embeds", _POOLED, (("image_embeds.", "proj."),))
FULL = AdapterFormat("full", "proj.3.weight", "proj.0.weight", "hidden_states", _HIDDEN, _PERCEPTRON)
PLUS = AdapterFormat("plus", "latents", "proj_in.weight", "hidden_states", _HIDDEN, _RESAMPLER)


@dataclass(frozen=True, eq=False)
class StyleAdapter:
    """An IP-Adapter: a projection from embeddings (width E) to tokens, and K/V weights at every site."""

    name: str
    layout: AdapterFormat
    width: int
    projection: nn.Module
    projections: Mapping[str, Projections]

    def check(self, image_encoder: Any) -> None:
        """Refuse, by a ValueError, an image encoder of another width than the adapter was trained on."""
        config = image_encoder.config
        got = config.projection_dim if self.layout is BASE else config.hidden_size
        if got != self.width:
            text_encoder = dict(self.layout.encoders).get(self.width)
            named = f" (CLIP {text_encoder})" if text_encoder else ""
            raise ValueError(
                f"{self.name} reads {self.layout.reads} of width {self.width}{named}, and this image encoder's are "
                f"of width {got}: use the image encoder it was published with."
            )

    @torch.no_grad()
    def embed(self, image_encoder: Any, pixels: Tensor) -> Tensor:
        """(n, *S): what the adapter reads of n pictures, (n, 3, s, s) as the encoder's processor made them."""
        self.check(image_encoder)
        pixels = pixels.to(image_encoder.device, image_encoder.dtype)
        if self.layout is BASE:
            return image_encoder(pixels).image_embeds
        return image_encoder(pixels, output_hidden_states=True).hidden_states[-2]

    def blank(self, image_encoder: Any, pixels: Tensor) -> Tensor:
        """(n, *S): what stands for no picture, as diffusers has it: zeros, or what a picture of zeros gives."""
        if self.layout is BASE:
            self.check(image_encoder)
            return torch.zeros(len(pixels), self.width, dtype=image_encoder.dtype, device=image_encoder.device)
        return self.embed(image_encoder, torch.zeros_like(pixels))

    @torch.no_grad()
    def tokens(self, embeds: Tensor) -> Tensor:
        """(R, n·t, D) tokens of the embeddings (R, n, *S), or (R, *S) where n is 1; side by side, in their order."""
        single = embeds.ndim - (1 if self.layout is BASE else 2)
        each = embeds.flatten(0, single - 1)  # (R·n, *S)
        weight = next(self.projection.parameters())
        tokens: Tensor = self.projection(each.to(weight.device, weight.dtype))  # (R·n, t, D)
        return tokens.reshape(embeds.shape[0], -1, tokens.shape[-1])


@dataclass(frozen=True, eq=False)
class Seen:
    """What an image encoder sees of a picture, and the `share` of the picture's area that this is, in (0, 1]."""

    image: Image.Image
    share: float


def seen(processor: Any, picture: Image.Image) -> Seen:
    """The picture as a CLIP image processor resizes and crops it, before it is normalised."""
    raw = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
    rgb = picture.convert("RGB")
    cropped = processor(rgb, **raw).pixel_values[0]  # (3, s, s)
    whole = processor(rgb, do_center_crop=False, **raw).pixel_values[0]  # (3, h, w)
    share = min(1.0, cropped[0].size / whole[0].size)
    return Seen(Image.fromarray(cropped.transpose(1, 2, 0).astype("uint8")), share)


def read_style_adapter(file: Path, unet: Any, device: torch.device, dtype: torch.dtype) -> StyleAdapter:
    """The IP-Adapter in a safetensors file, complete, finite and of the U-Net's shapes, or a ValueError.

    Layers are numbered 1, 3, 5… over the cross-attention modules, since diffusers counts attn1 too.
    """
    tensors, _ = read_tensors(file)
    layout = _format_of(file, tensors)
    places = sites(unet)
    blueprint = _blueprint(file, layout, tensors, unet.config.cross_attention_dim)
    wanted = _shapes(layout, blueprint)
    for number, place in enumerate(places):
        for letter in "kv":  # like the text's, (heads·d, D)
            text = place.module.get_parameter(f"to_{letter}.weight")
            wanted[f"ip_adapter.{2 * number + 1}.to_{letter}_ip.weight"] = tuple(text.shape)
    _check(file, tensors, wanted, unet.config.cross_attention_dim, len(places))
    # A copy, since what safetensors gives is a view of the file, which may change.
    read = {key: tensors[key].to(device, dtype, copy=True) for key in wanted}
    for key, tensor in read.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{file.name} has NaN or infinite numbers in {key} (read as {dtype}): it is damaged.")
    blueprint.load_state_dict(
        {name: _half(name, read[layout.published(name)]) for name in blueprint.state_dict()}, assign=True
    )
    projections = {
        place.name: Projections(*(read[f"ip_adapter.{2 * number + 1}.to_{x}_ip.weight"] for x in "kv"))
        for number, place in enumerate(places)
    }
    width = tensors[f"image_proj.{layout.entry}"].shape[1]
    projection = blueprint.eval().requires_grad_(requires_grad=False)
    return StyleAdapter(file.name, layout, width, projection, projections)


def _format_of(file: Path, tensors: Mapping[str, Tensor]) -> AdapterFormat:
    """Which of the layouts it is, recognised by the names, as diffusers does."""
    names = {key.removeprefix("image_proj.") for key in tensors if key.startswith("image_proj.")}
    faces = any(key.startswith("ip_adapter.") and "_lora." in key for key in tensors)
    if faces or "perceiver_resampler.proj_in.weight" in names or {"proj.0.weight", "norm.weight"} <= names:
        raise ValueError(
            f"{file.name} is a FaceID adapter, which needs a face recogniser; "
            "ctrl reads IP-Adapters of the base, plus and full layouts."
        )
    for layout in (BASE, FULL, PLUS):
        if layout.mark in names:
            return layout
    looks = guess_file_kind(tensors, not_a="IP-Adapter")
    raise ValueError(f"{file.name} is no IP-Adapter of the base, plus or full layout: {looks}.")


def _blueprint(file: Path, layout: AdapterFormat, tensors: Mapping[str, Tensor], text_width: int) -> nn.Module:
    """diffusers' module for `image_proj`, of the file's sizes and the U-Net's width, without memory."""
    from diffusers.models.embeddings import (
        ImageProjection,
        IPAdapterFullImageProjection,
        IPAdapterPlusImageProjection,
    )

    def side(name: str, axis: int) -> int:
        tensor = tensors.get(f"image_proj.{name}")
        if tensor is None or tensor.ndim <= axis:
            raise ValueError(f"{file.name} is a damaged IP-Adapter: image_proj.{name} is missing or has another shape.")
        return tensor.shape[axis]

    width = side(layout.entry, 1)
    with torch.device("meta"):
        if layout is BASE:
            return ImageProjection(width, text_width, max(1, side("proj.weight", 0) // text_width))
        if layout is FULL:
            return IPAdapterFullImageProjection(width, text_width)
        return IPAdapterPlusImageProjection(
            embed_dims=width,
            output_dims=text_width,
            hidden_dims=side("latents", 2),
            depth=len({key.split(".")[2] for key in tensors if key.startswith("image_proj.layers.")}),
            heads=max(1, side("layers.0.0.to_q.weight", 0) // HEAD),
            num_queries=side("latents", 1),
        )


def _shapes(layout: AdapterFormat, blueprint: nn.Module) -> dict[str, tuple[int, ...]]:
    """The tensors that the file must hold for this module."""
    shapes = {}
    for name, tensor in blueprint.state_dict().items():
        key = layout.published(name)
        first, *rest = tensor.shape
        shapes[key] = (2 * first if ".to_kv." in key else first, *rest)
    return shapes


def _half(name: str, tensor: Tensor) -> Tensor:
    """A published `to_kv` holds the keys' weights above the values'; every other tensor is taken whole."""
    if ".attn.to_k." in name:
        return tensor.chunk(2)[0]
    if ".attn.to_v." in name:
        return tensor.chunk(2)[1]
    return tensor


def _check(
    file: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], text_width: int, layers: int
) -> None:
    first = tensors.get("ip_adapter.1.to_k_ip.weight")
    if first is not None and first.ndim == 2 and first.shape[1] != text_width:
        raise ValueError(f"{file.name} was made for a text width of {first.shape[1]}; this model has {text_width}.")
    odd = sorted(wanted.keys() ^ tensors.keys())
    if odd:
        raise ValueError(
            f"{file.name} is no IP-Adapter for this model's {layers} cross-attention layers; "
            f"missing or too many tensors: {len(odd)}, such as {odd[0]}."
        )
    for key, shape in wanted.items():
        tensor = tensors[key]
        if tuple(tensor.shape) != shape or not tensor.numel() or not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(
                f"{file.name} does not fit this model: {key} is {kind} of shape {tuple(tensor.shape)}, "
                f"and floating-point numbers of shape {shape} are needed."
            )
