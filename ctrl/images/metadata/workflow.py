"""ComfyUI's workflow as a graph whose inputs have names: the nodes every workflow has."""

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
    """The workflow in the form of a graph that ran; nodes that were switched off are left out."""
    nodes = [node for node in _list(workflow.get("nodes")) if isinstance(node, dict) and node.get("mode", 0) == 0]
    links = dict(filter(None, map(_link, _list(workflow.get("links")))))
    return {str(node.get("id")): {"class_type": node.get("type"), "inputs": _inputs(node, links)} for node in nodes}


def _inputs(node: dict[str, Any], links: dict[Any, list[Any]]) -> dict[str, Any]:
    names = WIDGETS.get(str(node.get("type")), ())
    values = _list(node.get("widgets_values"))
    inputs = {name: value for name, value in zip(names, values, strict=False) if name}
    for link in _list(node.get("inputs")):
        if isinstance(link, dict) and isinstance(link.get("link"), int) and link["link"] in links:
            inputs[str(link.get("name"))] = links[link["link"]]
    return inputs


def _link(link: Any) -> tuple[int, list[Any]] | None:
    """A link's number, and where it comes from: `[7, 4, 0, 3, 0, "MODEL"]`, or an object of the newer form."""
    if isinstance(link, list) and len(link) >= 3 and isinstance(link[0], int):
        return link[0], [str(link[1]), link[2]]
    if isinstance(link, dict) and isinstance(link.get("id"), int):
        return link["id"], [str(link.get("origin_id")), link.get("origin_slot")]
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
