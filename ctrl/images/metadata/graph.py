"""ComfyUI's graph as it ran: nodes, the links of their inputs, and which nodes were read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

FINAL = ("populated_text", "text_0")  # the input of a node that keeps the text it came to
SAME = ("value", "text", "string", "int", "float", "number", "seed")  # the input of a node that only hands on a value
PIECES = (  # the inputs of a node that puts texts together
    ("string_a", "string_b"), ("text1", "text2"), ("text_a", "text_b", "text_c", "text_d"), ("string1", "string2"),
    ("str1", "str2"), ("a", "b"),
)  # fmt: skip
BETWEEN = ("delimiter", "separator", "linebreak_addition")
ABOVE = 200  # nodes between a sampler and what it is made from
DEEP = 20  # texts in texts


@dataclass(frozen=True)
class Node:
    """A node of the graph."""

    id: str
    kind: str
    inputs: dict[str, Any] = field(repr=False)


class Graph:
    """The nodes of a graph. `read` are the ids of those that a value was taken from."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self.nodes = {
            str(id): Node(str(id), str(node["class_type"]), node["inputs"])
            for id, node in nodes.items()
            if isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict)
        }
        self.read: set[str] = set()

    def source(self, value: Any) -> Node | None:
        """The node an input comes from, None for an input that is a value."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
            return self.nodes.get(str(value[0]))
        return None

    def value(self, node: Node, name: str) -> Any:
        """An input's value, through nodes that only hand it on; None if it has none."""
        value, passed = node.inputs.get(name), [node.id]
        for _ in range(ABOVE):
            source = self.source(value)
            if source is None:
                found = None if isinstance(value, list | dict) else value
                if found is not None:
                    self.read.update(passed)
                return found
            passed.append(source.id)
            keys = (*FINAL, name, *SAME, *(source.inputs if "Reroute" in source.kind else ()))
            value = next((source.inputs[key] for key in keys if key in source.inputs), None)
        return None

    def text(self, node: Node, name: str, depth: int = 0) -> str | None:
        """An input's text, also one that nodes put together; None if it cannot be known."""
        value = self.value(node, name)
        if isinstance(value, str):
            return value
        source = self.source(node.inputs.get(name))
        keys = next((keys for keys in PIECES if source and keys[0] in source.inputs and keys[1] in source.inputs), ())
        if source is None or not keys or depth > DEEP:
            return None
        parts = [self.text(source, key, depth + 1) for key in keys if key in source.inputs]
        if any(part is None for part in parts):
            return None
        between = next((self.value(source, key) for key in BETWEEN if key in source.inputs), "")
        self.read |= {node.id, source.id}
        return str(between if between is not None else "").join(part for part in parts if part)

    def above(self, node: Node, *names: str) -> Iterator[Node]:
        """The nodes an input leads to, nearest first, then what leads to those; all inputs where none is named."""
        seen, queue = {node.id}, [node.inputs.get(name) for name in names or node.inputs]
        while queue and len(seen) < ABOVE:
            source = self.source(queue.pop(0))
            if source is not None and source.id not in seen:
                seen.add(source.id)
                yield source
                queue += source.inputs.values()

    def along(self, node: Node, name: str) -> Iterator[Node]:
        """The nodes that one input passes through under the same name, nearest first."""
        seen = {node.id}
        while (source := self.source(node.inputs.get(name))) is not None and source.id not in seen:
            seen.add(source.id)
            yield source
            if "Reroute" in source.kind and source.inputs:
                source = Node(source.id, source.kind, {name: next(iter(source.inputs.values()))})
            node = source

    def first(self, node: Node, name: str, *through: str) -> Any:
        """The input of this name of the node, else of the nearest node above that has it."""
        if (value := self.value(node, name)) is not None or not through:
            return value
        values = (self.value(source, name) for source in self.above(node, *through))
        return next((value for value in values if value is not None), None)
