"""LoRA files by every published spelling: PEFT's with its adapter_config.json, diffusers', kohya's and LyCORIS'."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctrl.caller import warn_caller
from ctrl.model.loading.changes import DIFFERENCE, HADAMARD, KRONECKER, Change, missing, rank
from ctrl.model.loading.files import guess_file_kind, read_json, read_tensors

CONFIG, WEIGHTS, DIFFUSERS = "adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors"
ENDINGS = {
    "down": (".lora_A.weight", ".lora.down.weight", ".lora_down.weight",
             "_lora.down.weight", ".lora_linear_layer.down.weight"),
    "up": (".lora_B.weight", ".lora.up.weight", ".lora_up.weight", "_lora.up.weight",
           ".lora_linear_layer.up.weight"),
    "mid": (".lora_mid.weight",),
    "magnitude": (".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
    "alpha": (".alpha",),
    **{name: (f".{name}",) for name in (*HADAMARD, *KRONECKER, *DIFFERENCE, "dora_scale")},
}  # fmt: skip
ADAPTER = re.compile(r"(\.lora_(?:A|B|magnitude_vector))\.(?!(?:weight|bias)$)([\w-]+)(?=\.(?:weight|bias)$|$)")
REFUSED = (
    (("lora_B.bias", "lora_up.bias", ".diff_b$", ".b_norm$"), "a LoRA with biases"),
    (("oft_", ".oft"), "an OFT"),
    ((".w_norm$",), "a LoRA of norms"),
    ((".on_input$",), "an (IA)³"),
)
LARGEST = 1e6  # of an α
PEFT = ("LORA", "LOHA", "LOKR")
UNSUPPORTED = ("lora_bias", "fan_in_fan_out", "modules_to_save", "use_qalora", "trainable_token_indices")


@dataclass(frozen=True)
class Settings:
    """PEFT's settings of a component's LoRA: α and the rank, for all layers and for some by the end of their names."""

    alpha: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    rank: int | None = None
    ranks: Mapping[str, float] = field(default_factory=dict)
    root: bool = False

    def strength(self, layer: str, own_rank: int) -> float:
        """α / r, or α / √r of a rank-stabilised one (arXiv 2312.03732)."""
        size = own_rank or _for_layer(self.ranks, layer) or self.rank or 1
        alpha = _for_layer(self.alphas, layer)
        alpha = self.alpha if alpha is None else alpha
        return 1.0 if alpha is None else alpha / (size**0.5 if self.root else size)


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA as its file has it: changes by the file's names, and the file's hash."""

    name: str
    sha256: str
    changes: tuple[Change, ...] = field(repr=False)


def lora_files(names: Sequence[str]) -> tuple[str, ...]:
    """Those of a folder's files that a LoRA is read from: PEFT's own, diffusers' file, or the only one."""
    if {CONFIG, WEIGHTS} <= {*names}:
        return (CONFIG, WEIGHTS)
    files = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    chosen = [DIFFUSERS] if DIFFUSERS in files else files
    if len(chosen) != 1:
        raise FileNotFoundError(f"it has no {CONFIG} with {WEIGHTS}, and {len(files)} .safetensors files, not one")
    return (chosen[0],)


def read_lora(place: Path) -> Lora:
    """The LoRA in a safetensors file or in a folder; what is none, or cannot be merged, raises a ValueError."""
    file = place
    if place.is_dir():
        file = place / lora_files([path.name for path in place.iterdir() if path.is_file()])[-1]
    read, notes = read_tensors(file)
    name = file.name if file is place else place.name
    tensors = _unnamed(name, read)
    for marks, variant in REFUSED:
        if any(mark in f"{key}$" for key in tensors for mark in marks):
            raise ValueError(f"{name} is {variant}, which ctrl does not merge.")
    settings = _settings(name, file, notes)
    layers, rest = _layers(name, tensors)
    changes = [_change(name, base, parts, settings) for base, parts in layers.items()]
    if not changes:
        raise ValueError(f"{name} is no LoRA that ctrl can read: {guess_file_kind(rest, not_a='a LoRA')}.")
    if rest:
        warn_caller(f"{name} has {len(rest)} tensors that are no part of a LoRA, such as {rest[0]}.")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Lora(name, digest, tuple(changes))


def _unnamed(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the name that PEFT gave the adapter: `to_q.lora_A.toy.weight` is `to_q.lora_A.weight`."""
    adapters = {match[2] for key in tensors if (match := ADAPTER.search(key))}
    if len(adapters) > 1:
        raise ValueError(
            f"{name} holds {len(adapters)} LoRAs, {', '.join(sorted(adapters)):.200}; save each on its own."
        )
    return {ADAPTER.sub(r"\1", key): tensor for key, tensor in tensors.items()}


def _layers(name: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The parts of every layer's change by the layer's name, and the names of what is no part of any."""
    layers: dict[str, dict[str, Tensor]] = {}
    rest, spelt = [], dict[str, int]()
    for key, tensor in tensors.items():
        matches = [(part, end) for part, ends in ENDINGS.items() for end in ends if key.endswith(end)]
        if not matches:
            rest.append(key)
            continue
        part, end = max(matches, key=lambda pair: len(pair[1]))
        spelt[key.removesuffix(end)] = ENDINGS[part].index(end)
        layers.setdefault(key.removesuffix(end), {})[part] = tensor
    for base, parts in [*layers.items()]:
        if parts.keys() <= {"alpha", "dora_scale", "magnitude"}:
            rest += [base]
            del layers[base]
        elif (lacks := missing(parts)) is not None:
            ends = ENDINGS[lacks]
            wanted = f"{base}{ends[min(spelt[base], len(ends) - 1)]}"
            raise ValueError(f"{name} is a damaged LoRA: it changes {base} and lacks {wanted}.")
    return layers, rest


def _change(name: str, base: str, parts: dict[str, Tensor], settings: Mapping[str, Settings]) -> Change:
    alpha = parts.pop("alpha", None)
    if alpha is not None and alpha.numel() != 1:
        raise ValueError(f"{name} is a damaged LoRA: {base}.alpha has the shape {tuple(alpha.shape)}.")
    down, up = parts.get("down"), parts.get("up")
    odd = any(not part.numel() or not part.is_floating_point() for part in parts.values())
    if down is not None and up is not None:
        odd |= down.ndim < 2 or up.ndim < 2 or any(side != 1 for side in up.shape[2:])
        odd = odd or ("mid" not in parts and down.shape[0] != up.shape[1])
    if odd:
        shapes = " times ".join(f"{tuple(part.shape)}" for part in parts.values())
        kinds = " and ".join(str(part.dtype) for part in parts.values())
        raise ValueError(f"{name} is a damaged LoRA: {base} is changed by {shapes} numbers of {kinds}.")
    peft = next((of_component for start, of_component in settings.items() if base.startswith(start)), None)
    size = rank(parts)
    if alpha is not None:
        strength = float(alpha) / size if size else 1.0
    else:
        strength = 1.0 if peft is None else peft.strength(base, size)
    kept = {part: tensor.clone() for part, tensor in parts.items()}  # what was read is a view of the file
    if not (all(torch.isfinite(tensor.float()).all() for tensor in kept.values()) and abs(strength) < LARGEST):
        raise ValueError(f"{name} has NaN or infinite numbers in its change of {base}: the file is damaged.")
    return Change(base, kept, strength)


def _settings(name: str, file: Path, notes: Mapping[str, str]) -> dict[str, Settings]:
    """PEFT's settings by how the names of a component's layers begin: of a folder, or of diffusers' header."""
    if (file.parent / CONFIG).is_file() and file.name == WEIGHTS:
        return {"": _read_settings(name, read_json(file.parent / CONFIG))}
    try:
        metadata = json.loads(notes.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} has a header that is not JSON: {error}.") from error
    components: dict[str, dict[str, Any]] = {}
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        part, _, what = key.partition(".")
        components.setdefault(f"{part}.", {})[what] = value
    return {start: _read_settings(name, held) for start, held in components.items()}


def _read_settings(name: str, config: Mapping[str, Any]) -> Settings:
    kind = config.get("peft_type", "LORA")
    if kind not in PEFT:
        raise ValueError(f"{name} is a {kind!r:.40} of PEFT's, which ctrl does not merge; it merges {', '.join(PEFT)}.")
    odd = [what for what in UNSUPPORTED if config.get(what)]
    if odd or config.get("bias", "none") != "none":
        raise ValueError(f"{name} is a LoRA with {odd[0] if odd else 'bias'}, which ctrl does not merge.")
    alpha = _number(name, "lora_alpha", config.get("lora_alpha", config.get("alpha")))
    size = _number(name, "r", config.get("r"))
    patterns = {what: _pattern(name, what, config.get(what)) for what in ("alpha_pattern", "rank_pattern")}
    root = bool(config.get("use_rslora"))
    return Settings(alpha, patterns["alpha_pattern"], int(size) if size else None, patterns["rank_pattern"], root)


def _pattern(name: str, what: str, pattern: Any) -> dict[str, float]:
    held = pattern or {}
    if not isinstance(held, dict) or any(set(key) & set("*+?()[]{}|\\$") for key in held):
        raise ValueError(f"{name} has an {what} that is no layers' names: {str(pattern)!r:.80}.")
    return {key.removeprefix("^"): _number(name, what, value) or 0.0 for key, value in held.items()}


def _number(name: str, what: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ValueError(f"{name} is a damaged LoRA: its {what} is {value!r:.40}.")
    return float(value)


def _for_layer(pattern: Mapping[str, float], layer: str) -> float | None:
    ends: Iterable[str] = (key for key in pattern if layer == key or layer.endswith(f".{key}"))
    key = next(iter(ends), None)
    return None if key is None else pattern[key]
