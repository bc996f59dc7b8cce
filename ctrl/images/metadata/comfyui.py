"""ComfyUI: the graph that made a picture, read back from its sampler to what feeds it.

`prompt` is the graph as it ran, `{"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0], …}}, …}`;
`workflow` is the editor's drawing of it, whose numbers have no names, so that only well-known nodes are read from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
)
from ctrl.images.metadata.workflow import as_graph

PROGRAM = "ComfyUI"
SAME = ("value", "text", "string", "int", "float", "number", "seed")  # the input of a node that only hands on a value
ABOVE = 200  # nodes between a sampler and what it is made from
MAX_SAMPLERS = 50


@dataclass(frozen=True)
class Node:
    """A node of the graph."""

    id: str
    kind: str
    inputs: dict[str, Any]


class Graph:
    """The nodes of a graph and the links of their inputs."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self.nodes = {
            str(id): Node(str(id), str(node["class_type"]), node["inputs"])
            for id, node in nodes.items()
            if isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict)
        }

    def source(self, value: Any) -> Node | None:
        """The node an input comes from, None for an input that is a value."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
            return self.nodes.get(str(value[0]))
        return None

    def value(self, node: Node, name: str) -> Any:
        """An input's value, through nodes that only hand it on; None if it has none."""
        value = node.inputs.get(name)
        for _ in range(ABOVE):
            source = self.source(value)
            if source is None:
                return None if isinstance(value, list | dict) else value
            value = next((source.inputs[key] for key in (name, *SAME) if key in source.inputs), None)
        return None

    def above(self, node: Node, *names: str) -> Iterator[Node]:
        """The nodes an input leads to, nearest first, then what leads to those; all inputs where none is named."""
        seen, queue = {node.id}, [node.inputs.get(name) for name in names or node.inputs]
        while queue and len(seen) < ABOVE:
            source = self.source(queue.pop(0))
            if source is not None and source.id not in seen:
                seen.add(source.id)
                yield source
                queue += source.inputs.values()

    def first(self, node: Node, name: str, *through: str) -> Any:
        """The input of this name of the node, else of the nearest node above that has it."""
        if (value := self.value(node, name)) is not None or not through:
            return value
        values = (self.value(source, name) for source in self.above(node, *through))
        return next((value for value in values if value is not None), None)


def read(prompt: str | None, workflow: str | None) -> Generation:
    """The settings of the graph's first sampler; a ValueError where there is none."""
    nodes = as_object(prompt, PROGRAM) if prompt else as_graph(as_object(workflow or "", PROGRAM))
    graph = Graph(nodes)
    samplers = [node for node in graph.nodes.values() if "latent_image" in node.inputs and _samples(node)][
        :MAX_SAMPLERS
    ]
    if not samplers:
        raise ValueError("what ComfyUI wrote into the picture holds no sampler whose settings could be read.")
    ids = {node.id for node in samplers}
    roots = [node for node in samplers if not any(source.id in ids for source in graph.above(node, "latent_image"))]
    first = (roots or samplers)[0]
    guider = graph.source(first.inputs.get("guider")) or first
    positive, controls = _texts(graph, guider, "positive" if "positive" in guider.inputs else "conditioning")
    negative, _ = _texts(graph, guider, "negative")
    sampler, ending = plain_sampler(str(graph.first(first, "sampler_name", "sampler") or ""))
    schedule = graph.first(first, "scheduler", "sigmas")
    size, strength = _start(graph, first)
    notes = [left_out(note) for note in controls]
    notes += [left_out(f"a further pass by {node.kind}") for node in samplers if node is not first]
    if strength is not None:
        notes.append("the image it was made from is not in the file; give it as image=...")
    loras, model = _model(graph, guider if "model" in guider.inputs else first)
    return Generation(
        PROGRAM,
        positive,
        negative,
        steps=integer(graph.first(first, "steps", "sigmas")),
        sampler=sampler or None,
        schedule=plain_schedule(str(schedule)) if schedule else ending,
        guidance=number(graph.value(guider, "cfg")),
        seed=integer(_seed(graph, first)),
        size=size,
        strength=strength,
        model=model,
        loras=loras,
        notes=tuple(dict.fromkeys(notes)),
    )


def _samples(node: Node) -> bool:
    return {"seed", "noise_seed", "noise"} & set(node.inputs) != set() and "vae" not in node.inputs


def _seed(graph: Graph, node: Node) -> Any:
    seed = graph.value(node, "seed")
    return graph.first(node, "noise_seed", "noise") if seed is None else seed


def _texts(graph: Graph, node: Node, name: str) -> tuple[str, list[str]]:
    """The text that an input's conditioning was made from, and the controls on its way."""
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
        text = next(
            (value for key in ("text", "text_g", "prompt") if isinstance(value := graph.value(source, key), str)), None
        )
        if text is not None:
            texts.append(text)
            continue
        pair = ("positive", "negative")  # a node that takes both gives both, in this order
        if set(pair) <= set(source.inputs):
            name = pair[slot == 1]
            queue.append((source.inputs[name], name))
        else:
            queue += [(value, name) for key, value in source.inputs.items() if key.startswith("cond")]
    if len(texts) > 1:
        notes.append(f"the way in which {len(texts)} prompts were combined")
    return ", ".join(dict.fromkeys(text.strip() for text in texts if text.strip())), notes


def _start(graph: Graph, sampler: Node) -> tuple[tuple[int, int] | None, float | None]:
    """The picture's size where it starts from nothing, and the strength where it starts from an image."""
    for node in graph.above(sampler, "latent_image"):
        if "pixels" in node.inputs or node.kind == "VAEEncode":
            denoise = number(graph.first(sampler, "denoise", "sigmas"))
            return None, 1.0 if denoise is None else denoise
        if (size := size_of(graph.value(node, "width"), graph.value(node, "height"))) is not None:
            return size, None
    return None, None


def _model(graph: Graph, node: Node) -> tuple[tuple[tuple[str, float], ...], str | None]:
    """The LoRAs on the way to the model, in the order they were applied, and the model."""
    loras: list[tuple[str, float]] = []
    above = list(graph.above(node, "model"))
    for loader in above:
        entries = [value for value in loader.inputs.values() if isinstance(value, dict) and value.get("on")]
        pairs = [(graph.value(loader, "lora_name"), graph.value(loader, "strength_model"))]
        pairs += [(entry.get("lora"), entry.get("strength")) for entry in entries]  # several in one node
        for name, weight in pairs:
            if isinstance(name, str) and (strength := number(weight)) is not None:
                loras.append((stem(name), strength))
    files = [graph.value(loader, name) for loader in above for name in ("ckpt_name", "unet_name")]
    model = next((stem(file) for file in files if isinstance(file, str)), None)
    return tuple(reversed(loras)), model
