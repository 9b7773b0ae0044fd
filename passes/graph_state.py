"""A graph as plain values, for pickling: every node with its tags, no node object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx
from torch.fx.node import map_aggregate


@dataclass(frozen=True)
class NodeState:
    """What makes a node; arguments that are nodes are `Reference`s."""

    op: str
    name: str
    target: Any
    args: Any
    kwargs: Any
    meta: dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """Stands for an earlier node."""

    name: str


GraphState = list[NodeState]


def state_of(graph: fx.Graph) -> GraphState:
    """Return the nodes of a graph, in order."""
    return [
        NodeState(
            node.op,
            node.name,
            node.target,
            _mapped(node.args, fx.Node, _reference),
            _mapped(node.kwargs, fx.Node, _reference),
            dict(node.meta),
        )
        for node in graph.nodes
    ]


def graph_of(nodes: GraphState) -> fx.Graph:
    """Return the graph of `state_of`."""
    graph, known = fx.Graph(), dict[str, fx.Node]()

    def node_of(reference: Reference) -> fx.Node:
        return known[reference.name]

    for state in nodes:
        args, kwargs = (_mapped(given, Reference, node_of) for given in (state.args, state.kwargs))
        node = graph.create_node(state.op, state.target, args, kwargs, state.name)
        node.meta = state.meta
        known[state.name] = node
    return graph


def _reference(node: fx.Node) -> Reference:
    return Reference(node.name)


def _mapped(arguments: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return nested arguments with those of a kind changed."""
    return map_aggregate(arguments, lambda each: change(each) if isinstance(each, kind) else each)
