"""Where in a U-Net a style acts: presets and names of blocks, to a weight for every cross-attention site.

A name is a module's path in the U-Net, whole or its beginning: "down_blocks.1", "up_blocks.0.attentions.1",
"mid_block". A site is "unet.", such a path, and "…attn2", as `ctrl.attention.sites` names it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real

PRESETS = (
    "all",
    "style",
    "layout",
    "style+layout",
    "style (comfyui)",
    "layout (comfyui)",
    "style+layout (comfyui)",
)


@dataclass(frozen=True)
class StyleBlocks:
    """Where "style" and "layout" act in the U-Nets of one family: weights by block, as two schools published them."""

    instant_style: Mapping[str, float]
    instant_layout: Mapping[str, float]
    comfyui_style: Mapping[str, float]
    comfyui_layout: Mapping[str, float]


# SD 1.x by InstantStyle's infer_style_sd15.py and InvokeAI; by ComfyUI_IPAdapter_plus and sd-webui-controlnet: of
# their 16 indices (down 0-5, mid 6, up 7-15), style is 0-3 and 9-15, layout a quarter of 4 and the whole of 5.
SD_BLOCKS = StyleBlocks(
    instant_style={"up_blocks.1": 1.0},
    instant_layout={"down_blocks.2": 1.0, "mid_block": 1.0},
    comfyui_style={
        "down_blocks.0": 1.0,
        "down_blocks.1": 1.0,
        "up_blocks.1.attentions.2": 1.0,
        "up_blocks.2": 1.0,
        "up_blocks.3": 1.0,
    },
    comfyui_layout={"down_blocks.2.attentions.0": 0.25, "down_blocks.2.attentions.1": 1.0},
)

# SDXL, where all agree: InstantStyle (arXiv 2404.02733), diffusers, ComfyUI_IPAdapter_plus, InvokeAI.
_XL_STYLE, _XL_LAYOUT = {"up_blocks.0.attentions.1": 1.0}, {"down_blocks.2.attentions.1": 1.0}
SDXL_BLOCKS = StyleBlocks(_XL_STYLE, _XL_LAYOUT, _XL_STYLE, _XL_LAYOUT)


def weights(blocks: str | Mapping[str, float], sites: Iterable[str], published: StyleBlocks | None) -> dict[str, float]:
    """The weight of every site; `published` is of the U-Net's family, None where there is nothing.

    A mapping gives a site the weight of the most specific of its names, and 0 without one. Of the presets,
    "style", "layout" and both are InstantStyle's for Stable Diffusion; with "(comfyui)" they are the other
    published school of SD 1.x, which is the same for SDXL. Any other U-Net has a rule: layout is the deepest
    down block with cross-attention and the middle, style all but the deepest level. Raises a ValueError or
    TypeError in one sentence for a name that fits no site.
    """
    names = tuple(sites)
    chosen = _preset(blocks, names, published) if isinstance(blocks, str) else _checked(blocks)
    known = {name for site in names for name in _names(site)}
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1, 0.0)
            hint = f"; the nearest name is {near[0]!r}" if near else ""
            raise ValueError(f"blocks names {name!r}, where this U-Net has no cross-attention{hint}.")
    by_site = {}
    for site in names:
        named = [name for name in _names(site) if name in chosen]  # from the whole to the part
        by_site[site] = chosen[named[-1]] if named else 0.0
    return by_site


def _names(site: str) -> list[str]:
    """Every name of a block that holds the site, from the widest to the site's own."""
    parts = site.split(".")[1:]
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _checked(blocks: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(blocks, Mapping):
        raise TypeError(f"blocks must be one of {', '.join(PRESETS)}, or names with weights, got {blocks!r}.")
    if not blocks:
        raise ValueError("blocks names no block, so the style would act nowhere; name one or leave 'all'.")
    for name, weight in blocks.items():
        if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
            raise ValueError(f"blocks gives {name!r} the weight {weight!r}; a finite number is needed.")
    return {name: float(weight) for name, weight in blocks.items()}


def _preset(name: str, sites: tuple[str, ...], published: StyleBlocks | None) -> dict[str, float]:
    if name not in PRESETS:
        raise ValueError(f"blocks must be one of {', '.join(PRESETS)}, or names with weights, got {name!r}.")
    if name == "all":
        return {part: 1.0 for part in {_names(site)[0] for site in sites}}
    goals, school, _ = name.partition(" (")
    if published is None:
        if school:
            raise ValueError(f"blocks {name!r} is defined for Stable Diffusion only; for this U-Net say {goals!r}.")
        style, layout = _by_depth(sites)
    elif school:
        style, layout = published.comfyui_style, published.comfyui_layout
    else:
        style, layout = published.instant_style, published.instant_layout
    parts = {"style": style, "layout": layout, "style+layout": {**style, **layout}}
    return dict(parts[goals])


def _by_depth(sites: tuple[str, ...]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """The second school's rule of thumb, since InstantStyle's carries next to no style in the atelier model."""
    blocks = dict.fromkeys(".".join(site.split(".")[1:3]) for site in sites)  # down_blocks.0, …
    down, up = (
        sorted((name for name in blocks if name.startswith(side)), key=lambda name: int(name.split(".")[1]))
        for side in ("down_blocks", "up_blocks")
    )
    if len(down) < 2 or len(up) < 2:
        raise ValueError("blocks 'style' and 'layout' need cross-attention at two levels or more; name blocks instead.")
    layout = dict.fromkeys([down[-1], *(name for name in blocks if name.startswith("mid_block"))], 1.0)
    return dict.fromkeys([*down[:-1], *up[1:]], 1.0), layout
