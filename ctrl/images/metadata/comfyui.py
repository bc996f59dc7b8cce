"""ComfyUI: the graph that made a picture, read back from its sampler to what feeds it.

`prompt` is the graph as it ran, `{"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0], …}}, …}`;
`workflow` is the editor's drawing of it, whose numbers have no names, so that only well-known nodes are read from it.
Every node that had a part in the picture and was not read becomes a note.
"""

from __future__ import annotations

import re
from typing import Any

from ctrl.images.metadata.fields import as_object
from ctrl.images.metadata.generation import (
    Generation,
    integer,
    left_out,
    number,
    plain_sampler,
    plain_schedule,
    size_of,
    stem,
    vae_note,
)
from ctrl.images.metadata.graph import ABOVE, Graph, Node
from ctrl.images.metadata.lora_tags import LoraUse
from ctrl.images.metadata.workflow import as_graph

PROGRAM = "ComfyUI"
MAX_SAMPLERS = 50
TEXTS = ("text", "text_g", "prompt")
LORA_INPUTS = (  # of a loader: the name, the weight for the U-Net and that for the text encoders
    ("lora_name", "strength_model", "strength_clip"),
    ("lora", "strength", "strength_clip"),
    ("lora_name", "model_weight", "clip_weight"),
    ("lora_name", "lora_model_strength", "lora_clip_strength"),
)
NUMBERED = ("", *(f"_{at:02}" for at in range(1, 9)), *(f"_{at}" for at in range(1, 9)))  # how inputs of several end
# Schedulers and samplers that are nodes of their own, and say what they are by their names only.
BY_NODE = {"KarrasScheduler": "karras", "ExponentialScheduler": "exponential", "SDTurboScheduler": "trailing"}
SAMPLER_NODE = re.compile(r"Sampler_?(?=[A-Z])")
# Nodes without which the picture is the same, or that are spoken of elsewhere.
SILENT = re.compile(
    r"Save|Preview|Show|Note|Reroute|Primitive|VAEDecode|CheckpointLoader|UNETLoader|CLIPLoader|LoadImage$|CLIPVision|"
    r"ControlNetLoader|ControlNetApply|UpscaleModelLoader|ModelLoader|VAEEncode$|VAELoader|LatentNoiseMask|^Basic|"
    r"Conditioning(?:ZeroOut|Combine|Concat|Average)"
)


def read(prompt: str | None, workflow: str | None) -> Generation:
    """The settings of the first sampler of what was saved; a ValueError where there is none."""
    nodes = as_object(prompt, PROGRAM) if prompt else as_graph(as_object(workflow or "", PROGRAM))
    graph = Graph(nodes)
    samplers = [node for node in graph.nodes.values() if "latent_image" in node.inputs and _samples(node)]
    if not samplers:
        raise ValueError("what ComfyUI wrote into the picture holds no sampler whose settings could be read.")
    parts = _saved(graph)
    samplers = ([node for node in samplers if node.id in parts] or samplers)[:MAX_SAMPLERS]
    ids = {node.id for node in samplers}
    roots = [node for node in samplers if not any(source.id in ids for source in graph.above(node, "latent_image"))]
    first = (roots or samplers)[0]
    guider = graph.source(first.inputs.get("guider")) or first
    positive, controls = _texts(graph, guider, "positive" if "positive" in guider.inputs else "conditioning")
    negative, others = _texts(graph, guider, "negative")
    sampler, ending = plain_sampler(str(graph.first(first, "sampler_name", "sampler") or _node_of(graph, first)))
    schedule = _schedule(graph, first)
    size, strength, start_notes = _start(graph, first)
    loras, model = _model(graph, guider if "model" in guider.inputs else first)
    passes = [f"a further pass by {node.kind}" for node in samplers if node is not first]
    graph.read |= {first.id, guider.id, *ids}
    notes = [left_out(note) for note in [*controls, *others, *_window(graph, first), *passes]]
    notes = list(dict.fromkeys([*notes, *start_notes]))
    return Generation(
        PROGRAM,
        positive,
        negative,
        steps=integer(graph.first(first, "steps", "sigmas")),
        guidance=number(graph.value(guider, "cfg")),
        seed=integer(_seed(graph, first)),
        clip_skip=_clip_skip(graph, guider),
        sampler=sampler or None,
        schedule=plain_schedule(str(schedule)) if schedule else ending,
        size=size,
        strength=strength,
        model=model,
        loras=loras,
        notes=(*notes, *_unread(graph, parts)),
    )


def _samples(node: Node) -> bool:
    return {"seed", "noise_seed", "noise"} & set(node.inputs) != set() and "vae" not in node.inputs


def _saved(graph: Graph) -> set[str]:
    """The ids of the nodes that had a part in what was saved; all where nothing was."""
    savers = [node for node in graph.nodes.values() if "Save" in node.kind and "images" in node.inputs]
    above = {source.id for saver in savers for source in graph.above(saver)}
    return above or {*graph.nodes}


def _unread(graph: Graph, parts: set[str]) -> list[str]:
    """A note on each kind of node that had a part in the picture and was not read."""
    unread = [node for node in graph.nodes.values() if node.id in parts - graph.read and not SILENT.search(node.kind)]
    loaders = [node for node in graph.nodes.values() if node.id in parts and node.kind == "VAELoader"]
    vaes = [str(name) for node in loaders if (name := graph.value(node, "vae_name")) is not None]
    kinds = [f"the node {kind} was not read" for kind in dict.fromkeys(node.kind for node in unread)]
    return [*map(vae_note, vaes), *kinds]


def _seed(graph: Graph, node: Node) -> Any:
    seed = graph.value(node, "seed")
    return graph.first(node, "noise_seed", "noise") if seed is None else seed


def _node_of(graph: Graph, first: Node) -> str:
    """The sampler that a node is, such as SamplerDPMPP_2M_SDE."""
    source = graph.source(first.inputs.get("sampler"))
    if source is None:
        return ""
    graph.read.add(source.id)
    return SAMPLER_NODE.sub("", source.kind)


def _schedule(graph: Graph, first: Node) -> Any:
    named = graph.first(first, "scheduler", "sigmas")
    source = graph.source(first.inputs.get("sigmas"))
    if named is not None or source is None:
        return named
    graph.read.add(source.id)
    return BY_NODE.get(source.kind, source.kind)


def _window(graph: Graph, first: Node) -> list[str]:
    """Notes on the first sampler's leaving out steps."""
    start, end = (number(graph.value(first, name)) for name in ("start_at_step", "end_at_step"))
    steps = number(graph.value(first, "steps")) or 0
    notes = [f"its beginning at step {start:g}"] if start else []
    return notes if end is None or end >= steps else [*notes, f"its end at step {end:g} of {steps:g}"]


def _clip_skip(graph: Graph, guider: Node) -> int | None:
    """The number of the layer that is read, as AUTOMATIC1111's web UI counts: 1 is the last."""
    layers = (graph.value(node, name) for node in graph.above(guider) for name in ("stop_at_clip_layer", "clip_skip"))
    layer = next((whole for layer in layers if (whole := integer(layer)) is not None), None)
    return None if layer is None else abs(layer)


def _texts(graph: Graph, node: Node, name: str) -> tuple[str, list[str]]:
    """The text that an input's conditioning was made from, and notes on what is on its way."""
    texts: list[str] = []
    notes: list[str] = []
    seen: set[tuple[str, str]] = set()
    queue = [(node.inputs.get(name), name)]
    while queue and len(seen) < ABOVE:
        link, name = queue.pop(0)
        source = graph.source(link)
        slot = link[1] if isinstance(link, list) else 0
        if source is None or (source.id, name) in seen or source.kind == "ConditioningZeroOut":
            continue
        seen.add((source.id, name))
        if "control_net" in source.inputs:
            notes.append(f"a ControlNet at strength {graph.value(source, 'strength')}")
        text, more = _text_of(graph, source, name)
        notes += more
        if text is not None:
            texts.append(text)
            continue
        pair = ("positive", "negative")  # a node that takes both gives both, in this order
        if set(pair) <= set(source.inputs):
            name = pair[slot == 1]
            queue.append((source.inputs[name], name))
        else:
            queue += [(value, name) for key, value in source.inputs.items() if key.startswith("cond") or key == ""]
    if len(texts) > 1:
        notes.append(f"the way in which {len(texts)} prompts were combined")
    return ", ".join(dict.fromkeys(text.strip() for text in texts if text.strip())), notes


def _text_of(graph: Graph, source: Node, name: str) -> tuple[str | None, list[str]]:
    """The text that a node encodes, if it does, and notes on what of it is not known."""
    keys = [key for key in TEXTS if key in source.inputs]
    if not keys:
        plain = source.inputs.get(name)  # a loader that takes both prompts as text
        if isinstance(plain, str):
            graph.read.add(source.id)
        return (plain, []) if isinstance(plain, str) else (None, [])
    text = next((text for key in keys if (text := graph.text(source, key)) is not None), None)
    if text is None:
        maker = graph.source(source.inputs[keys[0]])
        return None, [f"a prompt that the node {maker.kind if maker else source.kind} made"]
    second = graph.text(source, "text_l") if "text_l" in source.inputs else text
    return text, [] if second in (text, None, "") else [f"the first text encoder's own prompt {second!r:.80}"]


def _start(graph: Graph, sampler: Node) -> tuple[tuple[int, int] | None, float | None, list[str]]:
    """The picture's size where it starts from nothing, the strength where it starts from an image, and notes."""
    for node in graph.above(sampler, "latent_image"):
        if "pixels" in node.inputs or node.kind == "VAEEncode":
            denoise = number(graph.first(sampler, "denoise", "sigmas"))
            graph.read.add(node.id)
            masked = any("mask" in one.inputs for one in graph.above(sampler, "latent_image"))
            masks = [left_out("its mask")] if masked else []
            image = "the image it was made from is not in the file; give it as image=..."
            return None, 1.0 if denoise is None else denoise, [*masks, image]
        for pair in (("width", "height"), ("empty_latent_width", "empty_latent_height")):
            if (size := size_of(*(graph.value(node, side) for side in pair))) is not None:
                return size, None, []
        sides = re.match(r"\s*(\d{2,5})\s*x\s*(\d{2,5})\b", str(graph.value(node, "dimensions") or ""))
        if sides is not None and (size := size_of(sides[1], sides[2])) is not None:
            return size, None, []
    return None, None, ["its size is not known; give it as width=... and height=..."]


def _model(graph: Graph, node: Node) -> tuple[tuple[LoraUse, ...], str | None]:
    """The LoRAs on the way to the model, in the order they were applied, and the model."""
    loras: list[LoraUse] = []
    above = list(graph.above(node, "model"))
    for loader in above:
        if found := _loras(graph, loader):
            loras += found
            graph.read.add(loader.id)
    files = [graph.value(loader, name) for loader in above for name in ("ckpt_name", "unet_name")]
    model = next((stem(file) for file in files if isinstance(file, str)), None)
    return tuple(reversed(loras)), model


def _loras(graph: Graph, loader: Node) -> list[LoraUse]:
    """The LoRAs of one loader: by single inputs, by objects, or by numbered inputs."""
    entries: list[tuple[Any, Any, Any]] = [
        (entry.get("lora"), entry.get("strength"), entry.get("strengthTwo"))
        for entry in loader.inputs.values()
        if isinstance(entry, dict) and entry.get("on")
    ]
    for ending in NUMBERED:
        for forms in LORA_INPUTS:
            name, weight, text = (form + ending for form in forms)
            if name in loader.inputs and weight in loader.inputs:
                entries.append((graph.value(loader, name), graph.value(loader, weight), graph.value(loader, text)))
    found = []
    for name, weight, text in entries:
        if isinstance(name, str) and name.lower() != "none" and (strength := number(weight)) is not None:
            own = number(text)
            found.append(LoraUse(stem(name), strength, None if own in (None, strength) else own))
    return found
