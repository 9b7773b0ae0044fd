"""Bound graph to SubNet: remove what nobody reads any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import fx

from .base import GraphPass
from .tags import is_impure


@final
@dataclass(frozen=True)
class DropDeadBlocks(GraphPass):
    """Remove dead nodes; the module then holds only the submodules and constants still used.

    Before: a block whose gate closed is computed and thrown away, and so is all that only it reads.
    After:  only what the result depends on is left. Inputs and noise stay (noise moves the generator
    on); everything else that a loop calls is taken to be a pure function.
    """

    name: ClassVar[str] = "drop-dead-blocks"

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Erase dead nodes; a bound graph is a SubNet then."""
        erased = erase_dead_nodes(gm.graph)
        was_bound = gm.meta.get("stage") == "bound"
        if was_bound:
            gm.meta["stage"] = "subnet"
        return was_bound or erased > 0


def erase_dead_nodes(graph: fx.Graph) -> int:
    """Erase the nodes that nothing reads, from the back, and return how many."""
    count = len(graph.nodes)
    for node in reversed(list(graph.nodes)):
        if not node.users and not is_impure(node):
            graph.erase_node(node)
    return count - len(graph.nodes)
