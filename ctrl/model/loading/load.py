"""How a model comes in: its parts from a folder, a single file, the hub or a pipeline, and what can be put on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ctrl.model.loading.extras import Extras, Given, Readers, extras_in, extras_of, readers_in
from ctrl.model.loading.families import Adapter, ControlNetSource, family_of
from ctrl.model.loading.files import device_named, dtype_given, model_files, tokenizer_files
from ctrl.model.loading.folder import described_parts, parts_of_folder
from ctrl.model.loading.hub import Downloader, Hub, say, source_of
from ctrl.model.loading.pipeline import extras_of_pipeline, is_pipeline, parts_of_pipeline
from ctrl.model.loading.single_file import parts_of_file
from ctrl.model.model import Model

NO_READERS: Readers = (None, None)
ATELIER = Path(__file__).parents[2] / "atelier" / "weights"
CLIP_TOKENIZER = Hub("openai/clip-vit-large-patch14")  # the vocabulary of every SD and SDXL


def load(
    source: Given | Any | None = None,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    controlnets: Mapping[str, Given | ControlNetSource | Any] | None = None,
    ip_adapter: Given | Adapter | Mapping[str, Given | Adapter] | None = None,
    lora: Given | Mapping[str, Given] | None = None,
    tokenizer: Given | None = None,
    prediction: str | None = None,
    local_files_only: bool = False,
    tell: Callable[[str], None] = say,
) -> Model:
    """A Stable Diffusion 1, 2 or XL model; without `source`, the atelier model that this package carries.

    - `source` is a folder in diffusers' layout, a .safetensors file in the original one, a hub id 'owner/name', a
      `Hub`, or a pipeline of diffusers'. `revision` is the hub's branch, tag or commit, and every part comes from it.
    - a pipeline is taken with all that was loaded into it: ControlNets, IP-Adapters and their image encoder, LoRAs,
      its scheduler's configuration. It is left as it is, and its weights are shared; what cannot be followed raises a
      ValueError that says what to undo, and what is left out (a safety checker) is said in a warning.
    - `device` "auto" is the GPU if there is one; `dtype` is float32 if not given, float16 for a given source on CUDA.
    - `controlnets` maps a kind ("pose", "line art", …) to a folder, a .safetensors file of either layout, a hub id or
      a ControlNetModel. `ip_adapter` and `lora` are .safetensors files, or map names to them; an IP-Adapter's image
      encoder is the folder image_encoder beside it. What is not given is looked for in the model's folder
      (controlnet_pose/, ip_adapter/, lora/), then in what is published for its family, and read when first needed.
    - of a single file, `tokenizer` is a folder with CLIP's vocab.json and merges.txt or its tokenizer.json, by default
      CLIP's on the hub, and `prediction` is "epsilon" or "v" where the file says nothing and SD 2 is not v.
    - before anything is fetched, `tell` is called with what and how much it is; with `local_files_only` nothing is.

    Only safetensors are read and no code of the model's is run. What is incomplete or foreign raises a ValueError,
    what is not there a FileNotFoundError.
    """
    downloader = Downloader(local_files_only, tell)
    if is_pipeline(source):
        alone = {"device": device != "auto", "dtype": dtype, "revision": revision, "tokenizer": tokenizer,
                 "prediction": prediction}  # fmt: skip
        if given := [name for name, one in alone.items() if one]:
            raise ValueError(f"{given[0]} is not for a pipeline, which has its own; change the pipeline first.")
        parts, own, readers = parts_of_pipeline(source), extras_of_pipeline(source, controlnets or {}), NO_READERS
    else:
        at = device_named(device)
        half = at.type == "cuda" and source is not None
        kind = dtype_given((torch.float16 if half else torch.float32) if dtype is None else dtype)
        where = _place(source, revision)
        inside = where.path if isinstance(where, Hub) else where.name
        if inside.endswith(".safetensors") or (isinstance(where, Path) and where.is_file()):
            file = downloader.file("source", where)
            words = source_of("tokenizer", CLIP_TOKENIZER if tokenizer is None else tokenizer)
            vocabulary = _tokenizer_folder(downloader, words)
            parts = parts_of_file(file, vocabulary, device=at, dtype=kind, prediction=prediction)
            own, readers = Extras(), NO_READERS
        else:
            if tokenizer is not None or prediction is not None:
                raise ValueError("tokenizer and prediction are for a single file; a folder says both itself.")
            name = where.repo if isinstance(where, Hub) else where.resolve().name
            check = partial(described_parts, name=name)
            found = downloader.folder("source", where, ("model_index.json",), model_files, check)
            parts = parts_of_folder(found.folder, name, device=at, dtype=kind)
            own, readers = extras_in(found), readers_in(found)
    family = family_of(parts.unet, len(parts.towers))
    extras = extras_of(own, family, downloader, readers, controlnets=controlnets, ip_adapter=ip_adapter, lora=lora)
    return Model(parts, extras, device=parts.unet.device, dtype=parts.unet.dtype)


def _place(source: Any, revision: str | None) -> Path | Hub:
    if source is None and not ATELIER.is_dir():
        raise FileNotFoundError("the atelier model's weights are missing from this installation; install it anew.")
    if not isinstance(source, str | Path | Hub | None):
        got = type(source).__name__
        raise TypeError(f"source must be a path, a hub id like 'owner/name', a Hub or a pipeline, got {got}.")
    return source_of("source", ATELIER if source is None else source, revision)


def _tokenizer_folder(downloader: Downloader, place: Path | Hub) -> Path:
    if isinstance(place, Path) and (place / "tokenizer").is_dir():
        place = place / "tokenizer"  # of a model's folder
    try:
        return downloader.folder("tokenizer", place, ("vocab.json", "tokenizer.json"), tokenizer_files).folder
    except FileNotFoundError as error:
        raise FileNotFoundError(
            "a single file has no tokenizer: give tokenizer=, a folder with CLIP's vocab.json and merges.txt or its "
            f"tokenizer.json; {error}"
        ) from error
