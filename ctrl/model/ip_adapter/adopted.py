"""IP-Adapters from a published file, or from a pipeline of diffusers' that had loaded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ctrl.attention import Projections, sites
from ctrl.model.ip_adapter.adapter import BASE, FULL, PLUS, AdapterFormat, StyleAdapter, read_style_adapter
from ctrl.model.loading.families import LoadedAdapter

LAYOUTS = {  # by diffusers' module, and the parameter whose second axis is the width of what it reads
    "ImageProjection": (BASE, "image_embeds.weight"),
    "IPAdapterFullImageProjection": (FULL, "ff.net.0.proj.weight"),
    "IPAdapterPlusImageProjection": (PLUS, "proj_in.weight"),
}


def style_adapter(source: Path | LoadedAdapter, unet: Any, device: torch.device, dtype: torch.dtype) -> StyleAdapter:
    """The IP-Adapter in a file or of a pipeline; a ValueError says that it is none, or of another U-Net."""
    if isinstance(source, Path):
        return read_style_adapter(source, unet, device, dtype)
    layout, width = _format_of(source.name, source.projection)
    places = sites(unet)
    if {site.name for site in places} != source.projections.keys():
        raise ValueError(f"{source.name} does not act in every cross-attention layer of the U-Net; load it again.")
    projections = {
        site.name: Projections(*(weight.to(device, dtype) for weight in source.projections[site.name]))
        for site in places
    }
    return StyleAdapter(source.name, layout, width, source.projection, projections)


def _format_of(name: str, projection: nn.Module) -> tuple[AdapterFormat, int]:
    kind = type(projection).__name__
    if kind not in LAYOUTS:
        raise ValueError(f"{name} is a {kind}, such as FaceID has; ctrl reads the base, plus and full layouts.")
    layout, entry = LAYOUTS[kind]
    return layout, projection.get_parameter(entry).shape[1]
