"""Files of a model, as far as diffusers is not needed: JSON and safetensors, and which of them to read.

No file is trusted before it was checked: only these two formats are read, a value inside a file never decides what is
run or opened, and sizes are capped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ctrl.images import why

LETTERS = 300  # of a tensor's name
MAX_JSON = 64 << 20  # bytes; a shard index of the largest models has a few
STEMS = ("diffusion_pytorch_model", "model")  # of weights, as diffusers and transformers name them
VARIANTS = ("", ".fp16")  # the same weights twice; the whole ones are taken where there are both
VARIANT = re.compile(rf"(?:{'|'.join(STEMS)})(?:\.safetensors\.index)?(\.[A-Za-z]\w*)\.(?:safetensors|json)")
MODULES = ("unet", "vae", "text_encoder", "text_encoder_2")
DATA = ("tokenizer", "tokenizer_2", "scheduler")
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "added_tokens.json")  # fmt: skip
SHARD = re.compile(r"[A-Za-z0-9][\w.-]*\.safetensors")  # a plain name, so that it is in the index's folder
PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")


# What the files of other kinds are, by how the names of their tensors begin.
FILE_KINDS = (
    (("lora_", "unet.", "text_encoder.", "base_model."), "a LoRA, to be given as lora="),
    (("lllite_",), "a ControlNet-LLLite, which ctrl does not run"),
    (("control_model.", "controlnet_", "input_hint_block."), "a ControlNet, to be given in controlnets="),
    (("adapter.body.", "body.0."), "a T2I-Adapter, to be given in controlnets="),
    (("ip_adapter.", "image_proj."), "an IP-Adapter, to be given as ip_adapter="),
    (("emb_params", "string_to_param", "clip_g", "clip_l"), "a textual inversion"),
    (
        tuple(f"{start}{kind}_blocks." for start in ("", "model.diffusion_model.") for kind in ("double", "joint")),
        "a diffusion transformer, such as SD 3's or Flux's, which has no U-Net",
    ),
    (("model.diffusion_model.", "cond_stage_model.", "conditioner."), "a whole model, for load(file)"),
    (("down_blocks.", "input_blocks."), "a U-Net alone, and a model has a VAE and a text encoder too"),
    (("encoder.down", "decoder.up", "first_stage_model."), "a VAE alone"),
)
BEGINNINGS = (
    (b"\x80", "it is a pickle or an archive by another name"),
    (b"PK", "it is a pickle or an archive by another name"),
    (b"version https://git-lfs", "it is git-lfs' note of a file that was not fetched; `git lfs pull` fetches it"),
    (b"<", "it is a web page, not the file that it leads to; download that"),
    (b"GGUF", "it is GGUF, whose weights are quantised"),
)
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def device_named(name: str) -> torch.device:
    """The device; "auto" is the GPU if there is one. A device that is not available raises a ValueError."""
    if not isinstance(name, str | torch.device):
        raise TypeError(f"device must be auto, cpu, cuda, cuda:0 or mps, got {name!r:.60}.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:0 or mps, got {name!r:.60}.") from None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter of a torch that was built without it
        raise ValueError(f"device {str(device)!r} is not available, torch says; take 'cpu' or 'auto'.") from error
    if device.type == "meta":
        raise ValueError("device must be auto, cpu, cuda, cuda:0 or mps, got 'meta', which holds no numbers.")
    return device


def dtype_given(dtype: object) -> torch.dtype:
    """A type that a model can be run in, or a TypeError."""
    if not isinstance(dtype, torch.dtype) or dtype not in TYPES:
        raise TypeError(f"dtype must be one of {', '.join(map(str, TYPES))}, got {dtype!r:.60}.")
    return dtype


def read_json(path: Path, *, constant: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """A JSON object from a file, no key twice. `constant` reads NaN and ±Infinity, which raise a ValueError else."""
    where = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent.name!r} has no {path.name}: it is no model in diffusers' layout.")
    if path.stat().st_size > MAX_JSON:
        raise ValueError(f"{where} has {path.stat().st_size} bytes, and {MAX_JSON} are the most that is read.")
    try:
        text = path.read_text(encoding="utf-8")
        read = json.loads(text, parse_constant=constant or _not_finite, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {why(error)}.") from error
    if not isinstance(read, dict):
        raise ValueError(f"{where} must hold an object, got {type(read).__name__}.")
    return read


def _not_finite(number: str) -> NoReturn:
    raise ValueError(f"it holds {number}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("it has a key twice")
    return read


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and what its header notes.

    They are views of the file, cheap to have and changing when it does: what is kept must be copied.
    """
    with _opened(file) as opened:
        return {name: opened.get_tensor(name) for name in _names(file, opened)}, opened.metadata() or {}


def check_tensors(file: Path) -> None:
    """Raise as `read_tensors` for a file whose header cannot be read."""
    with _opened(file) as opened:
        _names(file, opened)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file.name!r} in {file.parent.name!r}.")
    try:
        with safe_open(file, "pt") as opened:
            yield opened
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file.name} cannot be read as safetensors: {_instead(file) or why(error)}.") from error


def _names(file: Path, opened: Any) -> list[str]:
    names = list(opened.keys())
    if (longest := max(map(len, names), default=0)) > LETTERS:
        raise ValueError(f"{file.name} names a tensor with {longest} letters, as no model does.")
    return names


def _instead(file: Path) -> str:
    """What a file is that is no safetensors, if it is known by its beginning."""
    with file.open("rb") as opened:
        begins = opened.read(64).lstrip()
    return next((what for start, what in BEGINNINGS if begins.startswith(start)), "" if begins else "it is empty")


def guess_file_kind(names: Iterable[str], *, not_a: str) -> str:
    """What a file with tensors of these names looks like, other than `not_a`, as a sentence without an end."""
    held = sorted(names)
    for beginnings, what in FILE_KINDS:
        if not_a not in what and any(name.startswith(beginnings) for name in held):
            return f"it looks like {what}"
    return f"it holds {len(held)} tensors that are no part of one, such as {held[0]!r}" if held else "it holds nothing"


def weight_files(names: Iterable[str]) -> tuple[str, ...]:
    """Those of a module folder's files that hold its weights, the index before its shards; () if there are none.

    fp16 duplicates are taken only where there is nothing else, and a variant of another name where it is the only one.
    """
    known = set(names)
    others = {match[1] for name in known if (match := VARIANT.fullmatch(name))}
    for variant in (*VARIANTS, *(others if len(others) == 1 else ())):
        for stem in STEMS:
            if (single := f"{stem}{variant}.safetensors") in known:
                return (single,)
            if (index := f"{stem}.safetensors.index{variant}.json") in known:
                return (index, *sorted(name for name in known if _is_shard(name, stem, variant)))
    return ()


def _is_shard(name: str, stem: str, variant: str) -> bool:
    """Both libraries number shards, one before the variant and one after it."""
    number, other = r"-\d{5}-of-\d{5}", re.escape(variant)
    return bool(re.fullmatch(f"{stem}({other}{number}|{number}{other})\\.safetensors", name))


def weight_paths(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a module's folder; a FileNotFoundError says that there are none, or that one lacks."""
    files = weight_files(path.name for path in folder.iterdir())
    if not files:
        raise FileNotFoundError(f"{folder.name!r} has {_no_weights(path.name for path in folder.iterdir())}.")
    if files[0].endswith(".json"):
        shards = read_json(folder / files[0]).get("weight_map")
        if not isinstance(shards, dict) or not all(SHARD.fullmatch(str(shard)) for shard in shards.values()):
            raise ValueError(f"{folder.name}/{files[0]} names shards outside its folder; it is not to be trusted.")
        files = tuple(sorted(set(shards.values())))
    if absent := [name for name in files if not (folder / name).is_file()]:
        raise FileNotFoundError(f"there is no file {absent[0]!r} in {folder.name!r}.")
    return tuple(folder / name for name in files)


def _no_weights(names: Iterable[str]) -> str:
    """What a module's folder has instead of weights, as the end of a sentence."""
    others = sorted(name for name in names if name.endswith((".safetensors", ".safetensors.index.json")))
    if not others:
        return "no .safetensors file; pickled weights are not read: convert"
    return (
        f"no {STEMS[0]}.safetensors or {STEMS[1]}.safetensors, but {', '.join(others):.200}; rename the one to be read"
    )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a module's folder, of all its shards, as `read_tensors` gives them."""
    tensors: dict[str, Tensor] = {}
    for path in weight_paths(folder):
        try:
            tensors |= read_tensors(path)[0]
        except ValueError as error:
            raise ValueError(f"the weights in {folder.name!r} cannot be read: {error}") from error
    return tensors


@dataclass(frozen=True)
class Index:
    """How many text encoders a model folder has, and whether it encodes an empty negative prompt as zeros."""

    text_encoders: int
    zero_negative: bool


def check_index(index: Mapping[str, Any], name: str) -> Index:
    """What model_index.json says; refuses a model with parts of classes that ctrl does not load."""
    wide = _named(index, "text_encoder_2")
    if wide and not _named(index, "text_encoder"):
        raise ValueError(f"{name!r} is an SDXL refiner, which has no first text encoder; ctrl steers the base model.")
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    if wide:
        kinds["text_encoder_2"] = "CLIPTextModelWithProjection"
    for part, kind in kinds.items():
        if _named(index, part) != kind:
            raise ValueError(f"{name!r} has {index.get(part)!r:.80} as its {part}; ctrl steers models with a {kind}.")
    zero = index.get("force_zeros_for_empty_prompt", True) if wide else False
    if not isinstance(zero, bool):
        raise ValueError(f"force_zeros_for_empty_prompt of {name!r} must be true or false, got {zero!r:.80}.")
    return Index(2 if wide else 1, zero)


def _named(index: Mapping[str, Any], part: str) -> str | None:
    """The class of a part, None if the model does without; a pair that is none is no class."""
    pair = index.get(part)
    if isinstance(pair, list) and len(pair) == 2 and all(entry is None or isinstance(entry, str) for entry in pair):
        return pair[1]
    return None if pair is None else "?"


def model_files(names: Sequence[str]) -> tuple[str, ...]:
    """Those of a model repository's files that a model is loaded from; a FileNotFoundError names what lacks."""
    if "model_index.json" not in names:
        raise FileNotFoundError("it has no model_index.json, so it is no model in diffusers' layout")
    wanted = ["model_index.json"]
    for part in MODULES:
        inside = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        if inside:
            wanted += [f"{part}/{name}" for name in module_files(inside, part)]
    wanted += [name for name in names if name.split("/")[0] in DATA and name.endswith((".json", ".txt"))]
    return tuple(wanted)


def module_files(names: Sequence[str], part: str = "it") -> tuple[str, ...]:
    """Those of a module's files that it is loaded from."""
    weights = weight_files(names)
    if "config.json" not in names or not weights:
        lacks = "weights as safetensors (pickled ones are not read)" if "config.json" in names else "config.json"
        if "config.json" in names and any(name.endswith(".safetensors") for name in names):
            raise FileNotFoundError(f"{part} has {_no_weights(names)}")
        raise FileNotFoundError(f"{part} lacks {lacks}")
    return ("config.json", *weights)


def tokenizer_files(names: Sequence[str]) -> tuple[str, ...]:
    """Those of a tokenizer's files that it is loaded from; a FileNotFoundError says that it is none.

    transformers wrote a vocabulary, its merges and tokenizer.json; since release 5 tokenizer.json alone.
    """
    if not {"vocab.json", "merges.txt"} <= set(names) and "tokenizer.json" not in names:
        raise FileNotFoundError("it has no vocab.json and merges.txt and no tokenizer.json, so it is no CLIP tokenizer")
    return tuple(name for name in TOKENIZER if name in names)
