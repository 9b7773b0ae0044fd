"""What nodes and graphs say of themselves: the schema of all tags that passes write and read.

In a node's `meta["custom"]`, by `LoopRecorder` where nothing else is said:

* `step`: of the loop, from 0; `block`: the name of the block whose call or output it is, or `None`;
  `in_model`: whether the model's forward made it; `call`: in the model, which call of the step it belongs
  to.
* `starts`: the steps that start from its value (T for the final sample); `given`: whether the model gets it
  as `sample` or `timestep`.
* `role`: of nodes that passes insert, `gate`, `history`, `backup` or `table` (`InsertGates`, `SteerCalls`).
* `entry`: of an entry of a table, `(table, step, column)`; `backups`: of a reader, what it reads in place of
  closed blocks (`BindGates`).

`meta["spec"]` is a node's value without the values, as `spec_of` makes it.

In a graph's `meta`: `facts` (`LoopFacts`) and `stage`, from `trace`: `loop`, then `supernet`
(`InsertGates`), `bound` (`BindGates`) and `subnet` (`DropDeadBlocks`). `history`: how many values per gate of
a SuperNet may read; `first`: the first step that a steered loop runs; `learnable`: whether tables are
inputs. `cost`: the `LoopCost`, once counted; `plan` and `report` of a pruned loop; `rows` of a loop traced
in a pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import fx
from torch.utils import _pytree as pytree

# Drawing noise moves the generator on, so a noise node is never dead.
IMPURE_FUNCTIONS = frozenset({randn_tensor})


def beside_the_model(step: int, **more: Any) -> dict[str, Any]:
    """Return the tags of a node of a step that the model did not make."""
    return {"step": step, "block": None, "in_model": False, **more}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor without its values: sizes for a batch of one sample, dtype and device.

    Unlike the fake tensors of a trace it can be copied and stored with the graph. `has_rows` tells whether
    the first size grows with the batch; calls cost the same whatever it says.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    has_rows: bool = field(default=False, compare=False)

    def zeros(self) -> torch.Tensor:
        """Return a tensor of this kind, on the CPU."""
        return torch.zeros(self.shape, dtype=self.dtype)


def spec_of(value: Any) -> Any:
    """Return a nested value with tensors as `TensorSpec` and sizes as numbers, for one sample."""

    def plain(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            has_rows = any(isinstance(size, torch.SymInt) for size in leaf.shape[:1])
            return TensorSpec(tuple(map(_size, leaf.shape)), leaf.dtype, leaf.device, has_rows)
        return _size(leaf) if isinstance(leaf, torch.SymInt) else leaf

    return pytree.tree_map(plain, value)


def _size(size: int | torch.SymInt) -> int:
    return size if isinstance(size, int) else _for_one_sample(size.node.expr)


@cache
def _for_one_sample(expression: Any) -> int:
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def tag(node: fx.Node, key: str) -> Any:
    """Return an entry of the node's `meta["custom"]`, `None` if it has none."""
    return node.meta.get("custom", {}).get(key)


def is_impure(node: fx.Node) -> bool:
    """Tell whether a node without readers has to stay."""
    return node.op in ("placeholder", "output") or node.target in IMPURE_FUNCTIONS


def is_block_output(node: fx.Node) -> bool:
    """Tell whether a node is a tensor that a block returned (not a gate or a backup)."""
    return (
        tag(node, "block") is not None
        and tag(node, "role") is None
        and isinstance(node.meta.get("spec"), TensorSpec)
    )
