"""What a config.json may ask for: known fields, of known types, within bounds, before anything is built from it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ctrl.caller import warn_caller


@dataclass(frozen=True)
class Bound:
    """Whole numbers from `low` to `high` in these fields."""

    fields: tuple[str, ...]
    low: int
    high: int


# Twice or more of what the largest published models have. What multiplies modules is bounded tightly, since a
# config asking for twenty thousand layers would be obeyed for minutes; mere sizes must match the weights anyway.
BOUNDS = (
    Bound(("layers_per_block", "num_trans_layer", "num_res_blocks"), 1, 8),
    Bound(("channels",), 1, 8192),
    Bound(("downscale_factor",), 1, 64),
    Bound(("transformer_layers_per_block", "reverse_transformer_layers_per_block"), 0, 24),
    Bound(("num_hidden_layers",), 1, 96),
    Bound(("in_channels", "out_channels", "latent_channels", "conditioning_channels", "num_channels"), 1, 64),
    Bound(("block_out_channels", "conditioning_embedding_out_channels", "norm_num_groups"), 1, 8192),
    Bound(("attention_head_dim", "num_attention_heads"), 1, 8192),
    Bound(("sample_size", "image_size"), 1, 16384),
    Bound(("max_position_embeddings",), 2, 4096),
    Bound(("num_train_timesteps",), 1, 10_000),
)
ANYTHING = Bound((), -(1 << 20), 1 << 20)
ENTRIES = 16  # of a list
BLOCKS = 8  # of a U-Net or a VAE
LETTERS = 100  # of a string
BETAS = 10_000
UNCLIPPED = ("lambda_min_clipped", -math.inf)  # what every DPM-Solver of diffusers writes, as -Infinity
SIDE = 4096  # pixels, of a picture on its way to an image encoder

# What transformers' CLIP is made of; its configurations carry some eighty more fields, some of which have chosen
# what code is run.
CLIP = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "num_channels",
    "image_size",
    "patch_size",
    "use_attention_mask",
)
ACTIVATIONS = ("quick_gelu", "gelu")
TRAINING = (  # written by EMA training; not needed to build the model
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
)


def checked(kind: Any, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of a config.json that build a `kind` of diffusers' or transformers', each looked at.

    A class by another name, a value of a foreign type or out of bounds raises a ValueError; a field that the
    installed diffusers does not know is left out with a warning.
    """
    if hasattr(kind, "config_class"):
        kept = {field: config[field] for field in CLIP if field in config}
        if kept.get("hidden_act", ACTIVATIONS[0]) not in ACTIVATIONS:
            raise ValueError(f"{name}/config.json has the hidden_act {kept['hidden_act']!r:.80}, which no CLIP has.")
    else:
        if (named := config.get("_class_name", kind.__name__)) != kind.__name__:
            raise ValueError(f"{name}/config.json is of a {named!r:.80}, and a {kind.__name__} is needed.")
        known = list(inspect.signature(kind.__init__).parameters)[1:]
        kept = {field: config[field] for field in known if field in config}
        strange = [field for field in config if field not in (*known, *TRAINING) and not field.startswith("_")]
        if strange:
            listed = ", ".join(strange)
            warn_caller(f"{name}/config.json has fields unknown to diffusers: {listed:.200}.")
    for field, value in kept.items():
        _check(f"{field} in {name}/config.json", field, value)
    if len(_listed(kept.get("block_out_channels"))) > BLOCKS:
        raise ValueError(f"block_out_channels in {name}/config.json has more than {BLOCKS} entries.")
    if len(_listed(kept.get("sample_size"))) > 2:
        raise ValueError(f"sample_size in {name}/config.json must be a number or two, got {kept['sample_size']!r:.80}.")
    return kept


def checked_schedule(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of a noise schedule, each of its fields looked at."""
    kept = {field: value for field, value in config.items() if field != "trained_betas"}
    for field, value in kept.items():
        _check(f"{field} in {name}", field, value)
        if isinstance(value, float) and not math.isfinite(value) and (field, value) != UNCLIPPED:
            raise ValueError(f"{field} in {name} must be finite, got {value}.")
    betas = config.get("trained_betas")
    if betas is not None:
        if not isinstance(betas, list) or not 0 < len(betas) <= BETAS or not all(isinstance(b, float) for b in betas):
            raise ValueError(f"trained_betas in {name} must be at most {BETAS} numbers, got {betas!r:.80}.")
        kept["trained_betas"] = betas
    if str(kept.get("variance_type")).startswith("learned"):
        variance = kept["variance_type"]
        raise ValueError(f"variance_type in {name} is {variance!r:.40}: a model that predicts its variance.")
    for field in ("beta_start", "beta_end"):
        if not isinstance(beta := kept.get(field, 0.01), float) or not 0 < beta < 1:
            raise ValueError(f"{field} in {name} must be between 0 and 1, got {beta!r:.80}.")
    return kept


def checked_processor(config: Mapping[str, Any], side: int, name: str) -> dict[str, Any]:
    """The fields of a preprocessor_config.json that CLIP's processor is made of, for pictures of `side` pixels."""
    kept = {field: config[field] for form in PROCESSOR for field in form.fields if config.get(field) is not None}
    for form in PROCESSOR:
        for field in form.fields:
            if field in kept and not form.fits(kept[field]):
                raise ValueError(f"{field} in {name} must be {form.what}, got {kept[field]!r:.80}.")
    last = "crop_size" if kept.get("do_center_crop", True) else "size"
    made = kept.get(last, side)
    if made not in (side, {"height": side, "width": side}):
        raise ValueError(f"{last} in {name} makes pictures of {made!r:.80}, and the image encoder reads {side}×{side}.")
    return kept


def _is_size(value: Any) -> bool:
    sides = list(value.values()) if isinstance(value, dict) else [value]
    named = not isinstance(value, dict) or set(value) in ({"shortest_edge"}, {"height", "width"})
    return named and all(type(side) is int and 0 < side <= SIDE for side in sides)


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _are_three(value: Any, low: float) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_number(number, low, 10) for number in value)


@dataclass(frozen=True)
class Form:
    """What these fields must be."""

    fields: tuple[str, ...]
    what: str
    fits: Callable[[Any], bool]


PROCESSOR = (
    Form(
        ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"),
        "true or false",
        lambda value: isinstance(value, bool),
    ),
    Form(("size", "crop_size"), f"sides of 1 to {SIDE} pixels", _is_size),
    Form(("resample",), "a filter of Pillow's, 0 to 5", lambda value: type(value) is int and 0 <= value <= 5),
    Form(("rescale_factor",), "a number above 0 and at most 1", lambda value: _is_number(value, 1e-6, 1)),
    Form(("image_mean",), "three numbers from -10 to 10", lambda value: _are_three(value, -10)),
    Form(("image_std",), "three numbers from 0.001 to 10", lambda value: _are_three(value, 1e-3)),
)


def _check(where: str, field: str, value: Any) -> None:
    bound = next((bound for bound in BOUNDS if field in bound.fields), ANYTHING)
    flat = [inner for entry in _listed(value) for inner in _listed(entry)]
    if len(flat) > ENTRIES:
        raise ValueError(f"{where} has {len(flat)} entries; at most {ENTRIES} are accepted.")
    for entry in flat:
        if isinstance(entry, str) and len(entry) > LETTERS:
            raise ValueError(f"{where} has {len(entry)} letters; at most {LETTERS} are accepted.")
        if entry is not None and not isinstance(entry, bool | int | float | str):
            raise ValueError(f"{where} must be a number, a word or a list of them, got {entry!r:.80}.")
        if bound is not ANYTHING and entry is not None and type(entry) is not int:
            raise ValueError(f"{where} must be a whole number from {bound.low} to {bound.high}, got {entry!r:.80}.")
        if isinstance(entry, int) and not isinstance(entry, bool) and not bound.low <= entry <= bound.high:
            raise ValueError(f"{where} must be between {bound.low} and {bound.high}, got {entry!s:.40}.")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
