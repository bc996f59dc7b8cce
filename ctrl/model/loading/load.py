"""`load`: a model's parts from a folder, a single file, the hub or a pipeline, and its optional parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ctrl.caller import ends_at_caller
from ctrl.model.loading.embeddings import with_embeddings, word_of
from ctrl.model.loading.extras import Extras, Given, Readers, extras_in, extras_of, readers_in
from ctrl.model.loading.families import ControlNetSource, IPAdapterFiles, family_of
from ctrl.model.loading.files import (
    check_tensors,
    device_named,
    dtype_given,
    model_files,
    module_files,
    tokenizer_files,
)
from ctrl.model.loading.folder import checked_parts, described_parts, parts_of_folder
from ctrl.model.loading.hub import Downloader, Hub, is_safetensors, say, source_of
from ctrl.model.loading.pipeline import extras_of_pipeline, is_pipeline, parts_of_pipeline
from ctrl.model.loading.single_file import Tokenizer, parts_of_file
from ctrl.model.loading.tokenizers import packaged_tokenizer, packaged_vocabulary, read_tokenizer
from ctrl.model.loading.vae import read_vae
from ctrl.model.model import Model
from ctrl.model.parts import Parts, TextEncoder

Found: TypeAlias = tuple[Parts, Extras, Readers]
NO_READERS: Readers = (None, None)
ATELIER = Path(__file__).parents[2] / "atelier" / "weights"
CLIP_TOKENIZER = Hub("openai/clip-vit-large-patch14")  # the vocabulary of every SD and SDXL


@ends_at_caller
def load(
    source: Given | Any | None = None,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    controlnets: Mapping[str, Given | ControlNetSource | Any] | None = None,
    ip_adapter: Given | IPAdapterFiles | Mapping[str, Given | IPAdapterFiles] | None = None,
    lora: Given | Mapping[str, Given] | None = None,
    tokenizer: Given | None = None,
    prediction: str | None = None,
    vae: Given | None = None,
    embeddings: Given | Mapping[str, Given] | None = None,
    clip_skip: int = 0,
    local_files_only: bool = False,
    tell: Callable[[str], None] = say,
) -> Model:
    """A Stable Diffusion 1, 2 or XL model; without `source`, the atelier model that this package carries.

    - `source` is a folder in diffusers' layout, a .safetensors file in the original one, a hub id 'owner/name', a
      `Hub`, or a pipeline of diffusers'. `revision` is the hub's branch, tag or commit, and every part comes from it.
    - a pipeline is taken with all that was loaded into it: ControlNets, T2I-Adapters, IP-Adapters and their image
      encoder, LoRAs, its scheduler's configuration. It is left as it is, and its weights are shared; what cannot be
      followed raises a ValueError that says what to undo, and a warning names what is left out (a safety checker).
    - `device` "auto" is the GPU if there is one; `dtype` is float32 if not given, float16 for a given source on CUDA.
    - `controlnets` maps a kind ("pose", "line art", …) to a ControlNet or a T2I-Adapter: a folder, a .safetensors file
      of either layout, a hub id or diffusers' module. `ip_adapter` and `lora` are .safetensors files, or map names to
      them; an IP-Adapter's image encoder is the folder image_encoder next to it. What is not given is looked for in
      the model's folder (controlnet_pose/, ip_adapter/, lora/), then in what is published for its family, and read
      when first needed.
    - of a single file, `tokenizer` is a folder with CLIP's vocab.json and merges.txt or its tokenizer.json, by default
      what an installed open_clip has (ctrl-diffusion[clip]), else CLIP's on the hub; `prediction` is "epsilon" or
      "v" where the file does not say it and its family usually does the other.
    - `vae` is a folder or a .safetensors file of a VAE to take in place of the model's. `embeddings` are textual
      inversions, .safetensors files by their words; one alone goes by its file's name. `clip_skip` layers at the end
      of the text encoders are not read, of prompts but not of negative ones, as in diffusers (A1111's "2" is 1).
    - before anything is fetched, `tell` is called with its name and size; with `local_files_only` nothing
      is fetched.

    Only safetensors are read and no code of the model's is run. An incomplete or foreign file raises a ValueError, a
    missing one a FileNotFoundError.
    """
    downloader = Downloader(local_files_only, tell)
    if is_pipeline(source):
        options = {"device": device != "auto", "dtype": dtype, "revision": revision, "tokenizer": tokenizer,
                 "prediction": prediction, "vae": vae}  # fmt: skip
        if refused := [name for name, value in options.items() if value]:
            raise ValueError(f"{refused[0]} is not for a pipeline, which has its own; change the pipeline first.")
        found: Found = parts_of_pipeline(source), extras_of_pipeline(source, controlnets or {}), NO_READERS
    else:
        at = device_named(device)
        half = at.type == "cuda" and source is not None
        kind = dtype_given((torch.float16 if half else torch.float32) if dtype is None else dtype)
        place = _place(source, revision)
        if _is_single_file(place):
            found = _of_file(downloader, place, at, kind, tokenizer, prediction, vae)
        elif tokenizer is not None or prediction is not None:
            raise ValueError("tokenizer and prediction are for a single file; a folder says both itself.")
        else:
            found = _of_folder(downloader, place, at, kind, vae)
    parts, own, readers = found
    parts = replace(parts, text_encoders=_texts(downloader, parts.text_encoders, embeddings, clip_skip))
    family = family_of(parts.unet, len(parts.text_encoders))
    extras = extras_of(own, family, downloader, readers, controlnets=controlnets, ip_adapter=ip_adapter, lora=lora)
    return Model(parts, extras, device=parts.unet.device, dtype=parts.unet.dtype)


def _is_single_file(place: Path | Hub) -> bool:
    inside = place.path if isinstance(place, Hub) else place.name
    return is_safetensors(inside) or (isinstance(place, Path) and place.is_file())


def _of_file(
    downloader: Downloader,
    place: Path | Hub,
    device: torch.device,
    dtype: torch.dtype,
    tokenizer: Given | None,
    prediction: str | None,
    vae: Given | None,
) -> Found:
    file = downloader.file("source", place)
    check_tensors(file)  # before a tokenizer is looked for
    words = _tokenizer(downloader, tokenizer)
    own_vae = None if vae is None else _vae(downloader, vae)
    parts = parts_of_file(file, words, device=device, dtype=dtype, prediction=prediction, vae=own_vae)
    return parts, Extras(), NO_READERS


def _of_folder(
    downloader: Downloader, place: Path | Hub, device: torch.device, dtype: torch.dtype, vae: Given | None
) -> Found:
    name = place.repo if isinstance(place, Hub) else place.resolve().name
    check = partial(described_parts, name=name)
    snapshot = downloader.folder("source", place, ("model_index.json",), model_files, check)
    parts = parts_of_folder(snapshot.folder, name, device=device, dtype=dtype)
    if vae is not None:
        family, scale = family_of(parts.unet, len(parts.text_encoders)), parts.vae.config.scaling_factor
        instead = read_vae(_vae(downloader, vae), family, scale=scale, device=device, dtype=dtype)
        parts = checked_parts(replace(parts, vae=instead))
    return parts, extras_in(snapshot), readers_in(snapshot)


def _place(source: Any, revision: str | None) -> Path | Hub:
    if source is None and not ATELIER.is_dir():
        raise FileNotFoundError("the atelier model's weights are missing from this installation; reinstall it.")
    if source == "atelier" and not Path(source).exists():
        raise FileNotFoundError(
            "source 'atelier' is no folder and no file; the atelier model is ctrl.load() without one."
        )
    if not isinstance(source, str | Path | Hub | None):
        raise TypeError(f"source must be a path, a hub id like 'owner/name', a Hub or a pipeline, got {source!r:.60}.")
    return source_of("source", ATELIER if source is None else source, revision)


def _texts(
    downloader: Downloader,
    text_encoders: tuple[TextEncoder, ...],
    embeddings: Given | Mapping[str, Given] | None,
    clip_skip: int,
) -> tuple[TextEncoder, ...]:
    """The text encoders with more words, and read some layers before the last."""
    layers = min(text_encoder.encoder.config.num_hidden_layers for text_encoder in text_encoders)
    if type(clip_skip) is not int or not 0 <= clip_skip < layers:
        raise ValueError(f"clip_skip must be a number of layers from 0 to {layers - 1}, got {clip_skip!r:.40}.")
    text_encoders = tuple(replace(text_encoder, clip_skip=clip_skip) for text_encoder in text_encoders)
    if embeddings is None:
        return text_encoders
    by_word = embeddings if isinstance(embeddings, Mapping) else {None: embeddings}
    names = {word: "embeddings" if word is None else f"embeddings[{word!r}]" for word in by_word}
    files = {word: downloader.file(names[word], source_of(names[word], value)) for word, value in by_word.items()}
    return with_embeddings(text_encoders, {word or word_of(file): file for word, file in files.items()})


def _vae(downloader: Downloader, value: Given) -> Path:
    source = source_of("vae", value)
    if _is_single_file(source):
        return downloader.file("vae", source)
    if isinstance(source, Path) and (source / "vae").is_dir():
        source = source / "vae"  # of a model's folder
    return downloader.folder("vae", source, ("config.json",), module_files).folder


def _tokenizer(downloader: Downloader, value: Given | None) -> Tokenizer:
    """What makes a single file's tokenizers: of a folder, of an installed package, of the hub."""
    if value is None and (file := packaged_vocabulary()) is not None:
        return partial(packaged_tokenizer, file)
    folder = _tokenizer_folder(downloader, source_of("tokenizer", CLIP_TOKENIZER if value is None else value))
    return partial(read_tokenizer, folder)


def _tokenizer_folder(downloader: Downloader, place: Path | Hub) -> Path:
    if isinstance(place, Path) and (place / "tokenizer").is_dir():
        place = place / "tokenizer"  # of a model's folder
    try:
        return downloader.folder("tokenizer", place, ("vocab.json", "tokenizer.json"), tokenizer_files).folder
    except FileNotFoundError as error:
        raise FileNotFoundError(
            "a single file has no tokenizer: install ctrl-diffusion[clip], or give tokenizer=, a folder with CLIP's "
            f"vocab.json and merges.txt or its tokenizer.json; {error}"
        ) from error
