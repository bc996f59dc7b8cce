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
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "VAELoader": ("vae_name",),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "ControlNetApply": ("strength",),
    "ControlNetApplyAdvanced": ("strength",),
}


MUTED, BYPASSED = 2, 4  # the modes of a node that did not run, and of one that handed its inputs on
PARTS = 100  # of a workflow, each drawn as a node


def as_graph(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow in the form of a graph that ran: muted nodes left out, bypassed ones handing on what they get.

    Of a workflow that is drawn in parts (subgraphs) each part is a graph, and the one with a sampler is read.
    """
    graphs = [_graph(workflow), *(_graph(part) for part in _parts(workflow))]
    with_sampler = [graph for graph in graphs if any("latent_image" in node["inputs"] for node in graph.values())]
    return next(iter(with_sampler), graphs[0])


def _parts(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    definitions = workflow.get("definitions")
    parts = _list(definitions.get("subgraphs")) if isinstance(definitions, dict) else []
    return [part for part in parts if isinstance(part, dict)][:PARTS]


def _graph(workflow: dict[str, Any]) -> dict[str, Any]:
    drawn = [node for node in _list(workflow.get("nodes")) if isinstance(node, dict)]
    nodes = [node for node in drawn if node.get("mode", 0) not in (MUTED, BYPASSED)]
    links = dict(filter(None, map(_link, _list(workflow.get("links")))))
    passed = {str(node.get("id")): node for node in drawn if node.get("mode") == BYPASSED}
    whole = {number: _through(link, links, passed) for number, link in links.items()}
    return {str(node.get("id")): {"class_type": node.get("type"), "inputs": _inputs(node, whole)} for node in nodes}


def _through(link: list[Any], links: dict[Any, list[Any]], passed: dict[str, Any]) -> list[Any]:
    """Where a link comes from, past bypassed nodes: each hands on its first input of the output's type."""
    for _ in range(len(passed)):
        node = passed.get(link[0])
        if node is None:
            break
        outputs, slot = _list(node.get("outputs")), link[1] if isinstance(link[1], int) else 0
        kind = outputs[slot].get("type") if slot < len(outputs) and isinstance(outputs[slot], dict) else None
        entries = [
            entry for entry in _list(node.get("inputs")) if isinstance(entry, dict) and entry.get("link") in links
        ]
        alike = [entry for entry in entries if entry.get("type") == kind] or entries
        if not alike:
            break
        link = links[alike[0]["link"]]
    return link


def _inputs(node: dict[str, Any], links: dict[Any, list[Any]]) -> dict[str, Any]:
    names = WIDGETS.get(str(node.get("type")), ())
    values = node.get("widgets_values")
    named = values if isinstance(values, dict) else dict(zip(names, _list(values), strict=False))
    inputs = {str(name): value for name, value in named.items() if name}
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
