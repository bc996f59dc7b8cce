"""Modules of diffusers and transformers from a folder: complete, finite, safetensors only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ctrl.model.files import read_json


def pretrained(kind: Any, folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """A module from config.json and safetensors, complete, finite and without gradients."""
    read_json(folder / "config.json")
    for index in folder.glob("*.safetensors.index.json"):
        shards = read_json(index).get("weight_map", {}).values()
        if any(Path(str(shard)).name != shard for shard in shards):
            raise ValueError(f"{folder.name}/{index.name} names shards outside its folder; it is not to be trusted.")
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder.name!r} has no .safetensors file; pickled weights are not read: convert.")
    try:
        with _quiet():
            module, found = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=dtype
            )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"the weights in {folder.name!r} cannot be read: {error.__cause__ or error}") from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(f"{folder.name!r} lacks {len(missing)} tensors, such as {missing[0]}: it is incomplete.")
    for name, tensor in module.named_parameters():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{folder.name!r} has NaN or infinite numbers in {name}: the file is damaged.")
    return module.to(device).eval().requires_grad_(requires_grad=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar, which would print one for each part."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)


def scheduler_config(folder: Path) -> dict[str, Any]:
    """The noise schedule, with the two repairs of old configurations that diffusers' pipelines make."""
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    config["steps_offset"] = 1
    if config.get("clip_sample"):
        config["clip_sample"] = False
    return config
