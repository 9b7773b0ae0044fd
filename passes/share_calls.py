"""The model's calls of a loop as submodules, equal ones as one: compiled once, they run at many steps."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from .graph_writer import attribute
from .tags import tag

PREFIX = "_call"


def share_calls(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a module that computes the same, the model's part of each step through submodules `_call_0`, ...

    Steps whose part is equal call the same submodule: timesteps, features of earlier steps and constants are
    its inputs. Schedulers, guidance and forecasts stay in the graph around them, as do steps that call
    no module. Not a rewrite of the graph but a new one around it, hence a function.
    """
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    calls = list(_calls(gm.graph))
    parts: dict[Hashable, _Part] = {}
    ends: dict[fx.Node, _Call] = {}
    for call in calls:
        call.part = parts.setdefault(call.key, _Part(f"{PREFIX}_{len(parts)}", call))
        call.part.read |= call.read
        ends[call.body[-1]] = call
    inside = {node: call for call in calls for node in call.body}
    for node in gm.graph.nodes:
        if node not in inside:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        elif node in ends:
            copies |= ends[node].written(graph, copies)
    made = {part.name: fx.GraphModule(gm, part.graph()) for part in parts.values()}
    targets = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    shared = fx.GraphModule({name: made.get(name, attribute(gm, name)) for name in targets}, graph)
    shared.meta = dict(gm.meta)
    return shared


def part_key(part: fx.GraphModule) -> Hashable:
    """Return what parts of several loops have in common that compute the same through the same modules.

    It holds as long as the modules live, which a part sees to.
    """
    places: dict[fx.Node, Hashable] = {node: number for number, node in enumerate(part.graph.nodes)}
    return tuple(
        (
            node.op,
            id(attribute(part, str(node.target))) if node.op == "call_module" else str(node.target),
            _frozen(node.args, places),
            _frozen(node.kwargs, places),
        )
        for node in part.graph.nodes
    )


@dataclass(eq=False)
class _Call:
    """The model's part of one step: nodes that follow each other, but for forecasts, which come before."""

    body: list[fx.Node]
    part: _Part = field(init=False)

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
            (node.op, str(node.target), _frozen(node.args, places), _frozen(node.kwargs, places))
            for node in self.body
        )

    def written(self, graph: fx.Graph, copies: dict[fx.Node, fx.Node]) -> dict[fx.Node, fx.Node]:
        """Write the call of the part, and return what stands for the nodes that others read."""
        made = graph.call_module(self.part.name, tuple(copies[node] for node in self.inputs))
        made.meta = {"custom": dict(self.body[-1].meta["custom"])}
        stand_ins = {}
        for place, value in enumerate(sorted(self.part.read)):
            node = self.body[value]
            if value in self.read:
                item = graph.call_function(operator.getitem, (made, place))
                item.meta = dict(node.meta)
                stand_ins[node] = item
        return stand_ins


@dataclass(eq=False)
class _Part:
    """What equal calls share: the body of the first of them, and places of what any of them hands on."""

    name: str
    first: _Call
    read: set[int] = field(default_factory=set)

    def graph(self) -> fx.Graph:
        """Return the graph of the submodule."""
        graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
        for number, node in enumerate(self.first.inputs):
            copies[node] = graph.placeholder(f"input_{number}")
        for node in self.first.body:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(tuple(copies[self.first.body[place]] for place in sorted(self.read)))
        return graph


def _calls(graph: fx.Graph) -> Iterator[_Call]:
    """Yield the model's calls that compute something."""
    bodies: dict[tuple[int, str], list[fx.Node]] = defaultdict(list)
    for node in graph.nodes:
        if tag(node, "in_model") and node.op != "get_attr" and tag(node, "role") != "backup":
            bodies[tag(node, "step"), tag(node, "call")].append(node)
    for body in bodies.values():
        if any(node.op == "call_module" for node in body):
            yield _Call(body)


def _frozen(value: Any, places: dict[fx.Node, Hashable]) -> Hashable:
    if isinstance(value, fx.Node):
        return places[value]
    if isinstance(value, (tuple, list)):
        return type(value).__name__, *(_frozen(item, places) for item in value)
    if isinstance(value, dict):
        return tuple((key, _frozen(item, places)) for key, item in value.items())
    if isinstance(value, slice):
        return "slice", *(_frozen(end, places) for end in (value.start, value.stop, value.step))
    return type(value).__name__, str(value)
