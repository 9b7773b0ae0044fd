"""The model's calls of a loop as submodules, equal ones as one: compiled once, they run at many steps."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from dataclasses import dataclass, field

from torch import fx

from .graph_writer import attribute
from .model_calls import ModelCall, frozen, model_calls

PREFIX = "_call"
_Copies = dict[fx.Node, fx.Node]


def share_calls(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a module that computes the same, the model's part of each step through submodules `_call_0`, ...

    Steps whose part is equal call the same submodule: timesteps, features of earlier steps and constants are
    its inputs. Schedulers, guidance and forecasts stay in the graph around them, as do steps that call
    no module. Not a rewrite of the graph but a new one around it, hence a function.
    """
    graph, copies = fx.Graph(), _Copies()
    parts: dict[Hashable, _Part] = {}
    ends: dict[fx.Node, tuple[ModelCall, _Part]] = {}
    inside: set[fx.Node] = set()
    for call in model_calls(gm.graph):
        part = parts.setdefault(call.key, _Part(f"{PREFIX}_{len(parts)}", call))
        part.read |= call.read
        ends[call.body[-1]] = call, part
        inside.update(call.body)
    for node in gm.graph.nodes:
        if node not in inside:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        elif node in ends:
            copies |= _written(*ends[node], graph, copies)
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
            frozen(node.args, places),
            frozen(node.kwargs, places),
        )
        for node in part.graph.nodes
    )


@dataclass(eq=False)
class _Part:
    """What equal calls share: the body of the first of them, and places of what any of them hands on."""

    name: str
    first: ModelCall
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


def _written(call: ModelCall, part: _Part, graph: fx.Graph, copies: _Copies) -> _Copies:
    """Write the call of its part, and return what stands for the nodes that others read."""
    made = graph.call_module(part.name, tuple(copies[node] for node in call.inputs))
    made.meta = {"custom": dict(call.body[-1].meta["custom"])}
    stand_ins = {}
    for place, value in enumerate(sorted(part.read)):
        node = call.body[value]
        if value in call.read:
            item = graph.call_function(operator.getitem, (made, place))
            item.meta = dict(node.meta)
            stand_ins[node] = item
    return stand_ins
