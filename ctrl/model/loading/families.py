"""The families of models: what distinguishes them, and what is published for each.

Nothing is fetched before a recipe needs it. Every place holds safetensors; where a ControlNet's own repository
has only pickles, the place is a published file in the original layout.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ctrl.model.ip_adapter.blocks import SD_BLOCKS, SDXL_BLOCKS, StyleBlocks
from ctrl.model.loading.hub import Hub, Source

UNNAMED = "control"  # the kind of a network that does not say it
# What others call the kinds of control.
ALIASES = {"openpose": "pose", "canny": "edges", "lineart": "line art", "softedge": "soft edge", "seg": "segmentation"}
# The kinds by what the names of published ControlNets hold, the more particular first.
NAMED = (("openpose", "pose"), ("dwpose", "pose"), ("pose", "pose"), ("depth", "depth"), ("canny", "edges"),
         ("scribble", "scribble"), ("lineart", "line art"), ("softedge", "soft edge"), ("hed", "soft edge"),
         ("normal", "normal"), ("seg", "segmentation"), ("ade20k", "segmentation"), ("mlsd", "straight lines"),
         ("tile", "tile"), ("inpaint", "inpaint"), ("shuffle", "shuffle"), ("edges", "edges"),
         ("line_art", "line art"), ("soft_edge", "soft edge"), ("ip2p", "instruction"))  # fmt: skip
# The kinds of xinsir's union by their numbers; those from 6 on are of its "promax" edition.
UNION = {"pose": 0, "depth": 1, "soft edge": 2, "scribble": 2, "edges": 3, "line art": 3, "straight lines": 3,
         "normal": 4, "segmentation": 5, "tile": 6, "inpaint": 7}  # fmt: skip


@dataclass(frozen=True)
class ControlNetSource:
    """A ControlNet: where its files are, or the module; of one that serves many kinds, `mode` is this kind's number."""

    place: Source | Any
    mode: int | None = None


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An IP-Adapter that a pipeline had loaded: diffusers' projection, and (to_k, to_v) weights by attention site."""

    name: str
    projection: Any
    projections: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class IPAdapterFiles:
    """An IP-Adapter: its file, and the folders of the image encoder it reads and of what prepares its pictures."""

    file: Source | LoadedAdapter
    encoder: Source | None = None
    processor: Source | None = None


@dataclass(frozen=True)
class TextEncoderFormat:
    """A text encoder in a single file: where its names begin, whether they are open_clip's, and its padding token.

    The states of the layer `from_end` are read: 2 is the last but one, after which SD 2's files may hold another.
    """

    prefix: str
    open_clip: bool = False
    projects: bool = False
    from_end: int = 1
    pad: str | None = None


@dataclass(frozen=True)
class Family:
    """Models of one architecture, recognised by the U-Net's text width and the number of text encoders.

    - `key` names it in PNGs, records and tables; None for a family of which nothing is published. `latents` names the
      colours of its latents in `ctrl.live.preview`.
    - What no tensor of a single file shows: `size` in pixels and that of a v model, the `predictions` of its published
      models, the usual first, or by the `trained_steps` that a published file states, `scaling_factor`, `spacing`.
    - What diffusers' pipelines of the family do: an empty negative prompt is zeros (`zero_negative`), a float16 VAE
      decodes in float32 (`upcast_vae`), a schedule is repaired (`repairs_schedule`), a VAE's `latents_mean` and
      `latents_std` are read; the U-Net's `added` conditions.
    - What is published for it: ControlNets by kind, IP-Adapters and LoRAs by name, the blocks that a style's presets
      mean (`style_blocks`).
    """

    name: str
    key: str | None
    width: int
    text_encoders: tuple[TextEncoderFormat, ...]
    size: int = 512
    size_of_v: int = 768
    predictions: tuple[str, ...] = ("epsilon",)
    trained_steps: Mapping[int, str] = field(default_factory=dict)
    latents: str | None = None
    scaling_factor: float = 0.18215
    spacing: str | None = None
    zero_negative: bool = False
    upcast_vae: bool = False
    repairs_schedule: bool = True
    reads_latent_statistics: bool = False
    added: str | None = None
    controlnets: Mapping[str, ControlNetSource] = field(default_factory=dict)
    adapters: Mapping[str, IPAdapterFiles] = field(default_factory=dict)
    loras: Mapping[str, Source] = field(default_factory=dict)
    style_blocks: StyleBlocks | None = None


def family_of(unet: Any, text_encoders: int) -> Family:
    """The family of a U-Net with this many text encoders.

    One of another width has the ways of the family with as many text encoders, and nothing is published for it.
    """
    width = unet.config.cross_attention_dim
    alike = [family for family in FAMILIES if len(family.text_encoders) == text_encoders]
    published: dict[str, Any] = {"controlnets": {}, "adapters": {}, "loras": {}, "style_blocks": None}
    other = replace(alike[0], name="another family", key=None, latents=None, **published)
    return next((family for family in alike if family.width == width), other)


def kind_of(name: str) -> str | None:
    """The kind of control that the name of a file, a folder or a repository states, if it does."""
    last = name.replace("-", "_").lower().rstrip("/").rpartition("/")[2]
    return next((kind for part, kind in NAMED if part in last), None)


def union_modes(config: Mapping[str, Any]) -> dict[str, int]:
    """The kinds of a union ControlNet of this configuration by their numbers; none of one that serves one kind."""
    many = config.get("num_control_type") or 0
    return {kind: mode for kind, mode in UNION.items() if mode < many}


def control_kinds(config: Mapping[str, Any], taken: Collection[str]) -> dict[str, int | None]:
    """The kinds of control that a network of this configuration draws, each with its number in a union.

    One that serves one kind is named by where it was loaded from, "control" if that says nothing, and with a number
    where that name is taken.
    """
    if modes := union_modes(config):
        return dict(modes)
    return {numbered(kind_of(str(config.get("_name_or_path", ""))) or UNNAMED, taken): None}


def numbered(name: str, taken: Collection[str]) -> str:
    """The name, or with the first number that makes it another than those that are taken."""
    names = (name, *(f"{name} {number}" for number in range(2, 100)))
    return next(candidate for candidate in names if candidate not in taken)


def _nets(**places: ControlNetSource) -> Mapping[str, ControlNetSource]:
    return MappingProxyType({kind.replace("_", " "): net for kind, net in places.items()})


def _by_zhang(name: str) -> ControlNetSource:
    return ControlNetSource(Hub(f"lllyasviel/control_{name}"))


def _original(name: str) -> ControlNetSource:
    return ControlNetSource(Hub("comfyanonymous/ControlNet-v1-1_fp16_safetensors", f"control_{name}_fp16.safetensors"))


def _by_thibaud(name: str) -> ControlNetSource:
    return ControlNetSource(Hub("thibaud/controlnet-sd21", f"control_v11p_sd21_{name}.safetensors"))


def _union(mode: int) -> ControlNetSource:
    return ControlNetSource(Hub("xinsir/controlnet-union-sdxl-1.0"), mode)


def _tencent(file: str, encoder: str) -> IPAdapterFiles:
    return IPAdapterFiles(Hub("h94/IP-Adapter", f"{file}.safetensors"), Hub("h94/IP-Adapter", encoder))


SD1 = Family(
    "Stable Diffusion 1",
    "sd1",
    width=768,
    latents="sd1",
    text_encoders=(TextEncoderFormat("cond_stage_model.transformer."),),
    controlnets=_nets(
        pose=_by_zhang("v11p_sd15_openpose"),
        depth=_by_zhang("v11f1p_sd15_depth"),
        edges=_by_zhang("v11p_sd15_canny"),
        scribble=_by_zhang("v11p_sd15_scribble"),
        line_art=_by_zhang("v11p_sd15_lineart"),
        soft_edge=_by_zhang("v11p_sd15_softedge"),
        normal=_by_zhang("v11p_sd15_normalbae"),
        segmentation=_by_zhang("v11p_sd15_seg"),
        straight_lines=_by_zhang("v11p_sd15_mlsd"),
        tile=_original("v11f1e_sd15_tile"),
        inpaint=_original("v11p_sd15_inpaint"),
    ),
    adapters=MappingProxyType(
        {
            "base": _tencent("models/ip-adapter_sd15", "models/image_encoder"),
            "plus": _tencent("models/ip-adapter-plus_sd15", "models/image_encoder"),
            "plus face": _tencent("models/ip-adapter-plus-face_sd15", "models/image_encoder"),
            "full face": _tencent("models/ip-adapter-full-face_sd15", "models/image_encoder"),
            "light": _tencent("models/ip-adapter_sd15_light", "models/image_encoder"),
        }
    ),
    loras=MappingProxyType({"lcm": Hub("latent-consistency/lcm-lora-sdv1-5", "pytorch_lora_weights.safetensors")}),
    style_blocks=SD_BLOCKS,
)

SD2 = Family(
    "Stable Diffusion 2",
    "sd2",
    width=1024,
    text_encoders=(TextEncoderFormat("cond_stage_model.model.", open_clip=True, from_end=2, pad="!"),),
    predictions=("v", "epsilon"),  # the 768 px models, and the 512 px ones with SD-Turbo
    trained_steps=MappingProxyType({110_000: "v", 220_000: "epsilon", 875_000: "epsilon"}),  # 2.1, its base, 2.0's base
    latents="sd1",  # its VAE is SD 1's with another decoder
    controlnets=_nets(
        pose=_by_thibaud("openposev2"),
        depth=_by_thibaud("depth"),
        edges=_by_thibaud("canny"),
        scribble=_by_thibaud("scribble"),
        line_art=_by_thibaud("lineart"),
        soft_edge=_by_thibaud("hed"),
        normal=_by_thibaud("normalbae"),
        segmentation=_by_thibaud("ade20k"),
    ),
    style_blocks=SD_BLOCKS,
)

SDXL = Family(
    "Stable Diffusion XL",
    "sdxl",
    width=2048,
    latents="sdxl",
    text_encoders=(
        TextEncoderFormat("conditioner.embedders.0.transformer."),
        TextEncoderFormat("conditioner.embedders.1.model.", open_clip=True, projects=True, pad="!"),
    ),
    size=1024,
    size_of_v=1024,
    scaling_factor=0.13025,
    spacing="leading",
    zero_negative=True,
    upcast_vae=True,
    repairs_schedule=False,
    reads_latent_statistics=True,
    added="text_time",
    controlnets=_nets(
        pose=ControlNetSource(Hub("xinsir/controlnet-openpose-sdxl-1.0")),
        depth=ControlNetSource(Hub("diffusers/controlnet-depth-sdxl-1.0")),
        edges=ControlNetSource(Hub("diffusers/controlnet-canny-sdxl-1.0")),
        scribble=ControlNetSource(Hub("xinsir/controlnet-scribble-sdxl-1.0")),
        tile=ControlNetSource(Hub("xinsir/controlnet-tile-sdxl-1.0")),
        soft_edge=_union(2),
        line_art=_union(3),
        straight_lines=_union(3),
        normal=_union(4),
        segmentation=_union(5),
    ),
    adapters=MappingProxyType(
        {
            "base": _tencent("sdxl_models/ip-adapter_sdxl", "sdxl_models/image_encoder"),
            "base h": _tencent("sdxl_models/ip-adapter_sdxl_vit-h", "models/image_encoder"),
            "plus": _tencent("sdxl_models/ip-adapter-plus_sdxl_vit-h", "models/image_encoder"),
            "plus face": _tencent("sdxl_models/ip-adapter-plus-face_sdxl_vit-h", "models/image_encoder"),
        }
    ),
    loras=MappingProxyType({"lcm": Hub("latent-consistency/lcm-lora-sdxl", "pytorch_lora_weights.safetensors")}),
    style_blocks=SDXL_BLOCKS,
)

FAMILIES = (SD1, SD2, SDXL)  # where the tensors of two fit a single file, the later is meant
