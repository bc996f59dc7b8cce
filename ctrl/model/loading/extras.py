"""Optional parts of a model (ControlNets by kind, IP-Adapters and LoRAs by name) and where their files are.

In this order: given by the user, in the model's folder, published for its family. Nothing is fetched or read before a
recipe needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ctrl.model.loading.controlnets import controlnet
from ctrl.model.loading.families import ALIASES, Adapter, ControlNetSource, Family, LoadedAdapter
from ctrl.model.loading.files import module_files
from ctrl.model.loading.hub import Downloader, Hub, Snapshot, Source, source_of
from ctrl.model.loading.lora_file import CONFIG, DIFFUSERS, Lora, lora_files, read_lora
from ctrl.model.loading.pretrained import image_processor, image_tower
from ctrl.model.loading.t2i_adapters import T2IAdapter, is_t2i_adapter, t2i_adapter

BASE, LCM = "base", "lcm"  # what an adapter and a LoRA without a name are called
KIND = "controlnet_"
LETTERS = 64  # of a name, as in recipes
PROCESSOR = "preprocessor_config.json"
Given = str | Path | Hub
Readers = tuple[Source | None, Source | None]  # an image encoder, and what prepares its pictures


@dataclass(frozen=True, eq=False)
class Extras:
    """The extras of one model. `controls`, `styles` and `loras` say what there is; the methods bring it."""

    controlnets: Mapping[str, ControlNetSource] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    lora_sources: Mapping[str, Source] = field(default_factory=dict)
    downloader: Downloader = field(default_factory=Downloader)

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
        return tuple(self.lora_sources)

    def controlnet(self, kind: str, unet: Any) -> Any:
        """The ControlNet of this kind, for this U-Net; a ValueError says that there is none, or why it does not fit."""
        if kind not in self.controlnets:
            raise ValueError(self._lacks(f"ControlNet for {kind!r}", self.controls, "controlnets"))
        place = self._control_place(kind)
        if is_t2i_adapter(place):
            raise ValueError(f"the {kind} control is a T2I-Adapter, and a ControlNet is needed.")
        return controlnet(kind, place, unet, self.controlnets[kind].mode)

    def t2i_adapter(self, kind: str, unet: Any) -> T2IAdapter | None:
        """The T2I-Adapter that is given for this kind; None if a ControlNet is."""
        place = self._control_place(kind) if kind in self.controlnets else None
        return t2i_adapter(kind, place, unet) if place is not None and is_t2i_adapter(place) else None

    def _control_place(self, kind: str) -> Any:
        """The file or folder of a control, fetched if it must be, or its module."""
        place, name = self.controlnets[kind].place, f"controlnets[{kind!r}]"
        if isinstance(place, Hub):
            file = place.path.endswith(".safetensors")
            place = self.downloader.file(name, place) if file else self._module(name, place)
        return place

    def adapter_file(self, name: str | None = None) -> Path | LoadedAdapter:
        """The IP-Adapter of this name, or the first; one that a pipeline had loaded is no file."""
        file = self._adapter(name).file
        return file if isinstance(file, LoadedAdapter) else self.downloader.file("ip_adapter", file)

    def image_encoder(self, name: str | None, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
        """The CLIP image encoder that this IP-Adapter reads, and what prepares pictures for it."""
        adapter = self._adapter(name)
        if adapter.encoder is None:
            raise ValueError(
                "a style needs an image encoder, and there is none: put its folder, image_encoder, next to the "
                "IP-Adapter's file or into the model's folder."
            )
        encoder = image_tower(self._module("image_encoder", adapter.encoder), device, dtype)
        place, folder = adapter.processor, None
        if place is not None:
            folder = self.downloader.folder("feature_extractor", place, (PROCESSOR,), _processor).folder
        return encoder, image_processor(folder, encoder)

    def lora(self, name: str) -> Lora:
        """The LoRA of this name."""
        if name not in self.lora_sources:
            raise ValueError(self._lacks(f"LoRA {name!r}", self.loras, "lora"))
        source, called = self.lora_sources[name], f"lora[{name!r}]"
        inside = source.path if isinstance(source, Hub) else source.name
        if inside.endswith(".safetensors"):
            return read_lora(self.downloader.file(called, source))
        return read_lora(self.downloader.folder(called, source, (CONFIG, DIFFUSERS), lora_files).folder)

    def _adapter(self, name: str | None) -> Adapter:
        chosen = next(iter(self.adapters), "") if name is None else name
        if chosen not in self.adapters:
            what = "IP-Adapter" if name is None else f"IP-Adapter {name!r}"
            raise ValueError(self._lacks(what, self.styles, "ip_adapter"))
        return self.adapters[chosen]

    def _module(self, name: str, place: Source) -> Path:
        return self.downloader.folder(name, place, ("config.json",), module_files).folder

    def _lacks(self, what: str, names: tuple[str, ...], argument: str) -> str:
        have = f"it has {', '.join(names)}" if names else "it has none"
        return f"this model has no {what}; {have}: load(..., {argument}=...)."


def _processor(names: Sequence[str]) -> tuple[str, ...]:
    if PROCESSOR not in names:
        raise FileNotFoundError(f"it has no {PROCESSOR}")
    return (PROCESSOR,)


def extras_of(
    own: Extras,
    family: Family,
    downloader: Downloader,
    readers: Readers = (None, None),
    *,
    controlnets: Mapping[str, Given | ControlNetSource | Any] | None = None,
    ip_adapter: Given | Adapter | Mapping[str, Given | Adapter] | None = None,
    lora: Given | Mapping[str, Given] | None = None,
) -> Extras:
    """The extras of a model of this family: its `own`, the family's and those that the user gave.

    `controlnets` maps kinds to folders, .safetensors files, hub ids or ControlNetModels; `ip_adapter` and `lora` are
    .safetensors files, or map names to them, and `readers` the model's own image encoder for them. Nothing is opened;
    a path that does not exist raises a FileNotFoundError.
    """
    if not isinstance(controlnets, Mapping | None):
        got = type(controlnets).__name__
        raise TypeError(f"controlnets must map kinds to ControlNets, such as {{'pose': 'folder'}}, got {got}.")
    nets = {_kind(kind): _net(kind, net) for kind, net in (controlnets or {}).items()}
    loras = {name: _lora(f"lora[{name!r}]", value) for name, value in _named(lora, LCM).items()}
    others = {**family.adapters, **own.adapters}
    adapters = {
        name: _given_adapter(value, readers, others.get(name)) for name, value in _named(ip_adapter, BASE).items()
    }
    return Extras(
        {**family.controlnets, **own.controlnets, **nets},
        adapters | {name: value for name, value in others.items() if name not in adapters},
        {**family.loras, **own.lora_sources, **loras},
        downloader,
    )


def extras_in(snapshot: Snapshot) -> Extras:
    """The extras in a model's own folder, by the names of its files."""
    folders = dict.fromkeys(name.split("/")[0] for name in snapshot.names if "/" in name)
    kinds = [folder for folder in folders if folder.startswith(KIND)]
    files = [name for name in snapshot.names if name.endswith(".safetensors")]
    adapters = {_called(name, BASE, "ip_adapter"): name for name in files if name.startswith("ip_adapter/")}
    loras = {_called(name, LCM, "pytorch_lora_weights"): name for name in files if name.startswith("lora/")}
    return Extras(
        {kind.removeprefix(KIND).replace("_", " "): ControlNetSource(snapshot.inside(kind)) for kind in kinds},
        {name: Adapter(snapshot.inside(file), *readers_in(snapshot)) for name, file in adapters.items()},
        {name: snapshot.inside(file) for name, file in loras.items()},
    )


def readers_in(snapshot: Snapshot) -> Readers:
    """The folders of the image encoder and of what prepares its pictures, if a model has them."""
    folders = {name.split("/")[0] for name in snapshot.names}

    def inside(folder: str) -> Source | None:
        return snapshot.inside(folder) if folder in folders else None

    return inside("image_encoder"), inside("feature_extractor")


def _called(file: str, default: str, stem: str) -> str:
    """The name of an adapter or LoRA by its file's; a file by the usual `stem` is the default one."""
    called = file.rpartition("/")[2].removesuffix(".safetensors")
    return default if called == stem else called.replace("_", " ")


def _named(value: Any, default: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    named = value if isinstance(value, Mapping) else {default: value}
    for name in named:
        _check_name(name)
    return named


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= LETTERS:
        raise TypeError(
            f"names of ControlNets, IP-Adapters and LoRAs must be short strings, such as 'pose', got {name!r:.80}."
        )


def _kind(kind: str) -> str:
    _check_name(kind)
    if kind in ALIASES:
        raise ValueError(f"controlnets has the kind {kind!r}, which ctrl calls {ALIASES[kind]!r}.")
    return kind


def _net(kind: str, net: Any) -> ControlNetSource:
    if isinstance(net, ControlNetSource):
        return net
    return ControlNetSource(net if isinstance(net, torch.nn.Module) else source_of(f"controlnets[{kind!r}]", net))


def _file(name: str, value: Given) -> Source:
    place = source_of(name, value)
    if isinstance(place, Hub) and not place.path:
        raise FileNotFoundError(f"{name} must be a .safetensors file, like Hub({place.repo!r}, 'one.safetensors').")
    if isinstance(place, Path) and (not place.is_file() or place.suffix != ".safetensors"):
        raise FileNotFoundError(f"{name} must be a .safetensors file, and {str(value)!r} is none.")
    return place


def _lora(name: str, value: Given) -> Source:
    """A LoRA's file, or the folder that PEFT or diffusers wrote it to, on this disk or on the hub."""
    source = source_of(name, value)
    return source if isinstance(source, Hub) or source.is_dir() else _file(name, value)


def _given_adapter(value: Given | Adapter, readers: Readers, other: Adapter | None) -> Adapter:
    """A user's IP-Adapter; its encoder is next to its file, else the model's, else that of the `other` of its name."""
    if isinstance(value, Adapter):
        return value
    file = _file("ip_adapter", value)
    encoder, processor = readers
    if isinstance(file, Path) and (next_to_it := file.parent / "image_encoder").is_dir():
        encoder = next_to_it
    if encoder is None and other is not None:
        encoder, processor = other.encoder, other.processor
    return Adapter(file, encoder, processor)
