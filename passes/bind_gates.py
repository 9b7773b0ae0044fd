"""SuperNet to bound graph: every gate becomes the one of its inputs that a plan chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import fx

from .base import GraphPass, InvariantError
from .gates import terms
from .insert_gates import GATES, WEIGHTS
from .rules import is_block_output, tag


@final
@dataclass(frozen=True)
class BindGates(GraphPass):
    """Replace gates and histories by constants of the plan.

    `keep[t][n]` true: readers of block n at step t take its fresh output; false: its backup.
    `weights[t][n]` are the weights of the block's last computed values, newest first: `(1, 0, 0)` repeats
    the last one; without `weights` they stay an input of the graph, to be learned.
    Blocks that nobody reads any more are left for `DropDeadBlocks`.
    """

    name: ClassVar[str] = "bind-gates"
    keep: tuple[tuple[bool, ...], ...]
    weights: tuple[tuple[tuple[float, ...], ...], ...] | None = None

    def requires(self, gm: fx.GraphModule) -> None:
        """Raise `InvariantError` unless `gm` is a SuperNet with as many steps and blocks."""
        if gm.meta.get("stage") != "supernet":
            raise InvariantError(f"expected a SuperNet, got stage {gm.meta.get('stage')!r}")
        facts = gm.meta["facts"]
        expected = (len(facts.timesteps), len(facts.blocks))
        for name, table in ((GATES, self.keep), (WEIGHTS, self.weights)):
            if table is not None and {len(row) for row in table} | {expected[1]} != {expected[1]}:
                raise InvariantError(f"{name} must have {expected[1]} columns")
            if table is not None and len(table) != expected[0]:
                raise InvariantError(f"{name} has {len(table)} rows for {expected[0]} steps")
        order = gm.meta["order"]
        if self.weights is not None and order == 1:
            raise InvariantError("a SuperNet of order 1 repeats the last value and takes no weights")
        if any(any(entry[order:]) for row in self.weights or () for entry in row):
            raise InvariantError(f"weights read more than the {order} values that this SuperNet keeps")

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Resolve in graph order, so that a backup's inputs are resolved before it."""
        for node in list(gm.graph.nodes):
            role = tag(node, "role")
            if role in ("gate", "history"):
                backup, fresh, entry = _nodes(node)
                _, step, block = tag(entry, "entry")
                self._become(gm.graph, node, fresh if self.keep[step][block] else backup)
            elif role == "backup" and self.weights is not None:
                self._weigh(gm.graph, node, self.weights)
        for node in reversed(list(gm.graph.nodes)):
            if tag(node, "role") == "table" and not node.users:
                gm.graph.erase_node(node)
        gm.meta["stage"] = "bound"
        return True

    def _weigh(self, graph: fx.Graph, node: fx.Node, weights: Any) -> None:
        """Put plain arithmetic, which compilers know, in place of a forecast."""
        entry, *values = _nodes(node)
        _, step, block = tag(entry, "entry")
        (first, weight), *rest = terms(weights[step][block], len(values))
        if weight == 1 and not rest:
            self._become(graph, node, values[first])
            return
        with graph.inserting_before(node):
            result = graph.call_function(torch.mul, (values[first], weight))
            result.meta = dict(node.meta)
            for k, weight in rest:
                result = graph.call_function(torch.add, (result, values[k]), {"alpha": weight})
                result.meta = dict(node.meta)
        node.replace_all_uses_with(result)
        graph.erase_node(node)

    def _become(self, graph: fx.Graph, node: fx.Node, value: fx.Node) -> None:
        for reader in list(node.users):
            reader.replace_input_with(node, value)
            if is_block_output(value) and tag(reader, "in_model"):
                source = (tag(value, "block"), tag(value, "step"))
                backups = (*(tag(reader, "backups") or ()), source)
                reader.meta["custom"] = {**reader.meta["custom"], "backups": backups}
        graph.erase_node(node)


def _nodes(node: fx.Node) -> list[fx.Node]:
    """Return the positional arguments of a gate, history or backup; one may stand there twice."""
    assert all(isinstance(argument, fx.Node) for argument in node.args)
    return list(node.args)  # type: ignore[arg-type]
