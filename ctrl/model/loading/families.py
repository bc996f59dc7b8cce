"""The families of models, and what is published for each: ControlNets by kind, IP-Adapters and LoRAs by name.

Nothing here is fetched before a recipe needs it. Every place holds safetensors; where a ControlNet's own repository
has only pickles, the place is a published file in the original layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ctrl.model.loading.hub import Hub, Place


@dataclass(frozen=True)
class Net:
    """A ControlNet: where it lies, or the module; of one that serves many kinds, `mode` is this kind's number."""

    place: Place | Any
    mode: int | None = None


@dataclass(frozen=True)
class Adapter:
    """An IP-Adapter: its file, and the folders of the image encoder it reads and of what prepares its pictures."""

    file: Place
    encoder: Place | None = None
    processor: Place | None = None


@dataclass(frozen=True)
class Family:
    """Models of one architecture, told by the U-Net's text width and the number of towers; `key` is for presets."""

    name: str
    key: str | None
    width: int
    towers: int
    controlnets: Mapping[str, Net] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    loras: Mapping[str, Place] = field(default_factory=dict)


def family_of(unet: Any, towers: int) -> Family:
    """The family of a U-Net with this many text towers; OTHER if it is none of the known."""
    width = unet.config.cross_attention_dim
    return next((one for one in (SD1, SD2, SDXL) if (one.width, one.towers) == (width, towers)), OTHER)


def _nets(**places: Net) -> Mapping[str, Net]:
    return MappingProxyType({kind.replace("_", " "): net for kind, net in places.items()})


def _by_zhang(name: str) -> Net:
    return Net(Hub(f"lllyasviel/control_{name}"))


def _original(name: str) -> Net:
    return Net(Hub("comfyanonymous/ControlNet-v1-1_fp16_safetensors", f"control_{name}_fp16.safetensors"))


def _by_thibaud(name: str) -> Net:
    return Net(Hub("thibaud/controlnet-sd21", f"control_v11p_sd21_{name}.safetensors"))


def _union(mode: int) -> Net:
    return Net(Hub("xinsir/controlnet-union-sdxl-1.0"), mode)


def _tencent(file: str, encoder: str) -> Adapter:
    return Adapter(Hub("h94/IP-Adapter", f"{file}.safetensors"), Hub("h94/IP-Adapter", encoder))


SD1 = Family(
    "Stable Diffusion 1",
    "sd1",
    width=768,
    towers=1,
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
)

SD2 = Family(
    "Stable Diffusion 2",
    "sd2",
    width=1024,
    towers=1,
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
)

SDXL = Family(
    "Stable Diffusion XL",
    "sdxl",
    width=2048,
    towers=2,
    controlnets=_nets(
        pose=Net(Hub("xinsir/controlnet-openpose-sdxl-1.0")),
        depth=Net(Hub("diffusers/controlnet-depth-sdxl-1.0")),
        edges=Net(Hub("diffusers/controlnet-canny-sdxl-1.0")),
        scribble=Net(Hub("xinsir/controlnet-scribble-sdxl-1.0")),
        tile=Net(Hub("xinsir/controlnet-tile-sdxl-1.0")),
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
)

OTHER = Family("a model of another family", None, width=0, towers=0)
