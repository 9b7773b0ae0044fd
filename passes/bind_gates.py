"""SuperNet to bound graph: every gate becomes the one of its inputs that a plan chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import fx

from .base import GraphPass, InvariantError
from .insert_gates import GATES, WEIGHTS
from .rules import is_block_output, tag


@final
@dataclass(frozen=True)
class BindGates(GraphPass):
    """Replace gates and histories by constants of the plan.

    `keep[t][n]` true: readers of block n at step t take its fresh output; false: its backup.
    `weights[t][n]` is the weight of a `linear` backup: 1 repeats the last computed value, more
    extrapolates from the one before it; without `weights` they stay an input of the graph, to be learned.
    Blocks that nobody reads any more are left for `DropDeadBlocks`.
    """

    name: ClassVar[str] = "bind-gates"
    keep: tuple[tuple[bool, ...], ...]
    weights: tuple[tuple[float, ...], ...] | None = None

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
        if self.weights is not None and gm.meta["backup"] == "reuse":
            raise InvariantError("a SuperNet of reuse backups takes no weights")

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Resolve in graph order, so that a backup's inputs are resolved before it."""
        for node in list(gm.graph.nodes):
            role = tag(node, "role")
            if role in ("gate", "history"):
                backup, fresh, entry = _inputs(node)
                _, step, block = tag(entry, "entry")
                self._become(gm.graph, node, fresh if self.keep[step][block] else backup)
            elif role == "backup":
                self._weigh(gm.graph, node)
        for node in reversed(list(gm.graph.nodes)):
            if tag(node, "role") == "table" and not node.users:
                gm.graph.erase_node(node)
        gm.meta["stage"] = "bound"
        return True

    def _weigh(self, graph: fx.Graph, node: fx.Node) -> None:
        previous, last, entry = _inputs(node)
        _, step, block = tag(entry, "entry")
        weight = None if self.weights is None else float(self.weights[step][block])
        if weight == 1.0 or previous is last:
            self._become(graph, node, last)
        elif weight is not None:
            # A number for a weight: plain torch, which compilers know.
            node.target, node.args = torch.lerp, (previous, last, weight)

    def _become(self, graph: fx.Graph, node: fx.Node, value: fx.Node) -> None:
        for reader in list(node.users):
            reader.replace_input_with(node, value)
            if is_block_output(value) and tag(reader, "in_model"):
                source = (tag(value, "block"), tag(value, "step"))
                backups = (*(tag(reader, "backups") or ()), source)
                reader.meta["custom"] = {**reader.meta["custom"], "backups": backups}
        graph.erase_node(node)


def _inputs(lerp: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node]:
    """Return start, end and weight of a gate, history or backup."""
    start, end, weight = lerp.args
    assert isinstance(start, fx.Node)
    assert isinstance(end, fx.Node)
    assert isinstance(weight, fx.Node)
    return start, end, weight
