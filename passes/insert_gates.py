"""Loop graph to SuperNet: a gate after every block at every step but the first (paper, section 3.2)."""

from __future__ import annotations

import operator
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import fx

from .base import GraphPass, InvariantError
from .gates import gate
from .rules import is_block_output, tag

Backup = Literal["reuse", "linear"]
GATES, WEIGHTS = "gates", "weights"


@final
@dataclass(frozen=True)
class InsertGates(GraphPass):
    """Give every block output a gate and a backup edge.

    Before, at step t:  `fresh = block(x)`, readers take `fresh`.
    After:              `gated = gate(backup, fresh, gates[t, n])`, readers take `gated`, where `backup` is
    the block's last computed value (`reuse`, the paper's) or `gate(previous, last, weights[t, n])` of its
    last two (`linear`; a weight above 1 extrapolates). A hard gate passes one of its inputs through bit
    for bit. All tensors that a block returns share one gate. The first step
    has no gate: it is always computed.

    The graph gets the inputs `gates` and (for `linear`) `weights`, `(T, N)` float tensors.
    """

    name: ClassVar[str] = "insert-gates"
    backup: Backup = "reuse"

    def requires(self, gm: fx.GraphModule) -> None:
        """Raise `InvariantError` unless `gm` is a traced loop."""
        if gm.meta.get("stage") != "loop":
            raise InvariantError(f"expected a traced loop, got stage {gm.meta.get('stage')!r}")

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Insert tables, gates and histories."""
        blocks = {path: index for index, path in enumerate(gm.meta["facts"].blocks)}
        tables = _Tables(gm.graph, self.backup)
        for outputs in _outputs_by_leaf(gm.graph).values():
            self._gate(gm.graph, outputs, blocks[tag(outputs[0], "block")], tables)
        gm.meta["stage"] = "supernet"
        gm.meta["backup"] = self.backup
        return True

    def _gate(self, graph: fx.Graph, outputs: list[fx.Node], block: int, tables: _Tables) -> None:
        last = previous = outputs[0]
        for fresh in outputs[1:]:
            step, readers = tag(fresh, "step"), list(fresh.users)
            with graph.inserting_after(fresh):
                entry = tables.entry(GATES, step, block)
            with graph.inserting_after(entry):
                if self.backup == "reuse":
                    gated = _mix(graph, "gate", fresh, last, fresh, entry)
                    last = gated
                else:
                    weight = tables.entry(WEIGHTS, step, block)
                    with graph.inserting_after(weight):
                        backup = _mix(graph, "backup", fresh, previous, last, weight)
                    with graph.inserting_after(backup):
                        gated = _mix(graph, "gate", fresh, backup, fresh, entry)
                    with graph.inserting_after(gated):
                        previous = _mix(graph, "history", fresh, previous, last, entry)
                    with graph.inserting_after(previous):
                        last = _mix(graph, "history", fresh, last, fresh, entry)
            for reader in readers:
                reader.replace_input_with(fresh, gated)


class _Tables:
    """The `(T, N)` inputs of a SuperNet and the nodes that read one entry of them."""

    def __init__(self, graph: fx.Graph, backup: Backup) -> None:
        self.graph = graph
        names = (GATES,) if backup == "reuse" else (GATES, WEIGHTS)
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        guard = next(n for n in graph.nodes if n.op == "call_module")
        self.tables: dict[str, fx.Node] = {}
        for name in names:
            placeholders.append(self._table(name, placeholders[-1], guard))

    def _table(self, name: str, after: fx.Node, guard: fx.Node) -> fx.Node:
        """Add an input after the node `after` and return it."""
        with self.graph.inserting_after(after):
            given = _tagged(self.graph.placeholder(name, default_value=None), guard, "table")
        with self.graph.inserting_after(guard):
            # lerp wants its weight in the dtype of the features.
            self.tables[name] = _tagged(self.graph.call_method("type_as", (given, guard)), guard, "table")
        return given

    def entry(self, name: str, step: int, block: int) -> fx.Node:
        table = self.tables[name]
        node = self.graph.call_function(operator.getitem, (table, (step, block)))
        node.meta["custom"] = {**table.meta["custom"], "step": step, "entry": (name, step, block)}
        return node


def _mix(graph: fx.Graph, role: str, like: fx.Node, start: Any, end: Any, weight: Any) -> fx.Node:
    node = graph.call_function(gate, (start, end, weight))
    node.meta["val"] = like.meta["val"]
    return _tagged(node, like, role)


def _tagged(node: fx.Node, like: fx.Node, role: str) -> fx.Node:
    node.meta["custom"] = {**like.meta["custom"], "role": role}
    return node


def _outputs_by_leaf(graph: fx.Graph) -> dict[tuple[str, int], list[fx.Node]]:
    """Group block outputs over steps: (block, index among the tensors it returns) -> one node a step."""
    found: dict[tuple[str, int], list[fx.Node]] = defaultdict(list)
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for node in graph.nodes:
        if is_block_output(node):
            block, step = tag(node, "block"), tag(node, "step")
            found[block, counts[block, step]].append(node)
            counts[block, step] += 1
    return dict(found)
