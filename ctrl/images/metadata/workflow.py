"""ComfyUI's drawing of a graph, given names: the nodes every workflow has."""

from __future__ import annotations

from typing import Any

# The widgets of a node in their order; "" is a button or a choice of the editor's.
WIDGETS = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "SamplerCustom": ("", "noise_seed", "", "cfg"),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "RandomNoise": ("noise_seed",),
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "EmptyLatentImage": ("width", "height"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name",),
    "LoraLoader": ("lora_name", "strength_model"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "ControlNetApply": ("strength",),
    "ControlNetApplyAdvanced": ("strength",),
}


def as_graph(workflow: dict[str, Any]) -> dict[str, Any]:
    """The drawing in the form of a graph that ran; nodes that were switched off are left out."""
    nodes = [node for node in _list(workflow.get("nodes")) if isinstance(node, dict) and node.get("mode", 0) == 0]
    links = dict(filter(None, map(_link, _list(workflow.get("links")))))
    return {str(node.get("id")): {"class_type": node.get("type"), "inputs": _inputs(node, links)} for node in nodes}


def _inputs(node: dict[str, Any], links: dict[Any, list[Any]]) -> dict[str, Any]:
    names = WIDGETS.get(str(node.get("type")), ())
    values = _list(node.get("widgets_values"))
    found = {name: value for name, value in zip(names, values, strict=False) if name}
    for one in _list(node.get("inputs")):
        if isinstance(one, dict) and isinstance(one.get("link"), int) and one["link"] in links:
            found[str(one.get("name"))] = links[one["link"]]
    return found


def _link(given: Any) -> tuple[int, list[Any]] | None:
    """A link's number, and where it comes from: `[7, 4, 0, 3, 0, "MODEL"]`, or an object of the newer form."""
    if isinstance(given, list) and len(given) >= 3 and isinstance(given[0], int):
        return given[0], [str(given[1]), given[2]]
    if isinstance(given, dict) and isinstance(given.get("id"), int):
        return given["id"], [str(given.get("origin_id")), given.get("origin_slot")]
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
