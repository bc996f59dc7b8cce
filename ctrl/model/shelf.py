"""What can be put on a model: ControlNets by kind, IP-Adapters and LoRAs by name, and where each lies.

First what the user gave, then what lies in the model's own folder, then what is published for its family. Nothing is
fetched or read before it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ctrl.model.controlnets import controlnet
from ctrl.model.families import OTHER, Adapter, Family, Net
from ctrl.model.files import module_files
from ctrl.model.hub import Courier, Found, Hub, Place, place_of
from ctrl.model.lora import Lora, read_lora
from ctrl.model.pretrained import image_processor, image_tower

BASE, LCM = "base", "lcm"  # what an adapter and a LoRA without a name are called
KIND = "controlnet_"
Given = str | Path | Hub
# What others call the kinds.
ALSO = {"openpose": "pose", "canny": "edges", "lineart": "line art", "softedge": "soft edge", "seg": "segmentation"}


@dataclass(frozen=True, eq=False)
class Shelf:
    """The extras of one model. `controls`, `styles` and `loras` say what there is; the methods bring it."""

    controlnets: Mapping[str, Net] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    lora_places: Mapping[str, Place] = field(default_factory=dict)
    family: Family = OTHER
    courier: Courier = field(default_factory=Courier)

    @property
    def controls(self) -> tuple[str, ...]:
        """The kinds of control there is a ControlNet for."""
        return tuple(self.controlnets)

    @property
    def styles(self) -> tuple[str, ...]:
        """The names of the IP-Adapters; the first is the one a style uses that names none."""
        return tuple(self.adapters)

    @property
    def loras(self) -> tuple[str, ...]:
        """The names of the LoRAs."""
        return tuple(self.lora_places)

    def controlnet(self, kind: str, unet: Any) -> Any:
        """The ControlNet of this kind, for this U-Net; a ValueError says that there is none, or why it does not fit."""
        if kind not in self.controlnets:
            raise ValueError(self._lacks(f"ControlNet for {kind!r}", self.controls, "controlnets"))
        net, name = self.controlnets[kind], f"controlnets[{kind!r}]"
        place = net.place
        if isinstance(place, Hub):
            file = place.path.endswith(".safetensors")
            place = self.courier.file(name, place) if file else self._module(name, place)
        return controlnet(kind, place, unet, net.mode)

    def adapter_file(self, name: str | None = None) -> Path:
        """The IP-Adapter of this name, or the first."""
        return self.courier.file("ip_adapter", self._adapter(name).file)

    def image_encoder(self, name: str | None, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
        """The CLIP image tower that this IP-Adapter reads, and what prepares pictures for it."""
        adapter = self._adapter(name)
        if adapter.encoder is None:
            raise ValueError(
                "a style needs an image encoder, and there is none: put its folder, image_encoder, beside the "
                "IP-Adapter's file or into the model's folder."
            )
        encoder = image_tower(self._module("image_encoder", adapter.encoder), device, dtype)
        place, folder = adapter.processor, None
        if place is not None:
            folder = self.courier.folder("feature_extractor", place, "preprocessor_config.json", _processor).folder
        return encoder, image_processor(folder, encoder)

    def lora(self, name: str) -> Lora:
        """The LoRA of this name."""
        if name not in self.lora_places:
            raise ValueError(self._lacks(f"LoRA {name!r}", self.loras, "lora"))
        return read_lora(self.courier.file(f"lora[{name!r}]", self.lora_places[name]))

    def _adapter(self, name: str | None) -> Adapter:
        chosen = next(iter(self.adapters), None) if name is None else name
        if chosen not in self.adapters:
            what = "IP-Adapter" if name is None else f"IP-Adapter {name!r}"
            raise ValueError(self._lacks(what, self.styles, "ip_adapter"))
        return self.adapters[chosen]

    def _module(self, name: str, place: Place) -> Path:
        return self.courier.folder(name, place, "config.json", module_files).folder

    def _lacks(self, what: str, there: tuple[str, ...], argument: str) -> str:
        have = f"it has {', '.join(there)}" if there else "it has none"
        return f"this model has no {what}; {have}: load(..., {argument}=...)."


def _processor(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name == "preprocessor_config.json")


def shelf_of(
    found: Found | None,
    family: Family,
    courier: Courier,
    *,
    controlnets: Mapping[str, Given | Net | Any] | None = None,
    ip_adapter: Given | Adapter | Mapping[str, Given | Adapter] | None = None,
    lora: Given | Mapping[str, Given] | None = None,
) -> Shelf:
    """The shelf of a model that lies in `found`, of this family, with what the user gave for it.

    `controlnets` maps kinds to folders, .safetensors files, hub ids or ControlNetModels; `ip_adapter` and `lora` are
    .safetensors files, or map names to them. Nothing is opened; a path that does not exist raises a FileNotFoundError.
    """
    inside = _Inside(found) if found else None
    nets = {_kind(kind): _net(kind, net) for kind, net in (controlnets or {}).items()}
    adapters = {name: _given_adapter(name, one, inside) for name, one in _named(ip_adapter, BASE).items()}
    loras = {name: _file(f"lora[{name!r}]", one) for name, one in _named(lora, LCM).items()}
    own = (inside.controlnets, inside.adapters, inside.loras) if inside else ({}, {}, {})
    return Shelf(
        {**family.controlnets, **own[0], **nets},
        {**adapters, **{name: one for name, one in {**family.adapters, **own[1]}.items() if name not in adapters}},
        {**family.loras, **own[2], **loras},
        family,
        courier,
    )


def _named(given: Any, default: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    return given if isinstance(given, Mapping) else {default: given}


def _kind(kind: str) -> str:
    if kind in ALSO:
        raise ValueError(f"controlnets has the kind {kind!r}, which is called {ALSO[kind]!r} here.")
    return kind


def _net(kind: str, given: Any) -> Net:
    if isinstance(given, Net):
        return given
    if isinstance(given, torch.nn.Module):
        return Net(given)
    return Net(place_of(f"controlnets[{kind!r}]", given))


def _file(name: str, given: Given) -> Place:
    place = place_of(name, given)
    if isinstance(place, Hub) and not place.path:
        raise FileNotFoundError(f"{name} must be a .safetensors file; of a hub repository, Hub({str(given)!r}, 'file').")
    if isinstance(place, Path) and (not place.is_file() or place.suffix != ".safetensors"):
        raise FileNotFoundError(f"{name} must be a .safetensors file, and {str(given)!r} is none.")
    return place


def _given_adapter(name: str, given: Given | Adapter, inside: _Inside | None) -> Adapter:
    if isinstance(given, Adapter):
        return given
    file = _file("ip_adapter", given)
    beside = file.parent / "image_encoder" if isinstance(file, Path) else None
    encoder, processor = (inside.encoder, inside.processor) if inside else (None, None)
    return Adapter(file, beside if beside is not None and beside.is_dir() else encoder, processor)


class _Inside:
    """What a model's own folder holds beside the model, by the names of its files."""

    def __init__(self, found: Found) -> None:
        folders = [name.split("/")[0] for name in found.names if "/" in name]
        kinds = dict.fromkeys(folder for folder in folders if folder.startswith(KIND))
        self.controlnets = {name.removeprefix(KIND).replace("_", " "): Net(found.inside(name)) for name in kinds}
        self.encoder = next((found.inside(name) for name in ("image_encoder",) if name in folders), None)
        self.processor = next((found.inside(name) for name in ("feature_extractor",) if name in folders), None)
        files = [name for name in found.names if name.endswith(".safetensors") and name.count("/") == 1]
        self.adapters = {
            BASE if name == "ip_adapter/ip_adapter.safetensors" else _stem(name): Adapter(
                found.inside(name), self.encoder, self.processor
            )
            for name in files
            if name.startswith("ip_adapter/")
        }
        self.loras = {
            LCM if name == "lora/pytorch_lora_weights.safetensors" else _stem(name): found.inside(name)
            for name in files
            if name.startswith("lora/")
        }


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".safetensors").replace("_", " ")
