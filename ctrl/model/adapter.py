"""IP-Adapters in the published format (arXiv 2308.06721): what turns an image embedding into terms of attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.attention import Projections, sites
from ctrl.model.files import read_tensors

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


def read_style_adapter(file: Path, unet: Any, device: torch.device, dtype: torch.dtype) -> StyleAdapter:
    """Layers are numbered 1, 3, 5… over the cross-attention modules, since diffusers counts attn1 too."""
    tensors, _ = read_tensors(file)
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
