"""Hostile model folders: the good one, spoilt in one place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from corpus import MARK, PLANTED, Hostile
from safetensors.torch import load_file, save_file
from tensor_files import Evil, archived, broken, pickled

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
SIZES = "must be between|must be a whole number|of shape|describes no|are not of one model"
PAIRS = [
    ["os", "system"], ["posix", "system"], ["subprocess", "Popen"], ["builtins", "eval"], ["builtins", "exec"],
    ["builtins", "__import__"], ["torch", "load"], ["torch.hub", "load"], ["pickle", "Unpickler"], ["pickle", "loads"],
    ["importlib", "import_module"], ["runpy", "run_path"], [PLANTED, "Model"], ["ctypes", "CDLL"], ["shutil", "rmtree"],
    ["diffusers", "eval"], ["diffusers", "UNet2DModel"], ["diffusers", "__class__"], ["UNet2DConditionModel"], [],
    ["diffusers", "UNet2DConditionModel", "x"], "UNet2DConditionModel", 7, {"diffusers": 1}, [["diffusers"], None],
]  # fmt: skip
UNET = [
    ("layers_per_block", 10**6, SIZES),
    ("layers_per_block", -1, SIZES),
    ("layers_per_block", "2", SIZES),
    ("layers_per_block", [10**6] * 3, SIZES),
    ("layers_per_block", 10**400, SIZES),
    ("block_out_channels", [2**40] * 3, SIZES),
    ("block_out_channels", [8] * 10**5, "at most \\d+ are accepted"),
    ("block_out_channels", [-8, 16, 16], SIZES),
    ("block_out_channels", "8", SIZES),
    ("block_out_channels", [[8]], SIZES),
    ("block_out_channels", None, SIZES),
    ("transformer_layers_per_block", 10**6, SIZES),
    ("transformer_layers_per_block", [[10**6]], SIZES),
    ("cross_attention_dim", 2**40, SIZES),
    ("cross_attention_dim", -1, SIZES),
    ("cross_attention_dim", [32] * 10**4, "at most \\d+ are accepted"),
    ("attention_head_dim", 0, SIZES),
    ("attention_head_dim", 2**20, SIZES),
    ("norm_num_groups", 2**40, SIZES),
    ("num_class_embeds", 2**20, "lacks|conditioned by"),
    ("class_embed_type", "os.system", "conditioned by"),
    ("conv_in_kernel", 10**6, SIZES),
    ("conv_in_kernel", -3, SIZES),
    ("act_fn", "eval", SIZES),
    ("time_embedding_type", "x" * 10**6, "letters"),
    ("time_cond_proj_dim", 2**20, "lacks"),
    ("down_block_types", ["os.system"] * 3, SIZES),
    ("mid_block_type", "eval", SIZES),
    ("encoder_hid_dim_type", "ip_image_proj", "describes no|conditioned by"),
    ("sample_size", 16384, "above the limit of 4096"),
    ("sample_size", -64, SIZES),
    ("sample_size", [16, 16, 16], "a number or two"),
    ("sample_size", "16", SIZES),
    ("in_channels", 9, "of shape|inpainting"),
    ("_class_name", "os.system", "is needed"),
    ("_class_name", ["torch", "load"], "is needed"),
    ("of_the_future", {"a": 1}, None),
]
SCHEDULE = [
    ("num_train_timesteps", 10**12, SIZES),
    ("num_train_timesteps", -1, SIZES),
    ("num_train_timesteps", "x", SIZES),
    ("beta_start", 1e308, "must be between"),
    ("beta_end", "0.1", "must be between"),
    ("beta_schedule", "eval", "describes no DDIMScheduler"),
    ("prediction_type", "eval", "prediction_type 'eval' is unknown"),
    ("trained_betas", [0.1] * 10**6, "at most"),
    ("trained_betas", [7.0] * 1000, None),
    ("timestep_spacing", "eval", None),
    ("steps_offset", 10**6, None),
    ("_class_name", "os.system", None),
    ("thresholding", True, None),
    ("set_alpha_to_one", "no", None),
    ("clip_sample_range", 1e308, None),
]
TOKENIZER = {
    "tokenizer_class": "os.system",
    "auto_map": {"AutoTokenizer": [f"{PLANTED}.Model", None]},
    "trust_remote_code": True,
    "custom_pipeline": PLANTED,
    "model_max_length": "many",
    "added_tokens_decoder": {str(10**12): {"content": "x" * 10**6, "__type": "AddedToken"}},
    "chat_template": "{% for x in range(10**9) %}{{ x }}{% endfor %}",
    "pad_token": {"__type": "os.system", "content": "x"},
    "unk_token": [1, 2],
    "bos_token": 7,
    "clean_up_tokenization_spaces": "eval",
    "name_or_path": "../../..",
    "vocab_file": "/etc/passwd",
    "merges_file": "/etc/passwd",
    "tokenizer_file": "/etc/passwd",
}
PROCESSOR = [
    ("size", "huge", "size in .* must be sides"),
    ("size", {"longest_edge": 32}, "size in .* must be sides"),
    ("crop_size", {"height": 10**6, "width": 10**6}, "crop_size in .* must be sides"),
    ("crop_size", 64, "the image encoder reads 32×32"),
    ("image_processor_type", "os.system", None),
    ("auto_map", {"AutoImageProcessor": f"{PLANTED}.Model"}, None),
    ("resample", 10**9, "resample in .* must be a filter"),
    ("image_mean", [1e308] * 3, "image_mean in .* must be three numbers"),
    ("image_std", [0.0, 0.0, 0.0], "image_std in .* must be three numbers"),
    ("do_normalize", "eval", "do_normalize in .* must be true or false"),
    ("rescale_factor", "x", "rescale_factor in .* must be a number"),
    ("do_pad", True, None),
]


def changed(file: str, **fields: object) -> Callable[[Path], None]:
    """The good folder with other fields in one of its JSON files."""

    def make(folder: Path) -> None:
        held = json.loads((folder / file).read_text())
        replace(folder / file, json.dumps(held | fields))

    return make


def replace(file: Path, content: str | bytes) -> None:
    """Write a file anew, since the good model's own lies behind a second name."""
    file.unlink(missing_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def put(file: str, content: str | bytes) -> Callable[[Path], None]:
    """The good folder with another file in the place of one of its."""
    return lambda folder: replace(folder / file, content)


def swapped(file: str, special: Callable[[Path], object]) -> Callable[[Path], None]:
    """The good folder with something else than a file in the place of one."""

    def make(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        special(folder / file)

    return make


def indexed(part: str, **places: object) -> Callable[[Path], None]:
    """The good folder with the weights of a part in shards, of which some lie where the index pleases."""

    def make(folder: Path) -> None:
        stem = WEIGHTS[part]
        whole = folder / part / f"{stem}.safetensors"
        shard = f"{stem}-00001-of-00001.safetensors"
        names = dict.fromkeys(load_file(whole), shard)
        whole.rename(folder / part / shard)
        index = {"weight_map": names | places}
        replace(folder / part / f"{stem}.safetensors.index.json", json.dumps(index))

    return make


def weighted(part: str, spoil: Callable[[dict], dict]) -> Callable[[Path], None]:
    """The good folder with other tensors in a part."""

    def make(folder: Path) -> None:
        file = folder / part / f"{WEIGHTS[part]}.safetensors"
        held = spoil(load_file(file))
        file.unlink()
        save_file(held, file)

    return make


def coded(folder: Path) -> None:
    """Code wherever a library might look for some."""
    for place in (".", "unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        for name in (PLANTED, "model", "pipeline", "modeling", "tokenization", "__init__", "conftest", "sitecustomize"):
            (folder / place / f"{name}.py").write_text(f"open('{MARK}', 'w')\n")
    for part in ("unet", "vae", "text_encoder"):
        changed(f"{part}/config.json", auto_map={"AutoModel": f"{PLANTED}.Model"}, trust_remote_code=True)(folder)
    changed("model_index.json", _class_name=[PLANTED, "Pipeline"], custom_pipeline=PLANTED)(folder)
    for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin", "optimizer.pt", "scheduler.pkl"):
        (folder / "unet" / name).write_bytes(pickled(2))


def pickled_weights(folder: Path) -> None:
    """Only pickles where the weights should be, of all kinds."""
    for part, stem in WEIGHTS.items():
        (folder / part / f"{stem}.safetensors").unlink()
        (folder / part / f"{stem}.bin").write_bytes(archived())
        (folder / part / "pytorch_model.bin").write_bytes(pickled(4))
        torch.save({"weight": Evil()}, folder / part / f"{stem}.pt")


def _files(folder: Path) -> list[str]:
    """Those that a model is read from, and some that libraries look for."""
    parts = (*WEIGHTS, "scheduler", "tokenizer")
    own = [f"{part}/{path.name}" for part in parts for path in (folder / part).glob("*.json")]
    names = ("merges.txt", "tokenizer.json", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja")
    weights = [f"{part}/{stem}.safetensors" for part, stem in WEIGHTS.items()]
    return sorted({"model_index.json", *own, *weights, *(f"tokenizer/{name}" for name in names)})


def corpus(folder: Path) -> list[Hostile]:
    """Every folder; `folder` is the good model's, and each is begun as a copy of it."""
    secret = folder.parent / "secret.safetensors"
    shutil.copy(folder / "unet" / "diffusion_pytorch_model.safetensors", secret)
    found = [
        Hostile(f"pair {at}", "model", changed("model_index.json", unet=pair), "as its unet")
        for at, pair in enumerate(PAIRS)
    ]
    for part, table in (("unet/config.json", UNET), ("scheduler/scheduler_config.json", SCHEDULE)):
        found += [
            Hostile(f"{part} {field} {at}", "model", changed(part, **{field: value}), says)
            for at, (field, value, says) in enumerate(table)
        ]
    found += [
        Hostile(f"text {field}", "model", changed("text_encoder/config.json", **{field: value}), says)
        for field, value, says in (
            ("num_hidden_layers", 10**6, SIZES),
            ("hidden_size", 2**40, SIZES),
            ("hidden_act", "os.system", "no CLIP has"),
            ("max_position_embeddings", -1, SIZES),
            ("vocab_size", 1, "of shape|describes no|are not of one model"),
            ("layer_norm_eps", "x", None),
            ("attn_implementation", "flash_attention_2", None),
            ("_attn_implementation", "somebody/kernel", None),
        )
    ]
    found += [
        Hostile(f"tokenizer {field}", "model", changed("tokenizer/tokenizer_config.json", **{field: value}))
        for field, value in TOKENIZER.items()
    ]
    prepares = "feature_extractor/preprocessor_config.json"
    found += [
        Hostile(f"processor {field} {at}", "processor", changed(prepares, **{field: value}), says)
        for at, (field, value, says) in enumerate(PROCESSOR)
    ]
    found += _spoilt_files(folder)
    for part in ("unet", "text_encoder"):
        for at, place in enumerate(("../../secret.safetensors", str(secret), "..", "a\\b", 7, None, [], "x/../y")):
            says = "outside its folder|is no file"
            found.append(Hostile(f"shards of {part} {at}", "model", indexed(part, stray=place), says))
        found.append(Hostile(f"no shard of {part}", "model", indexed(part, x="none.safetensors"), "is no file"))
    found += [
        Hostile("code", "model", coded),
        Hostile("of another class", "model", changed("model_index.json", _class_name="StableDiffusionXLPipeline")),
        Hostile("pickled weights", "model", pickled_weights, "pickled weights are not read"),
        Hostile("NaN", "model", weighted("unet", _first(torch.nan)), "has NaN or infinite"),
        Hostile("infinite", "model", weighted("vae", _first(-torch.inf)), "has NaN or infinite"),
        Hostile("huge but finite", "model", weighted("unet", _first(6e4))),
        Hostile("integers", "model", weighted("unet", _integers), "quantised"),
        Hostile("one lacks", "model", weighted("vae", lambda held: dict(list(held.items())[1:])), "is incomplete"),
    ]
    return found


def _spoilt_files(folder: Path) -> list[Hostile]:
    """Every file of the model as something it should not be."""
    found = []
    passwords = Path("/etc/passwd")
    for file in _files(folder):
        specials = {
            "a pipe": os.mkfifo,
            "a folder": Path.mkdir,
            "a device": lambda path: path.symlink_to("/dev/zero"),
            "a link out": lambda path: path.symlink_to(passwords),
            "a link to itself": lambda path: path.symlink_to(path),
        }
        known = (folder / file).exists()
        found += [Hostile(f"{file} {name}", "model", swapped(file, make)) for name, make in specials.items()]
        if file.endswith(".json") and known:
            for name, text in (("deep", "[" * 10**5), ("a list", "[1]"), ("twins", '{"a": 1, "a": 2}')):
                found.append(Hostile(f"{file} {name}", "model", put(file, text), "JSON|object"))
        if file.endswith(".safetensors"):
            for name in ("cut at 9", "header of 2^40", "pickle 4"):
                found.append(Hostile(f"{file} {name}", "model", put(file, broken()[name]), "cannot be read"))
    return found


def _integers(held: dict) -> dict:
    return {name: tensor.to(torch.int8) for name, tensor in held.items()}


def _first(value: float) -> Callable[[dict], dict]:
    def spoil(held: dict) -> dict:
        name = next(name for name, tensor in held.items() if tensor.ndim > 1)
        return held | {name: torch.full_like(held[name], value)}

    return spoil
