"""The model's calls of a loop: which nodes they are, what they read, and when two of them are equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx

from .tags import tag


@dataclass(eq=False)
class ModelCall:
    """The model's part of one step: nodes that follow each other, but for forecasts, which come before."""

    body: list[fx.Node]

    @property
    def inputs(self) -> list[fx.Node]:
        """What the body reads of other nodes, in order."""
        own = set(self.body)
        return [n for n in dict.fromkeys(r for b in self.body for r in b.all_input_nodes) if n not in own]

    @property
    def read(self) -> set[int]:
        """Places in the body of what other nodes read."""
        own = set(self.body)
        return {place for place, node in enumerate(self.body) if not own.issuperset(node.users)}

    @property
    def key(self) -> Hashable:
        """What calls have in common that compute the same of their inputs."""
        places: dict[fx.Node, Hashable] = {node: ("body", n) for n, node in enumerate(self.body)}
        places |= {node: ("input", n) for n, node in enumerate(self.inputs)}
        return tuple(
            (node.op, str(node.target), frozen(node.args, places), frozen(node.kwargs, places))
            for node in self.body
        )


def model_calls(graph: fx.Graph) -> Iterator[ModelCall]:
    """Yield the model's calls that compute something."""
    bodies: dict[tuple[int, str], list[fx.Node]] = defaultdict(list)
    for node in graph.nodes:
        if tag(node, "in_model") and node.op != "get_attr" and tag(node, "role") != "backup":
            bodies[tag(node, "step"), tag(node, "call")].append(node)
    for body in bodies.values():
        if any(node.op == "call_module" for node in body):
            yield ModelCall(body)


def frozen(value: Any, places: dict[fx.Node, Hashable]) -> Hashable:
    """Return the arguments of a node as a key, with `places` for nodes."""
    if isinstance(value, fx.Node):
        return places[value]
    if isinstance(value, (tuple, list)):
        return type(value).__name__, *(frozen(item, places) for item in value)
    if isinstance(value, dict):
        return tuple((key, frozen(item, places)) for key, item in value.items())
    if isinstance(value, slice):
        return "slice", *(frozen(end, places) for end in (value.start, value.stop, value.step))
    return type(value).__name__, str(value)
