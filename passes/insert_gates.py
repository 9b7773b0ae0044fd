"""Loop graph to SuperNet: a gate after every block at every step but the first (paper, section 3.2)."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import fx

from .base import GraphPass
from .errors import InvariantError
from .gate_table import HISTORY
from .gates import forecast, gate
from .tags import is_block_output, tag

GATES, WEIGHTS = "gates", "weights"


@final
@dataclass(frozen=True)
class InsertGates(GraphPass):
    """Give every block output a gate and a backup edge.

    Before, at step t:  `fresh = block(x)`, readers take `fresh`.
    After:              `gated = gate(backup, fresh, gates[t, n])`, readers take `gated`, where `backup` is
    the block's last computed value (`history` 1, the paper's reuse) or `forecast(weights[t, n], last,
    previous, ...)` of its last `history` ones. A hard gate passes one of its inputs through bit for bit.
    All tensors that a block returns share one gate. The first step has no gate: it is always computed.

    The graph gets the inputs `gates`, `(T, N)`, and (for a history above 1) `weights`, `(T, N, history)` or
    more columns, float tensors.
    """

    name: ClassVar[str] = "insert-gates"
    history: int = 1

    def requires(self, gm: fx.GraphModule) -> None:
        """Raise `InvariantError` unless `gm` is a traced loop and the history is in 1 to 3."""
        if not 1 <= self.history <= HISTORY:
            raise InvariantError(f"history must lie in 1 to {HISTORY}, got {self.history}")
        if gm.meta.get("stage") != "loop":
            raise InvariantError(f"expected a traced loop, got stage {gm.meta.get('stage')!r}")

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Insert tables, gates and histories."""
        blocks = {path: index for index, path in enumerate(gm.meta["facts"].blocks)}
        tables = _Tables(gm.graph, (GATES,) if self.history == 1 else (GATES, WEIGHTS))
        for outputs in _outputs_by_leaf(gm.graph).values():
            self._gate(gm.graph, outputs, blocks[tag(outputs[0], "block")], tables)
        gm.meta["stage"], gm.meta["learnable"] = "supernet", True
        gm.meta["history"] = self.history
        return True

    def _gate(self, graph: fx.Graph, outputs: list[fx.Node], block: int, tables: _Tables) -> None:
        past = [outputs[0]] * self.history  # the last computed values, newest first
        for fresh in outputs[1:]:
            step, readers = tag(fresh, "step"), list(fresh.users)
            nodes = _After(graph, fresh)
            entry = nodes.add(tables.entry(GATES, step, block))
            backup = past[0]
            if self.history > 1:
                weights = nodes.add(tables.entry(WEIGHTS, step, block))
                backup = nodes.call("backup", forecast, weights, *past)
            gated = nodes.call("gate", gate, backup, fresh, entry)
            if self.history == 1:
                past = [gated]
            else:
                shifted = zip(past, [fresh, *past], strict=False)
                past = [nodes.call("history", gate, old, new, entry) for old, new in shifted]
            for reader in readers:
                reader.replace_input_with(fresh, gated)


class _After:
    """Adds nodes one after the other behind a block's output, tagged like it."""

    def __init__(self, graph: fx.Graph, fresh: fx.Node) -> None:
        self.graph, self.fresh, self.last = graph, fresh, fresh

    def add(self, make: Callable[[], fx.Node]) -> fx.Node:
        with self.graph.inserting_after(self.last):
            self.last = make()
        return self.last

    def call(self, role: str, function: Any, *args: fx.Node) -> fx.Node:
        node = self.add(lambda: self.graph.call_function(function, args))
        node.meta["spec"] = self.fresh.meta["spec"]
        return _tagged(node, self.fresh, role)


class _Tables:
    """The `(T, N)` inputs of a SuperNet and the nodes that read one entry of them."""

    def __init__(self, graph: fx.Graph, names: tuple[str, ...]) -> None:
        self.graph = graph
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        guard = next(n for n in graph.nodes if n.op == "call_module")
        self.tables: dict[str, fx.Node] = {}
        for name in names:
            with graph.inserting_after(placeholders[-1]):
                placeholders.append(_tagged(graph.placeholder(name, default_value=None), guard, "table"))
            self.tables[name] = placeholders[-1]

    def entry(self, name: str, step: int, block: int) -> Callable[[], fx.Node]:
        """Return what makes the node of one entry, at the place where the caller wants it."""

        def make() -> fx.Node:
            table = self.tables[name]
            node = self.graph.call_function(operator.getitem, (table, (step, block)))
            node.meta["custom"] = {**table.meta["custom"], "step": step, "entry": (name, step, block)}
            return node

        return make


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
