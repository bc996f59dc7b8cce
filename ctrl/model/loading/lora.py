"""LoRAs (arXiv 2106.09685): second views of a U-Net and of text towers, with low-rank changes merged into the
weights they touch.

The base modules are never changed and share every other tensor with the views, so unloading is dropping the view,
and the base is what it was to the bit. Three ways of naming are read: diffusers' and PEFT's, kohya's after
diffusers' names, and kohya's after the original names, in which SDXL's are published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctrl.model.loading.files import guess_file_kind, read_tensors
from ctrl.model.loading.original_names import unet_name
from ctrl.model.loading.views import view

DOWN = (".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight", ".lora_down.weight", "_lora.down.weight",
        ".lora_linear_layer.down.weight")  # fmt: skip
UP = tuple(name.replace("lora_A", "lora_B").replace("down", "up") for name in DOWN)
REFUSED = (
    (("dora_scale", "lora_magnitude_vector"), "a DoRA"),
    (("hada_w1", "hada_t1"), "a LoHa"),
    (("lokr_w1", "lokr_w2"), "a LoKr"),
    (("lora_mid", "lora.mid"), "a LoRA with a Tucker core"),
    (("lora_B.bias", "lora_up.bias", "diff_b"), "a LoRA with biases"),
    ((".diff$",), "a full difference"),
    (("oft_", ".oft"), "an OFT"),
)
LARGEST = 1e6  # of an α
NOTED = ("use_rslora", "use_dora", "alpha_pattern", "rank_pattern", "lora_bias")
PEFT_LAYERS = (".lora_A.", ".lora_B.", ".lora_magnitude_vector.")  # beside the layer they change
TOWERS = (("text_encoder.", "lora_te_", "lora_te1_"), ("text_encoder_2.", "lora_te2_"))


@dataclass(frozen=True, eq=False)
class Change:
    """What a LoRA adds to one weight: `strength` · up · down; down is (r, in, …), up (out, r, …)."""

    base: str
    down: Tensor
    up: Tensor
    strength: float

    def delta(self, weight: Tensor) -> Tensor:
        """It, in float32 and in the weight's shape."""
        down, up = self.down.to(weight.device, torch.float32), self.up.to(weight.device, torch.float32)
        return (self.strength * (up.flatten(1) @ down.flatten(1))).view(weight.shape)


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA as its file has it: changes by the file's names, and the file's hash."""

    name: str
    sha256: str
    changes: tuple[Change, ...] = field(repr=False)


def read_lora(file: Path) -> Lora:
    """The LoRA in a safetensors file; what is none, or is a variant that cannot be merged so, raises a ValueError."""
    tensors, notes = read_tensors(file)
    for marks, variant in REFUSED:
        if any(mark in f"{key}$" for key in tensors for mark in marks):
            raise ValueError(f"{file.name} is {variant}, which ctrl does not merge; it merges plain LoRAs.")
    noted = _noted(file, notes)
    rest, changes = dict(tensors), []
    for key in tensors:
        ending = next((ending for ending in DOWN if key.endswith(ending)), None)
        if ending is None:
            continue
        base = key.removesuffix(ending)
        other = base + UP[DOWN.index(ending)]
        if other not in rest:
            raise ValueError(f"{file.name} is a damaged LoRA: it changes {base} by {key} and lacks {other}.")
        down, up = rest.pop(key), rest.pop(other)
        said = rest.pop(f"{base}.alpha", None)
        if said is not None and said.numel() != 1:
            raise ValueError(f"{file.name} is a damaged LoRA: {base}.alpha has the shape {tuple(said.shape)}.")
        alpha = float(said) if said is not None else noted.get(_component(base), float(len(down) if down.ndim else 0))
        changes.append(_change(file, base, down, up, alpha))
    if rest or not changes:
        raise ValueError(f"{file.name} is no LoRA that ctrl can read: {guess_file_kind(rest, not_a='LoRA')}.")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Lora(file.name, digest, tuple(changes))


def _change(file: Path, base: str, down: Tensor, up: Tensor, alpha: float) -> Change:
    odd = down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1] or any(side != 1 for side in up.shape[2:])
    if odd or not (down.numel() and up.numel() and down.is_floating_point() and up.is_floating_point()):
        raise ValueError(
            f"{file.name} is a damaged LoRA: {base} is changed by {tuple(up.shape)} times {tuple(down.shape)} "
            f"numbers of {up.dtype} and {down.dtype}."
        )
    down, up = down.clone(), up.clone()  # what was read is a view of the file, which may change
    strength = alpha / down.shape[0]
    if not (torch.isfinite(down).all() and torch.isfinite(up).all() and abs(strength) < LARGEST):
        raise ValueError(f"{file.name} has NaN or infinite numbers in its change of {base}: the file is damaged.")
    return Change(base, down, up, strength)


def _noted(file: Path, notes: Mapping[str, str]) -> dict[str, float]:
    """The α that PEFT notes in the header, by component."""
    try:
        said = json.loads(notes.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} has a header that is not JSON: {error}.") from error
    found = {}
    for key, value in said.items() if isinstance(said, dict) else ():
        part, _, what = key.partition(".")
        if what in NOTED and value:
            raise ValueError(f"{file.name} is a LoRA with {what}, which ctrl does not merge.")
        if what == "lora_alpha" and isinstance(value, int | float):
            if not abs(value) < LARGEST:
                raise ValueError(f"{file.name} is a damaged LoRA: its {key} is {value!r:.40}.")
            found[part] = float(value)
    return found


def _component(base: str) -> str:
    return "unet" if base.startswith("unet.") else base.partition(".")[0]


def merged(unet: Any, towers: Sequence[Any], loras: Sequence[tuple[Lora, float]]) -> tuple[Any, tuple[Any, ...]]:
    """Views of the U-Net and of the text encoders with these LoRAs, each at its weight, merged in.

    The order in which they are given is of no consequence; a weight of 0 is as not given. A module that nothing
    touches is itself in the answer. What changes a weight that these modules do not have raises a ValueError.
    """
    names = [_unet_names(unet), *(_tower_names(at, tower) for at, tower in enumerate(towers))]
    changes: list[dict[str, list[tuple[Change, float]]]] = [{} for _ in names]
    for lora, weight in sorted(loras, key=lambda pair: (pair[0].sha256, pair[1])):
        for change in lora.changes if weight else ():
            at, path = _target(lora, change, names)
            changes[at].setdefault(path, []).append((change, weight))
    parts = [unet, *towers]
    views = [_changed(part, own) if own else part for part, own in zip(parts, changes, strict=True)]
    return views[0], tuple(views[1:])


def _target(lora: Lora, change: Change, names: Sequence[Mapping[str, str]]) -> tuple[int, str]:
    """Which of the modules a change is for, and the path of the changed one in it."""
    for at, known in enumerate(names):
        if change.base in known:
            return at, known[change.base]
    raise ValueError(f"{lora.name} is no LoRA for this model: it changes {change.base}, which the model does not have.")


def _changed(module: Any, changes: Mapping[str, Sequence[tuple[Change, float]]]) -> Any:
    """A second module that shares every tensor with the first but those that are changed."""
    changed = view(module)
    for path, own in changes.items():
        layer = changed.get_submodule(path)
        merged = layer.weight.float()
        for change, weight in own:
            if change.up.shape[0] * change.down[0].numel() != layer.weight.numel():
                raise ValueError(
                    f"the LoRA's change of {change.base} is {tuple(change.up.shape)} times {tuple(change.down.shape)}, "
                    f"and the weight is {tuple(layer.weight.shape)}: it was made for another model."
                )
            merged = merged + weight * change.delta(layer.weight)
        layer.weight = nn.Parameter(merged.to(layer.weight.dtype), requires_grad=False)
    return changed


def _layers(module: Any) -> Iterator[tuple[str, str]]:
    """The layers that a LoRA can change, by where they are and what they are called.

    They differ under the LoRAs of a pipeline that was adopted: PEFT puts a layer of its own around each.
    """
    for path, layer in module.named_modules():
        inside = any(mark in f".{path}." for mark in PEFT_LAYERS)
        if isinstance(layer, nn.Linear | nn.Conv2d) and not inside:
            yield path, path.removesuffix(".base_layer")


def _unet_names(unet: Any) -> dict[str, str]:
    """Every name by which a LoRA may call a layer of this U-Net."""
    found: dict[str, str] = {}
    for path, name in _layers(unet):
        processor = name.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
        kohya = (name, unet_name(name, unet.config))
        names = [name, processor, *("lora_unet_" + one.replace(".", "_") for one in kohya)]
        found |= {start + one: path for one in names for start in ("", "unet.", "base_model.model.")}
    return found


def _tower_names(at: int, tower: Any) -> dict[str, str]:
    """Every name by which a LoRA may call a layer of this text tower."""
    found: dict[str, str] = {}
    dotted, *kohya = TOWERS[at]
    for path, name in _layers(tower):
        full = name if name.startswith("text_") else f"text_model.{name}"
        former = full.replace("self_attn.", "self_attn.to_").removesuffix("_proj")
        found |= {dotted + one: path for one in (name, full, former)}
        found |= {start + full.replace(".", "_"): path for start in kohya}
    return found
