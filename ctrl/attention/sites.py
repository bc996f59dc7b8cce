"""Where attention happens in a U-Net or ControlNet, by names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from ctrl.attention.terms import Kind, Site


def sites(
    component: nn.Module, name: str = "unet", *, kind: Literal["cross", "self", "all"] = "cross"
) -> tuple[Site, ...]:
    """The attention modules of a U-Net or ControlNet of one kind or of both, in the order diffusers numbers them.

    Walking a large network takes milliseconds: keep the result.
    """
    all_sites = (
        Site(f"{name}.{path}", leaf, module, component.get_submodule(path.split(".transformer_blocks.")[0]))
        for path, leaf, module in _attentions(component)
        if leaf == "cross" or not getattr(module, "is_cross_attention", False)
    )
    return tuple(site for site in all_sites if kind in ("all", site.kind))


def _attentions(module: nn.Module, path: str = "") -> Iterator[tuple[str, Kind, nn.Module]]:
    """The modules attn1 and attn2: `named_modules` would take tens of milliseconds, at every step, for SDXL."""
    for name, child in module.named_children():
        if name in ("attn1", "attn2"):
            yield path + name, "cross" if name == "attn2" else "self", child
        else:
            yield from _attentions(child, f"{path}{name}.")
