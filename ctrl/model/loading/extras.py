"""Optional parts of a model, and where their files are: controls by kind, IP-Adapters and LoRAs by name.

A control is drawn by a ControlNet or by a T2I-Adapter, which are recognised by their files.

In this order: given by the user, in the model's folder, published for its family. Nothing is fetched or read before a
recipe needs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ctrl.caller import warn_caller
from ctrl.model.loading.controlnets import controlnet
from ctrl.model.loading.families import (
    ALIASES,
    UNNAMED,
    ControlNetSource,
    Family,
    IPAdapterFiles,
    LoadedAdapter,
    control_kinds,
)
from ctrl.model.loading.files import module_files, read_json
from ctrl.model.loading.hub import Downloader, Hub, Snapshot, Source, source_of
from ctrl.model.loading.lora_file import CONFIG, DIFFUSERS, Lora, lora_files, read_lora
from ctrl.model.loading.pretrained import image_processor, image_tower
from ctrl.model.loading.t2i_adapters import is_t2i_adapter, t2i_adapter
from ctrl.model.t2i_adapter import T2IAdapter

BASE, LCM = "base", "lcm"  # what an adapter and a LoRA without a name are called
KIND = "controlnet_"
SAVED = re.compile(r"(controlnet|adapter)(_\d+)?")  # the folders in which diffusers' pipelines save controls
CONTROLS = ("ControlNetModel", "ControlNetUnionModel", "T2IAdapter")
LETTERS = 64  # of a name, as in recipes
PROCESSOR = "preprocessor_config.json"
Given = str | Path | Hub
Readers = tuple[Source | None, Source | None]  # an image encoder, and what prepares its pictures


@dataclass(frozen=True, eq=False)
class Extras:
    """The extras of one model. `controls`, `styles` and `loras` say what there is; the methods bring it."""

    controlnets: Mapping[str, ControlNetSource] = field(default_factory=dict)
    adapters: Mapping[str, IPAdapterFiles] = field(default_factory=dict)
    lora_sources: Mapping[str, Source] = field(default_factory=dict)
    downloader: Downloader = field(default_factory=Downloader)

    @property
    def controls(self) -> tuple[str, ...]:
        """The kinds of control there is a ControlNet or a T2I-Adapter for."""
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
            raise ValueError(f"the {kind} control is a T2I-Adapter, and no ControlNet.")
        return controlnet(kind, place, unet, self.controlnets[kind].mode)

    def t2i_adapter(self, kind: str, unet: Any, vae_scale_factor: int = 8) -> T2IAdapter | None:
        """The T2I-Adapter of this kind, for this U-Net; None if there is none, or a ControlNet."""
        place = self._control_place(kind) if kind in self.controlnets else None
        if place is None or not is_t2i_adapter(place):
            return None
        return t2i_adapter(kind, place, unet, vae_scale_factor)

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

    def _adapter(self, name: str | None) -> IPAdapterFiles:
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
    ip_adapter: Given | IPAdapterFiles | Mapping[str, Given | IPAdapterFiles] | None = None,
    lora: Given | Mapping[str, Given] | None = None,
) -> Extras:
    """The extras of a model of this family: its `own`, the family's and those that the user gave.

    `controlnets` maps kinds to ControlNets and T2I-Adapters: folders, .safetensors files, hub ids or modules.
    `ip_adapter` and `lora` are .safetensors files, or map names to them, and `readers` the model's own image encoder
    for them. Nothing is opened; a path that does not exist raises a FileNotFoundError.
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
    nets = {
        folder.removeprefix(KIND).replace("_", " "): ControlNetSource(snapshot.inside(folder))
        for folder in folders
        if folder.startswith(KIND) and not SAVED.fullmatch(folder)
    }
    for folder in sorted(filter(SAVED.fullmatch, folders)):
        nets |= _saved_control(snapshot, folder, nets)
    files = [name for name in snapshot.names if name.endswith(".safetensors")]
    adapters = {_called(name, BASE, "ip_adapter"): name for name in files if name.startswith("ip_adapter/")}
    loras = {_called(name, LCM, "pytorch_lora_weights"): name for name in files if name.startswith("lora/")}
    return Extras(
        nets,
        {name: IPAdapterFiles(snapshot.inside(file), *readers_in(snapshot)) for name, file in adapters.items()},
        {name: snapshot.inside(file) for name, file in loras.items()},
    )


def _saved_control(snapshot: Snapshot, folder: str, taken: Mapping[str, ControlNetSource]) -> dict[str, Any]:
    """The kinds that a network draws which a pipeline of diffusers' saved; its folder's name does not say them."""
    file = snapshot.folder / folder / "config.json"
    config = read_json(file) if file.is_file() else {}
    if config.get("_class_name", CONTROLS[0]) not in CONTROLS or f"{folder}/config.json" not in snapshot.names:
        return {}
    kinds = control_kinds(config, taken)
    if unnamed := [kind for kind in kinds if kind.startswith(UNNAMED)]:
        warn_caller(
            f"the control network in {folder} does not say its kind; ctrl calls it {unnamed[0]!r}. To name it: "
            f"controlnets={{'pose': .../{folder}}}."
        )
    return {kind: ControlNetSource(snapshot.inside(folder), mode) for kind, mode in kinds.items() if kind not in taken}


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


def _given_adapter(value: Given | IPAdapterFiles, readers: Readers, other: IPAdapterFiles | None) -> IPAdapterFiles:
    """A user's IP-Adapter; its encoder is next to its file, else the model's, else that of the `other` of its name."""
    if isinstance(value, IPAdapterFiles):
        return value
    file = _file("ip_adapter", value)
    encoder, processor = readers
    if isinstance(file, Path) and (next_to_it := file.parent / "image_encoder").is_dir():
        encoder = next_to_it
    if encoder is None and other is not None:
        encoder, processor = other.encoder, other.processor
    return IPAdapterFiles(file, encoder, processor)
