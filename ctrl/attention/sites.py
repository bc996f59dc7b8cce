"""Where attention happens in a U-Net or ControlNet, by names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import nn

from ctrl.attention.terms import Site


def sites(component: nn.Module, name: str = "unet", *, kind: Literal["cross", "self"] = "cross") -> tuple[Site, ...]:
    """The attention modules of a U-Net or ControlNet of one kind, in the order diffusers numbers them."""
    leaf = "attn2" if kind == "cross" else "attn1"
    return tuple(
        Site(f"{name}.{path}", module, component.get_submodule(path.split(".transformer_blocks.")[0]))
        for path, module in _attentions(component)
        if path.rpartition(".")[2] == leaf and (kind == "cross" or not getattr(module, "is_cross_attention", False))
    )


def check_blocks(component: nn.Module, blocks: Sequence[str], name: str = "unet") -> None:
    """Refuse, by a ValueError, blocks without self-attention, which a `SelfEdit` could not act in."""
    if blocks:
        within_blocks(sites(component, name, kind="self"), name, blocks)


def within_blocks(places: Sequence[Site], name: str, blocks: Sequence[str]) -> dict[str, list[Site]]:
    """The sites in each of these blocks."""
    found_in = {
        block: [site for site in places if f"{site.name}.".startswith(f"{name}.{block}.")]
        for block in dict.fromkeys(blocks)
    }
    for block, found in found_in.items():
        if not found:
            have = ", ".join(dict.fromkeys(site.name.split(".attentions.")[0][len(name) + 1 :] for site in places))
            raise ValueError(f"blocks: {block!r} has no self-attention in {name}; there is {have or 'none'}.")
    return found_in


def _attentions(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules attn1 and attn2: `named_modules` would take tens of milliseconds, at every step, for SDXL."""
    for name, child in module.named_children():
        if name in ("attn1", "attn2"):
            yield path + name, child
        else:
            yield from _attentions(child, f"{path}{name}.")
