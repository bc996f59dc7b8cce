"""LoRAs (arXiv 2106.09685): second views of a U-Net and of text encoders, with low-rank changes merged into the
weights they touch.

The base modules are never changed and share every other tensor with the views, so unloading is dropping the view,
and the base stays bit-equal. Layers are found by diffusers', PEFT's, ComfyUI's and kohya's names, by the
last's after diffusers' names and after the original ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from ctrl.caller import warn_caller
from ctrl.model.loading.changes import Change
from ctrl.model.loading.lora_file import Lora
from ctrl.model.loading.original_names import unet_name
from ctrl.model.loading.views import view

PEFT_LAYERS = (".lora_A.", ".lora_B.", ".lora_magnitude_vector.")  # next to the layer they change
DOTTED = ("", "unet.", "base_model.model.", "base_model.model.unet.", "diffusion_model.")
ORIGINAL = ("diffusion_model.", "model.diffusion_model.")
KOHYA = ("lora_unet_", "lycoris_unet_", "lycoris_")
TEXT_ENCODERS = (  # how the names of their layers begin: with dots, then with underscores
    (("text_encoder.", "text_encoders.clip_l.transformer.", "base_model.model.", ""), ("lora_te_", "lora_te1_")),
    (("text_encoder_2.", "text_encoders.clip_g.transformer."), ("lora_te2_",)),
)


def merged(
    unet: Any, encoders: Sequence[Any], loras: Sequence[tuple[Lora, float, float]]
) -> tuple[Any, tuple[Any, ...]]:
    """Views of the U-Net and of the text encoders with these LoRAs merged in, each at a weight for either.

    The order of the LoRAs does not matter, and one of weight 0 is left out. A module that no LoRA changes is returned
    as it is. A change of a weight that these modules do not have raises a ValueError; of text encoders that have only
    some of the changed layers (SD 2's files have one more) the others are left out with a warning.
    """
    names = [_unet_names(unet), *(_text_names(at, encoder) for at, encoder in enumerate(encoders))]
    changes: list[dict[str, list[tuple[Change, float]]]] = [{} for _ in names]
    for lora, weight, text in sorted(loras, key=lambda entry: (entry[0].sha256, *entry[1:])):
        for change, at, path in _targets(lora, names) if weight or text else ():
            if strength := (text if at else weight):
                changes[at].setdefault(path, []).append((change, strength))
    parts = [unet, *encoders]
    views = [_changed(part, merges) if merges else part for part, merges in zip(parts, changes, strict=True)]
    return views[0], tuple(views[1:])


def _targets(lora: Lora, names: Sequence[Mapping[str, str]]) -> list[tuple[Change, int, str]]:
    """Every change, with which of the modules it is for and the path of the changed layer in it."""
    targets, absent = [], []
    for change in lora.changes:
        at = next((at for at, known in enumerate(names) if change.base in known), None)
        if at is None:
            absent.append(change.base)
        else:
            targets.append((change, at, names[at][change.base]))
    starts = tuple(start for dotted, kohya in TEXT_ENCODERS for start in (*dotted, *kohya) if "te" in start)
    strange = [base for base in absent if not base.startswith(starts)]
    if strange or (absent and not any(at for _, at, _ in targets)):
        base = (strange or absent)[0]
        raise ValueError(f"{lora.name} is no LoRA for this model: it changes {base}, which the model does not have.")
    if absent:
        many = f"{len(absent)} layers, such as {absent[0]}"
        warn_caller(f"{lora.name} changes {many}, that this model's text encoders do not have.")
    return targets


def _changed(module: Any, changes: Mapping[str, Sequence[tuple[Change, float]]]) -> Any:
    """A second module that shares every tensor with the first but those that are changed."""
    changed = view(module)
    for path, merges in changes.items():
        layer = changed.get_submodule(path)
        merged = layer.weight.float()
        for change, weight in merges:
            merged = merged + weight * change.delta(layer.weight)
        layer.weight = nn.Parameter(merged.to(layer.weight.dtype), requires_grad=False)
    return changed


def _layers(module: Any) -> Iterator[tuple[str, str]]:
    """The layers that a LoRA can change, by where they are and what they are called.

    They differ in a pipeline with LoRAs: PEFT puts a layer of its own around each.
    """
    for path, layer in module.named_modules():
        inside = any(mark in f".{path}." for mark in PEFT_LAYERS)
        if isinstance(layer, nn.Linear | nn.Conv2d) and not inside:
            yield path, path.removesuffix(".base_layer")


def _unet_names(unet: Any) -> dict[str, str]:
    """Every name by which a LoRA may call a layer of this U-Net."""
    paths: dict[str, str] = {}
    for path, name in _layers(unet):
        original = unet_name(name, unet.config)
        processor = name.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
        spellings = [f"{start}{spelling}" for start in DOTTED for spelling in (name, processor)]
        spellings += [f"{start}{original}" for start in ORIGINAL]
        spellings += [start + spelling.replace(".", "_") for start in KOHYA for spelling in (name, original)]
        paths |= dict.fromkeys(spellings, path)
    return paths


def _text_names(at: int, encoder: Any) -> dict[str, str]:
    """Every name by which a LoRA may call a layer of this text encoder."""
    paths: dict[str, str] = {}
    dotted, kohya = TEXT_ENCODERS[at]
    for path, name in _layers(encoder):
        full = name if name.startswith("text_") else f"text_model.{name}"
        former = full.replace("self_attn.", "self_attn.to_").removesuffix("_proj")
        paths |= {start + spelling: path for start in dotted for spelling in (name, full, former)}
        paths |= {start + full.replace(".", "_"): path for start in kohya}
    return paths
