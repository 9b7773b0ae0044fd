"""SuperNet to bound graph: every gate becomes the one of its inputs that a plan chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import fx

from .base import GraphPass
from .errors import InvariantError
from .gate_table import GateTable, is_repeat, terms
from .gates import side_taken, write_forecast
from .tags import is_block_output, tag


@final
@dataclass(frozen=True)
class BindGates(GraphPass):
    """Replace gates and histories by constants of the plan.

    Where `table.keep` is true readers of block n at step t take its fresh output, elsewhere its backup:
    the sum of the block's last computed values that `table.weights` says. With `free_weights` the weights
    stay an input of the graph, to be fitted; those of the table are not read then.
    Blocks that nobody reads any more are left for `DropDeadBlocks`.
    """

    name: ClassVar[str] = "bind-gates"
    table: GateTable
    free_weights: bool = False

    def requires(self, gm: fx.GraphModule) -> None:
        """Raise `InvariantError` unless `gm` is a SuperNet of the table's shape that holds what it reads."""
        if gm.meta.get("stage") != "supernet":
            raise InvariantError(f"expected a SuperNet, got stage {gm.meta.get('stage')!r}")
        facts, history = gm.meta["facts"], gm.meta["history"]
        expected, got = (len(facts.timesteps), len(facts.blocks)), tuple(self.table.keep.shape)
        if got != expected:
            raise InvariantError(f"expected a table of {expected} steps and blocks, got {got}")
        first = gm.meta.get("first", 0)
        if self.table.first != first:
            raise InvariantError(f"expected a table whose step {first} runs first, got {self.table.first}")
        if self.free_weights and history == 1:
            raise InvariantError("a SuperNet of history 1 repeats the last value and has no weights to free")
        if not self.free_weights and self.table.history > history:
            raise InvariantError(
                f"the table reads {self.table.history} values, this SuperNet keeps {history} of them"
            )

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Resolve in graph order, so that a backup's inputs are resolved before it."""
        for node in list(gm.graph.nodes):
            taken = side_taken(node, self.table)
            if taken is not None:
                _become(node, taken)
            elif tag(node, "role") == "backup" and not self.free_weights:
                self._weigh(node)
        for node in reversed(list(gm.graph.nodes)):
            if tag(node, "role") == "table" and not node.users:
                gm.graph.erase_node(node)
        gm.meta["stage"], gm.meta["learnable"] = "bound", self.free_weights
        return True

    def _weigh(self, node: fx.Node) -> None:
        """Put plain arithmetic, which compilers know, in place of a forecast."""
        graph = node.graph
        entry, *values = _nodes(node)
        _, step, block = tag(entry, "entry")
        used = terms(self.table.weight_rows[step][block], len(values))
        if is_repeat(used):
            _become(node, values[used[0][0]])
            return
        with graph.inserting_before(node):
            written = write_forecast(graph, [(values[k], weight) for k, weight in used])
        for new in written:
            new.meta = dict(node.meta)
        node.replace_all_uses_with(written[-1])
        graph.erase_node(node)


def _become(node: fx.Node, value: fx.Node) -> None:
    """Let readers of a node read `value`; those that then read an earlier step say so in their tags."""
    for reader in list(node.users):
        reader.replace_input_with(node, value)
        if is_block_output(value) and tag(reader, "in_model"):
            source = (tag(value, "block"), tag(value, "step"))
            backups = (*(tag(reader, "backups") or ()), source)
            reader.meta["custom"] = {**reader.meta["custom"], "backups": backups}
    node.graph.erase_node(node)


def _nodes(node: fx.Node) -> list[fx.Node]:
    """Return the positional arguments of a gate, history or backup; one may stand there twice."""
    assert all(isinstance(argument, fx.Node) for argument in node.args)
    return list(node.args)  # type: ignore[arg-type]
