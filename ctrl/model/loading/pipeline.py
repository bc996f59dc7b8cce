"""A pipeline of diffusers', with everything that was loaded into it: nothing of it is changed, no weight is copied.

The U-Net and the text encoders are views (`views.py`): what is loaded into the pipeline later is not in them, a change
of its weights in place is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ctrl.caller import warn_caller
from ctrl.model.loading.extras import Extras
from ctrl.model.loading.families import (
    UNNAMED,
    ControlNetSource,
    IPAdapterFiles,
    LoadedAdapter,
    control_kinds,
    family_of,
)
from ctrl.model.loading.folder import checked_parts, vae_dtype
from ctrl.model.loading.libraries import classes
from ctrl.model.loading.views import view
from ctrl.model.parts import Parts, TextEncoder

# Attention that is the same but for rounding; what is put in its place can be watched and steered.
EQUIVALENT = ("AttnProcessor", "AttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor",
              "FusedAttnProcessor2_0", "IPAdapterAttnProcessor", "IPAdapterAttnProcessor2_0",
              "IPAdapterXFormersAttnProcessor")  # fmt: skip
LEFT_OUT = {
    "safety_checker": "a safety checker, which ctrl does not ask",
    "watermark": "a watermark, which ctrl does not draw",
}


# What the image processors of all these pipelines do.
PROCESSES = {"do_resize": True, "do_normalize": True, "do_binarize": False, "do_convert_grayscale": False}


def is_pipeline(source: Any) -> bool:
    """Whether this is a pipeline of diffusers', decided without importing diffusers."""
    return isinstance(getattr(source, "components", None), dict)


def parts_of_pipeline(pipe: Any) -> Parts:
    """The parts of a pipeline that is of SD 1.x, SD 2.x or SDXL, on their device and in their dtype.

    A VAE that must be in float32 (`vae_dtype`) is copied. What cannot be followed raises a ValueError that says what to
    undo; a warning names what is left out, such as a safety checker.
    """
    has: dict[str, Any] = pipe.components
    kinds = _kinds(type(pipe).__name__, has)
    _check_places(has, [part for part in (*kinds, "controlnet", "adapter") if isinstance(has.get(part), nn.Module)])
    unet = _default_attention(view(has["unet"])).eval()
    encoders = [view(has[part]).eval() for part in kinds if part.startswith("text_encoder")]
    numbered = zip(("", "_2"), encoders, strict=False)
    text_encoders = [TextEncoder(has[f"tokenizer{end}"], encoder) for end, encoder in numbered]
    family = family_of(unet, len(text_encoders))
    _warn_of_left_out(pipe)
    return checked_parts(
        Parts(
            type(pipe).__name__,
            unet,
            _cast(has["vae"], vae_dtype(has["vae"].config, has["vae"].dtype, family)),
            tuple(text_encoders),
            dict(has["scheduler"].config),
            family.zero_negative and bool(pipe.config.get("force_zeros_for_empty_prompt", True)),
            has.get("image_encoder"),
            has.get("feature_extractor"),
        )
    )


def extras_of_pipeline(pipe: Any, named: Mapping[str, Any]) -> Extras:
    """The ControlNets, T2I-Adapters and IP-Adapters that were loaded into a pipeline, without those the user `named`.

    The kind of a control is read from the name its network was loaded by; "control" if that name states none.
    """
    named_nets = {id(net) for net in named.values()}
    controlnets: dict[str, ControlNetSource] = {}
    for part, net in _controls(pipe):
        if id(net) in named_nets:
            continue
        kinds = control_kinds(net.config, [*controlnets, *named])
        if unnamed := [kind for kind in kinds if kind.startswith(UNNAMED)]:
            title = "ControlNet" if part == "controlnet" else "T2I-Adapter"
            warn_caller(
                f"pipe has a {title} that does not say its kind; ctrl calls it {unnamed[0]!r}. To name it: "
                f"controlnets={{'pose': pipe.{part}}}."
            )
        sources = {kind: ControlNetSource(net, mode) for kind, mode in kinds.items()}
        controlnets |= {kind: source for kind, source in sources.items() if kind not in controlnets}
    loaded = list(_loaded_adapters(pipe.unet))
    names = ["base"] if len(loaded) == 1 else [f"base {at + 1}" for at in range(len(loaded))]
    return Extras(controlnets, {name: IPAdapterFiles(adapter) for name, adapter in zip(names, loaded, strict=True)})


def _kinds(name: str, has: Mapping[str, Any]) -> dict[str, Any]:
    """The modules a model is made of, by their classes; a ValueError says that a pipeline has others."""
    made = classes()
    kinds = {"unet": made.unet, "vae": made.vae, "text_encoder": made.text_encoder}
    if has.get("text_encoder_2") is not None:
        kinds["text_encoder_2"] = made.projecting
    for part, kind in kinds.items():
        if not isinstance(has.get(part), kind):
            got = type(has.get(part)).__name__
            want = kind.__name__
            raise ValueError(f"pipe, a {name}, has {got} as its {part}; ctrl supports pipelines with a {want}.")
    return kinds


def _check_places(has: Mapping[str, Any], parts: list[str]) -> None:
    places = {str(tensor.device) for part in parts for tensor in has[part].parameters()}
    if len(places) > 1 or "meta" in places or any(hasattr(has[part], "_hf_hook") for part in parts):
        raise ValueError(
            f"pipe's parts are on {', '.join(sorted(places))} or are moved about by hooks; call "
            "pipe.remove_all_hooks() and pipe.to(device) first."
        )


def _default_attention(unet: Any) -> Any:
    """The U-Net with the default processors, and without the IP-Adapters that were loaded into it."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    if odd := sorted({type(processor).__name__ for processor in unet.attn_processors.values()} - {*EQUIVALENT}):
        raise ValueError(
            f"pipe's U-Net attends by {', '.join(odd)}, which ctrl cannot watch or steer; "
            "call pipe.unet.set_attn_processor(AttnProcessor2_0())."
        )
    for module in unet.modules():
        if hasattr(module, "fused_projections"):
            module.fused_projections = False
    unet.set_attn_processor(AttnProcessor2_0())
    if unet.config.encoder_hid_dim_type == "ip_image_proj":
        unet.encoder_hid_proj = None
        unet.register_to_config(encoder_hid_dim_type=None)
    return unet


def _loaded_adapters(unet: Any) -> Iterator[LoadedAdapter]:
    layers = getattr(unet.encoder_hid_proj, "image_projection_layers", ())
    for number, projection in enumerate(layers):
        processors = {
            f"unet.{name.removesuffix('.processor')}": processor
            for name, processor in unet.attn_processors.items()
            if hasattr(processor, "to_k_ip")
        }
        pairs = {
            site: (layer.to_k_ip[number].weight.detach(), layer.to_v_ip[number].weight.detach())
            for site, layer in processors.items()
        }
        yield LoadedAdapter(f"pipe's IP-Adapter {number + 1}", projection, pairs)


def _controls(pipe: Any) -> Iterator[tuple[str, Any]]:
    """The ControlNets and T2I-Adapters of a pipeline, each with the part that holds it.

    There may be none, one, or several in a list or in diffusers' MultiControlNetModel or MultiAdapter.
    """
    for part, inside in (("controlnet", "nets"), ("adapter", "adapters")):
        held = pipe.components.get(part)
        several = held if isinstance(held, list | tuple) else getattr(held, inside, None)
        yield from ((part, net) for net in ([held] if several is None else several) if net is not None)


def _cast(module: Any, dtype: torch.dtype) -> Any:
    """The module if it is of this type, else a copy that is."""
    return module if module.dtype == dtype else copy.deepcopy(module).to(dtype).requires_grad_(requires_grad=False)


def _warn_of_left_out(pipe: Any) -> None:
    left = [sentence for part, sentence in LEFT_OUT.items() if getattr(pipe, part, None) is not None]
    processor = getattr(pipe, "image_processor", None)
    if processor is not None and any(processor.config.get(key, value) != value for key, value in PROCESSES.items()):
        left.append("an image processor of its own settings, which ctrl does not use")
    if left:
        warn_caller(f"pipe has {', and '.join(left)}.")
