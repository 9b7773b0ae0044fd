"""A SuperNet without what a table will not read: binding it then costs as much as the SubNet holds."""

from __future__ import annotations

from functools import partial

from torch import fx

from .base import draft_class, with_graph, written_class
from .gate_table import GateTable
from .gates import side_taken
from .tags import is_impure


def trimmed(gm: fx.GraphModule, table: GateTable) -> fx.GraphModule:
    """Return a SuperNet of which `BindGates(table)` and `DropDeadBlocks` make the same SubNet as of `gm`.

    The side of a gate that the table does not take is replaced by the one that it takes, and what nobody
    reads then is left out: a search binds hundreds of tables, most of which keep little of the SuperNet.
    Not a rewrite of the graph but a new one, hence a function; the result is not to be run.
    """
    alive = _alive(gm.graph, table)
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()

    def copy_of(taken: fx.Node | None, read: fx.Node) -> fx.Node:
        return copies[read] if taken is None or read in copies else copies[taken]

    for node in gm.graph.nodes:
        if node in alive:
            copies[node] = graph.node_copy(node, partial(copy_of, side_taken(node, table)))
    return with_graph(gm, graph, draft_class(written_class(gm)))


def _alive(graph: fx.Graph, table: GateTable) -> set[fx.Node]:
    """Return the nodes that the result depends on, and those that have to stay anyway."""
    alive: set[fx.Node] = set()
    pending = [node for node in graph.nodes if is_impure(node)]
    while pending:
        node = pending.pop()
        if node not in alive:
            alive.add(node)
            taken = side_taken(node, table)
            pending += node.all_input_nodes if taken is None else [taken, node.args[2]]
    return alive
