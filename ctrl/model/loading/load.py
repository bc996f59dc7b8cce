"""How a model comes in: its parts from a folder, a single file, the hub or a pipeline, and what can be put on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ctrl.model.loading.extras import Given, shelf_of
from ctrl.model.loading.families import Adapter, Net, family_of
from ctrl.model.loading.files import device_named, dtype_given, model_files, tokenizer_files
from ctrl.model.loading.folder import described_parts, parts_of_folder, parts_of_pipeline
from ctrl.model.loading.hub import Courier, Hub, place_of, say
from ctrl.model.loading.single_file import parts_of_file
from ctrl.model.model import Model

ATELIER = Path(__file__).parents[2] / "atelier" / "weights"
CLIP_TOKENIZER = Hub("openai/clip-vit-large-patch14")  # the vocabulary of every SD and SDXL


def load(
    source: Given | None = None,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    controlnets: Mapping[str, Given | Net | Any] | None = None,
    ip_adapter: Given | Adapter | Mapping[str, Given | Adapter] | None = None,
    lora: Given | Mapping[str, Given] | None = None,
    tokenizer: Given | None = None,
    prediction: str | None = None,
    local_files_only: bool = False,
    tell: Callable[[str], None] = say,
) -> Model:
    """A Stable Diffusion 1, 2 or XL model; without `source`, the atelier model that this package carries.

    - `source` is a folder in diffusers' layout, a .safetensors file in the original one, a hub id 'owner/name' or a
      `Hub`; `revision` is the hub's branch, tag or commit, and every part comes from that one commit.
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
    place = device_named(device)
    if dtype is None:
        dtype = torch.float16 if place.type == "cuda" and source is not None else torch.float32
    dtype = dtype_given(dtype)
    courier = Courier(local_files_only, tell)
    if source is None and not ATELIER.is_dir():
        raise FileNotFoundError("the atelier model's weights are missing from this installation; install it anew.")
    where = place_of("source", ATELIER if source is None else source, revision)
    inside = where.path if isinstance(where, Hub) else where.name
    found = None
    if inside.endswith(".safetensors") or (isinstance(where, Path) and where.is_file()):
        words = place_of("tokenizer", CLIP_TOKENIZER if tokenizer is None else tokenizer)
        file = courier.file("source", where)
        vocabulary = _tokenizer_folder(courier, words)
        parts = parts_of_file(file, vocabulary, device=place, dtype=dtype, prediction=prediction)
    else:
        if tokenizer is not None or prediction is not None:
            raise ValueError("tokenizer and prediction are for a single file; a folder says both itself.")
        name = where.repo if isinstance(where, Hub) else where.resolve().name
        check = partial(described_parts, name=name)
        found = courier.folder("source", where, ("model_index.json",), model_files, check)
        parts = parts_of_folder(found.folder, name, device=place, dtype=dtype)
    shelf = shelf_of(
        found,
        family_of(parts.unet, len(parts.towers)),
        courier,
        controlnets=controlnets,
        ip_adapter=ip_adapter,
        lora=lora,
    )
    return Model(parts, shelf, device=place, dtype=dtype)


def from_pipeline(
    pipe: Any,
    *,
    controlnets: Mapping[str, Given | Net | Any] | None = None,
    ip_adapter: Given | Adapter | Mapping[str, Given | Adapter] | None = None,
    lora: Given | Mapping[str, Given] | None = None,
    local_files_only: bool = False,
    tell: Callable[[str], None] = say,
) -> Model:
    """A model of the components of a pipeline of diffusers', which are neither copied nor changed.

    It lives where the pipeline's U-Net lives, in its dtype; the other arguments are those of `load`. A pipeline's
    ControlNets are taken by their kinds, `controlnets={"pose": pipe.controlnet}`. What cannot be followed (an
    IP-Adapter loaded into the pipeline, foreign attention processors, offloading) raises a ValueError.
    """
    parts = parts_of_pipeline(pipe)
    shelf = shelf_of(
        None,
        family_of(parts.unet, len(parts.towers)),
        Courier(local_files_only, tell),
        controlnets=controlnets,
        ip_adapter=ip_adapter,
        lora=lora,
    )
    return Model(parts, shelf, device=parts.unet.device, dtype=parts.unet.dtype)


def _tokenizer_folder(courier: Courier, place: Path | Hub) -> Path:
    if isinstance(place, Path) and (place / "tokenizer").is_dir():
        place = place / "tokenizer"  # of a model's folder
    try:
        return courier.folder("tokenizer", place, ("vocab.json", "tokenizer.json"), tokenizer_files).folder
    except FileNotFoundError as error:
        raise FileNotFoundError(
            "a single file has no tokenizer: give tokenizer=, a folder with CLIP's vocab.json and merges.txt or its "
            f"tokenizer.json; {error}"
        ) from error
